//! What is done about files: who may offer one, where notes about them go, and what the disk is asked for. What becomes
//! of each file is in `peer/files`.

use super::super::event::Event;
use super::super::files::note::{EndReason, FileId, Note};
use super::super::files::work::{News, OfferedFile, Output as Done};
use super::chat::{Chat, Lasting, not_sent};
use super::interface::{Output, Round};
use super::peers::Peers;

impl Peers {
    /// Our user offers a file.
    pub(super) fn offer_file(&mut self, peer: &str, offered: OfferedFile, round: &mut Round<'_>) {
        let file = offered.file;
        let refused = match self.chats.get(peer).filter(|chat| !chat.is_leaving()) {
            None => Some(EndReason::NotOpen),
            Some(Chat { lasting: Some(Lasting { knows_files: true, .. }), .. }) => None,
            Some(_) => Some(EndReason::Unsupported),
        };
        if let Some(reason) = refused {
            let peer = peer.to_owned();
            return round.tell(Event::FileEnded { peer, file, reason, trouble: None, is_kept: false });
        }
        self.with_files(peer, round, |lasting, _| lasting.files.offer(offered));
        // As what the user writes is, it is a reason to call, also where it is offered already.
        if self.chats.get(peer).is_some_and(|chat| chat.is_interrupted() && chat.is_to_be_sought_for_text(round.now)) {
            self.seek(peer, true, round);
        }
    }

    /// Our user takes a file.
    pub(super) fn take_file(&mut self, peer: &str, file: FileId, is_kept: bool, round: &mut Round<'_>) {
        if !self.with_files(peer, round, |lasting, _| lasting.files.take(file, is_kept)) {
            let (peer, reason) = (peer.to_owned(), EndReason::NotOpen);
            round.tell(Event::FileEnded { peer, file, reason, trouble: None, is_kept: false });
        }
    }

    /// Our user refuses a file, or ends one.
    pub(super) fn end_file(&mut self, peer: &str, file: FileId, reason: EndReason, round: &mut Round<'_>) {
        self.with_files(peer, round, |lasting, _| lasting.files.end(file, reason));
    }

    /// The disk tells something.
    pub(super) fn hear_of_file(&mut self, peer: &str, file: FileId, take: u64, news: News, round: &mut Round<'_>) {
        self.with_files(peer, round, |lasting, _| lasting.files.hear(file, take, news));
    }

    /// The other side says something about a file. What is not understood comes of a later version, and has no effect.
    pub(super) fn receive_note(&mut self, peer: &str, note: &str, round: &mut Round<'_>) {
        let Some(note) = Note::read(note.as_bytes()) else { return };
        let takes_files = round.setup.takes_files;
        let waiting = match note {
            Note::Offer { .. } => {
                let lasting = self.chats.values().filter_map(|chat| chat.lasting.as_ref());
                lasting.map(|lasting| lasting.files.waiting()).sum()
            }
            _ => 0,
        };
        self.with_files(peer, round, |lasting, round| match note {
            Note::Offer { file, .. } if !takes_files => vec![refused(file, EndReason::NotAccepting)],
            Note::Offer { file, .. } if waiting >= MAX_FILE_OFFERS && !lasting.files.knows(file) => {
                vec![refused(file, EndReason::TooMany)]
            }
            note => lasting.files.receive(note, round.now),
        });
    }

    /// File offers that nobody has answered end.
    pub(super) fn tick_files(&mut self, peer: &str, round: &mut Round<'_>) {
        self.with_files(peer, round, |lasting, round| lasting.files.tick(round.now));
    }

    /// The chat goes on over a new peer connection. `is_same`: to the same instance of the other side.
    pub(super) fn resume_files(&mut self, peer: &str, is_same: bool, round: &mut Round<'_>) {
        self.with_files(peer, round, |lasting, _| match (lasting.knows_files, is_same) {
            (false, _) => lasting.files.close(EndReason::Unsupported),
            (true, true) => lasting.files.resume(),
            (true, false) => lasting.files.restart(),
        });
    }

    /// Does something about the files of a chat, and what follows from it. Returns whether there is such a chat.
    fn with_files(
        &mut self,
        peer: &str,
        round: &mut Round<'_>,
        act: impl FnOnce(&mut Lasting, &Round<'_>) -> Vec<Done>,
    ) -> bool {
        let Some(Chat { connection, lasting: Some(lasting), .. }) = self.chats.get_mut(peer) else { return false };
        let done = act(lasting, round);
        let connection = connection.as_ref().and_then(|connection| Some((connection.id, connection.files.clone()?)));
        let has_notes = done.iter().any(|done| matches!(done, Done::Note(_)));
        for done in done {
            match done {
                Done::Note(note) => lasting.texts.keep_note(note.write()),
                Done::Event(event) => round.tell(event),
                Done::Work(file, work) => {
                    let (peer, connection) = (peer.to_owned(), connection.clone());
                    round.out.push(Output::File { peer, file, connection, work });
                }
            }
        }
        if has_notes {
            self.transmit(peer, round);
        }
        true
    }
}

/// A chat is over: its files end, and the texts that did not arrive come back.
pub(super) fn end_lasting(peer: &str, lasting: &mut Lasting, round: &mut Round<'_>) {
    for done in lasting.files.close(EndReason::ChatEnded) {
        match done {
            Done::Note(_) => {}
            Done::Event(event) => round.tell(event),
            Done::Work(file, work) => {
                round.out.push(Output::File { peer: peer.to_owned(), file, connection: None, work })
            }
        }
    }
    round.out.extend(lasting.texts.give_back().map(|kept| not_sent(peer, kept)));
}

fn refused(file: FileId, reason: EndReason) -> Done {
    Done::Note(Note::Refuse { file, reason })
}

/// File offers of all peers together that may wait for our user's answer.
const MAX_FILE_OFFERS: usize = 64;
