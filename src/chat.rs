//! The terminal chat: a prompt when stdin and stdout are a terminal, plain lines or JSON when not. It carries
//! commands to the `conversation`, events of the peer too, and does what comes back. Its threads are in the README of
//! `src`.
//!
#![doc = include_str!("chat/README.md")]

mod amount;
mod arguments;
mod callee;
mod clock;
mod command;
mod console;
mod conversation;
mod cursor;
mod display;
mod downloads;
mod editor;
mod effect;
mod flood;
mod harmless;
mod identity;
mod input;
mod json;
mod keyboard;
mod leaving;
mod lines;
mod look;
mod mail;
mod main_loop;
mod notify;
mod outbox;
mod painter;
mod paths;
mod people;
mod plan;
mod progress_row;
mod qr;
mod records;
mod report;
mod requests;
mod screen;
mod script;
mod start;
mod start_error;
mod teletype;
mod terminal;
mod transfers;
mod words;
mod wrap;

use std::process::ExitCode;

use crate::options;
use crate::stderr::say;
use start_error::StartError;

/// Runs the program `lowkey` on the command line of this process.
pub fn main() -> ExitCode {
    let start = match options::parse() {
        Ok(start) => start,
        Err(code) => return code,
    };
    options::start_log();
    match start::run(start) {
        Ok(code) => code,
        Err(StartError { code, reason }) => {
            say(format!("lowkey: {reason}"));
            ExitCode::from(code)
        }
    }
}
