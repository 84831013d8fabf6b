//! What all other threads send to the main one. Pure.

use std::sync::mpsc::SyncSender;

use super::command::Command;
use crate::peer::{Event, Receipt};

/// What reaches the main thread.
pub enum MainMail {
    /// What the user asks for, and whom to tell that it was served and there is room for more.
    Command(Command, Option<SyncSender<()>>),
    /// An event, with the receipt of a text that is acknowledged, and whom to tell that it was served.
    Event(Event, Option<Receipt>, SyncSender<()>),
    /// No more commands will come.
    EndOfInput,
    /// The time that was given is over.
    Timeout,
    /// The program is to end, as a signal says.
    Signal,
}
