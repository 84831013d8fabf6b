//! Texts: whom a line goes to, and what becomes of it while there is no chat.

use super::{Conversation, Stage};
use crate::chat::effect::{Effect, Text, calling, notice};
use crate::chat::report::Report;
use crate::chat::screen;
use crate::chat::script::Failure;
use crate::peer::{NotSentReason, Trust};

impl Conversation {
    pub(super) fn text(&mut self, text: Text) -> Vec<Effect> {
        let Some(peer) = self.current.clone() else {
            // Where a line goes to nobody, these words are meant for the program.
            if self.script.has_person {
                match text.text.trim() {
                    "quit" | "exit" => return self.give_up(),
                    "help" | "?" => return vec![Effect::Show(Report::Help(None))],
                    _ => {}
                }
            }
            let open = self.chats.iter().rev().find(|chat| chat.is_open());
            let hint = match (self.requests.all().first(), open) {
                (Some((peer, _)), _) => format!("/accept {} first", screen::name(peer)),
                (None, Some(chat)) => format!("/to {} to write to them", screen::name(&chat.peer)),
                (None, None) => "/connect NAME first".to_owned(),
            };
            self.progress.fail(Failure::Lost);
            let Text { text, id } = text;
            let report = Report::NotSent { peer: None, text, id, reason: NotSentReason::NotOpen, is_kept: false };
            return vec![Effect::Show(report), notice(&hint)];
        };
        self.send(&peer, text)
    }

    /// Sends a text in the chat with `peer`, or keeps it until there is one.
    fn send(&mut self, peer: &str, text: Text) -> Vec<Effect> {
        let is_finishing = self.progress.is_finishing;
        let chat = self.chat_or_new(peer);
        chat.unread = 0;
        match chat.stage {
            Stage::Open | Stage::Interrupted => return vec![Effect::Send { peer: peer.to_owned(), text }],
            Stage::Pending | Stage::Calling if chat.outbox.has_room() => {
                chat.outbox.wait(text);
                return Vec::new();
            }
            _ => {}
        }
        let is_kept = !is_finishing && chat.outbox.keep(text.clone(), false);
        self.progress.fail_to_send();
        let Text { text, id } = text;
        let peer = Some(peer.to_owned());
        vec![Effect::Show(Report::NotSent { peer, text, id, reason: NotSentReason::NotOpen, is_kept })]
    }

    /// A text for `peer`, who is called if there is no chat yet; lines go where they went.
    pub(super) fn message(&mut self, peer: String, text: Text) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.chat(&peer).is_none_or(|chat| chat.stage == Stage::Closed) {
            match self.call(&peer) {
                Ok(called) => effects = called,
                Err(refused) => return refused,
            }
        }
        effects.extend(self.send(&peer, text));
        effects
    }

    pub(super) fn paste(&mut self, text: String) -> Vec<Effect> {
        let Some(peer) = self.current.clone() else { return self.text(Text { text, id: None }) };
        let text = text.strip_suffix('\n').map_or(text.clone(), str::to_owned);
        let count = text.split('\n').count();
        let question = format!("send these {count} lines to {} as one text? y or n", screen::name(&peer));
        let mut effects = self.drop_paste();
        self.pasted = Some((peer, text));
        effects.push(notice(&question));
        effects
    }

    /// What was pasted for another, or before something else, is not sent by a word that may be meant otherwise.
    pub(super) fn drop_paste(&mut self) -> Vec<Effect> {
        let pasted = self.pasted.take();
        pasted.map(|_| notice("the lines that were pasted before are not sent")).into_iter().collect()
    }

    pub(super) fn answer_paste(
        &mut self,
        (peer, pasted): (String, String),
        answer: String,
        id: Option<String>,
    ) -> Vec<Effect> {
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => self.send(&peer, Text { text: pasted, id: None }),
            "n" | "no" => vec![notice("the pasted lines are not sent")],
            // It is a text of its own. What was pasted goes on waiting.
            _ => {
                let mut effects = self.text(Text { text: answer, id });
                effects.push(notice(&format!("the pasted lines for {} still wait: y or n", screen::name(&peer))));
                self.pasted = Some((peer, pasted));
                effects
            }
        }
    }

    pub(super) fn retry(&mut self, peer: Option<String>) -> Vec<Effect> {
        let with_kept = || self.chats.iter().rev().find(|chat| chat.outbox.kept() > 0).map(|chat| chat.peer.clone());
        let Some(peer) = peer.or_else(|| self.current.clone()).or_else(with_kept) else {
            return self.refuse("nothing is kept to be sent again");
        };
        let Some(chat) = self.chat_mut(&peer).filter(|chat| chat.outbox.kept() > 0) else {
            return self.refuse(&format!("nothing is kept for {}", screen::name(&peer)));
        };
        let kept = chat.outbox.take_kept();
        if chat.is_open() {
            return kept.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }).collect();
        }
        kept.into_iter().for_each(|text| chat.outbox.wait(text));
        match chat.stage {
            Stage::Closed => self.connect(peer),
            stage => vec![calling(&peer, stage == Stage::Pending)],
        }
    }

    /// A chat is open, or open again: what waits for it goes out.
    pub(super) fn send_waiting(&mut self, peer: String) -> Vec<Effect> {
        let is_proven = matches!(self.people.trust_in(&peer), Some(Trust::Known | Trust::Verified));
        self.set_stage(&peer, Stage::Open);
        let texts = self.chat_or_new(&peer).outbox.open(is_proven);
        texts.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }).collect()
    }

    /// Says of each text that waits for `peer` that it was not sent, and keeps it unless the program is about to end.
    pub(super) fn give_back(&mut self, peer: &str, failure: Failure) -> Vec<Effect> {
        let is_kept = !self.progress.is_finishing;
        let Some(chat) = self.chat_mut(peer) else { return Vec::new() };
        let waiting = chat.outbox.give_back(is_kept, failure == Failure::Untrusted);
        if !waiting.is_empty() {
            self.progress.fail(failure);
        }
        let report = |Text { text, id }| {
            let (peer, reason) = (Some(peer.to_owned()), NotSentReason::NotOpen);
            Effect::Show(Report::NotSent { peer, text, id, reason, is_kept })
        };
        waiting.into_iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::command::Command;
    use crate::chat::script::Accepts;

    #[test]
    fn lines_go_to_the_chat_and_those_typed_ahead_wait_for_it() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", false), Effect::Connect(bob())]);
        assert_eq!(typed(&mut chat, "one"), []);
        assert_eq!(typed(&mut chat, "two"), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("one"), send("two")]);
        assert_eq!(typed(&mut chat, "three"), [send("three")]);
        assert_eq!(typed(&mut chat, "/leave"), [Effect::Leave(bob())]);
        chat.happened(closed("bob", CloseReason::Left));
        let effects = typed(&mut chat, "four");
        assert_eq!(not_sent(&effects), [("four", false)]);
        assert_eq!(effects[1], notice("/connect NAME first"));
    }

    #[test]
    fn what_was_typed_for_one_is_never_sent_to_another() {
        let mut chat = online();
        typed(&mut chat, "/connect carol");
        assert_eq!(typed(&mut chat, "for carol"), []);
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Connect(bob())]);
        typed(&mut chat, "for bob");
        let for_carol = Text { text: "for carol".to_owned(), id: None };
        assert_eq!(done(chat.happened(open("carol"))), [Effect::Send { peer: "carol".to_owned(), text: for_carol }]);
        assert_eq!(done(chat.happened(open("bob"))), [send("for bob")]);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert_eq!(not_sent(&typed(&mut chat, "a secret for bob")), [("a secret for bob", true)]);
        assert_eq!(done(chat.happened(open("dave"))), [], "who picks up late gets none of it");
        assert_eq!(done(typed(&mut chat, "/to dave")), []);
        assert_eq!(chat.failure(), Some(Failure::Lost));
    }

    #[test]
    fn what_could_not_be_sent_is_kept_and_goes_out_when_the_peer_is_back() {
        let mut chat = with_bob(Trust::Known);
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        assert_eq!(not_sent(&typed(&mut chat, "kept")), [("kept", true)]);
        assert_eq!(chat.prompt().mark, Mark::Closed);
        chat.happened(request(bob()));
        typed(&mut chat, "/accept");
        typed(&mut chat, "newer");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::Known, own, other });
        assert_eq!(done(chat.happened(open("bob"))), [send("kept"), send("newer")]);
    }

    #[test]
    fn what_is_kept_goes_to_a_stranger_only_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Unproven);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        typed(&mut chat, "for the bob of before");
        chat.happened(request(bob()));
        typed(&mut chat, "/accept");
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(typed(&mut chat, "/retry"), [send("for the bob of before")]);
        assert!(matches!(typed(&mut chat, "/retry")[..], [Effect::Show(Report::Mistake(_))]), "nothing is left");
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_only_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(typed(&mut chat, "perhaps"), [send("perhaps")]);
        chat.sent("bob", 1, None);
        let (text, reason) = ("perhaps".to_owned(), NotSentReason::Unconfirmed);
        chat.happened(Event::NotSent { peer: bob(), id: 1, text, reason });
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Connect(bob())]);
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(done(typed(&mut chat, "/retry bob")), [send("perhaps")]);
    }

    #[test]
    fn the_prompt_shows_whether_all_has_arrived() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(chat.prompt().mark, Mark::None);
        for number in 1..=3 {
            typed(&mut chat, "x");
            chat.sent("bob", number, Some(format!("id {number}")));
        }
        assert_eq!(chat.prompt().mark, Mark::Busy);
        let ids = vec![Some("id 1".to_owned()), Some("id 2".to_owned())];
        let delivered = Event::Delivered { peer: bob(), id: 2 };
        assert_eq!(chat.happened(delivered.clone()), [Effect::Show(Report::Delivered { peer: bob(), ids })]);
        assert_eq!(chat.happened(delivered), []);
        assert_eq!(chat.prompt().mark, Mark::Busy);
        chat.happened(Event::Delivered { peer: bob(), id: 3 });
        assert_eq!(chat.prompt().mark, Mark::Delivered);
        chat.happened(Event::Interrupted { peer: bob() });
        assert_eq!(chat.prompt().mark, Mark::Busy);
        assert_eq!(typed(&mut chat, "kept by the peer"), [send("kept by the peer")]);
    }

    #[test]
    fn texts_of_others_are_counted_until_the_user_turns_to_them() {
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        chat.happened(open("carol"));
        for text in ["one", "two"] {
            chat.happened(Event::Message { peer: "carol".to_owned(), text: text.to_owned() });
        }
        chat.happened(Event::Message { peer: bob(), text: "seen".to_owned() });
        assert_eq!((chat.prompt().peer, chat.prompt().unread), (Some(bob()), 2));
        typed(&mut chat, "/to carol");
        assert_eq!((chat.prompt().peer, chat.prompt().unread), (Some("carol".to_owned()), 0));
        assert_eq!(chat.names()[0], "carol");
        // Who has no prompt has read what was printed.
        let mut listener = start(Script { accepts: Accepts::All, ..Script::default() });
        listener.happened(open("carol"));
        listener.happened(Event::Message { peer: "carol".to_owned(), text: "one".to_owned() });
        assert_eq!(listener.prompt().unread, 0);
    }

    #[test]
    fn a_message_goes_to_whom_it_names_and_calls_them() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(done(typed(&mut chat, "/msg carol hello")), [Effect::Connect("carol".to_owned())]);
        let hello = Effect::Send { peer: "carol".to_owned(), text: Text { text: "hello".to_owned(), id: None } };
        assert_eq!(done(chat.happened(open("carol"))), [hello]);
        assert_eq!(typed(&mut chat, "to bob"), [send("to bob")]);
    }

    #[test]
    fn a_call_that_fails_keeps_its_lines() {
        let mut chat = start(Script::default());
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        assert_eq!(typed(&mut chat, "hello"), []);
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Connect(bob())]);
        assert_eq!(not_sent(&chat.happened(closed("bob", CloseReason::NotOnline))), [("hello", true)]);
        assert_eq!(chat.failure(), Some(Failure::Unreached));
        assert_eq!(done(chat.happened(Event::Online)), [], "the call is made once");
    }

    #[test]
    fn lines_for_a_peer_who_left_are_not_taken_for_others() {
        let mut chat = online();
        for peer in ["bob", "carol"] {
            typed(&mut chat, &format!("/connect {peer}"));
            chat.happened(open(peer));
        }
        chat.happened(closed("carol", CloseReason::Left));
        let effects = typed(&mut chat, "x");
        assert_eq!(not_sent(&effects), [("x", false)]);
        assert_eq!(effects[1], notice("/to bob to write to them"));
        assert_eq!(typed(&mut chat, "/leave bob"), [Effect::Leave(bob())]);
        assert_eq!(done(typed(&mut chat, "/leave dave")), []);
    }

    #[test]
    fn a_paste_is_never_a_command_and_is_sent_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Known);
        let paste = || Command::Paste("/quit\nx".to_owned());
        assert_eq!(done(chat.command(paste())), []);
        assert_eq!(typed(&mut chat, "y"), [send("/quit\nx")]);
        chat.command(paste());
        assert_eq!(done(typed(&mut chat, "n")), []);
        assert_eq!(typed(&mut chat, "y"), [send("y")], "there is no question any more");
        chat.command(paste());
        assert_eq!(done(typed(&mut chat, "something else")), [send("something else")]);
        assert_eq!(typed(&mut chat, "yes"), [send("/quit\nx")]);
    }
}
