//! WebRTC: the only room that knows the `webrtc` crate. Commands come in, and what happens goes out as the engine's
//! inputs. Each peer connection is a task on one thread. In this room a *connection* is a peer connection.
//!
//! From top to bottom: this file starts the thread and looks after it; [`connection`] is one peer connection, with its
//! [`channel`] and its [`closing`]; [`build`] makes it, on a [`runtime`] of ours, whose sockets are [`layer`]s over the
//! system's; [`turn`] holds what TURN servers need.
//!
//! A datagram that comes goes up through the layers that [`runtime`] puts over each UDP socket: `turn/tunnel` (it may
//! have come by a stream to a TURN server), [`socket`] (one at a time, by a buffer that all share), [`sieve`] (what
//! strangers write is dropped), [`early`] (what comes before there is a way is held), [`turn`] (what TURN servers say
//! is overheard) and [`repeat`] (the last flight of a DTLS handshake is sent again). Then it is the crate's. Once it is
//! decrypted, [`aead`] shows each record to [`guarded`], which asks the guard.
//!
//! # What is worked round
//!
//! What `webrtc` and `rtc` =0.21.1 do otherwise than they should. Of each: where it is worked round, the test that
//! shows that it has to be (in `integration/`, or in the file itself), and when the workaround can go. Whoever raises
//! the version takes the workarounds away one by one and runs the test that is named.
//!
//! ## Descriptions and candidates
//!
//! * **Offers are answered badly:** one of `setup:active` with `active`, one without a bundle with port 0, one without
//!   names or with a candidate that cannot be read with an error; of several fingerprints the first alone is seen, and
//!   only `sha-256` in small letters. In `description`, by which WebRTC reads and writes one form alone.
//!   `descriptions::offers_of_others_are_answered_and_open_a_chat`. Goes when each offer of that test is answered as it
//!   stands.
//! * **A received text longer than the smaller `max-message-size` of both sides is dropped without a word.** In
//!   `description`. `descriptions::what_we_promise_to_take_is_taken_whatever_the_other_side_takes`. Goes when our own
//!   promise alone counts.
//! * **Candidates are not bounded, and those over TCP are dialled at once.** In `candidate`.
//!   `descriptions::a_call_makes_nobody_ask_many_addresses_and_dial_none`. Stays, unless both can be set.
//! * **Candidates of ours name no media section.** In [`build`]. `make test-browser`. Goes when `sdpMid` is set.
//! * **A machine that has only loopback cannot open the socket for multicast names**, and no connection is made. In
//!   [`build`], which tries once more without. `make test-networks`. Goes when the crate does so.
//! * **The IPv6 address of a TURN server loses its brackets.** In [`runtime`]. `make test-relay`. Goes when
//!   `resolve_host` is given them.
//!
//! ## Opening
//!
//! * **SCTP is begun by the client of DTLS alone, and the other side's beginning is refused there** (RFC 8841, section
//!   9.3). In `description`: the caller is that client. `make test-stacks`. Goes when werift opens a chat in either
//!   role.
//! * **What comes of a handshake before there is a way is dropped, and comes again after a second.** In [`early`].
//!   `make test-stacks`. Goes when libdatachannel's calls open within half a second without it.
//! * **A handshake that has lost a datagram waits for ever once a record has come that is of no use.** In [`repeat`],
//!   which sends the last [`flight`] again. `losses::any_one_datagram_of_a_handshake_may_be_lost`, and with
//!   libdatachannel, aiortc and Chromium `integration/stacks/losses.js`. Goes when that timer
//!   goes on.
//! * **WebRTC's driver, its loop over one connection, is not woken between the steps of opening, and waits for its next
//!   tick of 200 ms.** In [`pace`].
//!   `pace::sleeps_are_short_while_a_connection_opens_and_long_while_nothing_is_said`. Goes when a call on loopback
//!   opens within 50 ms at the crate's own pace (`make bench` has the time).
//! * **The look-up of a name holds the whole of WebRTC's driver up.** In [`runtime`], which bounds it.
//!   `make test-relay`. Goes when names are looked up beside it.
//! * **Where the machine lacks descriptors, nobody says so:** it fails without a reason, or goes on without the sockets
//!   that it could not have. In [`channel`] (`lack`), asked by [`connection`].
//!   `echo::who_calls_a_bot_that_is_out_of_descriptors_is_told_that_it_has_no_room`. Goes when the error says so.
//!
//! ## Relays
//!
//! * **A stale nonce (438) ends a channel, a permission and a refresh.** In `turn/stale`, which makes the request
//!   again. `turn::a_chat_lives_through_a_relay_whose_nonces_are_stale_at_once`. Goes when that passes without it.
//! * **TURN servers are reached over UDP alone, so nothing knows of the end of a stream to one.** In `turn/tunnel`, and
//!   in [`turn`], which ends a connection that went through it.
//!   `relay::streams::a_stream_that_breaks_interrupts_a_chat_which_goes_on_by_the_next`. Goes when `turn:` over TCP and
//!   `turns:` work through a proxy.
//! * **Why a TURN server refuses is only logged.** In [`turn`]. `make test-relay`. Goes when an event tells the code.
//! * **What is sent through a relay stays in a queue until WebRTC's driver goes round once more, and the relay is given
//!   up before the last message has gone through it.** In [`turn`]. `make test-relay`. Goes when the other side learns
//!   of a leave at once.
//! * **The candidate of a relay shows the address behind it, also where only a relay may be used** (RFC 8839, section
//!   5.1). In `ice`. `relay::inside::who_uses_a_relay_alone_shows_no_address_where_there_is_a_direct_way`. Goes when
//!   the policy `Relay` leaves that address out.
//!
//! ## What others may send
//!
//! * **FORWARD-TSN loops up to 2³¹ times.** In `guard`. `by_packet::forward_tsn_costs_nothing`. Goes when that passes
//!   without it.
//! * **Lengths in ERROR, ABORT and messages of data channels are sliced unchecked, which panics.** In `guard`.
//!   `by_packet::malformed_packets_end_no_program`. Goes when that passes without it.
//! * **Reassembly, streams, resets and associations are not bounded.** In `guard`.
//!   `by_packet::an_endless_message_takes_no_memory`, `by_packet::crumbs_take_no_memory`,
//!   `by_packet::channels_without_end_take_no_memory`. Goes when all have limits that can be set.
//! * **A message that opens or confirms a data channel is believed whatever its length, and in pieces too.** In
//!   `guard`. `by_packet::malformed_packets_end_no_program`. Goes when only a whole one of the right length is.
//! * **DTLS joins the fragments of its handshake by calls within calls, which ends the program, and keeps records that
//!   come before their key without bound.** In `guard` and [`sieve`].
//!   `by_packet::crumbs_of_a_handshake_end_no_program`. Goes when both have a bound.
//! * **What is no STUN is handed to DTLS wherever it comes from, once there is a way.** In `guard` and [`sieve`].
//!   `by_stranger::a_call_opens_and_a_chat_goes_on_while_a_stranger_writes_to_every_port`. Goes when other sources than
//!   that of the way are passed over.
//! * **An ERROR chunk ends the association.** In `guard`, which drops it. `chunks_that_no_chat_needs_are_dropped`. Goes
//!   when it is only noted (RFC 9260, section 6.10).
//!
//! ## Faults
//!
//! * **A task that panics leaves a chat that looks open.** In [`caught`]. `a_panic_ends_the_task_alone`. Goes when the
//!   crate tells of it.
//! * **A task that loops stops every connection.** In [`pulse`], which sees it, and here, where a new thread is
//!   started. `a_thread_that_stands_still_is_replaced_and_not_waited_for`. Stays.
//! * **A program that was stopped takes its own absence for the other side's silence.** In [`runtime`], by the peer's
//!   clock. `resume::a_program_that_was_stopped_goes_on_with_its_chats`. Stays, unless the crate asks for the time.
//! * **A connection whose driver stands still never tells of its end.** In [`connection`], which looks itself, and
//!   twice, whether anything was heard. No test makes one stand still. Goes when the end of that task is told.
//!
//! ## Texts
//!
//! * **A way that swallows long datagrams is not found out** (RFC 8899). In [`stall`]: the chat is made anew with
//!   shorter ones. `relay::inside::long_texts_arrive_where_the_way_passes_only_576_bytes`. Goes when the crate looks
//!   for the length itself.
//! * **Closing loses what was just sent, and what the other side has not read.** In [`closing`].
//!   `chat::what_was_sent_before_leaving_arrives`. Goes when `close` waits for both.
//! * **The end of a channel is told before the texts that a slow reader has still to take, and the first text may be
//!   told before the opening.** In [`channel`] and [`files`].
//!   `chat::what_was_sent_before_leaving_is_not_lost_on_one_who_reads_late`. Goes when events come in their order.
//!
//! ## Cost
//!
//! * **Each socket and each connection has a buffer of 96 kB, and a socket for multicast names wakes each silent
//!   connection.** In [`socket`]. `sockets_that_share_the_buffer_keep_their_datagrams_apart`,
//!   `multicast_is_heard_until_the_connection_is_open`. Goes when a silent peer takes less than 100 kB without it
//!   (`make bench`).
//! * **A silent connection ticks five times a second.** In [`pace`].
//!   `what_was_said_keeps_a_connection_awake_and_a_keepalive_does_not`. Goes when it sleeps until something is due.
//! * **Sockets have the system's receive buffer, which one long text overruns.** In [`runtime`]. `make bench`. Goes
//!   when it can be set.

mod aead;
mod blocking;
mod build;
mod caught;
mod channel;
mod closing;
mod command;
mod connection;
mod early;
mod files;
mod flight;
mod guarded;
mod layer;
mod pace;
mod prepared;
mod pulse;
mod repeat;
mod runtime;
mod sieve;
mod socket;
mod stall;
mod turn;

use std::collections::HashMap;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::warn;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::timeout;

use caught::{Caught, Panicked};
use command::{Beginning, Queued};
pub use command::{FileThread, InputSender, RtcCommand, RtcConfig};
use connection::live;
use pulse::{Pulse, PulseReader};
pub use runtime::receive_window;

use super::engine::{Input, PeerConnectionId};
use super::event::CloseReason;
use super::ice::{self, IceServer};
use super::sync::Gauge;
use crate::threads;

/// The thread on which all peer connections live.
pub struct Rtc {
    config: RtcConfig,
    inputs: InputSender,
    thread: Option<Running>,
    /// Bytes that wait to be sent, of all connections together and of each.
    queued: Gauge,
    queues: HashMap<PeerConnectionId, Gauge>,
    /// The STUN and TURN servers that the server has named last, if they are used.
    offered: Vec<IceServer>,
    /// The connection that begins next and whose way passes only short datagrams.
    narrow: Option<PeerConnectionId>,
}

/// A thread that runs.
struct Running {
    commands: UnboundedSender<(PeerConnectionId, RtcCommand)>,
    thread: JoinHandle<()>,
    /// Ends with it.
    done: std::sync::mpsc::Receiver<()>,
    reader: PulseReader,
}

impl Running {
    fn start(config: RtcConfig, inputs: InputSender) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (ending, done) = std::sync::mpsc::channel();
        let pulse = Pulse::default();
        let reader = PulseReader::new(pulse.clone());
        let thread = threads::spawn("rtc", move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(config, inputs, receiver) => {}
                    () = pulse.beat() => {}
                }
            });
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
            drop(ending);
        })?;
        Ok(Self { commands, thread, done, reader })
    }

    /// Ends all connections in order and waits for that, [`END_TIME`] at most, unless the thread does not turn any
    /// more.
    fn end(self) {
        drop(self.commands);
        if self.reader.wait(&self.done) {
            let _ = self.thread.join();
        }
    }
}

impl Rtc {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no descriptors to give.
    pub fn start(config: RtcConfig, inputs: InputSender, queued: Gauge) -> io::Result<Self> {
        let thread = Some(Running::start(config.clone(), inputs.clone())?);
        Ok(Self { config, inputs, thread, queued, queues: HashMap::new(), offered: Vec::new(), narrow: None })
    }

    /// When to [`look_after`](Self::look_after) the thread next, if there is a connection.
    pub fn next_look(&self) -> Option<Instant> {
        let thread = self.thread.as_ref()?;
        thread.reader.next_look().filter(|_| self.queues.values().any(Gauge::is_shared))
    }

    /// Looks after the thread, and starts another one if it does not turn any more. Returns the connections that are
    /// lost by that, if so; the old thread is left to itself.
    pub fn look_after(&mut self, now: Instant) -> Option<Vec<PeerConnectionId>> {
        if !self.thread.as_mut()?.reader.is_stuck(now) {
            return None;
        }
        match Running::start(self.config.clone(), self.inputs.clone()) {
            Ok(fresh) => self.thread = Some(fresh),
            // It is tried again at the next look.
            Err(error) => {
                warn!("webrtc: no new thread: {error}");
                return None;
            }
        }
        let lost = self.queues.drain().filter(|(_, queue)| queue.is_shared()).map(|(id, _)| id);
        Some(lost.collect())
    }

    /// Uses these STUN and TURN servers, which the server names, for the connections to come. Where there is a proxy,
    /// the server is not to learn what it hides, so of those only such are used that are reached by it.
    pub fn take_offered(&mut self, mut servers: Vec<IceServer>) {
        if self.config.proxy.is_some() {
            servers.retain(IceServer::is_stream);
        }
        if self.config.uses_offered {
            self.offered = servers;
        }
    }

    /// Gives a connection something to do.
    pub fn command(&self, id: PeerConnectionId, command: RtcCommand) {
        if let Some(thread) = &self.thread {
            // The thread ends only once this sender is gone.
            let _ = thread.commands.send((id, command));
        }
    }

    /// The connection that begins next goes a way that passes only short datagrams.
    pub fn set_narrow(&mut self, id: PeerConnectionId) {
        self.narrow = Some(id);
    }

    /// Begins a connection, with an offer or with an answer to one.
    pub fn begin(&mut self, id: PeerConnectionId, offer: Option<String>) {
        self.queues.retain(|_, queue| queue.is_shared());
        let queue = Gauge::default();
        self.queues.insert(id, queue.clone());
        let is_narrow = self.narrow.take() == Some(id);
        let offered = self.offered.clone();
        self.command(id, RtcCommand::Begin(Beginning { offer, queue, offered, is_narrow }));
    }

    /// Sends a text message. One that is kept elsewhere until it is acknowledged is counted there.
    pub fn transmit(&self, id: PeerConnectionId, text: String, is_kept: bool) {
        if let Some(queue) = self.queues.get(&id) {
            let gauges = if is_kept { vec![] } else { vec![queue.clone(), self.queued.clone()] };
            let waiting = Queued::new(text.len(), gauges);
            self.command(id, RtcCommand::Transmit(text, waiting));
        }
    }

    /// Whether so much waits to be sent that there is no room for more.
    pub fn is_full(&self, id: PeerConnectionId) -> bool {
        self.queues.get(&id).is_some_and(|queue| queue.get() >= MAX_QUEUED)
    }
}

impl Drop for Rtc {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}

/// Begins connections and hands each what it is to do, until there is nobody any more who tells.
async fn serve(
    config: RtcConfig,
    inputs: InputSender,
    mut commands: UnboundedReceiver<(PeerConnectionId, RtcCommand)>,
) {
    let mut connections: HashMap<PeerConnectionId, UnboundedSender<RtcCommand>> = HashMap::new();
    let mut tasks = JoinSet::new();
    while let Some((id, command)) = commands.recv().await {
        if let RtcCommand::Begin(Beginning { offered, is_narrow, .. }) = &command {
            let mut config = config.clone();
            config.is_narrow = *is_narrow;
            let is_own = config.ice_servers.iter().any(IceServer::is_turn);
            config.ice_servers = ice::chosen(&config.ice_servers, offered, config.is_relay_only);
            connections.retain(|_, connection| !connection.is_closed());
            while tasks.try_join_next().is_some() {}
            let (sender, receiver) = mpsc::unbounded_channel();
            connections.insert(id, sender);
            let living = Caught::new(Box::pin(live(id, config, !is_own, inputs.clone(), receiver)));
            let inputs = inputs.clone();
            tasks.spawn(async move {
                if living.await == Err(Panicked) {
                    inputs.send(Input::Closed { id, reason: CloseReason::Crashed }).await;
                }
            });
        }
        if let Some(connection) = connections.get(&id) {
            // A connection that has ended has said so.
            let _ = connection.send(command);
        }
    }
    // Without their senders, the connections end in order.
    drop(connections);
    let _ = timeout(END_TIME, async { while tasks.join_next().await.is_some() {} }).await;
}

/// Bytes of one connection that may wait to be sent.
const MAX_QUEUED: usize = 8 * 1024 * 1024;

/// How long all connections together may take to end.
const END_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::{Poll, Token, Waker};
    use tokio::sync::mpsc::Receiver;

    use super::*;

    const CONFIG: fn() -> RtcConfig = || RtcConfig {
        ice_servers: vec![],
        uses_offered: false,
        is_relay_only: false,
        proxy: None,
        is_behind_proxy: false,
        is_narrow: false,
        with_loopback: true,
        lost_after: Duration::from_secs(9),
    };

    /// Begins a connection, waits for its offer, and lets its thread stand still until what comes back is dropped.
    fn freeze(rtc: &mut Rtc, inputs: &mut Receiver<Input>, id: u64) -> std::sync::mpsc::Sender<()> {
        let id = PeerConnectionId(id);
        rtc.begin(id, None);
        while !matches!(inputs.blocking_recv(), Some(Input::Described { id: of, .. }) if of == id) {}
        let (says, said) = std::sync::mpsc::channel();
        let (thaw, until) = std::sync::mpsc::channel();
        rtc.command(id, RtcCommand::Freeze(says, until));
        said.recv().unwrap();
        thaw
    }

    #[test]
    fn a_thread_that_stands_still_is_replaced_and_not_waited_for() {
        let poll = Poll::new().unwrap();
        let (sender, mut inputs) = InputSender::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let mut rtc = Rtc::start(CONFIG(), sender, Gauge::default()).unwrap();
        let start = Instant::now();
        let _first = freeze(&mut rtc, &mut inputs, 1);
        let mut looks = (0..60).filter_map(|second| rtc.look_after(start + Duration::from_secs(second)));
        assert_eq!(looks.next(), Some(vec![PeerConnectionId(1)]));
        drop(looks);
        // A new one serves new calls. The end of the program waits for neither.
        let _second = freeze(&mut rtc, &mut inputs, 2);
        let begin = Instant::now();
        drop(rtc);
        assert!(begin.elapsed() < END_TIME);
    }
}
