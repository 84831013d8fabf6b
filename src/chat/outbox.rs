//! The texts for one peer until they have arrived: some wait for the chat to open, some could not be sent and are kept,
//! and some are underway. Pure.

use std::collections::VecDeque;

use super::effect::Text;
use super::report::Mark;

/// The texts for one peer that have not arrived yet.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Texts for the chat that is on its way. They go out as soon as it is open.
    waiting: VecDeque<Text>,
    /// Texts that could not be sent.
    kept: VecDeque<Kept>,
    /// Texts that were sent, each with its number and what the user calls it.
    underway: VecDeque<(u64, Option<String>)>,
    has_delivered: bool,
}

/// A text that could not be sent.
#[derive(Debug)]
struct Kept {
    text: Text,
    /// It goes out again only at the user's word: it may have arrived, or the peer was not who it was.
    needs_word: bool,
}

impl Outbox {
    /// Whether one more text may wait for the chat to open.
    pub fn has_room(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|text| text.text.len()).sum();
        self.waiting.len() < MAX_WAITING && bytes < MAX_WAITING_BYTES
    }

    /// Whether texts wait for the chat to open.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many texts wait for the chat to open.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many texts could not be sent and are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// How many texts were sent and are not known to have arrived.
    pub fn underway(&self) -> usize {
        self.underway.len()
    }

    /// What the prompt shows of a chat that is open.
    pub fn mark(&self) -> Mark {
        match (self.kept.is_empty(), self.underway.is_empty(), self.has_delivered) {
            (false, _, _) => Mark::Kept,
            (true, false, _) => Mark::Busy,
            (true, true, true) => Mark::Delivered,
            (true, true, false) => Mark::None,
        }
    }

    /// A text waits for the chat to open.
    pub fn wait(&mut self, text: Text) {
        self.waiting.push_back(text);
    }

    /// Keeps a text that could not be sent, if there is room for it, and returns whether there was.
    pub fn keep(&mut self, text: Text, needs_word: bool) -> bool {
        let has_room = self.kept.len() < MAX_WAITING;
        if has_room {
            self.kept.push_back(Kept { text, needs_word });
        }
        has_room
    }

    /// The chat is open: what goes out now. What was kept is for whoever it was typed for, so it goes to nobody else
    /// than a peer who `is_proven`, and before what was typed later. Behind a text that needs the user's word all
    /// others that are kept wait too: none of them overtakes it.
    pub fn open(&mut self, is_proven: bool) -> Vec<Text> {
        let mut texts = Vec::new();
        if is_proven {
            let sure = self.kept.iter().take_while(|kept| !kept.needs_word).count();
            texts.extend(self.kept.drain(..sure).map(|kept| kept.text));
        }
        texts.extend(self.waiting.drain(..));
        texts
    }

    /// Takes out what is kept, because the user wants it sent or given up.
    pub fn take_kept(&mut self) -> Vec<Text> {
        self.kept.drain(..).map(|kept| kept.text).collect()
    }

    /// The chat will not open: takes out what waited for it. If `is_kept`, a copy of each is kept, and `needs_word`
    /// says whether it then goes out only at the user's word.
    pub fn give_back(&mut self, is_kept: bool, needs_word: bool) -> Vec<Text> {
        let waiting: Vec<Text> = self.waiting.drain(..).collect();
        if is_kept {
            self.kept.extend(waiting.iter().map(|text| Kept { text: text.clone(), needs_word }));
        }
        waiting
    }

    /// A text was handed to the peer, which has given it this number.
    pub fn sent(&mut self, number: u64, id: Option<String>) {
        self.underway.push_back((number, id));
    }

    /// All texts up to this number have arrived: returns what the user calls each of them.
    pub fn delivered(&mut self, number: u64) -> Vec<Option<String>> {
        let count = self.underway.iter().take_while(|(sent, _)| *sent <= number).count();
        self.has_delivered |= count > 0;
        self.underway.drain(..count).map(|(_, id)| id).collect()
    }

    /// The text of this number was not sent after all: returns what the user calls it.
    pub fn not_sent(&mut self, number: u64) -> Option<String> {
        let at = self.underway.iter().position(|(sent, _)| *sent == number)?;
        self.underway.remove(at).and_then(|(_, id)| id)
    }

    /// The chat has ended, and nothing more will be heard of what was underway.
    pub fn end(&mut self) {
        self.underway.clear();
    }
}

/// Texts that may wait for a chat to open, and as many that may be kept for another time.
const MAX_WAITING: usize = 1000;

/// Bytes of texts that may wait for a chat to open before there is no room for another. All of them go out at once
/// then, and have to fit into what may wait to be acknowledged.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
