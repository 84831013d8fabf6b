//! The loop that drives a peer, on a thread of its own: it carries the engine's wishes out, between the user, the
//! server and WebRTC, and is the engine's only caller.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, error};
use mio::{Poll, Token, Waker};

use super::clock::Clock;
use super::disk::Disk;
use super::disk::tell::DiskNews;
use super::engine::{Engine, Input, Output, Setup};
use super::event::{CloseReason, Event, NotSentReason};
use super::events::{self, EventSender, Events};
use super::file_offer::FileOffer;
use super::files::note::FileId;
use super::keys::KeyPair;
use super::login::{Login, ServerUrl};
use super::rtc::{InputSender, Rtc, RtcCommand, RtcConfig};
use super::settings::{Error, Settings, new_token};
use super::signaling::{self, Dialled, Signaling};
use super::sink::Sink;
use super::sync::Gauge;

/// What reaches the loop from other threads, but for WebRTC.
pub enum DriverMail {
    /// Something that the user wants.
    User(Input),
    /// The user offers a file to this peer.
    OfferFile(String, FileId, FileOffer),
    /// The user takes a file of this peer.
    TakeFile(String, FileId, Sink),
    /// What a thread tells of a file.
    File(DiskNews),
    /// What came of dialling the server.
    Dialled(Dialled),
    /// Seek the server at once.
    GoOnline,
    /// End everything in order.
    Shutdown,
    /// End everything, since the program can take no more.
    Stop,
}

/// Where mail to the loop goes. Clones lead there too.
#[derive(Clone)]
struct Mailer {
    mail: Sender<DriverMail>,
    waker: Arc<Waker>,
}

impl Mailer {
    /// Sends the loop mail, and wakes it.
    fn post(&self, mail: DriverMail) {
        // A loop that has ended reads no mail, and needs none.
        let _ = self.mail.send(mail);
        let _ = self.waker.wake();
    }
}

/// What the loop has in common with whoever sends it mail.
pub struct Shared {
    mailer: Mailer,
    /// Bytes of texts that wait: in the mail, or for WebRTC where they are not kept.
    pub queued: Gauge,
    /// Bytes of texts that are kept until they are acknowledged.
    pub kept: Gauge,
    /// Set when something that was sent may not have been read.
    pub has_lost: Arc<AtomicBool>,
}

impl Shared {
    /// Sends the loop mail, and wakes it.
    pub fn post(&self, mail: DriverMail) {
        self.mailer.post(mail);
    }
}

/// Starts the loop for `username` at `server`: what is shared with it, its events, and its thread.
///
/// # Errors
/// [`Error`].
pub fn start(server: ServerUrl, username: &str, settings: Settings) -> Result<(Shared, Events, JoinHandle<()>), Error> {
    settings.check()?;
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (mail, mailbox) = mpsc::channel();
    let mailer = Mailer { mail, waker: waker.clone() };
    let shared =
        Shared { mailer: mailer.clone(), queued: Gauge::default(), kept: Gauge::default(), has_lost: Arc::default() };
    let (input_sender, inputs) = InputSender::new(waker.clone());
    let config = config(&settings, &server);
    let with_loopback = config.with_loopback;
    let rtc = Rtc::start(config, input_sender, shared.queued.clone())?;
    let (event_sender, events) = events::queue(waker.clone(), settings.wake);
    let dialler = mailer.clone();
    let dialled = move |dialled| dialler.post(DriverMail::Dialled(dialled));
    let login = Login {
        server,
        username: username.to_owned(),
        secret: settings.token.unwrap_or_else(new_token),
        access_token: settings.access_token,
        proxy: settings.proxy,
    };
    let setup = Setup {
        text_format: settings.text_format,
        max_requests: settings.max_requests,
        identity: settings.identity.unwrap_or_else(KeyPair::generate),
        known: settings.known,
        is_strict: settings.is_strict,
        resume_for: settings.resume_for.min(LONGEST),
        takes_files: settings.takes_files,
        with_loopback,
    };
    let driver = Driver {
        poll,
        mailbox,
        inputs,
        engine: Engine::new(username, setup),
        signaling: Some(Signaling::new(login, SERVER, Instant::now(), dialled)),
        rtc,
        files: Disk::new(move |about| mailer.post(DriverMail::File(about))),
        queued: shared.queued.clone(),
        kept: shared.kept.clone(),
        has_lost: shared.has_lost.clone(),
        ends_at: None,
        is_server_ready: false,
        clock: Clock::default(),
        events: event_sender,
        waker,
    };
    let thread = crate::threads::spawn("peer", move || driver.run())?;
    Ok((shared, events, thread))
}

/// How WebRTC makes connections under these settings.
fn config(settings: &Settings, server: &ServerUrl) -> RtcConfig {
    RtcConfig {
        ice_servers: settings.ice_servers.clone(),
        uses_offered: settings.uses_offered_relays,
        is_relay_only: settings.needs_relay(),
        proxy: settings.proxy.clone(),
        is_behind_proxy: settings.is_behind_proxy(),
        with_loopback: server.is_loopback(),
        is_narrow: false,
        lost_after: settings.lost_after.min(LONGEST),
    }
}

/// How a peer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order, by its user's wish.
    Wanted,
    /// Its program can take no more.
    Stopped,
}

/// The state of the loop.
struct Driver {
    poll: Poll,
    mailbox: Receiver<DriverMail>,
    inputs: tokio::sync::mpsc::Receiver<Input>,
    engine: Engine,
    /// `None` once the peer ends.
    signaling: Option<Signaling>,
    rtc: Rtc,
    files: Disk,
    queued: Gauge,
    kept: Gauge,
    has_lost: Arc<AtomicBool>,
    /// Until when the end of all chats is waited for, once the user wants an end.
    ends_at: Option<Instant>,
    /// The server's socket may have more to read.
    is_server_ready: bool,
    /// Its time stands still while the program does.
    clock: Clock,
    events: EventSender,
    /// The loop's own clone: a waker that is dropped too early takes its wake-up along.
    waker: Arc<Waker>,
}

impl Driver {
    fn run(mut self) {
        let mut readiness = mio::Events::with_capacity(8);
        loop {
            let timeout = self.timeout();
            let waiting = self.clock.waits(timeout);
            let polled = self.poll.poll(&mut readiness, timeout);
            drop(waiting);
            if let Some(error) = polled.err().filter(|error| error.kind() != io::ErrorKind::Interrupted) {
                error!("cannot wait for events: {error}");
                break;
            }
            let now = self.clock.now();
            if self.clock.has_slept()
                && let Some(signaling) = &mut self.signaling
            {
                signaling.wake(now);
            }
            self.is_server_ready |= readiness.iter().any(|event| event.token() == SERVER);
            self.read_server(now);
            for receipt in self.events.taken() {
                self.handle(Input::Taken(receipt), now);
            }
            if let Some(end) = self.read_mail(now) {
                self.leave(end, now);
            }
            self.events.deliver();
            self.read_inputs(now);
            if let Some(signaling) = &mut self.signaling {
                let events = signaling.tick(now, self.poll.registry());
                self.hear(events, now);
            }
            self.watch_webrtc(now);
            self.handle(Input::Tick, now);
            self.kept.set(self.engine.kept_bytes());
            self.events.deliver();
            // What came back unsent is told, if somebody is there to hear it.
            if self
                .ends_at
                .is_some_and(|ends_at| ends_at <= now || self.engine.is_idle() && self.events.are_delivered())
            {
                break;
            }
        }
        debug!("{} messages were dropped", self.engine.dropped());
        // The mailbox goes first: a connection that waits for room in it could not end.
        drop(self.inputs);
        drop(self.rtc);
        drop(self.files);
        self.events.end();
    }

    /// Serves the mail; the end, if it is time for it.
    fn read_mail(&mut self, now: Instant) -> Option<End> {
        for _ in 0..INPUTS_PER_TURN {
            let mail = self.mailbox.try_recv().ok()?;
            match mail {
                DriverMail::User(Input::Send { peer, id, text }) => self.send(peer, id, text, now),
                DriverMail::User(input) => self.handle(input, now),
                DriverMail::OfferFile(peer, file, offer) => {
                    let offered = offer.offered(file);
                    self.files.offer(&peer, file, offer);
                    self.handle(Input::OfferFile { peer, offered }, now);
                }
                DriverMail::TakeFile(peer, file, sink) => {
                    let is_kept = sink.is_kept();
                    self.files.take(&peer, file, sink);
                    self.handle(Input::TakeFile { peer, file, is_kept }, now);
                }
                DriverMail::File(about) => self.handle(about.into_input(), now),
                DriverMail::Dialled(dialled) => {
                    let Some(signaling) = &mut self.signaling else { continue };
                    let events = signaling.dialled(dialled, now, self.poll.registry());
                    self.hear(events, now);
                    self.is_server_ready = true;
                    self.read_server(now);
                }
                DriverMail::GoOnline => {
                    if let Some(signaling) = &mut self.signaling {
                        signaling.seek(now);
                    }
                }
                DriverMail::Shutdown | DriverMail::Stop => {
                    // There may be more behind it.
                    let _ = self.waker.wake();
                    return Some(if matches!(mail, DriverMail::Stop) { End::Stopped } else { End::Wanted });
                }
            }
        }
        // There may be more; it is the others' turn first.
        let _ = self.waker.wake();
        None
    }

    /// Takes what the server says, as long as the user takes what comes of it.
    fn read_server(&mut self, now: Instant) {
        if self.is_server_ready
            && self.events.undelivered() < UNDELIVERED
            && let Some(signaling) = &mut self.signaling
        {
            let (events, is_more) = signaling.ready(now, self.poll.registry());
            self.is_server_ready = is_more;
            self.hear(events, now);
        }
    }

    /// Sends a text, unless the other side is too far behind with what was sent before.
    fn send(&mut self, peer: String, id: u64, text: String, now: Instant) {
        let bytes = text.len();
        if self.engine.unkept_connection(&peer).is_some_and(|chat| self.rtc.is_full(chat)) {
            self.tell(Event::NotSent { peer, id, text, reason: NotSentReason::Busy });
        } else {
            self.handle(Input::Send { peer, id, text }, now);
        }
        // In this order, so that no moment looks as if less was waiting than there is.
        self.kept.set(self.engine.kept_bytes());
        self.queued.subtract(bytes);
    }

    /// Begins anew with WebRTC if it does not answer any more.
    fn watch_webrtc(&mut self, now: Instant) {
        let Some(lost) = self.rtc.look_after(now) else { return };
        self.tell(Event::Restarted);
        for id in lost {
            self.handle(Input::Closed { id, reason: CloseReason::ConnectionLost }, now);
        }
    }

    /// Takes what WebRTC brings, as long as the user takes what comes of it. At the end it is only acknowledgements.
    fn read_inputs(&mut self, now: Instant) {
        for _ in 0..INPUTS_PER_TURN {
            if !self.events.are_delivered() && self.ends_at.is_none() {
                return;
            }
            let Ok(input) = self.inputs.try_recv() else { return };
            self.handle(input, now);
            self.events.deliver();
        }
        // There may be more; it is the others' turn first.
        let _ = self.waker.wake();
    }

    fn hear(&mut self, events: Vec<signaling::Event>, now: Instant) {
        for event in events {
            match event {
                signaling::Event::Online => {
                    self.handle(Input::Online, now);
                    self.tell(Event::Online);
                }
                signaling::Event::TookOver => self.tell(Event::TookOver),
                signaling::Event::Text(text) => self.handle(Input::Signal(text), now),
                signaling::Event::Offline { reason, retry_in } => {
                    self.tell(Event::Offline { reason, retry_in });
                    self.handle(Input::Offline, now);
                }
            }
        }
    }

    fn handle(&mut self, input: Input, now: Instant) {
        if let Input::Closed { id, .. } = &input {
            self.files.close(*id);
        }
        for output in self.engine.handle(input, now) {
            match output {
                Output::Signal(text) => {
                    if let Some(signaling) = &mut self.signaling {
                        let events = signaling.send(text, now, self.poll.registry());
                        self.hear(events, now);
                    }
                }
                Output::UseServers(servers) => self.rtc.take_offered(servers),
                Output::Narrow { id } => self.rtc.set_narrow(id),
                Output::Offer { id } => self.rtc.begin(id, None),
                Output::Answer { id, sdp } => self.rtc.begin(id, Some(sdp)),
                Output::Finish { id, sdp } => self.rtc.command(id, RtcCommand::Finish(sdp)),
                Output::AddCandidate { id, candidate } => self.rtc.command(id, RtcCommand::AddCandidate(candidate)),
                Output::Transmit { id, text, is_kept } => self.rtc.transmit(id, text, is_kept),
                Output::File { peer, file, connection: at, work } => self.files.work(peer, file, at, work, &self.rtc),
                Output::Close { id, ending } => {
                    self.files.close(id);
                    self.rtc.command(id, RtcCommand::Close(ending));
                }
                Output::Message { peer, text, receipt } => self.events.tell_message(peer, text, receipt),
                Output::Event(event) => self.tell(event),
            }
        }
    }

    /// Keeps an event for the user.
    fn tell(&mut self, event: Event) {
        if self.ends_at.is_some() && matches!(event, Event::NotSent { .. }) {
            self.has_lost.store(true, Ordering::SeqCst);
        }
        if let Event::FileSent { peer, file, .. }
        | Event::FileReceived { peer, file, .. }
        | Event::FileEnded { peer, file, .. } = &event
        {
            self.files.forget(peer, *file);
        }
        self.events.tell(event);
    }

    /// How long poll may sleep. Deadlines are rounded up, or the last fraction of a millisecond would be busy turns.
    fn timeout(&self) -> Option<Duration> {
        if self.is_server_ready && self.events.undelivered() < UNDELIVERED {
            return Some(Duration::ZERO);
        }
        let engine = self.engine.next_deadline(self.clock.now());
        let signaling = self.signaling.as_ref().and_then(Signaling::next_deadline);
        let next = [engine, signaling, self.ends_at, self.rtc.next_look()].into_iter().flatten().min()?;
        let mut timeout = next.saturating_duration_since(self.clock.now()) + Duration::from_millis(1);
        // Where somebody is waited for, it is to be seen if the program stands still meanwhile.
        if engine.is_some() {
            timeout = timeout.min(LONGEST_WAIT);
        }
        Some(timeout)
    }

    /// Leaves every chat, and the server, which can give the name to somebody else while the last texts are on their
    /// way. The loop goes on until these are acknowledged.
    fn leave(&mut self, end: End, now: Instant) {
        if self.ends_at.is_some() {
            return;
        }
        self.ends_at = Some(now + END_TIME);
        // Whoever ends the peer in order has dealt with what it was given.
        self.events.close_last(end == End::Wanted);
        for receipt in self.events.taken() {
            self.handle(Input::Taken(receipt), now);
        }
        if end == End::Wanted {
            self.handle(Input::End, now);
        }
        self.is_server_ready = false;
        if let Some(mut signaling) = self.signaling.take() {
            signaling.close();
        }
        // The others call again, and are to find the next start and not this one.
        if end == End::Stopped {
            self.handle(Input::Stop, now);
        }
    }
}

const WAKER: Token = Token(0);
const SERVER: Token = Token(1);

/// Events that may wait for room in the user's queue before the server is no longer listened to.
const UNDELIVERED: usize = 256;

/// Durations that are settings are no longer than this: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long the loop sleeps at most while somebody is waited for. If the program is stopped meanwhile, so much of the
/// time that they have is lost.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// How long all chats together may take to end: a little longer than each of them may.
const END_TIME: Duration = Duration::from_secs(31);

/// Inputs from WebRTC, and from the user, that are served in one turn.
const INPUTS_PER_TURN: usize = 256;
