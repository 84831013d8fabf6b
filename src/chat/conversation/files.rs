//! Files as the user offers, takes and ends them, and what the peer says of them.

use std::path::PathBuf;
use std::time::Instant;

use super::Conversation;
use crate::chat::command::Command;
use crate::chat::effect::{Effect, FileSource, OwnFile, notice};
use crate::chat::report::{FileNews, FileReport, FileState, Report};
use crate::chat::screen;
use crate::chat::script::{Destination, Quota, ScriptFailure, Takes, file_cause};
use crate::chat::transfers::{Transfer, Which};
use crate::chat::words::files::shown;
use crate::peer::{EndReason, Event, FileId, PublicKey, Trust};

impl Conversation {
    /// Takes a command about files.
    pub(super) fn file_command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::OfferFiles { paths } => match self.current.clone() {
                Some(peer) => vec![Effect::FindFiles { peer, typed: paths }],
                None => self.refuse("you are writing to nobody: /connect NAME first, and then /file PATH"),
            },
            Command::OfferFile { peer, path, name, id } => {
                self.offer_to(peer, OwnFile { source: FileSource::Path(path), name, id })
            }
            Command::OfferInput { name } => {
                self.offer_to(None, OwnFile { source: FileSource::Input, name: Some(name), id: None })
            }
            Command::TakeFile { peer, file, number, all, path, folder, name } => {
                let place = match (path, folder) {
                    (Some(_), Some(_)) => return self.refuse("a file goes to a path or into a folder, not to both"),
                    (Some(path), None) => match split(path) {
                        Some((folder, name)) => Destination::Folder { folder, name: Some(name) },
                        None => return self.refuse("that path names no file"),
                    },
                    (None, Some(folder)) => Destination::Folder { folder, name: None },
                    (None, None) => Destination::Downloads { name },
                };
                self.take_files(&Which { peer, file, number, all }, &place)
            }
            Command::RefuseFile { peer, file, number, all } => self.refuse_files(&Which { peer, file, number, all }),
            Command::CancelFile { peer, file, number } => self.cancel_file(&Which { peer, file, number, all: false }),
            _ => vec![Effect::Show(Report::Files(self.transfers.all()))],
        }
    }

    fn take_files(&mut self, which: &Which, place: &Destination) -> Vec<Effect> {
        let meant = self.transfers.meant(which, self.current.as_deref(), "offered to you", Transfer::is_unanswered);
        match meant {
            Ok(files) => files.into_iter().map(|file| self.take_file(&file, place.clone(), None)).collect(),
            Err(reason) => self.refuse(&reason),
        }
    }

    fn take_file(&mut self, file: &FileReport, place: Destination, quota: Option<Quota>) -> Effect {
        let coming = self.transfers.coming(quota.map_or(0, |quota| quota.of_one));
        if let Some(transfer) = self.transfers.open_mut(&file.peer, file.file) {
            transfer.state = FileState::Taken;
        }
        let FileReport { peer, file, size, entries, .. } = file.clone();
        Effect::TakeFile { peer, file, size, is_folder: entries.is_some(), place, quota, coming }
    }

    fn refuse_files(&mut self, which: &Which) -> Vec<Effect> {
        let meant = self.transfers.meant(which, self.current.as_deref(), "offered to you", Transfer::is_unanswered);
        match meant {
            Ok(files) => {
                let refuse = |file: FileReport| {
                    let line = format!("{} of {} is refused", shown(&file.name), screen::name(&file.peer));
                    [notice(&line), self.turn_down(&file.peer, file.file, EndReason::Declined)]
                };
                files.into_iter().flat_map(refuse).collect()
            }
            Err(reason) => self.refuse(&reason),
        }
    }

    fn turn_down(&mut self, peer: &str, file: FileId, reason: EndReason) -> Effect {
        self.ledger.end(peer, file, None);
        if let Some(transfer) = self.transfers.open_mut(peer, file) {
            transfer.end(reason, false);
        }
        Effect::RefuseFile { peer: peer.to_owned(), file, reason }
    }

    fn cancel_file(&mut self, which: &Which) -> Vec<Effect> {
        let fits = Transfer::can_be_cancelled;
        match self.transfers.meant(which, self.current.as_deref(), "offered by you or on its way", fits) {
            Ok(files) => {
                let cancel = |FileReport { peer, file, .. }| {
                    self.transfers.open_mut(&peer, file).into_iter().for_each(Transfer::cancel);
                    Effect::CancelFile { peer, file }
                };
                files.into_iter().map(cancel).collect()
            }
            Err(reason) => self.refuse(&reason),
        }
    }

    /// A file that was to be taken could not be, for this reason.
    pub fn not_taken(&mut self, peer: &str, file: FileId, reason: EndReason, trouble: Option<String>) -> Vec<Effect> {
        let Some(transfer) = self.transfers.open_mut(peer, file) else { return Vec::new() };
        let (report, has_person) = (transfer.report.clone(), self.script.has_person);
        if has_person && trouble.is_some() {
            // It is still offered: once this is put right, it can be taken.
            transfer.state = FileState::Offered;
            return self.refuse(&trouble.unwrap_or_default());
        }
        if !matches!(self.script.takes, Takes::All(Destination::Folder { .. }, _)) {
            self.progress.fail(ScriptFailure::Lost);
        }
        let refusal = self.turn_down(peer, file, reason);
        let news = FileNews::Ended { reason, trouble, is_kept: false, is_by_us: false };
        vec![refusal, Effect::Show(Report::File { file: report, news })]
    }

    /// Learns whether a part of an offered file is here already. If so it was agreed to before, and goes on without a
    /// question.
    pub fn told_of_part(&mut self, peer: &str, file: FileId, is_there: bool, modified: Option<u64>) -> Vec<Effect> {
        let Some(transfer) = self.transfers.open_mut(peer, file) else { return Vec::new() };
        let report = transfer.report.clone();
        if is_there {
            return vec![self.take_file(&report, Destination::Downloads { name: None }, None)];
        }
        let is_only = self.current.as_deref() == Some(peer) && self.transfers.offered_by(peer) == 1;
        vec![Effect::Show(Report::File { file: report, news: FileNews::Offered { modified, is_only } })]
    }

    /// Takes what happened to a file.
    pub(super) fn file_event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::FileOffered { peer, identity, file, name, size, modified, entries } => {
                let report = FileReport { peer, file, number: 0, is_ours: false, name, size, entries, id: None };
                self.offered_to_us(report, identity, modified)
            }
            Event::FileStarted { peer, file, from } => {
                let Some(transfer) = self.transfers.open_mut(&peer, file) else { return Vec::new() };
                transfer.progress(from, now);
                let report = Report::File { file: transfer.report.clone(), news: FileNews::Started { from } };
                vec![self.told_to_people(report)]
            }
            Event::FileProgress { peer, file, done } => {
                let Some(transfer) = self.transfers.open_mut(&peer, file) else { return Vec::new() };
                let rate = transfer.progress(done, now);
                let news = FileNews::Progress { done, rate };
                vec![Effect::Record(Report::File { file: transfer.report.clone(), news })]
            }
            Event::FilePaused { peer, file, reason } => {
                let Some(transfer) = self.transfers.open_mut(&peer, file) else { return Vec::new() };
                transfer.pause(reason);
                vec![Effect::Show(Report::File { file: transfer.report.clone(), news: FileNews::Paused(reason) })]
            }
            Event::FileSent { peer, file, size, digest } => {
                self.file_done(&peer, file, size, FileState::Done { path: None, digest }, FileNews::Sent { digest })
            }
            Event::FileReceived { peer, file, path, size, digest } => {
                self.ledger.end(&peer, file, Some(size));
                self.progress.has_file = true;
                let state = FileState::Done { path: path.clone(), digest };
                self.file_done(&peer, file, size, state, FileNews::Received { path, digest })
            }
            Event::FileEnded { peer, file, reason, trouble, is_kept } => {
                self.ledger.end(&peer, file, None);
                let Some(transfer) = self.transfers.open_mut(&peer, file) else { return Vec::new() };
                let is_wanted = transfer.report.is_ours || transfer.state != FileState::Offered;
                let is_kept = is_kept || reason == EndReason::ChatEnded && transfer.is_begun_there();
                let is_by_us = transfer.end(reason, is_kept);
                let report = transfer.report.clone();
                // Whoever listens for ever takes it at the next file offer.
                let is_for_folder = matches!(self.script.takes, Takes::All(Destination::Folder { .. }, _));
                if is_wanted && (report.is_ours || !is_for_folder) {
                    self.progress.fail(file_cause(reason));
                }
                // One that came alone to standard output was what was waited for.
                self.progress.has_file |= is_wanted && matches!(self.script.takes, Takes::All(Destination::Output, _));
                let news = FileNews::Ended { reason, trouble, is_kept, is_by_us };
                let mut effects = vec![Effect::Show(Report::File { file: report, news })];
                effects.extend(self.offer_waiting(&peer));
                effects
            }
            _ => Vec::new(),
        }
    }

    fn offered_to_us(&mut self, report: FileReport, identity: PublicKey, modified: Option<u64>) -> Vec<Effect> {
        let Some(report) = self.transfers.add(report) else { return Vec::new() };
        let FileReport { peer, file, size, .. } = report.clone();
        let is_known = self.people.trust_in(&peer).is_some_and(Trust::is_known);
        let (place, quota) = match self.script.takes.clone() {
            Takes::Ask => return vec![Effect::SeekPart { peer, file, identity, size, modified }],
            Takes::Nothing => return vec![self.turn_down(&peer, file, EndReason::NotAccepting)],
            Takes::All(place, quota) => (place, quota),
        };
        let is_to_output = place == Destination::Output;
        let mut trouble = None;
        let reason = if !self.script.accepts.is_for(&peer, is_known) {
            Some(EndReason::NotAccepting)
        } else if is_to_output && report.entries.is_some() {
            trouble = Some("a folder goes into a folder, and not to standard output".to_owned());
            Some(EndReason::NotAccepting)
        } else if is_to_output && self.has_output {
            Some(EndReason::TooMany)
        } else {
            let refused = self.ledger.take((&peer, file), identity, size, quota).err();
            trouble = refused.map(|(_, words)| words.to_owned());
            refused.map(|(reason, _)| reason)
        };
        let offered = Report::File { file: report.clone(), news: FileNews::Offered { modified, is_only: false } };
        let mut effects = vec![Effect::Record(offered)];
        match reason {
            Some(reason) => {
                effects.push(self.turn_down(&peer, file, reason));
                let news = FileNews::Ended { reason, trouble, is_kept: false, is_by_us: false };
                effects.push(Effect::Show(Report::File { file: report, news }));
            }
            None => {
                self.has_output |= is_to_output;
                effects.push(self.take_file(&report, place, Some(quota)));
            }
        }
        effects
    }

    fn file_done(&mut self, peer: &str, file: FileId, size: u64, state: FileState, news: FileNews) -> Vec<Effect> {
        let Some(transfer) = self.transfers.open_mut(peer, file) else { return Vec::new() };
        transfer.state = state;
        transfer.report.size = Some(size);
        let mut effects = vec![Effect::Show(Report::File { file: transfer.report.clone(), news })];
        effects.extend(self.offer_waiting(peer));
        effects
    }

    /// Shows a report to a person, and to a program that speaks JSON. A script in words is told of the end alone.
    pub(super) fn told_to_people(&self, report: Report) -> Effect {
        if self.script.has_person { Effect::Show(report) } else { Effect::Record(report) }
    }

    /// The files that would be cut off by the end of the chat with this peer, or of all chats, in words.
    pub(super) fn files_on_their_way(&self, peer: Option<&str>) -> Option<String> {
        let files = self.transfers.moving(peer);
        let first = files.first()?;
        let whose = if first.is_ours { "to" } else { "from" };
        let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
        Some(format!("{} {whose} {}{more}", shown(&first.name), screen::name(&first.peer)))
    }

    /// The file whose progress stands in a row of its own, where there is such a row.
    pub fn file_under_way(&self) -> Option<(FileReport, FileState)> {
        let transfer = self.transfers.running(None).or_else(|| self.transfers.waiting_for_answer())?;
        Some((transfer.report.clone(), transfer.state()))
    }
}

/// A path as a folder and a name in it.
fn split(path: PathBuf) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_str()?.to_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some((folder.map_or_else(|| PathBuf::from("."), PathBuf::from), name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::report::FileMark;
    use crate::chat::script::Accepts;
    use crate::peer::{ComingFile, Digest, PauseReason};

    const FILE: FileId = FileId([1; 16]);
    const OTHER: FileId = FileId([2; 16]);

    fn offered(file: FileId) -> Event {
        let (identity, name) = (KeyPair::generate().public(), "report.pdf".to_owned());
        Event::FileOffered { peer: bob(), identity, file, name, size: Some(100), modified: None, entries: None }
    }

    fn take(file: FileId, name: Option<&str>, coming: &[FileId]) -> Effect {
        let place = Destination::Downloads { name: name.map(str::to_owned) };
        let coming = coming.iter().map(|file| ComingFile { file: *file, size: 100, done: 0 }).collect();
        Effect::TakeFile { peer: bob(), file, size: Some(100), is_folder: false, place, quota: None, coming }
    }

    /// Somebody asks a person whether they may send these.
    fn asked(chat: &mut Conversation, files: &[FileId]) {
        for file in files {
            assert!(matches!(done(chat.happened(offered(*file)))[..], [Effect::SeekPart { .. }]));
            chat.told_of_part("bob", *file, false, None);
        }
    }

    #[test]
    fn an_offer_is_answered_by_its_number_or_where_it_is_the_only_one_without() {
        let mut chat = person();
        assert!(is_mistake(&typed(&mut chat, "/take"), "no file is offered to you"));
        asked(&mut chat, &[FILE]);
        assert_eq!(typed(&mut chat, "/take as x"), [take(FILE, Some("x"), &[])]);
        assert!(is_mistake(&typed(&mut chat, "/take"), "no file is offered to you"), "it is taken");
        asked(&mut chat, &[OTHER, FileId([3; 16])]);
        assert!(is_mistake(&typed(&mut chat, "/take"), "by its number: 2 is report.pdf, 3 is report.pdf"));
        assert!(is_mistake(&typed(&mut chat, "/take 1"), "that file is not offered to you"));
        let refused = Effect::RefuseFile { peer: bob(), file: FileId([3; 16]), reason: EndReason::Declined };
        assert_eq!(done(typed(&mut chat, "/refuse 3")), [refused]);
        assert_eq!(typed(&mut chat, "/take all"), [take(OTHER, None, &[FILE])]);
        let json = |line: &str| crate::chat::json::command(line);
        asked(&mut chat, &[FileId([4; 16])]);
        let command = json(&format!(r#"{{"command":"take_file","file":"{}","path":"/x/y"}}"#, FileId([4; 16])));
        let place = Destination::Folder { folder: "/x".into(), name: Some("y".to_owned()) };
        let file = FileId([4; 16]);
        let mut taken = take(file, None, &[FILE, OTHER]);
        if let Effect::TakeFile { place: at, .. } = &mut taken {
            *at = place;
        }
        assert_eq!(chat.command(command), [taken]);
    }

    #[test]
    fn what_was_agreed_to_goes_on_without_a_question() {
        let mut chat = person();
        chat.happened(offered(FILE));
        assert_eq!(chat.told_of_part("bob", FILE, true, None), [take(FILE, None, &[])]);
    }

    #[test]
    fn the_prompt_shows_a_file_that_is_on_its_way_and_leaving_asks() {
        let mut chat = person();
        asked(&mut chat, &[FILE]);
        assert_eq!(chat.prompt().file, None);
        typed(&mut chat, "/take");
        chat.happened(Event::FileStarted { peer: bob(), file: FILE, from: 0 });
        let told = chat.happened(Event::FileProgress { peer: bob(), file: FILE, done: 42 });
        assert!(matches!(told[..], [Effect::Record(_)]), "a person sees it in the prompt");
        let mark = FileMark { is_ours: false, done: 42, size: Some(100) };
        assert_eq!(chat.prompt().file, Some(mark));
        chat.happened(Event::FilePaused { peer: bob(), file: FILE, reason: PauseReason::NoSpace });
        assert_eq!(chat.prompt().file, Some(mark));
        for line in ["/leave", "/quit", "/nick carol"] {
            let question = "cut off by this: report.pdf from bob. Do it all the same? y or n";
            assert_eq!(typed(&mut chat, line), [notice(question)]);
            assert_eq!(done(typed(&mut chat, "n")), []);
        }
        assert_eq!(typed(&mut chat, "/cancel"), [Effect::CancelFile { peer: bob(), file: FILE }]);
        chat.happened(ended(FILE, EndReason::Cancelled));
        assert_eq!(chat.prompt().file, None);
        assert_eq!(typed(&mut chat, "/leave"), [Effect::Leave(bob())]);
    }

    #[test]
    fn a_name_of_somebody_else_says_nothing_in_a_question() {
        let mut chat = person();
        let (identity, name) = (KeyPair::generate().public(), "a; b.pdf".to_owned());
        chat.happened(Event::FileOffered {
            peer: bob(),
            identity,
            file: FILE,
            name,
            size: Some(100),
            modified: None,
            entries: None,
        });
        chat.told_of_part("bob", FILE, false, None);
        typed(&mut chat, "/take");
        let question = "cut off by this: \"a; b.pdf\" from bob. Do it all the same? y or n";
        assert_eq!(typed(&mut chat, "/leave"), [notice(question)]);
    }

    #[test]
    fn a_listener_takes_files_of_whom_it_may_and_no_more_than_it_may() {
        let quota = Quota { of_one: 100, of_all: 1000, of_peer: 1000, count: 10 };
        let place = Destination::Folder { folder: "in".into(), name: None };
        let known = Accepts::Only { names: Vec::new(), with_known: true };
        let named = |name: &str| Accepts::Only { names: vec![name.to_owned()], with_known: false };
        for (accepts, trust, size, refused) in [
            (Accepts::All, Trust::New, Some(100), None),
            (Accepts::All, Trust::New, None, None),
            (Accepts::All, Trust::New, Some(101), Some(EndReason::TooLarge)),
            (named("bob"), Trust::New, Some(1), None),
            (named("carol"), Trust::Verified, Some(1), Some(EndReason::NotAccepting)),
            (known.clone(), Trust::Known, Some(1), None),
            (known, Trust::New, Some(1), Some(EndReason::NotAccepting)),
        ] {
            let mut chat = with_bob(trust);
            chat.script.takes = Takes::All(place.clone(), quota);
            chat.script.accepts = accepts;
            let (identity, name) = (KeyPair::generate().public(), "x".to_owned());
            let offered =
                Event::FileOffered { peer: bob(), identity, file: FILE, name, size, modified: None, entries: None };
            let expected = match refused {
                Some(reason) => Effect::RefuseFile { peer: bob(), file: FILE, reason },
                None => {
                    let (place, quota) = (place.clone(), Some(quota));
                    let (file, coming) = (FILE, Vec::new());
                    Effect::TakeFile { peer: bob(), file, size, is_folder: false, place, quota, coming }
                }
            };
            let effects = chat.happened(offered);
            let acts = |effect: &&Effect| matches!(effect, Effect::RefuseFile { .. } | Effect::TakeFile { .. });
            assert_eq!(effects.iter().filter(acts).collect::<Vec<_>>(), [&expected]);
        }
    }

    #[test]
    fn of_what_goes_to_standard_output_there_is_one() {
        let mut chat = with_bob(Trust::Known);
        let quota = Quota { of_one: 100, of_all: 1000, of_peer: 1000, count: 10 };
        chat.script =
            Script { accepts: Accepts::All, takes: Takes::All(Destination::Output, quota), ..Script::default() };
        chat.script.until = Some(Until::File);
        let takes = |effects: Vec<Effect>| {
            effects.iter().any(|effect| matches!(effect, Effect::TakeFile { place: Destination::Output, .. }))
        };
        assert!(takes(chat.happened(offered(FILE))));
        assert!(!takes(chat.happened(offered(OTHER))));
        chat.finish();
        let (path, digest) = (None, Digest([0; 32]));
        let received = Event::FileReceived { peer: bob(), file: FILE, path, size: 100, digest };
        assert_eq!(done(chat.happened(received)), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
    }

    #[test]
    fn what_cannot_be_taken_now_stays_offered_to_a_person() {
        let mut chat = person();
        asked(&mut chat, &[FILE]);
        typed(&mut chat, "/take");
        let told = chat.not_taken("bob", FILE, EndReason::Failed, Some("HOME is not set".to_owned()));
        assert!(is_mistake(&told, "HOME is not set"));
        assert_eq!(typed(&mut chat, "/take"), [take(FILE, None, &[])]);
    }
}
