//! Lowkey: private chat from peer to peer.
//!
//! A tiny server introduces two users to each other and forwards their session keys and WebRTC signaling. Then the two
//! talk directly over a WebRTC data channel, each message sealed with NaCl.
//!
//! A program of one's own begins with [`peer`]. Who wants to work on Lowkey itself finds the map here, and below it how
//! things go through the house.
//!
//! # The map
//!
//! All files of `src`, from top to bottom: a heading begins a house, and each line is one floor of it. A file imports
//! only what stands on lines below its own, so no two import each other, directly or by others. A `*` marks what does
//! I/O. Every other file is pure: it names no socket, no clock, no thread, no file and no logger; bytes, texts and the
//! time come in, values come back. Server and peer never import each other. (`peer/engine/search` with its folder,
//! `peer/planted` and `peer/scratch` are there for tests alone.)
//!
//! Some states have more subjects than one file has room for: their methods stand in several files, which call each
//! other. Such files are best read as one room. `integration/floors.rs` reads this map, holds us to it, and names these
//! states.
//!
//! ```text
//! -- the crate
//! lib
//!
//! -- the programs
//! bin/lowkey* bin/lowkey-server*
//!
//! -- the terminal chat
//! chat*
//! chat/start*
//! chat/plan* chat/qr*
//! chat/main_loop/end*
//! chat/main_loop*
//! chat/arguments chat/downloads* chat/editor* chat/input* chat/leaving*
//! chat/conversation/calls chat/conversation/commands chat/conversation/end chat/conversation/events
//! chat/conversation/questions chat/conversation/ringing
//! chat/conversation/files chat/conversation/texts
//! chat/conversation/file_offers
//! chat/conversation
//! chat/console* chat/display* chat/identity*
//! chat/lines chat/mail chat/outbox chat/people/links chat/people/nicknames chat/people/numbers chat/terminal*
//! chat/transfers
//! chat/people chat/terminal/watch*
//! chat/effect chat/requests chat/progress_row* chat/teletype* chat/terminal/handle*
//! chat/json chat/screen
//! chat/command/complete chat/command/typed chat/json/command chat/json/files chat/words
//! chat/words/files chat/words/numbers
//! chat/command chat/keyboard chat/painter
//! chat/callee chat/command/usage chat/cursor* chat/look chat/records* chat/wrap
//! chat/amount chat/clock* chat/flood chat/harmless chat/notify* chat/paths chat/start_error chat/report chat/script
//!
//! -- what both programs of a peer take
//! options
//! options/start*
//! options/config
//! options/definitions
//! options/peer* options/space*
//! options/quota
//! options/access options/advice options/amount options/chat options/manual options/servers options/switch
//! options/nearest
//!
//! -- what outlives them
//! profile*
//! profile/permissions*
//! profile/files*
//! profile/known_peers profile/names profile/transcript
//!
//! -- the library of a peer
//! peer*
//! peer/driver*
//! peer/disk*
//! peer/disk/sending* peer/disk/taking*
//! peer/disk/source* peer/disk/store* peer/disk/tell
//! peer/disk/content*
//! peer/rtc*
//! peer/rtc/connection*
//! peer/rtc/closing*
//! peer/rtc/files*
//! peer/rtc/channel*
//! peer/rtc/build*
//! peer/rtc/runtime*
//! peer/rtc/turn/tunnel*
//! peer/rtc/sieve* peer/rtc/turn/stream*
//! peer/rtc/early* peer/rtc/guarded* peer/rtc/repeat* peer/rtc/socket* peer/rtc/turn*
//! peer/rtc/aead peer/rtc/caught* peer/rtc/command* peer/rtc/flight peer/rtc/layer* peer/rtc/pace* peer/rtc/pulse*
//! peer/rtc/blocking* peer/rtc/prepared* peer/rtc/stall peer/rtc/turn/framing peer/rtc/turn/stale
//! peer/signaling*
//! peer/signaling/reach* peer/signaling/pause
//! peer/dial* peer/events*
//! peer/sink*
//! peer/folder*
//! peer/folder/held*
//! peer/folder/partial*
//! peer/folder/syncing* peer/folder/unpack*
//! peer/folder/inner* peer/folder/list*
//! peer/folder/failure
//! peer/file_offer*
//! peer/file_offer/tree*
//! peer/file_offer/stamp*
//! peer/engine
//! peer/engine/search
//! peer/engine/search/scenarios
//! peer/engine/search/invariants
//! peer/engine/search/world
//! peer/engine/search/actor
//! peer/engine/search/adversary
//! peer/engine/calls peer/engine/chats peer/engine/requests peer/engine/resume peer/engine/signals
//! peer/engine/farewells
//! peer/engine/files
//! peer/engine/peers
//! peer/engine/call peer/engine/chat peer/engine/request
//! peer/engine/channel peer/engine/proof
//! peer/engine/interface peer/engine/pacing
//! peer/unreached
//! peer/guard
//! peer/guard/data peer/guard/dtls
//! peer/guard/chunk peer/guard/sources
//! peer/files
//! peer/files/work
//! peer/event
//! peer/files/checksum peer/files/entries peer/files/window peer/reasons
//! peer/files/name
//! peer/description peer/hello peer/settings
//! peer/agreement
//! peer/agreement/thieves
//! peer/boxes peer/files/lane
//! peer/files/note
//! peer/primitives
//! peer/cipher peer/clock* peer/link peer/login peer/safety_number peer/sdp peer/trust
//! peer/candidate peer/frame peer/ice peer/keys peer/planted peer/socks peer/sync peer/texts peer/tls* peer/unfit
//! peer/hidden
//! peer/random peer/scratch*
//!
//! -- the server
//! server*
//! server/together*
//! server/database* server/listener*
//! server/clients/admission* server/clients/closing* server/clients/nodes* server/clients/timers*
//! server/clients*
//! server/client*
//! server/bounds
//! server/connection/control server/connection/request_head
//! server/connection
//! server/connection/frames
//! server/connection/buffers server/connection/event server/connection/masked server/connection/websocket
//! server/check*
//! server/http
//! server/config
//! server/config/cluster
//! server/config/secrets
//! server/config/variables
//! server/config/duration server/config/error server/config/origins
//! server/cluster/asks server/cluster/replies
//! server/cluster/renewing
//! server/cluster
//! server/cluster/keys server/cluster/resp server/cluster/scripts server/cluster/trouble server/cluster/url
//! server/cluster/dispatch
//! server/metrics server/response
//! server/hub/calls server/hub/elsewhere server/hub/forwarding
//! server/hub
//! server/hub/remote server/hub/user
//! server/hub/output
//! server/hub/counts server/hub/names server/hub/message
//! server/access server/backlog server/nodes
//! server/addresses server/misses server/request server/sessions server/stop server/strikes
//! server/ids
//! server/contacts server/deadlines server/limits server/plain server/presence server/proxies server/secret_file*
//! server/table server/turn_servers
//!
//! -- what all programs share
//! bucket signals* waiting*
//! threads*
//! stderr* stdout* trouble
//! amount escape lock
//!
//! -- the words on the wire
//! protocol
//! protocol/ice
//! scheme
//! ```
//!
//! # Features
//!
//! `server`, `cluster` (a server that may be one of several), `peer` and `chat` (the programs `lowkey` and
//! `lowkey-bot`); all are on by default. A program that wants to chat takes `peer` alone, and the server is built
//! without a single crate that only a peer needs.
//!
#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "peer")]
mod amount;
#[cfg(any(feature = "server", feature = "peer"))]
// Each of the two uses a part of it.
#[cfg_attr(not(all(feature = "server", feature = "peer")), allow(dead_code))]
mod bucket;
#[cfg(feature = "chat")]
pub mod chat;
#[cfg(any(feature = "server", feature = "peer"))]
mod escape;
#[cfg(any(feature = "server", feature = "peer"))]
mod lock;
#[cfg(feature = "chat")]
pub mod options;
#[cfg(feature = "peer")]
pub mod peer;
#[cfg(feature = "chat")]
pub mod profile;
#[cfg(any(feature = "server", feature = "peer"))]
pub mod protocol;
#[cfg(any(feature = "server", feature = "peer"))]
mod scheme;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "server", feature = "chat"))]
pub mod signals;
#[cfg(any(feature = "server", feature = "chat"))]
pub mod stderr;
#[cfg(feature = "chat")]
mod stdout;
#[cfg(any(feature = "server", feature = "peer"))]
pub mod threads;
#[cfg(any(feature = "server", feature = "peer"))]
pub mod trouble;
#[cfg(any(feature = "server", feature = "chat"))]
mod waiting;
