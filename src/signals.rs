//! Which signals are a program's own to handle.

use std::fs;
use std::io::{self, IsTerminal};

use crate::stderr::say;

/// Those of `signals` that whoever started this program does not want ignored: `nohup` does with SIGHUP, and a shell
/// without job control with SIGINT for what it runs in the background. A handler of ours would undo that.
///
/// Where the system does not tell what is ignored (`/proc` of Linux does), all of them.
pub fn wanted(signals: &[i32]) -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    signals.iter().copied().filter(|signal| !(1..=64).contains(signal) || ignored >> (signal - 1) & 1 == 0).collect()
}

/// Ends the row in which the terminal has shown `^C`, where `signal` came from there, so that the shell's prompt gets
/// one of its own.
pub fn end_row(signal: i32) {
    if signal == SIGINT && io::stderr().is_terminal() {
        say("");
    }
}

/// Of the keyboard, the same everywhere.
const SIGINT: i32 = 2;

/// A bit for each ignored signal, the lowest for signal 1 (proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(ignored(""), 0);
    }

    #[test]
    fn a_signal_that_nobody_ignores_is_wanted() {
        // 13 is SIGPIPE, which every program in Rust ignores.
        assert_eq!(wanted(&[15, 13]), [15]);
    }
}
