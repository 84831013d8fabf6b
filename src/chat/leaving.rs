//! What ends the program from outside: a signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::console::Console;
use super::mail::Mail;
use crate::signals;

/// A first signal ends the program in order, a second one at once. Until the flag that comes back is set there is
/// nothing to end in order.
pub fn watch_signals(mail: Sender<Mail>, console: Console) -> io::Result<Arc<AtomicBool>> {
    let is_second = Arc::new(AtomicBool::new(false));
    let wanted = signals::wanted(&[SIGINT, SIGTERM, SIGHUP]);
    for &signal in &wanted {
        flag::register_conditional_shutdown(signal, 1, is_second.clone())?;
        flag::register(signal, is_second.clone())?;
    }
    let mut signals = Signals::new(wanted)?;
    let is_serving = Arc::new(AtomicBool::new(false));
    let serving = is_serving.clone();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            if !console.is_interactive() {
                signals::end_row(signal);
            }
            if !serving.load(Ordering::SeqCst) {
                console.give_back();
                std::process::exit(1);
            }
            let _ = mail.send(Mail::Signal);
        }
    });
    Ok(is_serving)
}
