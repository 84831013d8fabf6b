//! Lowkey: private chat from peer to peer.
//!
//! A tiny server introduces two users to each other and relays their session keys and WebRTC signaling. Then the two
//! talk directly over a WebRTC data channel, each message sealed with NaCl box.
//!
//! A program of one's own begins with [`peer`]. Who wants to work on Lowkey itself finds the map here, and below it how things go
//! through the house.
//!
//! # The map
//!
//! Two libraries share one page of wire types; the terminal client stands on one of them.
//!
//! * [`protocol`]: the words on the wire. Pure.
//! * [`server`]: the mio loop; beneath it all clients with their streams; and, pure: the hub, sessions, one client's
//!   connection, HTTP, tables, timers, settings.
//! * [`peer`]: the handle and its thread; beneath it, pure: the engine (what a peer does on every input), trust (who the other
//!   side is), the cipher, and the guard (what of the other side's packets reaches WebRTC); and two rooms of I/O: the
//!   connection to the server, and WebRTC with the ways to its relays.
//! * [`options`]: what both programs of a peer take: each setting with its flag, its environment variable and its key in the
//!   profile's file; beneath it the start, which reads all three.
//! * `stderr`: what every program says there, and how much of it `RUST_LOG` wants.
//! * [`profile`]: where these programs keep what outlives them.
//! * [`chat`]: the terminal client on top of `peer`.
//! * [`signals`]: which signals are the programs' own to handle.
//!
//! # Floors
//!
//! ```text
//! programs   bin/lowkey   bin/lowkey-server   bot/main   integration/*    only `pub` items of the library
//! I/O        chat -> chat/{client, editor, input, notify, teletype, terminal}, options -> profile, peer -> peer/{signaling, rtc}        server -> server/listener, server/clients -> server/client
//! pure       chat/{conversation -> people, outbox, requests, script -> effect -> screen -> wrap, json -> report, command, keyboard -> painter}    engine -> trust, cipher, ice   connection -> http -> access    hub -> sessions -> deadlines
//! words      protocol (serde only)
//! ```
//!
//! Imports go down only; `server` and `peer` never import each other. A pure file names no socket, no clock, no thread,
//! no file and no logger: bytes, text and the time come in, values come back, and one loop is the only caller.
//! `integration/floors.rs` holds us to it.
//!
//! # Features
//!
//! `server`, `peer` and `chat` (the programs `lowkey` and `lowkey-bot`); all are on by default. A program that wants to
//! chat takes `peer` alone, and the server is built without a single crate that only a peer needs.
//!
#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "chat")]
pub mod chat;
#[cfg(feature = "chat")]
pub mod options;
#[cfg(feature = "peer")]
pub mod peer;
#[cfg(feature = "chat")]
pub mod profile;
#[cfg(any(feature = "server", feature = "peer"))]
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "server", feature = "chat"))]
pub mod signals;
#[cfg(any(feature = "server", feature = "chat"))]
pub mod stderr;
