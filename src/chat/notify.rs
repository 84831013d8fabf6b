//! A command of the user's that is run when something comes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{threads, trouble};

/// Runs commands beside the chat.
#[derive(Debug, Default)]
pub struct Notifier {
    running: Arc<AtomicUsize>,
}

impl Notifier {
    /// Runs `command` by the shell with `event` on its standard input. What it prints goes nowhere. While too many are
    /// running already, an event is passed over: a flood of calls must not become a flood of processes.
    pub fn run(&self, command: &str, event: &str) {
        if self.running.fetch_add(1, Ordering::SeqCst) >= MAX_RUNNING {
            self.running.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let (running, command, event) = (self.running.clone(), command.to_owned(), format!("{event}\n"));
        let counted = running.clone();
        let started = threads::spawn("notify", move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &command]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            match shell.spawn() {
                Ok(mut child) => {
                    // A command that does not read is no mistake.
                    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(event.as_bytes()));
                    let _ = child.wait();
                }
                Err(error) => log::warn!("the command of --notify: {}", trouble::lacking(&error)),
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
        if let Err(error) = started {
            counted.fetch_sub(1, Ordering::SeqCst);
            log::warn!("the command of --notify: {}", trouble::lacking(&error));
        }
    }
}

/// Commands that may run at the same time.
const MAX_RUNNING: usize = 8;
