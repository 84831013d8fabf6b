//! Texts: whom a line goes to, and what becomes of it while there is no chat.

use super::file_offers::why_not;
use super::{Chat, ChatStage, Conversation};
use crate::chat::command::Command;
use crate::chat::effect::{Effect, Text, calling, notice, texts};
use crate::chat::report::{Report, Unsent};
use crate::chat::screen;
use crate::chat::script::{Accepts, InputFormat, ScriptFailure};
use crate::peer::{NotSentReason, Trust};

impl Conversation {
    pub(super) fn text(&mut self, text: Text) -> Vec<Effect> {
        let Some(peer) = self.current.clone() else {
            // Where a line goes to nobody, these words are meant for the program.
            if self.script.has_person {
                match text.text.trim() {
                    "quit" | "exit" => return self.ask_or_perform(Command::Quit),
                    "help" | "?" => return vec![Effect::Show(Report::Help(None))],
                    _ => {}
                }
            }
            self.progress.fail(ScriptFailure::Lost);
            let Text { text, id } = text;
            let reason = NotSentReason::NotOpen.into();
            let told = Effect::Show(Report::NotSent { peer: None, text, id, reason, is_kept: false });
            return [told].into_iter().chain(self.how_to_begin().map(|hint| notice(&hint))).collect();
        };
        // In a chat it is a text like any other, but perhaps not meant as one.
        let meant = CLOSE_TO_COMMANDS.iter().find(|(word, _)| self.script.has_person && *word == text.text.trim());
        let mut effects = self.send(&peer, text);
        effects.extend(meant.map(|(_, hint)| notice(&format!("that is a text for {}; {hint}", screen::name(&peer)))));
        effects
    }

    /// What to do first, where a line goes to nobody.
    fn how_to_begin(&self) -> Option<String> {
        let open = self.chats.iter().rev().find(|chat| chat.is_open());
        Some(match (self.requests.all().first(), open) {
            // Its input has no commands.
            _ if self.script.input == InputFormat::Texts => return None,
            _ if self.script.input == InputFormat::Json => {
                "the field peer says for whom a text is; without it, it is for whom connect or to has named".to_owned()
            }
            (Some((peer, _)), _) => format!("/accept {} first", screen::name(peer)),
            (None, Some(chat)) => format!("/to {} to write to them", screen::name(&chat.peer)),
            _ if self.script.accepts != Accepts::None => "/msg NAME TEXT writes to somebody".to_owned(),
            (None, None) => "/connect NAME first".to_owned(),
        })
    }

    /// Sends a text in the chat with `peer`, or keeps it until there is one.
    pub(super) fn send(&mut self, peer: &str, text: Text) -> Vec<Effect> {
        let chat = self.chat_or_new(peer);
        chat.unread = 0;
        match chat.stage {
            ChatStage::Open | ChatStage::Interrupted => return vec![Effect::Send { peer: peer.to_owned(), text }],
            ChatStage::Pending | ChatStage::Calling if chat.outbox.has_room() => {
                chat.outbox.wait(text);
                return Vec::new();
            }
            _ => {}
        }
        let may_be_kept = self.keeps_for(peer);
        let is_kept = may_be_kept && self.chat_or_new(peer).outbox.keep(text.clone(), false);
        self.fail_to_send(Some(peer));
        let (Text { text, id }, reason) = (text, NotSentReason::NotOpen.into());
        vec![Effect::Show(Report::NotSent { peer: Some(peer.to_owned()), text, id, reason, is_kept })]
    }

    /// Sends a text to `peer`, who is called if there is no chat yet; lines go where they went.
    pub(super) fn message(&mut self, peer: String, text: Text) -> Vec<Effect> {
        let mut effects = match self.reach(&peer) {
            Ok(effects) => effects,
            Err(refused) => return refused,
        };
        effects.extend(self.send(&peer, text));
        effects
    }

    /// Calls somebody, if there is no chat yet.
    pub(super) fn reach(&mut self, peer: &str) -> Result<Vec<Effect>, Vec<Effect>> {
        if self.requests.has(peer) {
            // Whoever writes to somebody who is calling talks to them.
            self.requests.end(peer);
            self.set_stage(peer, ChatStage::Calling);
            let line = format!("{} is calling you, and by this you accept", screen::name(peer));
            return Ok(vec![notice(&line), Effect::Accept(peer.to_owned())]);
        }
        match self.chat(peer).is_none_or(|chat| chat.stage == ChatStage::Closed) {
            true => self.call(peer),
            false => Ok(Vec::new()),
        }
    }

    pub(super) fn retry(&mut self, peer: Option<String>) -> Vec<Effect> {
        let with_kept = || self.chats.iter().rev().find(|chat| chat.outbox.kept() > 0).map(|chat| chat.peer.clone());
        let Some(peer) = peer.or_else(|| self.current.clone()).or_else(with_kept) else {
            return self.refuse("nothing is kept to be sent again");
        };
        let Some(chat) = self.chat_mut(&peer).filter(|chat| chat.outbox.kept() > 0) else {
            return match self.chat(&peer).filter(|chat| chat.outbox.is_waiting()) {
                Some(chat) => vec![notice(&format!("{} {}", texts(chat.outbox.waiting()), goes_out(chat)))],
                None => self.refuse(&format!("nothing is kept for {}", screen::name(&peer))),
            };
        };
        let kept = chat.outbox.take_kept();
        if chat.is_open() {
            return kept.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }).collect();
        }
        kept.into_iter().for_each(|text| chat.outbox.wait(text));
        match chat.stage {
            ChatStage::Closed => self.connect(peer),
            stage => vec![calling(&peer, stage == ChatStage::Pending)],
        }
    }

    /// A chat is open, or open again: what waits for it goes out.
    pub(super) fn send_waiting(&mut self, peer: String) -> Vec<Effect> {
        let is_proven = self.people.trust_in(&peer).is_some_and(Trust::is_known);
        self.set_stage(&peer, ChatStage::Open);
        let outbox = &mut self.chat_or_new(&peer).outbox;
        let (kept, texts) = (outbox.kept(), outbox.open(is_proven));
        let mut effects = self.what_is_kept(&peer, kept, is_proven);
        effects.extend(texts.into_iter().map(|text| Effect::Send { peer: peer.clone(), text }));
        effects.extend(self.offer_waiting(&peer));
        effects
    }

    /// What is said where a chat is open of the texts that were kept, of which there were so many: whether they go out.
    fn what_is_kept(&self, peer: &str, before: usize, is_proven: bool) -> Vec<Effect> {
        let kept = self.chat(peer).map_or(0, |chat| chat.outbox.kept());
        let name = screen::name(peer);
        let gone = (before > kept).then(|| notice(&format!("{} that was kept goes out now", texts(before - kept))));
        let left = match (kept, is_proven) {
            (0, _) => None,
            (_, true) => Some(format!(
                "{} kept for {name}, since something may have arrived already: /retry sends all again, in order, \
                 behind what you write before",
                texts(kept)
            )),
            (_, false) => Some(format!(
                "{} kept for {name}, who has not proven to be the one of before: /retry sends them, behind what you \
                 write before",
                texts(kept)
            )),
        };
        gone.into_iter().chain(left.map(|words| notice(&words))).collect()
    }

    /// Whether a text for `peer` that is not sent is kept for `/retry`, where somebody can say that.
    pub(super) fn keeps_for(&self, peer: &str) -> bool {
        let is_left = self.chat(peer).is_some_and(|chat| chat.is_left);
        !self.progress.is_finishing && !is_left && self.script.input != InputFormat::Texts
    }

    /// Says of each text that waits for `peer` that it was not sent, and keeps it where that is of use.
    pub(super) fn give_back(&mut self, peer: &str, failure: ScriptFailure, reason: &Unsent) -> Vec<Effect> {
        let is_kept = self.keeps_for(peer);
        let Some(chat) = self.chat_mut(peer) else { return Vec::new() };
        let waiting = chat.outbox.give_back(is_kept, failure == ScriptFailure::Untrusted);
        if !waiting.is_empty() {
            self.progress.fail(failure);
        }
        let files = self.give_files_back(peer, failure, &why_not(reason));
        let report = |Text { text, id }| {
            let (peer, reason) = (Some(peer.to_owned()), reason.clone());
            Effect::Show(Report::NotSent { peer, text, id, reason, is_kept })
        };
        waiting.into_iter().map(report).chain(files).collect()
    }
}

/// When what waits for a chat goes out.
pub(super) fn goes_out(chat: &Chat) -> String {
    let name = screen::name(&chat.peer);
    match chat.stage {
        ChatStage::Pending => {
            "for NAME will be sent as soon as the server is there and they answer".replace("NAME", &name)
        }
        _ => format!("for {name} will be sent as soon as they answer"),
    }
}

/// Words that in a chat are texts, and what was perhaps meant.
const CLOSE_TO_COMMANDS: [(&str, &str); 5] = [
    ("quit", QUIT),
    ("exit", QUIT),
    (":q", QUIT),
    ("help", "/help lists what can be typed"),
    ("clear", "Ctrl-L clears the screen"),
];
const QUIT: &str = "/quit ends the program";

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::script::Accepts;

    #[test]
    fn lines_go_to_the_chat_and_those_typed_ahead_wait_for_it() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", false), Effect::Call(bob())]);
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
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Call(bob())]);
        typed(&mut chat, "for bob");
        let for_carol = Text { text: "for carol".to_owned(), id: None };
        assert_eq!(done(chat.happened(open("carol"))), [Effect::Send { peer: "carol".to_owned(), text: for_carol }]);
        assert_eq!(done(chat.happened(open("bob"))), [send("for bob")]);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert_eq!(not_sent(&typed(&mut chat, "a secret for bob")), [("a secret for bob", true)]);
        assert_eq!(done(chat.happened(open("dave"))), [], "who picks up late gets none of it");
        assert_eq!(done(typed(&mut chat, "/to dave")), []);
        assert_eq!(chat.failure(), Some(ScriptFailure::Lost));
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
        assert_eq!(done(typed(&mut chat, "/connect bob")), [Effect::Call(bob())]);
        assert_eq!(done(chat.happened(open("bob"))), []);
        assert_eq!(done(typed(&mut chat, "/retry bob")), [send("perhaps")]);
    }

    #[test]
    fn nothing_that_is_kept_overtakes_what_may_have_arrived() {
        let mut chat = with_bob(Trust::Known);
        for number in 1..=3 {
            typed(&mut chat, &format!("{number}"));
            chat.sent("bob", number, None);
        }
        // Their program was killed, and has come back: of the first two it is not known, and the third was never sent.
        for (id, reason) in
            [(1, NotSentReason::Unconfirmed), (2, NotSentReason::Unconfirmed), (3, NotSentReason::NotOpen)]
        {
            chat.happened(Event::NotSent { peer: bob(), id, text: id.to_string(), reason });
        }
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        chat.happened(request(bob()));
        typed(&mut chat, "/accept");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::Known, own, other });
        let effects = chat.happened(open("bob"));
        assert_eq!(done(effects.clone()), []);
        let said = "3 texts kept for bob, since something may have arrived already: /retry sends all again, in order, \
                    behind what you write before";
        assert_eq!(effects.last(), Some(&notice(said)));
        assert_eq!(typed(&mut chat, "/retry"), ["1", "2", "3"].map(send));
    }

    #[test]
    fn what_is_no_text_in_another_place_is_told_of_where_it_is_one() {
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        assert_eq!(typed(&mut chat, "exit"), [send("exit"), notice("that is a text for bob; /quit ends the program")]);
        assert_eq!(typed(&mut chat, "exit now"), [send("exit now")]);
    }

    #[test]
    fn whoever_writes_to_who_is_calling_answers_the_call() {
        let mut chat = online();
        chat.happened(request("carol"));
        let effects = typed(&mut chat, "/msg carol hello");
        assert_eq!(effects[0], notice("carol is calling you, and by this you accept"));
        assert_eq!(done(effects), [Effect::Accept("carol".to_owned())]);
        let text = Text { text: "hello".to_owned(), id: None };
        assert_eq!(done(chat.happened(open("carol"))), [Effect::Send { peer: "carol".to_owned(), text }]);
        assert_eq!(chat.prompt().peer, None, "lines go where they went");
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
        assert_eq!(done(typed(&mut chat, "/msg carol hello")), [Effect::Call("carol".to_owned())]);
        let hello = Effect::Send { peer: "carol".to_owned(), text: Text { text: "hello".to_owned(), id: None } };
        assert_eq!(done(chat.happened(open("carol"))), [hello]);
        assert_eq!(typed(&mut chat, "to bob"), [send("to bob")]);
    }

    #[test]
    fn a_call_that_fails_keeps_its_lines() {
        let mut chat = start(Script::default());
        let told = Report::Calling { peer: bob(), is_waiting: true };
        assert_eq!(typed(&mut chat, "/connect bob"), [Effect::Record(told)], "that is nothing to speak of yet");
        assert_eq!(typed(&mut chat, "hello"), []);
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Call(bob())]);
        assert_eq!(not_sent(&chat.happened(closed("bob", CloseReason::NotOnline))), [("hello", true)]);
        assert_eq!(chat.failure(), Some(ScriptFailure::Unreached));
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
}
