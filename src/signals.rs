//! Which signals are a program's own to handle.
//!
//! All our programs have one rule: a signal from outside that would end them ends them in order, as SIGTERM does,
//! unless the program has a use of its own for it. Those that tell of a fault of the program itself, such as SIGSEGV,
//! keep their default, since there is no order any more. What would end a program for writing only makes the writing
//! fail.

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::RangeInclusive;
use std::sync::Arc;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;

use crate::stderr::say;

/// The signals from outside that end a program in order, as far as they are `wanted`.
pub fn ending() -> Vec<i32> {
    wanted(&ENDING.into_iter().chain(ending_on_linux()).collect::<Vec<_>>())
}

/// What is written beyond the limit of a file's size (`ulimit -f`) fails from now on, and no longer ends the program;
/// what is written where nobody reads does so in any program in Rust.
pub fn let_writes_fail() {
    // Where it cannot be had, it is as before.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Those of `signals` that whoever started this program does not want ignored: `nohup` does with SIGHUP, and a shell
/// without job control with SIGINT for what it runs in the background. A handler of ours would undo that.
///
/// Where the system does not tell what is ignored (`/proc` of Linux does), all of them.
pub(crate) fn wanted(signals: &[i32]) -> Vec<i32> {
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

/// What ends a program by default and is neither a fault of its own nor the end of what it writes to.
const ENDING: [i32; 11] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGIO];

/// What Linux has beside these, where it numbers them alike (signal(7)): SIGSTKFLT, SIGPWR, and the real-time signals
/// that a C library leaves to programs.
fn ending_on_linux() -> impl Iterator<Item = i32> {
    let is_usual = cfg!(all(target_os = "linux", not(any(target_arch = "mips", target_arch = "mips64"))));
    [SIGSTKFLT, SIGPWR].into_iter().chain(REAL_TIME).filter(move |_| is_usual)
}

const SIGSTKFLT: i32 = 16;
const SIGPWR: i32 = 30;

/// musl keeps one more for itself than glibc does.
const REAL_TIME: RangeInclusive<i32> = if cfg!(target_env = "gnu") { 34..=64 } else { 35..=64 };

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

    #[test]
    fn what_ends_a_program_in_order_can_all_be_handled() {
        for signal in ending() {
            flag::register(signal, Arc::default()).unwrap();
        }
    }
}
