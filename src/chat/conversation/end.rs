//! The end: of the input, of what a script waits for, and of the program.

use super::{Chat, ChatStage, Conversation, ServerState};
use crate::chat::command::Command;
use crate::chat::effect::{Effect, lost, mistake, notice};
use crate::chat::report::{Report, Unsent};
use crate::chat::screen;
use crate::chat::script::{Accepts, InputFormat, Left, ScriptEnd, ScriptFailure};
use crate::peer::CloseReason;

impl Conversation {
    /// There will be no more input. What waits for a chat still goes out, if there is a server to find it.
    pub fn finish(&mut self) {
        self.progress.is_finishing = true;
    }

    /// Ends the program, whatever is still to be done, and says what was not done.
    pub fn give_up(&mut self) -> Vec<Effect> {
        self.finish();
        let mut effects = Vec::new();
        for peer in self.chats.iter().map(|chat| chat.peer.clone()).collect::<Vec<_>>() {
            effects.extend(self.give_back(&peer, ScriptFailure::Lost, &Unsent::Ended));
        }
        effects.extend(self.lose_kept());
        let unanswered = self.unanswered();
        let has_calls = self.left().has_calls && unanswered.is_empty();
        effects.extend(unanswered);
        let unmet = self.progress.give_up(self.script.until, Left { has_calls, ..self.left() });
        effects.extend(unmet.as_deref().map(notice));
        effects.push(Effect::Quit);
        effects
    }

    /// A script that has called somebody waits for an answer, also where it has nothing to say to them.
    fn unanswered(&mut self) -> Vec<Effect> {
        let is_called = |chat: &&Chat| chat.is_called() && self.called.contains(&chat.peer);
        let called = self.chats.iter().filter(|_| !self.script.has_person).filter(is_called);
        let words = |chat: &Chat| notice(&format!("{} had not answered before the end", screen::name(&chat.peer)));
        let told: Vec<Effect> = called.map(words).collect();
        if !told.is_empty() {
            self.progress.fail(ScriptFailure::Unreached);
        }
        told
    }

    /// Says which texts are lost with the program that were kept to be sent.
    fn lose_kept(&mut self) -> Vec<Effect> {
        let kept = |chat: &mut Chat| (chat.outbox.take_kept().len(), chat.peer.clone());
        let kept = self.chats.iter_mut().map(kept).filter(|(count, _)| *count > 0);
        kept.map(|(count, peer)| lost(count, &peer)).collect()
    }

    /// Says of a command that it came too late to be done.
    pub fn too_late(&mut self, command: Command) -> Effect {
        let Command::Send { peer, text, id } = command else {
            self.progress.fail(ScriptFailure::Lost);
            return mistake("a command that was read is not done, since the end came before it");
        };
        let peer = peer.or_else(|| self.current.clone());
        self.fail_to_send(peer.as_deref());
        Effect::Show(Report::NotSent { peer, text, id, reason: Unsent::Ended, is_kept: false })
    }

    /// Says that the end has come before that of the input, the rest of which will never be read.
    pub fn unread(&mut self) -> Effect {
        self.progress.fail(ScriptFailure::Lost);
        notice("the end came before that of standard input: what was left of it was not sent")
    }

    /// Ends the program once nothing is left to be done and to be read.
    pub fn end_if_finished(&mut self) -> Vec<Effect> {
        if !self.progress.is_finishing {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.server == ServerState::Lost {
            let pending = self.chats.iter().filter(|chat| chat.stage == ChatStage::Pending);
            for peer in pending.map(|chat| chat.peer.clone()).collect::<Vec<_>>() {
                self.set_stage(&peer, ChatStage::Closed);
                self.progress.ended(Some(ScriptFailure::NoServer));
                self.progress.fail(ScriptFailure::NoServer);
                effects.extend(self.give_back(
                    &peer,
                    ScriptFailure::NoServer,
                    &Unsent::Closed(CloseReason::ServerLost),
                ));
            }
        }
        if let Some(end) = self.progress.end(self.script.until, self.left()) {
            if let ScriptEnd::Hopeless(Some(words)) = end {
                effects.push(notice(&words));
            }
            effects.extend(self.lose_kept());
            if self.script.input == InputFormat::Texts {
                effects.extend(self.progress.arrival().map(notice));
            }
            effects.push(Effect::Quit);
        }
        effects
    }

    fn left(&self) -> Left {
        Left {
            has_waiting: self.chats.iter().any(|chat| chat.outbox.is_waiting()),
            has_underway: self.chats.iter().any(|chat| chat.outbox.underway() > 0),
            has_files: self.transfers.is_busy(),
            has_own_files: self.transfers.is_sending(),
            has_calls: self.chats.iter().any(Chat::is_called),
            is_hopeless: (self.script.accepts == Accepts::None || self.is_cut_off)
                && self.chats.iter().all(|chat| chat.stage == ChatStage::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::report::FileReport;
    use crate::peer::{Digest, FileId};

    #[test]
    fn what_was_read_when_the_end_had_come_is_told_and_fails() {
        let mut chat = with_bob(Trust::Known);
        let late = |peer: Option<&str>| Command::Send {
            peer: peer.map(str::to_owned),
            text: "late".to_owned(),
            id: Some("7".to_owned()),
        };
        for (named, told) in [(None, "bob"), (Some("carol"), "carol")] {
            let Effect::Show(Report::NotSent { peer, text, id, is_kept: false, .. }) = chat.too_late(late(named))
            else {
                panic!("{named:?}");
            };
            assert_eq!((peer.as_deref(), &*text, id.as_deref()), (Some(told), "late", Some("7")));
        }
        assert_eq!(chat.failure(), Some(ScriptFailure::Lost));
        let mut chat = online();
        assert!(matches!(chat.too_late(Command::Who), Effect::Show(Report::Mistake(_))));
        assert_eq!(chat.failure(), Some(ScriptFailure::Lost));
    }

    #[test]
    fn the_end_of_input_waits_for_lines_that_wait() {
        let mut chat = online();
        assert_eq!(online().finished(), [Effect::Quit]);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finished(), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("hello"), Effect::Quit]);
    }

    #[test]
    fn a_script_ends_when_what_it_waits_for_has_happened() {
        let waiting = |until| {
            let mut chat = start(Script { until: Some(until), ..Script::default() });
            chat.happened(Event::Online);
            typed(&mut chat, "/connect bob");
            assert_eq!(chat.finished(), []);
            chat
        };
        let message = Event::Message { peer: bob(), text: "hi".to_owned() };
        assert_eq!(done(waiting(Until::Open).happened(open("bob"))), [Effect::Quit]);
        let mut chat = waiting(Until::Message);
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(done(chat.happened(message)), [Effect::Quit]);
        let mut chat = waiting(Until::Closed);
        chat.happened(open("bob"));
        assert_eq!(done(chat.happened(closed("bob", CloseReason::PeerLeft))), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
        for until in [Until::Open, Until::Message] {
            let mut chat = waiting(until);
            assert_eq!(
                done(chat.happened(closed("bob", CloseReason::Declined))),
                [Effect::Quit],
                "it cannot happen any more"
            );
            assert_eq!(chat.failure(), Some(ScriptFailure::Unreached));
        }
    }

    #[test]
    fn a_call_that_failed_hides_neither_why_it_is_in_vain_to_wait_nor_why_another_text_was_not_sent() {
        let words = |effects: &[Effect]| -> Vec<String> {
            let notice = |effect: &Effect| match effect {
                Effect::Show(Report::Notice(words)) => Some(words.clone()),
                _ => None,
            };
            effects.iter().filter_map(notice).collect()
        };
        let after_a_call = |until| {
            let mut chat = start(Script { until: Some(until), ..Script::default() });
            chat.happened(Event::Online);
            ["/connect carol", "/connect bob"].iter().for_each(|line| drop(typed(&mut chat, line)));
            chat.happened(closed("carol", CloseReason::Declined));
            chat
        };
        for (until, unmet) in [(Until::Message, "no text has come"), (Until::File, "no file has come")] {
            let mut chat = after_a_call(until);
            chat.happened(open("bob"));
            chat.finished();
            let effects = chat.happened(closed("bob", CloseReason::PeerLeft));
            let told = format!("{unmet}, and now none can: no chat is open or on its way");
            assert_eq!((words(&effects), chat.failure()), (vec![told], Some(ScriptFailure::Unreached)));
            // Where none has come to a chat, each has said why.
            let mut chat = after_a_call(until);
            chat.finished();
            assert_eq!(words(&chat.happened(closed("bob", CloseReason::NotOnline))), [""; 0]);
            let mut chat = after_a_call(until);
            let told = ["bob had not answered before the end".to_owned(), format!("{unmet} before the end")];
            assert_eq!((words(&chat.give_up()), chat.failure()), (told.to_vec(), Some(ScriptFailure::Unreached)));
        }
        let lost = |peer: &str| Event::NotSent {
            peer: peer.to_owned(),
            id: 1,
            text: "x".to_owned(),
            reason: crate::peer::NotSentReason::NotOpen,
        };
        for (peer, failure) in [("bob", ScriptFailure::Lost), ("carol", ScriptFailure::Unreached)] {
            let mut chat = after_a_call(Until::Message);
            typed(&mut chat, "/connect carol");
            chat.happened(closed("carol", CloseReason::Declined));
            chat.happened(lost(peer));
            assert_eq!(chat.failure(), Some(failure), "{peer}");
        }
    }

    #[test]
    fn what_a_script_waits_for_beside_comes_in_no_place_of_what_it_has_to_send() {
        let mut chat = start(Script { until: Some(Until::Open), ..Script::default() });
        chat.happened(Event::Online);
        for line in ["/msg carol x", "/connect bob"] {
            typed(&mut chat, line);
        }
        let file = Command::OfferFile { peer: Some(bob()), path: "/x".into(), name: None, id: None };
        chat.command(file);
        assert_eq!(done(chat.finished()), []);
        assert_eq!(done(chat.happened(open("carol"))).len(), 1, "the text goes out, and a file still waits");
        assert!(matches!(done(chat.happened(open("bob")))[..], [Effect::OfferFile { .. }]));
        let (file, name, size) = (FileId([7; 16]), "x".to_owned(), Some(1));
        chat.offered(FileReport { peer: bob(), file, number: 0, is_ours: true, name, size, entries: None, id: None });
        assert_eq!(done(chat.end_if_finished()), []);
        let sent = Event::FileSent { peer: bob(), file, size: 1, digest: Digest([0; 32]) };
        assert_eq!(done(chat.happened(sent)), [Effect::Quit]);
    }

    #[test]
    fn a_script_waits_until_all_has_arrived() {
        let mut chat = start(Script { until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        chat.finished();
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::New, own, other });
        assert_eq!(done(chat.event(open("bob"), Instant::now())), [send("hello")]);
        chat.sent("bob", 1, None);
        assert_eq!(chat.end_if_finished(), []);
        assert_eq!(chat.happened(Event::Connecting { peer: bob() }).len(), 1, "it goes on");
        assert_eq!(done(chat.happened(Event::Delivered { peer: bob(), id: 1 })), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
    }

    #[test]
    fn who_listens_takes_calls_of_those_who_may() {
        let mut all = start(Script { accepts: Accepts::All, ..Script::default() });
        all.happened(Event::Online);
        assert_eq!(all.happened(request(bob())), [Effect::Accept(bob())]);
        let mut only =
            start(Script { accepts: Accepts::Only { names: vec![bob()], with_known: false }, ..Script::default() });
        assert_eq!(only.happened(request(bob())), [Effect::Accept(bob())]);
        let carol = "carol".to_owned();
        assert_eq!(only.happened(request(carol.clone())), [Effect::Ignore(carol)]);
    }

    #[test]
    fn who_follows_a_log_ends_with_the_chat() {
        let mut chat = start(Script { ends_with_chat: true, until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        chat.happened(open("bob"));
        assert_eq!(typed(&mut chat, "one"), [send("one")]);
        assert_eq!(done(chat.happened(closed("bob", CloseReason::PeerLeft))), [Effect::Quit]);
        let mut chat = start(Script { ends_with_chat: true, until: Some(Until::Delivered), ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        assert_eq!(done(chat.happened(closed("bob", CloseReason::NotOnline))), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(ScriptFailure::Unreached));
    }

    #[test]
    fn without_a_server_the_end_of_input_is_the_end() {
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        assert_eq!(chat.finished(), []);
        let lost = Event::Offline { reason: "no route".to_owned().into(), retry_in: None };
        let effects = chat.happened(lost);
        assert_eq!(not_sent(&effects), [("hello", false)]);
        assert_eq!(done(effects), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(ScriptFailure::NoServer));
    }

    #[test]
    fn a_script_that_only_calls_waits_for_the_call_and_tells_how_it_ended() {
        for (reason, failure) in
            [(CloseReason::NotOnline, ScriptFailure::Unreached), (CloseReason::Unproven, ScriptFailure::Untrusted)]
        {
            let mut chat = start(Script::default());
            typed(&mut chat, "/connect bob");
            assert_eq!(done(chat.finished()), [], "the server is not there yet");
            assert_eq!(done(chat.happened(Event::Online)), [Effect::Call(bob())]);
            assert_eq!(done(chat.happened(closed("bob", reason))), [Effect::Quit]);
            assert_eq!(chat.failure(), Some(failure));
        }
        let mut chat = online();
        typed(&mut chat, "/connect bob");
        assert_eq!(done(chat.finished()), []);
        assert_eq!(done(chat.happened(open("bob"))), [Effect::Quit]);
        assert_eq!(chat.failure(), None);
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        chat.finished();
        let lost =
            Event::Offline { reason: "no route".to_owned().into(), retry_in: Some(std::time::Duration::from_secs(1)) };
        assert_eq!(done(chat.happened(lost)), [Effect::Quit]);
        assert_eq!(chat.failure(), Some(ScriptFailure::NoServer));
    }
}
