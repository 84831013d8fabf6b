//! Files of the user's, from the wish to send one until it is offered.

use std::path::PathBuf;

use super::{Chat, ChatStage, Conversation};
use crate::chat::effect::{Effect, FileSource, OwnFile, notice};
use crate::chat::report::{FileNews, FileReport, Report, Unsent};
use crate::chat::screen;
use crate::chat::script::ScriptFailure;
use crate::options::advice;
use crate::peer::{NotSentReason, Trust};

impl Conversation {
    /// Offers a file to `peer`, who is called if there is no chat yet; lines go where they went. Without a name it is
    /// for the peer of the current chat.
    pub(super) fn offer_to(&mut self, peer: Option<String>, file: OwnFile) -> Vec<Effect> {
        let Some(peer) = peer.or_else(|| self.current.clone()) else {
            return self.not_offered(None, file, &NotSentReason::NotOpen.to_string());
        };
        let mut effects = match self.reach(&peer) {
            Ok(effects) => effects,
            Err(refused) => return refused,
        };
        self.transfers.wait(peer.clone(), file);
        effects.extend(self.offer_waiting(&peer));
        effects
    }

    /// Offers the files that were found under what was typed; or says why there are none.
    pub fn offer(&mut self, peer: &str, found: Result<Vec<PathBuf>, String>) -> Vec<Effect> {
        let paths = match found {
            Ok(paths) => paths,
            Err(reason) => return self.refuse(&reason),
        };
        if self.chat(peer).is_none_or(|chat| chat.stage == ChatStage::Closed) {
            let name = screen::name(peer);
            return self.refuse(&format!("no chat with {name} is open; /connect {name} first"));
        }
        for path in paths {
            self.transfers.wait(peer.to_owned(), OwnFile { source: FileSource::Path(path), name: None, id: None });
        }
        self.offer_waiting(peer)
    }

    /// Offers the files that wait for this peer, if the chat is open.
    pub(super) fn offer_waiting(&mut self, peer: &str) -> Vec<Effect> {
        if !self.chat(peer).is_some_and(Chat::is_open) {
            return Vec::new();
        }
        if self.people.trust_in(peer) == Some(Trust::Unproven) {
            return self.give_files_back(peer, ScriptFailure::Unreached, "an old app takes no files");
        }
        let files = self.transfers.next_for(peer);
        files.into_iter().map(|file| Effect::OfferFile { peer: peer.to_owned(), file }).collect()
    }

    /// A file was offered to a peer, as the report says.
    pub fn offered(&mut self, report: FileReport) -> Vec<Effect> {
        let peer = report.peer.clone();
        self.transfers.opened(&peer);
        let offering = match self.transfers.add(report) {
            Some(file) => self.told_to_people(Report::File { file, news: FileNews::Offering }),
            None => notice("that file is offered to them already"),
        };
        let mut effects = vec![offering];
        effects.extend(self.offer_waiting(&peer));
        effects
    }

    /// A file could not be opened, and was not offered.
    pub fn not_opened(&mut self, peer: &str, file: OwnFile, why: &str) -> Vec<Effect> {
        self.transfers.opened(peer);
        self.progress.fail(ScriptFailure::Lost);
        let mut effects = self.not_offered(Some(peer), file, why);
        effects.extend(self.offer_waiting(peer));
        effects
    }

    fn not_offered(&mut self, peer: Option<&str>, file: OwnFile, why: &str) -> Vec<Effect> {
        self.fail_to_send(peer);
        let (path, peer) = (file.path(), peer.map(str::to_owned));
        vec![Effect::Show(Report::FileNotOffered { peer, path, id: file.id, message: why.to_owned() })]
    }

    /// Says of each file that waits to be offered to `peer` that it is not.
    pub(super) fn give_files_back(&mut self, peer: &str, failure: ScriptFailure, why: &str) -> Vec<Effect> {
        let files = self.transfers.give_back(peer);
        if !files.is_empty() {
            self.progress.fail(failure);
        }
        files.into_iter().flat_map(|file| self.not_offered(Some(peer), file, why)).collect()
    }
}

/// Why a file is not offered that waited for a chat, for people.
pub(super) fn why_not(reason: &Unsent) -> String {
    match reason {
        Unsent::Peer(reason) => reason.to_string(),
        Unsent::Closed(reason) => advice::on_close(reason),
        Unsent::Ended => "the program ends".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::command::Command;
    use crate::chat::script::Takes;
    use crate::peer::{Digest, EndReason, FileId};

    const FILE: FileId = FileId([1; 16]);

    /// A file of ours was opened, and offered.
    fn opened(chat: &mut Conversation, file: FileId) -> Vec<Effect> {
        let name = "a.pdf".to_owned();
        chat.offered(FileReport {
            peer: bob(),
            file,
            number: 0,
            is_ours: true,
            name,
            size: Some(100),
            entries: None,
            id: None,
        })
    }

    fn offer(path: &str) -> Effect {
        let file = OwnFile { source: FileSource::Path(path.into()), name: None, id: None };
        Effect::OfferFile { peer: bob(), file }
    }

    fn sent(file: FileId) -> Event {
        Event::FileSent { peer: bob(), file, size: 100, digest: Digest([0; 32]) }
    }

    #[test]
    fn what_was_typed_is_found_and_offered_to_whom_lines_go() {
        let mut chat = person();
        let find = Effect::FindFiles { peer: bob(), typed: "a b".to_owned() };
        assert_eq!(typed(&mut chat, "/file a b"), [find]);
        assert_eq!(chat.offer("bob", Ok(vec!["a".into(), "b".into()])), [offer("a"), offer("b")]);
        assert!(matches!(
            opened(&mut chat, FILE)[..],
            [Effect::Show(Report::File { file: FileReport { number: 1, .. }, news: FileNews::Offering })]
        ));
        assert_eq!(opened(&mut chat, FILE), [notice("that file is offered to them already")]);
        assert!(is_mistake(&chat.offer("bob", Err("no quote".to_owned())), "no quote"));
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert!(is_mistake(&chat.offer("bob", Ok(vec!["a".into()])), "no chat with bob is open"));
        assert!(is_mistake(&typed(&mut online(), "/file a"), "/connect NAME first"));
    }

    #[test]
    fn no_more_files_are_offered_at_once_than_the_other_side_takes_notice_of() {
        let mut chat = person();
        let paths: Vec<PathBuf> = (0..20).map(|number| number.to_string().into()).collect();
        assert_eq!(chat.offer("bob", Ok(paths)).len(), 8);
        let file = |number| FileId([number; 16]);
        for number in 0..8 {
            opened(&mut chat, file(number));
        }
        assert_eq!(done(chat.happened(sent(file(3)))), [offer("8")]);
        opened(&mut chat, file(8));
        assert_eq!(done(chat.happened(ended(file(4), EndReason::Declined))), [offer("9")]);
    }

    #[test]
    fn a_script_waits_for_its_files_and_fails_by_why_one_was_not_sent() {
        for (event, failure) in [
            (sent(FILE), None),
            (ended(FILE, EndReason::Declined), Some(ScriptFailure::Unreached)),
            (ended(FILE, EndReason::Unsupported), Some(ScriptFailure::Unreached)),
            (ended(FILE, EndReason::Changed), Some(ScriptFailure::Lost)),
        ] {
            let mut chat = start(Script { until: Some(Until::Delivered), takes: Takes::Nothing, ..Script::default() });
            chat.happened(Event::Online);
            typed(&mut chat, "/connect bob");
            let file = Command::OfferFile { peer: None, path: "a".into(), name: None, id: None };
            assert_eq!(chat.command(file), []);
            assert_eq!(done(chat.finished()), []);
            assert_eq!(done(chat.event(open("bob"), Instant::now())), [offer("a")]);
            assert!(matches!(opened(&mut chat, FILE)[..], [Effect::Record(_)]), "only its end is told");
            assert_eq!(done(chat.end_if_finished()), []);
            assert_eq!(done(chat.happened(event)), [Effect::Quit]);
            assert_eq!(chat.failure(), failure);
        }
        // And where nobody is there, none is offered.
        let mut chat = online();
        chat.command(Command::OfferFile { peer: Some(bob()), path: "a".into(), name: None, id: Some("7".to_owned()) });
        let told = chat.happened(closed("bob", CloseReason::NotOnline));
        let is_told =
            |effect: &Effect| matches!(effect, Effect::Show(Report::FileNotOffered { id: Some(id), .. }) if id == "7");
        assert!(told.iter().any(is_told), "{told:?}");
        assert_eq!(chat.failure(), Some(ScriptFailure::Unreached));
    }

    #[test]
    fn what_goes_on_once_it_is_offered_again_has_begun_and_is_no_stream() {
        for (size, from, goes_on) in
            [(Some(9), Some(4), true), (Some(9), Some(0), false), (Some(9), None, false), (None, Some(4), false)]
        {
            let mut chat = person();
            let (file, name, entries) = (FILE, "x".to_owned(), None);
            chat.offered(FileReport { peer: bob(), file, number: 0, is_ours: true, name, size, entries, id: None });
            from.into_iter().for_each(|from| drop(chat.happened(Event::FileStarted { peer: bob(), file, from })));
            let told = chat.happened(ended(FILE, EndReason::ChatEnded));
            let Some(Effect::Show(report @ Report::File { .. })) = told.first() else { panic!("{told:?}") };
            let line = screen::line(report, screen::Look::default(), "").unwrap().text;
            assert_eq!(line.contains("offered again, it goes on"), goes_on, "{line}");
        }
    }

    #[test]
    fn an_old_app_takes_no_files_and_is_no_failure_without_one() {
        let mut chat = with_bob(Trust::Unproven);
        assert_eq!(chat.failure(), None);
        let command = Command::OfferFile { peer: Some(bob()), path: "a".into(), name: None, id: None };
        assert!(matches!(chat.command(command)[..], [Effect::Show(Report::FileNotOffered { .. })]));
        assert_eq!(chat.failure(), Some(ScriptFailure::Unreached));
    }
}
