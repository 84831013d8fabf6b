//! Calls as the user wants them: whom to call, whom to answer, whom to turn to and whom to leave.

use super::{Chat, ChatStage, Conversation, ServerState};
use crate::chat::effect::{Effect, calling, lines_go_to, lost, notice};
use crate::chat::report::Unsent;
use crate::chat::screen;
use crate::chat::script::ScriptFailure;
use crate::peer::CloseReason;
use crate::peer::link::Link;
use crate::protocol::is_username;

impl Conversation {
    pub(super) fn connect(&mut self, peer: String) -> Vec<Effect> {
        if self.requests.has(&peer) {
            return self.answer(Some(peer), None, true);
        }
        match self.chat(&peer).map_or(ChatStage::Closed, |chat| chat.stage) {
            ChatStage::Closed => match self.call(&peer) {
                Ok(effects) => {
                    self.turn_to(&peer);
                    effects
                }
                Err(effects) => effects,
            },
            ChatStage::Open | ChatStage::Interrupted => {
                self.turn_to(&peer);
                vec![lines_go_to(&peer)]
            }
            stage => {
                self.turn_to(&peer);
                vec![calling(&peer, stage == ChatStage::Pending)]
            }
        }
    }

    pub(super) fn connect_by(&mut self, link: &Link) -> Vec<Effect> {
        match self.people.connect_by(link) {
            Ok((peer, mut effects)) => {
                // A chat with somebody else under that name ends by this, and is called anew.
                if !self.people.is_with(&peer, link.identity) && self.chat(&peer).is_some_and(Chat::is_open) {
                    self.set_stage(&peer, ChatStage::Closed);
                }
                effects.extend(self.connect(peer));
                effects
            }
            Err(effects) => {
                self.progress.fail(ScriptFailure::Lost);
                effects
            }
        }
    }

    /// Takes the new identity of somebody who was refused, and calls them: they may have called and wait, or call again
    /// by now.
    pub(super) fn trust(&mut self, peer: String, number: &str) -> Vec<Effect> {
        let mut effects = self.noting_mistakes(|people| people.trust(&peer, number));
        if effects.iter().any(|effect| matches!(effect, Effect::Remember { .. })) {
            effects.extend(self.connect(peer));
        }
        effects
    }

    /// Calls a peer, now or as soon as the server is there.
    pub(super) fn call(&mut self, peer: &str) -> Result<Vec<Effect>, Vec<Effect>> {
        if !is_username(peer) {
            return Err(self.refuse(&format!("nobody can be called {}", screen::name(peer))));
        }
        if peer == self.people.name {
            return Err(self.refuse_as(ScriptFailure::Unreached, "that is you; /who says who else is there"));
        }
        self.unnamed.remove(peer);
        self.called.insert(peer.to_owned());
        if self.blocked.contains(peer) {
            let name = screen::name(peer);
            return Err(self.refuse(&format!("{name} is blocked; /unblock {name} first")));
        }
        if self.is_cut_off {
            return Err(self.refuse("you are offline, and the server is not sought any more; /online seeks it again"));
        }
        let is_waiting = self.server != ServerState::Online;
        self.set_stage(peer, if is_waiting { ChatStage::Pending } else { ChatStage::Calling });
        // While it is sought for the first time, that is nothing to speak of yet.
        let told = match calling(peer, is_waiting) {
            Effect::Show(report) if !self.has_heard => Effect::Record(report),
            told => told,
        };
        Ok([told].into_iter().chain((!is_waiting).then(|| Effect::Call(peer.to_owned()))).collect())
    }

    pub(super) fn to(&mut self, peer: String) -> Vec<Effect> {
        if self.chat(&peer).is_none() {
            let name = screen::name(&peer);
            return self.refuse(&format!("there is no chat with {name}; /connect {name} begins one"));
        }
        self.turn_to(&peer);
        vec![lines_go_to(&peer)]
    }

    /// Whether there is somebody of this name, as far as is known here.
    pub(super) fn is_met(&self, peer: &str) -> bool {
        let is_here = self.chat(peer).is_some_and(Chat::is_open) || self.requests.has(peer);
        is_here || self.people.is_known(peer) || self.people.is_present(peer)
    }

    pub(super) fn answer(&mut self, peer: Option<String>, number: Option<u64>, is_accepted: bool) -> Vec<Effect> {
        let is_numbered = self.requests.numbered(number).is_some();
        if let Some(peer) = peer.as_ref().filter(|peer| !is_numbered && !self.requests.has(peer))
            && self.people.was_turned_away(peer)
        {
            if is_accepted {
                let name = screen::name(peer);
                let line =
                    format!("{name} is not who they were, and cannot be accepted: the warning says what you can do");
                return self.refuse(&line);
            }
            let line = format!("{} is told that you will not talk to them", screen::name(peer));
            return vec![notice(&line), Effect::Decline(peer.clone())];
        }
        let peer = match self.requests.meant(peer, number) {
            Ok(peer) => peer,
            Err(reason) => return self.refuse(&reason),
        };
        self.requests.end(&peer);
        if !is_accepted {
            return vec![notice(&format!("declined {}", screen::name(&peer))), Effect::Decline(peer)];
        }
        // A chat that is open with the same peer makes room for the new one.
        self.set_stage(&peer, ChatStage::Calling);
        self.turn_to(&peer);
        vec![lines_go_to(&peer), Effect::Accept(peer)]
    }

    pub(super) fn leave(&mut self, peer: Option<String>) -> Vec<Effect> {
        let Some(peer) = peer.or_else(|| self.current.clone()) else {
            return match self.still_open() {
                Some(line) => vec![line],
                None => self.refuse("there is no chat to leave"),
            };
        };
        let Some(chat) = self.chat_mut(&peer) else {
            return self.refuse(&format!("there is no chat with {}", screen::name(&peer)));
        };
        let (kept, stage) = (chat.outbox.take_kept().len(), chat.stage);
        chat.is_left = true;
        let mut effects: Vec<Effect> = (kept > 0).then(|| lost(kept, &peer)).into_iter().collect();
        effects.extend(self.give_back(&peer, ScriptFailure::Lost, &Unsent::Closed(CloseReason::Left)));
        match stage {
            ChatStage::Calling | ChatStage::Open | ChatStage::Interrupted => {
                effects.push(Effect::Leave(peer));
                effects
            }
            // A call that was not made yet ends here.
            ChatStage::Closed | ChatStage::Pending => {
                if stage == ChatStage::Pending {
                    effects.insert(0, notice(&format!("{} is not called", screen::name(&peer))));
                }
                self.chats.retain(|chat| chat.peer != peer);
                if self.current.as_ref() == Some(&peer) {
                    self.current = None;
                    effects.push(self.still_open().unwrap_or_else(|| notice("you are writing to nobody now")));
                }
                effects
            }
        }
    }

    pub(super) fn block(&mut self, peer: String) -> Vec<Effect> {
        if peer == self.people.name {
            return self.refuse("that is you");
        }
        // It would keep nobody away.
        if !is_username(&peer) {
            return self.refuse(&format!("nobody can be called {}", screen::name(&peer)));
        }
        self.blocked.insert(peer.clone());
        let mut effects = vec![notice(&format!("{} is blocked", screen::name(&peer)))];
        if self.requests.has(&peer) {
            // Who has proven who they are is not to come again by another name.
            effects.extend(
                self.requests.identity(&peer).and_then(|identity| self.people.tell_apart_again(&peer, identity)),
            );
            self.requests.end(&peer);
            effects.push(Effect::Ignore(peer.clone()));
        }
        if self.chat(&peer).is_some_and(|chat| chat.stage != ChatStage::Closed) {
            effects.extend(self.leave(Some(peer.clone())));
        }
        effects.push(Effect::Block { peer, is_blocked: true });
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn a_request_is_accepted_or_declined_by_name_or_as_the_only_one() {
        let mut chat = online();
        assert_eq!(typed(&mut chat, "/accept"), [mistake("nobody is calling")]);
        chat.happened(request(bob()));
        assert_eq!(done(typed(&mut chat, "/accept carol")), []);
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept(bob())]);
        assert_eq!(typed(&mut chat, "early"), []);
        assert_eq!(done(chat.happened(open("bob"))), [send("early")]);
        chat.happened(request("carol".to_owned()));
        chat.happened(request("dave".to_owned()));
        let several = "several are calling, so say whom: carol, dave";
        assert_eq!(typed(&mut chat, "/decline"), [mistake(several)]);
        assert_eq!(done(typed(&mut chat, "/decline carol")), [Effect::Decline("carol".to_owned())]);
        chat.happened(Event::RequestEnded { peer: "dave".to_owned() });
        assert_eq!(typed(&mut chat, "/accept"), [mistake("nobody is calling")]);
    }

    #[test]
    fn a_hint_that_is_followed_means_whom_it_names() {
        let mut chat = online();
        let called = |peer: &str| request(peer.to_owned());
        for peer in ["other", "1", "yes"] {
            chat.happened(called(peer));
        }
        typed(&mut chat, "/decline other");
        let hint = typed(&mut chat, "hello").pop();
        assert_eq!(hint, Some(notice("/accept \"1\" first")));
        assert_eq!(done(typed(&mut chat, "/accept \"1\"")), [Effect::Accept("1".to_owned())]);
        typed(&mut chat, "/accept \"yes\"");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        let told = chat.happened(Event::Identified { peer: "yes".to_owned(), trust: Trust::New, own, other });
        let Effect::Show(report) = &told[0] else { panic!("{told:?}") };
        let line = screen::line(report, screen::Look::default(), "").unwrap().text;
        assert!(line.contains("/verify \"yes\" tells"), "{line}");
        let shown = typed(&mut chat, "/verify \"yes\"");
        assert!(matches!(&shown[..], [Effect::Show(Report::SafetyNumber { peer, .. })] if peer == "yes"), "{shown:?}");
    }

    #[test]
    fn a_request_is_answered_by_its_number_which_is_never_used_again() {
        let mut chat = online();
        let call = |chat: &mut Conversation, peer: &str| chat.happened(request(peer.to_owned()));
        let decline = |peer: &str| [Effect::Decline(peer.to_owned())];
        for (number, name) in [(1, "bob"), (2, "a b"), (3, "2")] {
            let (peer, trust, has_chat) = (name.to_owned(), Trust::New, false);
            let report = Report::Request { peer, number, count: number, trust, has_chat };
            assert_eq!(chat.happened(request(name)), [Effect::Show(report)]);
        }
        assert_eq!(done(typed(&mut chat, "/decline 2")), decline("a b"), "the number goes before a name of digits");
        assert_eq!(done(typed(&mut chat, "/decline \"2\"")), decline("2"));
        assert_eq!(done(typed(&mut chat, "/decline 2")), []);
        call(&mut chat, "a b");
        assert_eq!(done(typed(&mut chat, "/decline \"a b\"")), decline("a b"));
        call(&mut chat, "carol");
        assert_eq!(done(typed(&mut chat, "/accept 4")), [], "who called again has another number");
        let command = crate::chat::json::command(r#"{"command":"accept","number":5}"#);
        assert_eq!(done(chat.command(command)), [Effect::Accept("carol".to_owned())]);
        for _ in 0..2 {
            call(&mut chat, "dave");
        }
        assert_eq!(done(typed(&mut chat, "/decline dave")), decline("dave"));
        assert_eq!(done(typed(&mut chat, "/decline dave")), [], "a caller has one request");
    }

    #[test]
    fn a_name_that_nobody_can_have_is_not_blocked() {
        let long = "x".repeat(65);
        for name in ["\"\"", "\"a%0Ab\"", "\"LOWKEY%3A//x\"", &long] {
            let mut chat = online();
            let told = typed(&mut chat, &format!("/block {name}"));
            assert!(matches!(&told[..], [Effect::Show(Report::Mistake(_))]), "{name}: {told:?}");
        }
    }

    #[test]
    fn who_is_blocked_is_not_told_so() {
        let mut chat = with_bob(Trust::Known);
        let block = Effect::Block { peer: bob(), is_blocked: true };
        assert_eq!(done(typed(&mut chat, "/block bob")), [Effect::Leave(bob()), block]);
        chat.happened(closed("bob", CloseReason::Left));
        assert_eq!(chat.happened(request(bob())), [Effect::Ignore(bob())]);
        assert_eq!(typed(&mut chat, "/block"), [Effect::Show(Report::Blocked(vec![bob()]))]);
        typed(&mut chat, "/unblock bob");
        assert_eq!(done(chat.happened(request(bob()))), []);
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept(bob())]);
    }

    #[test]
    fn who_is_blocked_does_not_call_by_another_name_either() {
        let mut chat = online();
        let mallory = KeyPair::generate().public();
        let calls = |chat: &mut Conversation, peer: &str, identity| {
            done(chat.happened(Event::Request { peer: peer.to_owned(), trust: Trust::New, identity: Some(identity) }))
        };
        assert_eq!(calls(&mut chat, "mallory", mallory), []);
        typed(&mut chat, "/block mallory");
        let ignored = |peer: &str| [Effect::Ignore(peer.to_owned())];
        assert_eq!(calls(&mut chat, "mallory", mallory), ignored("mallory"));
        assert_eq!(calls(&mut chat, "nicer", mallory), ignored("nicer"));
        assert_eq!(calls(&mut chat, "nicer", KeyPair::generate().public()), []);
    }

    #[test]
    fn who_wants_calls_of_known_people_alone_hears_of_nobody_else_and_they_of_nothing() {
        let script = Script { only_known: true, has_person: true, ..Script::default() };
        let mut chat = start(script);
        chat.happened(Event::Online);
        let identity = Some(KeyPair::generate().public());
        for (trust, identity) in [(Trust::New, identity), (Trust::Unproven, None)] {
            let request = Event::Request { peer: bob(), trust, identity };
            assert_eq!(chat.happened(request), [Effect::Ignore(bob())], "{trust:?}");
        }
        for trust in [Trust::Known, Trust::Verified] {
            assert_eq!(done(chat.happened(Event::Request { peer: bob(), trust, identity })), [], "is asked about");
        }
    }

    #[test]
    fn a_chat_that_opens_beside_another_does_not_take_its_lines() {
        let mut chat = with_bob(Trust::Known);
        chat.happened(open("carol"));
        assert_eq!(typed(&mut chat, "x"), [send("x")]);
        assert_eq!(done(typed(&mut chat, "/connect carol")), []);
        let to_carol = Effect::Send { peer: "carol".to_owned(), text: Text { text: "y".to_owned(), id: None } };
        assert_eq!(typed(&mut chat, "y"), [to_carol]);
    }

    #[test]
    fn a_call_waits_for_the_server_unless_it_is_known_to_be_lost() {
        let mut chat = start(Script::default());
        assert_eq!(done(typed(&mut chat, "/connect bob")), []);
        typed(&mut chat, "hello");
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Call(bob())]);
        let mut chat = start(Script::default());
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        let effects = typed(&mut chat, "/leave");
        assert_eq!(effects[0], notice("bob is not called"));
        assert_eq!(not_sent(&effects).len(), 1);
        assert_eq!(done(chat.happened(Event::Online)), []);
    }

    #[test]
    fn who_is_called_while_the_server_is_away_is_called_when_it_is_back() {
        let mut chat = online();
        let lost = |retry_in| Event::Offline { reason: "no route".to_owned().into(), retry_in };
        chat.happened(lost(Some(std::time::Duration::from_secs(1))));
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        typed(&mut chat, "hello");
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Call(bob())]);
        assert_eq!(done(chat.happened(open("bob"))), [send("hello")]);
        // Where nobody seeks it any more, that is said, until the user wants it sought.
        chat.happened(closed("bob", CloseReason::PeerLeft));
        chat.happened(lost(None));
        assert!(matches!(
            &typed(&mut chat, "/connect bob")[..],
            [Effect::Show(Report::Mistake(words))] if words.contains("/online")
        ));
        assert_eq!(done(typed(&mut chat, "/online")), [Effect::GoOnline]);
        assert_eq!(typed(&mut chat, "/connect bob"), [calling("bob", true)]);
        assert_eq!(done(chat.happened(Event::Online)), [Effect::Call(bob())]);
        assert_eq!(done(typed(&mut chat, "/online")), []);
    }

    #[test]
    fn a_name_that_finds_nobody_gives_the_prompt_back_to_the_chat_before() {
        let mut chat = start(Script { has_person: true, ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        chat.happened(open("bob"));
        typed(&mut chat, "/connect bbo");
        let effects = chat.happened(closed("bbo", CloseReason::NotOnline));
        assert!(effects.contains(&lines_go_to("bob")), "{effects:?}");
        assert_eq!(done(typed(&mut chat, "hello")), [send("hello")]);
        // What was typed for it is kept for it, and the prompt stays.
        typed(&mut chat, "/connect bbo");
        typed(&mut chat, "hi");
        chat.happened(closed("bbo", CloseReason::NotOnline));
        assert_eq!(chat.prompt().peer.as_deref(), Some("bbo"));
    }

    #[test]
    fn who_is_blocked_is_not_called() {
        let mut chat = online();
        assert!(matches!(&typed(&mut chat, "/block alice")[..], [Effect::Show(Report::Mistake(_))]), "that is oneself");
        typed(&mut chat, "/block bob");
        for line in ["/connect bob", "/msg bob hello"] {
            let effects = typed(&mut chat, line);
            assert!(
                matches!(&effects[..], [Effect::Show(Report::Mistake(words))] if words.contains("/unblock bob")),
                "{effects:?}"
            );
        }
    }
}
