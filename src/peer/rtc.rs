//! WebRTC: with its [`prompt`] runtime, its [`socket`]s, the [`relay`] and the [`detour`]s to it the only room that knows the
//! `webrtc` crate. Commands come in, and what happens goes out as the engine's inputs. Each connection is a task on one thread.
//!
//! What `webrtc` and `rtc` =0.21.1 do otherwise than they should, where that is worked round, and the test that shows when it can go: once it passes with a newer
//! version and without what is done here.
//!
//! | what | where | test in `integration/` |
//! |---|---|---|
//! | An offer of `setup:active` is answered with `active`, one without a bundle with port 0, one without names or with a candidate that cannot be read with an error; only the first fingerprint is seen, and only `sha-256` in small letters | `description`: WebRTC reads and writes one form alone | `descriptions::offers_of_others_are_answered_and_open_a_chat` |
//! | Texts that come are bounded by the smaller `max-message-size` of both sides, and dropped without a word | `description` | `descriptions::what_we_promise_to_take_is_taken_whatever_the_other_side_takes` |
//! | SCTP is begun by the client of DTLS alone, and the other side's beginning is refused there | `description`: the caller is that client | `make test-stacks` |
//! | What comes of a handshake before there is a way is dropped, and comes again after a second | `early` | `make test-stacks` |
//! | Candidates are not bounded, and those over TCP are dialled at once | `candidate` | `descriptions::a_call_makes_nobody_ask_many_addresses_and_dial_none` |
//! | A handshake that has lost a datagram waits for ever, once a record has come that is of no use | `repeat`: the last `flight` is sent again | `losses::any_one_datagram_of_a_handshake_may_be_lost` |
//! | A stale nonce (438) ends a channel, a permission and a refresh | `stale`: the request is made again | `turn::a_chat_lives_through_a_relay_whose_nonces_are_stale_at_once` |
//! | TURN servers are reached over UDP alone, so nothing knows of the end of a stream to one | `detour`, and `relay`: it ends a connection that goes through it | `relay::streams::a_stream_that_breaks_interrupts_a_chat_which_goes_on_by_the_next` |
//! | FORWARD-TSN loops up to 2³¹ times | `guard` | `attack::forward_tsn_costs_nothing` |
//! | Lengths in ERROR, ABORT and messages of data channels are sliced unchecked, which panics | `guard` | `attack::malformed_packets_end_no_program` |
//! | Reassembly, streams, resets and associations are not bounded | `guard` | `attack::an_endless_message_takes_no_memory`, `attack::crumbs_take_no_memory`, `attack::channels_without_end_take_no_memory` |
//! | DTLS puts pieces of its handshake together by calls within calls, without bound, which ends the program; and keeps records that come before their key without bound | `guard`, and [`sieve`] | `attack::crumbs_of_a_handshake_end_no_program` |
//! | What is no STUN is handed to DTLS wherever it comes from, once there is a way | `guard`, and [`sieve`] | `strangers::a_call_opens_and_a_chat_goes_on_while_a_stranger_writes_to_every_port` |
//! | An ERROR chunk ends the association | `guard`, which drops it | `guard::tests::chunks_that_no_chat_needs_are_dropped` there |
//! | A task that panics leaves a chat that looks open | [`caught`] | `a_panic_ends_the_task_alone` there |
//! | A way that swallows long datagrams is not found out (RFC 8899) | `stall`: the chat is made anew with shorter ones | `relay::inside::long_texts_arrive_where_the_way_passes_only_576_bytes` |

mod caught;
mod detour;
mod early;
mod flight;
mod framing;
mod guarded;
mod pace;
mod prompt;
mod pulse;
mod relay;
mod repeat;
mod sieve;
mod socket;
mod stale;
mod stall;
mod stream;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{debug, warn};
use mio::Waker;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use rtc::peer_connection::transport::{RTCDtlsTransportState, RTCIceCandidateInit};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::error::Error;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceConnectionState,
    RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription, SettingEngineBuilder,
};

use caught::{Caught, Panicked};
use detour::Detours;
use early::Early;
use guarded::{CIPHER_SUITES, Provider, Watch};
use pace::Pace;
use prompt::Prompt;
use pulse::{Pulse, Watcher};
use relay::Relay;
use stall::{Stall, Wait};

use super::Gauge;
use super::description::MAX_MESSAGE;
use super::engine::{ConnectionId, Input, Parting};
use super::event::CloseReason;
use super::ice::{self, IceServer, NoRelay, NoRelayCause};
use super::socks::ProxyUrl;
use crate::protocol::Candidate;

/// How connections are made.
#[derive(Debug, Clone)]
pub struct Config {
    /// The user's STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Whether the server's are used, too.
    pub uses_offered: bool,
    /// Whether the other side may learn the address of a relay and no other, and nothing goes any other way.
    pub is_relay_only: bool,
    /// The SOCKS5 proxy by which TURN servers over TCP and TLS are reached.
    pub proxy: Option<ProxyUrl>,
    /// Whether nothing goes past the proxy.
    pub is_behind_proxy: bool,
    /// Whether the peer may be on this very machine.
    pub with_loopback: bool,
    /// How long nothing may be heard of the other side before a connection counts as lost.
    pub lost_after: Duration,
    /// The way passes only short datagrams.
    pub is_narrow: bool,
    /// Set when something that was sent may not have been read.
    pub has_lost: Arc<AtomicBool>,
}

/// What a connection is to do.
#[derive(Debug)]
pub enum Command {
    /// Begin with an offer of ours, or with the peer's, which is answered, with what the server offers of STUN and TURN; whether the
    /// way passes only short datagrams.
    Begin(Option<String>, Gauge, Vec<IceServer>, bool),
    /// Take the peer's answer.
    Finish(String),
    /// Take a candidate of the peer.
    AddCandidate(Candidate),
    /// Send a text message.
    Transmit(String, Waiting),
    /// End, once what is to be waited for has come.
    Close(Parting),
    /// Say that the thread stands still, and let it, until the other end is gone.
    #[cfg(test)]
    Freeze(std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>),
}

/// Where inputs of the engine go: a bounded mailbox and the loop to be woken. Whoever is faster than the loop waits,
/// and so in the end does the other side, whose data stays in its own buffers.
#[derive(Clone)]
pub struct Outlet {
    inputs: Sender<Input>,
    waker: Arc<Waker>,
}

impl Outlet {
    /// An outlet that wakes `waker`, and its other end.
    pub fn new(waker: Arc<Waker>) -> (Self, Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(MAILBOX);
        (Self { inputs, waker }, receiver)
    }

    /// Posts an input; whether it had to wait for room.
    async fn send(&self, input: Input) -> bool {
        let waits = self.inputs.capacity() == 0;
        // The loop may have ended, and then nobody is interested any more.
        if self.inputs.send(input).await.is_ok() {
            let _ = self.waker.wake();
        }
        waits
    }
}

/// The thread on which all connections live.
pub struct Rtc {
    config: Config,
    outlet: Outlet,
    thread: Option<Running>,
    /// Bytes that wait to be sent, of all connections together and of each.
    queued: Gauge,
    queues: HashMap<ConnectionId, Gauge>,
    /// The STUN and TURN servers that the server has named last, if they are used.
    offered: Vec<IceServer>,
    /// The connection that begins next and whose way passes only short datagrams.
    narrow: Option<ConnectionId>,
}

/// A thread that runs.
struct Running {
    commands: UnboundedSender<(ConnectionId, Command)>,
    thread: JoinHandle<()>,
    /// Ends with it.
    done: std::sync::mpsc::Receiver<()>,
    watcher: Watcher,
}

impl Running {
    fn start(config: Config, outlet: Outlet) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let (ending, done) = std::sync::mpsc::channel();
        let pulse = Pulse::default();
        let watcher = Watcher::new(pulse.clone());
        let thread = thread::Builder::new().name("lowkey-rtc".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(config, outlet, receiver) => {}
                    () = pulse.beat() => {}
                }
            });
            // A name that is still being looked up is not waited for.
            runtime.shutdown_background();
            drop(ending);
        })?;
        Ok(Self { commands, thread, done, watcher })
    }

    /// Ends all connections in order and waits for that, [`END_TIME`] at most, unless the thread does not turn any more.
    fn end(self) {
        drop(self.commands);
        if self.watcher.wait(&self.done) {
            let _ = self.thread.join();
        }
    }
}

impl Rtc {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no descriptors to give.
    pub fn start(config: Config, outlet: Outlet, queued: Gauge) -> io::Result<Self> {
        let thread = Some(Running::start(config.clone(), outlet.clone())?);
        Ok(Self { config, outlet, thread, queued, queues: HashMap::new(), offered: Vec::new(), narrow: None })
    }

    /// When to [`watch`](Self::watch) the thread next, if there is a connection.
    pub fn next_watch(&self) -> Option<Instant> {
        let thread = self.thread.as_ref()?;
        thread.watcher.next_look().filter(|_| self.queues.values().any(Gauge::is_shared))
    }

    /// Looks after the thread, and starts another one if it does not turn any more. The connections that are lost by that, if
    /// so; the old thread is left to itself.
    pub fn watch(&mut self, now: Instant) -> Option<Vec<ConnectionId>> {
        if !self.thread.as_mut()?.watcher.is_stuck(now) {
            return None;
        }
        match Running::start(self.config.clone(), self.outlet.clone()) {
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

    /// Uses these STUN and TURN servers, which the server names, for the connections to come. Where there is a proxy, the server is
    /// not to learn what it hides, so of those only such are used that are reached by it.
    pub fn take_offered(&mut self, mut servers: Vec<IceServer>) {
        if self.config.proxy.is_some() {
            servers.retain(IceServer::is_stream);
        }
        if self.config.uses_offered {
            self.offered = servers;
        }
    }

    /// Gives a connection something to do.
    pub fn command(&self, id: ConnectionId, command: Command) {
        if let Some(thread) = &self.thread {
            // The thread ends only once this sender is gone.
            let _ = thread.commands.send((id, command));
        }
    }

    /// The connection that begins next goes a way that passes only short datagrams.
    pub fn set_narrow(&mut self, id: ConnectionId) {
        self.narrow = Some(id);
    }

    /// Begins a connection, with an offer or with an answer to one.
    pub fn begin(&mut self, id: ConnectionId, offer: Option<String>) {
        self.queues.retain(|_, queue| queue.is_shared());
        let queue = Gauge::default();
        self.queues.insert(id, queue.clone());
        let is_narrow = self.narrow.take() == Some(id);
        self.command(id, Command::Begin(offer, queue, self.offered.clone(), is_narrow));
    }

    /// Sends a text message. One that is kept elsewhere until it is acknowledged is counted there.
    pub fn transmit(&self, id: ConnectionId, text: String, is_kept: bool) {
        if let Some(queue) = self.queues.get(&id) {
            let gauges = if is_kept { vec![] } else { vec![queue.clone(), self.queued.clone()] };
            let waiting = Waiting::new(text.len(), gauges);
            self.command(id, Command::Transmit(text, waiting));
        }
    }

    /// Whether so much waits to be sent that there is no room for more.
    pub fn is_full(&self, id: ConnectionId) -> bool {
        self.queues.get(&id).is_some_and(|queue| queue.get() >= MAX_QUEUED)
    }
}

/// Bytes that wait to be sent, counted for as long as this lives.
#[derive(Debug)]
pub struct Waiting {
    bytes: usize,
    gauges: Vec<Gauge>,
}

impl Waiting {
    fn new(bytes: usize, gauges: Vec<Gauge>) -> Self {
        gauges.iter().for_each(|gauge| gauge.add(bytes));
        Self { bytes, gauges }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gauges.iter().for_each(|gauge| gauge.subtract(self.bytes));
    }
}

impl Drop for Rtc {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}

async fn serve(config: Config, outlet: Outlet, mut commands: UnboundedReceiver<(ConnectionId, Command)>) {
    let mut connections: HashMap<ConnectionId, UnboundedSender<Command>> = HashMap::new();
    let mut tasks = JoinSet::new();
    while let Some((id, command)) = commands.recv().await {
        if let Command::Begin(_, _, offered, is_narrow) = &command {
            let mut config = config.clone();
            config.is_narrow = *is_narrow;
            let is_own = config.ice_servers.iter().any(IceServer::is_turn);
            config.ice_servers = ice::chosen(&config.ice_servers, offered, config.is_relay_only);
            connections.retain(|_, connection| !connection.is_closed());
            while tasks.try_join_next().is_some() {}
            let (sender, receiver) = mpsc::unbounded_channel();
            connections.insert(id, sender);
            let living = Caught::new(Box::pin(live(id, config, !is_own, outlet.clone(), receiver)));
            let outlet = outlet.clone();
            tasks.spawn(async move {
                if living.await == Err(Panicked) {
                    outlet.send(Input::Closed { id, reason: CloseReason::Crashed }).await;
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

/// One connection from its first command to its last. `is_offered`: a TURN server in `config` is one that the server named.
async fn live(
    id: ConnectionId,
    config: Config,
    is_offered: bool,
    outlet: Outlet,
    mut commands: UnboundedReceiver<Command>,
) {
    let (notes, mut noted) = mpsc::unbounded_channel();
    let pace = Arc::new(Pace::opening(config.lost_after));
    let relay = Relay::new(&config.ice_servers);
    let has_turn = config.ice_servers.iter().any(IceServer::is_turn);
    if config.is_relay_only && !has_turn {
        let cause = if config.is_behind_proxy { NoRelayCause::NoneByProxy } else { NoRelayCause::NoServer };
        let reason = CloseReason::NoRelay(NoRelay { cause, is_offered: false });
        outlet.send(Input::Closed { id, reason }).await;
        return;
    }
    let detours = Detours::new(&config.ice_servers, config.proxy.as_ref(), config.is_behind_proxy, relay.clone());
    let broken = notes.clone();
    let watch = Watch::new(move |what| {
        let _ = broken.send(Note::Ended(CloseReason::RulesBroken { what }));
    });
    // On the heap, since what it takes to build a connection would be part of this task for as long as it lives.
    let connection = match Box::pin(build(&config, &notes, &pace, &relay, &detours, &watch)).await {
        Ok(connection) => connection,
        Err(error) => {
            outlet.send(Input::Closed { id, reason: failed(&error) }).await;
            return;
        }
    };
    let (is_relay_only, is_narrow) = (config.is_relay_only, config.is_narrow);
    let mut link = Link {
        id,
        connection,
        outlet,
        notes,
        pace,
        watch,
        is_relay_only,
        is_narrow,
        queue: None,
        writer: None,
        channel: None,
    };
    // What tells of a loss may itself be what is lost.
    let (mut is_late, mut look_at) = (false, link.pace.heard_until(SILENCE));
    let no_relay = || CloseReason::NoRelay(NoRelay { cause: relay.trouble(), is_offered });
    // Once there was a way, it is not for want of one that nothing comes about.
    let lacks_relay = |has_way: bool| has_turn && !has_way && !relay.is_granted();
    let mut parting = Parting::Sent;
    let mut has_way = false;
    let ended = loop {
        let step = tokio::select! {
            command = commands.recv() => match command {
                None => break None,
                Some(Command::Close(how)) => {
                    parting = how;
                    break None;
                }
                Some(command) => link.obey(command).await,
            },
            () = relay.broken() => break Some(CloseReason::ConnectionLost),
            () = tokio::time::sleep_until(look_at.into()) => {
                let heard_until = link.pace.heard_until(config.lost_after + SILENCE);
                let is_silent = heard_until <= Instant::now();
                if is_silent && is_late {
                    break Some(CloseReason::ConnectionLost);
                }
                is_late = is_silent;
                look_at = heard_until.max(Instant::now() + SECOND_LOOK);
                Ok(())
            }
            Some(note) = noted.recv() => match note {
                // What does not come about for want of a relay fails for a reason that can be told.
                Note::Gathered if is_relay_only && !relay.is_granted() => break Some(no_relay()),
                Note::Ended(CloseReason::ConnectionLost) if lacks_relay(has_way) && link.pace.is_opening() => {
                    break Some(no_relay());
                }
                Note::Ended(reason) => break Some(reason),
                note => {
                    has_way |= matches!(&note, Note::Way);
                    if matches!(&note, Note::Candidate(candidate) if candidate.candidate.contains(" typ relay")) {
                        relay.set_granted();
                    }
                    link.note(note).await
                }
            },
        };
        if let Err(error) = step {
            break Some(failed(&error));
        }
    };
    let Link { connection, outlet, writer, channel, pace, .. } = link;
    pace.active();
    match ended {
        Some(reason) => {
            // What is broken may take its time.
            let _ = timeout(CLOSE_TIME, relay.close(&connection)).await;
            outlet.send(Input::Closed { id, reason }).await;
        }
        None => {
            let read_time = match parting {
                Parting::AtOnce => None,
                Parting::Sent => Some(READ_TIME_UNKNOWN),
                Parting::Read | Parting::Acknowledged => Some(READ_TIME),
            };
            if let (Some(writer), Some(channel), Some(read_time)) = (writer, channel, read_time) {
                let is_read = close_in_order(writer, channel, &connection, &mut noted, read_time).await;
                if !is_read && parting == Parting::Read {
                    config.has_lost.store(true, Ordering::SeqCst);
                }
            }
            let _ = timeout(CLOSE_TIME, relay.close(&connection)).await;
        }
    }
    detours.end().await;
    debug!("connection {} closed", id.0);
}

/// What a mutex holds. Where a thread has panicked, others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a chat so that nothing of what was sent is lost. Closing right after sending would lose it, and so would closing
/// while the other side has it but has not read it. So the writer sends what it has; the channel is closed, which the other
/// side reads behind all texts; and then it is the other side that closes the connection, which shows in DTLS alone.
/// Whether it did.
async fn close_in_order(
    writer: Writer,
    channel: Arc<dyn DataChannel>,
    connection: &Arc<dyn PeerConnection>,
    noted: &mut UnboundedReceiver<Note>,
    read_time: Duration,
) -> bool {
    let Writer { texts, mut task } = writer;
    drop(texts);
    let mut wait = Wait::new(Instant::now());
    let mut outstanding = usize::MAX;
    let mut is_written = false;
    loop {
        tokio::select! {
            _ = &mut task, if !is_written => is_written = true,
            note = noted.recv() => if matches!(note, None | Some(Note::Ended(_))) {
                return false;
            },
            () = tokio::time::sleep(DRAIN_POLL) => {}
        }
        let now_outstanding = channel.outstanding_bytes().await.unwrap_or_default();
        if is_written && now_outstanding == 0 {
            break;
        }
        let is_progress = now_outstanding != outstanding;
        outstanding = now_outstanding;
        if wait.look(is_progress, Instant::now()) >= DRAIN_TIME {
            return false;
        }
    }
    let _ = channel.close().await;
    let Some(sctp) = connection.sctp().await else { return false };
    let dtls = sctp.transport();
    let read_to_end = async {
        let mut wait = Wait::new(Instant::now());
        while dtls.state().await.is_ok_and(|state| state == RTCDtlsTransportState::Connected) {
            if wait.look(false, Instant::now()) >= read_time {
                return false;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        true
    };
    let lost = async { while !matches!(noted.recv().await, None | Some(Note::Ended(CloseReason::ConnectionLost))) {} };
    tokio::select! {
        in_time = read_to_end => in_time,
        () = lost => false,
    }
}

/// What the crate's callbacks tell the connection's task. They run on the driver, so all they do is queue.
enum Note {
    Candidate(Candidate),
    /// All candidates are found.
    Gathered,
    Channel(Arc<dyn DataChannel>),
    /// A way to the other side is found.
    Way,
    /// Long datagrams do not arrive.
    Stalled,
    Ended(CloseReason),
}

struct Link {
    id: ConnectionId,
    connection: Arc<dyn PeerConnection>,
    outlet: Outlet,
    notes: UnboundedSender<Note>,
    pace: Arc<Pace>,
    watch: Arc<Watch>,
    is_relay_only: bool,
    is_narrow: bool,
    /// Held for as long as the connection lives, so that it is known by it.
    queue: Option<Gauge>,
    writer: Option<Writer>,
    channel: Option<Arc<dyn DataChannel>>,
}

/// The task that sends texts, one after another, as fast as the other side takes them.
struct Writer {
    texts: UnboundedSender<(String, Waiting)>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    async fn obey(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Begin(None, queue, ..) => {
                self.queue = Some(queue);
                let channel = self.connection.create_data_channel(CHANNEL_LABEL, None).await?;
                self.attach(channel);
                let offer = self.connection.create_offer(None).await?;
                self.describe(offer).await
            }
            Command::Begin(Some(sdp), queue, ..) => {
                self.queue = Some(queue);
                self.connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
                let answer = self.connection.create_answer(None).await?;
                self.describe(answer).await
            }
            Command::Finish(sdp) => self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await,
            Command::AddCandidate(candidate) => {
                let candidate = RTCIceCandidateInit {
                    candidate: candidate.candidate,
                    sdp_mid: candidate.sdp_mid,
                    sdp_mline_index: candidate.sdp_mline_index,
                    ..RTCIceCandidateInit::default()
                };
                // One candidate that is of no use does not spoil the others.
                if self.connection.add_ice_candidate(candidate).await.is_err() {
                    debug!("connection {}: a candidate is not usable", self.id.0);
                }
                Ok(())
            }
            Command::Transmit(text, waiting) => {
                if let Some(writer) = &self.writer {
                    let _ = writer.texts.send((text, waiting));
                }
                Ok(())
            }
            Command::Close(_) => Ok(()),
            #[cfg(test)]
            Command::Freeze(says, until) => {
                let _ = says.send(());
                let _ = until.recv();
                Ok(())
            }
        }
    }

    async fn describe(&mut self, description: RTCSessionDescription) -> Result<(), Error> {
        let sdp = match self.is_relay_only {
            true => ice::relays_alone(&description.sdp),
            false => description.sdp.clone(),
        };
        self.connection.set_local_description(description).await?;
        self.outlet.send(Input::Described { id: self.id, sdp }).await;
        Ok(())
    }

    async fn note(&mut self, note: Note) -> Result<(), Error> {
        match note {
            Note::Candidate(Candidate { candidate, sdp_mid, sdp_mline_index }) => {
                let shown = if self.is_relay_only { ice::relay_alone(&candidate) } else { Some(candidate) };
                if let Some(candidate) = shown {
                    let candidate = Candidate { candidate, sdp_mid, sdp_mline_index };
                    self.outlet.send(Input::Candidate { id: self.id, candidate }).await;
                }
            }
            Note::Channel(channel) => {
                // The protocol knows one channel of this name, and the initiator opens it.
                if self.channel.is_none() && channel.label().await? == CHANNEL_LABEL {
                    self.attach(channel);
                } else {
                    channel.close().await?;
                }
            }
            Note::Way => {
                self.outlet.send(Input::WayFound { id: self.id }).await;
            }
            Note::Stalled => {
                self.outlet.send(Input::Stalled { id: self.id }).await;
            }
            Note::Gathered | Note::Ended(_) => {}
        }
        Ok(())
    }

    /// Starts to read and to write the channel, each in a task of its own: neither waits for the other.
    fn attach(&mut self, channel: Arc<dyn DataChannel>) {
        let (id, outlet, notes, pace) = (self.id, self.outlet.clone(), self.notes.clone(), self.pace.clone());
        let (reader, watch) = (channel.clone(), self.watch.clone());
        spawn(&self.notes, async move {
            let (mut is_open, mut is_closed) = (false, false);
            let mut last_wait: Option<Instant> = None;
            loop {
                let event = if is_closed {
                    // The crate tells of the end before the texts that it still holds for a slow reader.
                    let is_slow = last_wait.is_some_and(|last_wait| last_wait.elapsed() < SLOW_READER);
                    let patience = if is_slow { LAST_TEXTS_OF_SLOW } else { LAST_TEXTS };
                    timeout(patience, reader.poll()).await.ok().flatten()
                } else {
                    reader.poll().await
                };
                // Where the first text comes right behind, the crate tells of it before it tells of the opening.
                let is_opening = matches!(event, Some(DataChannelEvent::OnOpen | DataChannelEvent::OnMessage(_)));
                if is_opening && !is_open {
                    is_open = true;
                    pace.active();
                    outlet.send(Input::Opened { id }).await;
                }
                match event {
                    Some(DataChannelEvent::OnMessage(message)) => {
                        pace.active();
                        watch.take();
                        let text = message.is_string.then(|| String::from_utf8(message.data.into()).ok()).flatten();
                        if outlet.send(Input::Received { id, text }).await {
                            last_wait = Some(Instant::now());
                        }
                    }
                    Some(DataChannelEvent::OnClose) => is_closed = true,
                    Some(_) => {}
                    None => break,
                }
            }
            let _ = notes.send(Note::Ended(CloseReason::PeerLeft));
        });
        let (texts, mut receiver) = mpsc::unbounded_channel::<(String, Waiting)>();
        let (writer, notes, pace, is_narrow) = (channel.clone(), self.notes.clone(), self.pace.clone(), self.is_narrow);
        let task = spawn(&self.notes, async move {
            let mut watch: Option<tokio::task::JoinHandle<()>> = None;
            let sent = Arc::new(AtomicUsize::new(0));
            while let Some((text, _waiting)) = receiver.recv().await {
                pace.active();
                if text.len() > SHORT && watch.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let watching = watch_over(writer.clone(), notes.clone(), pace.clone(), sent.clone(), is_narrow);
                    watch = Some(spawn(&notes, watching));
                }
                if let Err(error) = writer.send_text(&text).await {
                    let _ = notes.send(Note::Ended(failed(&error)));
                    break;
                }
                sent.fetch_add(text.len(), Ordering::Relaxed);
            }
        });
        self.writer = Some(Writer { texts, task });
        self.channel = Some(channel);
    }
}

/// Runs a task of the connection whose panic ends it.
fn spawn(
    notes: &UnboundedSender<Note>,
    future: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let notes = notes.clone();
    tokio::spawn(async move {
        if Caught::new(Box::pin(future)).await == Err(Panicked) {
            let _ = notes.send(Note::Ended(CloseReason::Crashed));
        }
    })
}

/// Watches over what is on its way until all of it has arrived, or a stall is told.
async fn watch_over(
    channel: Arc<dyn DataChannel>,
    notes: UnboundedSender<Note>,
    pace: Arc<Pace>,
    sent: Arc<AtomicUsize>,
    is_narrow: bool,
) {
    let mut stall = Stall::new(Instant::now());
    loop {
        tokio::time::sleep(STALL_POLL).await;
        match channel.outstanding_bytes().await {
            Err(_) | Ok(0) => return,
            Ok(outstanding) => {
                if stall.is_one(sent.load(Ordering::Relaxed), outstanding, pace.heard(), is_narrow, Instant::now()) {
                    let _ = notes.send(Note::Stalled);
                    return;
                }
            }
        }
    }
}

async fn build(
    config: &Config,
    notes: &UnboundedSender<Note>,
    pace: &Arc<Pace>,
    relay: &Relay,
    detours: &Detours,
    watch: &Arc<Watch>,
) -> Result<Arc<dyn PeerConnection>, Error> {
    // To ask a network for a name of the peer's would show it that we are there.
    if config.is_relay_only {
        return build_with(config, notes, pace, relay, detours, watch, MulticastDnsMode::Disabled).await;
    }
    match build_with(config, notes, pace, relay, detours, watch, MulticastDnsMode::QueryOnly).await {
        // A machine with nothing but loopback has no multicast, and needs none.
        Err(_) => build_with(config, notes, pace, relay, detours, watch, MulticastDnsMode::Disabled).await,
        built => built,
    }
}

async fn build_with(
    config: &Config,
    notes: &UnboundedSender<Note>,
    pace: &Arc<Pace>,
    relay: &Relay,
    detours: &Detours,
    watch: &Arc<Watch>,
    multicast: MulticastDnsMode,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let servers = config.ice_servers.iter().map(|server| RTCIceServer {
        urls: vec![detours.stand_in(&server.url)],
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(multicast)
        .with_include_loopback_candidate(config.with_loopback)
        // The first pair that works is taken: waiting for a better one only delays the chat.
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_relay_acceptance_min_wait(Some(if config.is_relay_only { Duration::ZERO } else { RELAY_WAIT }))
        // Lost after both together. Nobody acts upon the first, so it does not come while a silent connection sleeps.
        .with_ice_timeouts(Some(config.lost_after * 2 / 3), Some(config.lost_after / 3), Some(KEEPALIVE))
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE as u32))
        .with_crypto_provider(Arc::new(Provider::new(watch.clone())))
        .with_dtls_cipher_suites(CIPHER_SUITES.to_vec());
    let settings = if config.is_narrow { settings.with_sctp_mtu(NARROW_MTU) } else { settings }.build();
    // A wildcard stands for every interface but loopback.
    let mut addresses = vec!["0.0.0.0:0".to_owned(), "[::]:0".to_owned()];
    if config.with_loopback {
        // One is enough for this machine, and each socket costs a buffer. Some machines have no other than that of IPv6.
        let has_v4 = std::net::UdpSocket::bind(("127.0.0.1", 0)).is_ok();
        addresses.push(if has_v4 { "127.0.0.1:0" } else { "[::1]:0" }.to_owned());
    }
    let policy = if config.is_relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    let configuration =
        RTCConfigurationBuilder::new().with_ice_servers(servers.collect()).with_ice_transport_policy(policy).build();
    let crashed = notes.clone();
    let on_panic = move || {
        let _ = crashed.send(Note::Ended(CloseReason::Crashed));
    };
    let early = Early::default();
    let (ways, held) = (detours.clone(), early.clone());
    let runtime = Prompt::new(pace.clone(), relay.clone(), ways, held, watch.clone(), Arc::new(on_panic));
    let connection = PeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(settings)
        .with_runtime(Arc::new(runtime))
        .with_handler(Arc::new(Handler { notes: notes.clone(), early }))
        .with_udp_addrs(addresses)
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .build()
        .await?;
    Ok(Arc::new(connection))
}

struct Handler {
    notes: UnboundedSender<Note>,
    early: Early,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(candidate) = event.candidate.to_json() else { return };
        // The crate leaves the media section unnamed; there is one, and its name is 0.
        let (sdp_mid, sdp_mline_index) = (Some("0".to_owned()), Some(0));
        let _ =
            self.notes.send(Note::Candidate(Candidate { candidate: candidate.candidate, sdp_mid, sdp_mline_index }));
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed) {
            self.early.release();
            let _ = self.notes.send(Note::Way);
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.notes.send(Note::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let reason = match state {
            RTCPeerConnectionState::Failed => CloseReason::ConnectionLost,
            RTCPeerConnectionState::Closed => CloseReason::PeerLeft,
            _ => return,
        };
        let _ = self.notes.send(Note::Ended(reason));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.notes.send(Note::Channel(channel));
    }
}

/// What is told where the crate cannot go on: its own words are for those who look into it.
fn failed(error: &Error) -> CloseReason {
    debug!("webrtc: {error}");
    let message = "WebRTC could not go on; call again, and if that is of no use, look at the log (RUST_LOG=debug)";
    CloseReason::Failed { message: message.to_owned() }
}

/// The data channel's name (protocol 1.3).
const CHANNEL_LABEL: &str = "chat";

/// Inputs that may wait for the loop.
const MAILBOX: usize = 32;

/// Bytes of one channel that may be on their way. More would overrun the receiver's socket buffer, and a third of the
/// speed would be left.
const SEND_BUFFER: usize = 65_536;

/// Bytes of an SCTP packet that fits into 576 bytes of IPv4, which every host takes (RFC 791, section 3.1): 20 are IP's, 8 UDP's, 37
/// DTLS's and 4 of a relay's channel.
const NARROW_MTU: u32 = 576 - 20 - 8 - 37 - 4;

/// Bytes of a text that fits into one such packet, and how often it is looked whether a longer one arrives.
const SHORT: usize = NARROW_MTU as usize - 28;
const STALL_POLL: Duration = Duration::from_millis(500);

/// How long a relay waits for a direct way, which is the better one for as long as the chat lasts.
const RELAY_WAIT: Duration = Duration::from_secs(1);

/// How often at most each side tells the other that it is there. Where nothing is said, sleeps make it less often.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Bytes of one connection that may wait to be sent.
const MAX_QUEUED: usize = 8 * 1024 * 1024;

/// How long the other side may take nothing of what was sent before it is given up, and how often that is looked at.
const DRAIN_TIME: Duration = Duration::from_secs(10);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// How long the other side may take to read what it has, and to close in its turn.
const READ_TIME: Duration = Duration::from_secs(15);

/// The same for an app of which it is not known that it closes at all.
const READ_TIME_UNKNOWN: Duration = Duration::from_millis(500);

/// How long to look for texts behind the end of a channel. Where the reader was slow of late, the crate may hold some, and
/// hands them on in its own time.
const LAST_TEXTS: Duration = Duration::from_millis(20);
const LAST_TEXTS_OF_SLOW: Duration = Duration::from_millis(1500);
const SLOW_READER: Duration = Duration::from_secs(10);

/// How much longer than it takes to lose a connection nothing may come from the network, which includes every sign of life, before
/// the chat ends without a word of WebRTC's; and after which time that is looked at again, since the program may have been stopped.
const SILENCE: Duration = Duration::from_secs(15);
const SECOND_LOOK: Duration = Duration::from_secs(5);

/// How long a connection may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How long all connections together may take to end.
const END_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    const CONFIG: fn() -> Config = || Config {
        ice_servers: vec![],
        uses_offered: false,
        is_relay_only: false,
        proxy: None,
        is_behind_proxy: false,
        is_narrow: false,
        with_loopback: true,
        lost_after: Duration::from_secs(9),
        has_lost: Arc::default(),
    };

    /// Begins a connection, waits for its offer, and lets its thread stand still until what comes back is dropped.
    fn freeze(rtc: &mut Rtc, inputs: &mut Receiver<Input>, id: u64) -> std::sync::mpsc::Sender<()> {
        let id = ConnectionId(id);
        rtc.begin(id, None);
        while !matches!(inputs.blocking_recv(), Some(Input::Described { id: of, .. }) if of == id) {}
        let (says, said) = std::sync::mpsc::channel();
        let (thaw, until) = std::sync::mpsc::channel();
        rtc.command(id, Command::Freeze(says, until));
        said.recv().unwrap();
        thaw
    }

    #[test]
    fn a_failure_is_told_in_words_of_ours() {
        let error = Error::ErrDataChannelClosed;
        let told = failed(&error).to_string();
        assert!(!told.contains(&error.to_string()) && told.contains("call again"), "{told}");
    }

    #[test]
    fn a_thread_that_stands_still_is_replaced_and_not_waited_for() {
        let poll = Poll::new().unwrap();
        let (outlet, mut inputs) = Outlet::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let mut rtc = Rtc::start(CONFIG(), outlet, Gauge::default()).unwrap();
        let start = Instant::now();
        let _first = freeze(&mut rtc, &mut inputs, 1);
        let mut looks = (0..60).filter_map(|second| rtc.watch(start + Duration::from_secs(second)));
        assert_eq!(looks.next(), Some(vec![ConnectionId(1)]));
        drop(looks);
        // A new one serves new calls. The end of the program waits for neither.
        let _second = freeze(&mut rtc, &mut inputs, 2);
        let begin = Instant::now();
        drop(rtc);
        assert!(begin.elapsed() < END_TIME);
    }
}
