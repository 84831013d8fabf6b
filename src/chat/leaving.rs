//! What ends the program from outside: a signal, or that its time is over. The main thread ends it in order; where that
//! is stuck, as in writing to somebody who does not read, it is ended all the same.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::console::Console;
use super::mail::MainMail;
use crate::signals;
use crate::stderr::say;
use crate::threads;

/// Whether the main thread goes on. All clones are of one.
#[derive(Clone, Default)]
pub struct MainPulse(Arc<AtomicU64>);

impl MainPulse {
    /// The main thread has come a step further.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until the main thread has stood still for [`STUCK`], although it has something to do.
    fn wait_until_stuck(&self) {
        let count = || self.0.load(Ordering::SeqCst);
        let mut before = count();
        loop {
            thread::sleep(STUCK);
            if before == count() {
                return;
            }
            before = count();
        }
    }
}

/// What is needed to end the program from outside of the main thread.
#[derive(Clone)]
pub struct Leaving {
    mail: Sender<MainMail>,
    console: Console,
    pulse: MainPulse,
    /// The main thread takes its mail. Before that there is nothing to end in order.
    is_serving: Arc<AtomicBool>,
}

impl Leaving {
    pub fn new(mail: Sender<MainMail>, console: Console) -> Self {
        Self { mail, console, pulse: MainPulse::default(), is_serving: Arc::default() }
    }

    /// From now on the main thread takes its mail, and shows that it goes on by what comes back.
    pub fn serve(&self) -> MainPulse {
        self.is_serving.store(true, Ordering::SeqCst);
        self.pulse.clone()
    }

    /// A first signal ends the program in order, a second one at once.
    pub fn watch_signals(&self) -> io::Result<()> {
        let is_second = Arc::new(AtomicBool::new(false));
        let wanted = signals::ending();
        for &signal in &wanted {
            flag::register_conditional_shutdown(signal, 1, is_second.clone())?;
            flag::register(signal, is_second.clone())?;
        }
        let mut signals = Signals::new(wanted)?;
        let leaving = self.clone();
        let watching = threads::spawn("signals", move || {
            if let Some(signal) = signals.forever().next() {
                if leaving.console.is_row_open() {
                    signals::end_row(signal);
                }
                if !leaving.is_serving.load(Ordering::SeqCst) {
                    leaving.console.give_back();
                    process::exit(1);
                }
                let _ = leaving.mail.send(MainMail::Signal);
                leaving.pulse.wait_until_stuck();
                leaving.end_at_once(1, leaving.what_is_stuck());
            }
        });
        watching.map(drop)
    }

    /// Ends the program after so long, in order where that is soon done.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn watch_time(&self, time: Duration) -> io::Result<()> {
        let leaving = self.clone();
        if time.is_zero() {
            // It is over before anything else can be.
            let _ = self.mail.send(MainMail::Timeout);
        }
        let watching = threads::spawn("time", move || {
            // What is wrong with the settings is told in any case.
            thread::sleep(time.max(LAST_CHANCE));
            if !leaving.is_serving.load(Ordering::SeqCst) {
                leaving.end_at_once(6, TIME_IS_OVER);
            }
            let _ = leaving.mail.send(MainMail::Timeout);
            thread::sleep(STUCK);
            leaving.end_at_once(6, &format!("{TIME_IS_OVER}; {}", leaving.what_is_stuck()));
        });
        watching.map(drop)
    }

    /// Why the main thread does not go on, most likely.
    fn what_is_stuck(&self) -> &'static str {
        if self.console.is_interactive() { BUSY } else { NOT_READ }
    }

    /// Ends the program now. What there is to say has its chance: standard error may lead to the same reader.
    fn end_at_once(&self, code: u8, why: &str) -> ! {
        let (console, why) = (self.console.clone(), why.to_owned());
        let saying = threads::spawn("last-words", move || {
            console.give_back();
            say(format!("* {why}"));
        });
        for _ in 0..10 {
            // Without a thread for it nothing is said: to say it here could take for ever.
            if saying.as_ref().is_ok_and(|saying| !saying.is_finished()) {
                thread::sleep(LAST_CHANCE / 10);
            }
        }
        process::exit(code.into())
    }
}

/// How long the main thread may be at one thing when it is to end.
const STUCK: Duration = Duration::from_secs(3);

/// How long what there is to say at the end has to be written, and what is wrong with the settings to be told.
const LAST_CHANCE: Duration = Duration::from_millis(200);

pub const TIME_IS_OVER: &str = "the time that --timeout gave is over";

const BUSY: &str = "the program was at something that did not end, as with a disk or a terminal that does not answer";

const NOT_READ: &str = "whoever is to read what is written here does not; what was not written was not taken, and \
                        comes again at the next start";
