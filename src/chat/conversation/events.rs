//! What the peer says has happened.

use std::time::{Duration, Instant};

use super::{Chat, ChatStage, Conversation, ServerState};
use crate::chat::effect::{Effect, RESTARTED, TOOK_OVER, Text, calling, lines_go_to, notice};
use crate::chat::report::{Report, Unsent};
use crate::chat::screen;
use crate::chat::script::{Accepts, ScriptFailure, Until, cause};
use crate::options::advice;
use crate::peer::{CloseReason, Event, NotSentReason, OfflineReason};
use crate::protocol::ErrorCode;

impl Conversation {
    /// Takes what happened to the peer. Carry out what comes back before
    /// [`end_if_finished`](Self::end_if_finished) is asked.
    pub fn event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let is_quiet = quiet_part(&event).is_some_and(|peer| self.requests.is_quiet(peer));
        let record = |effect| match effect {
            Effect::Show(report) if is_quiet => Effect::Record(report),
            effect => effect,
        };
        self.take(event, now).into_iter().map(record).collect()
    }

    fn take(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Online => {
                (self.server, self.has_heard) = (ServerState::Online, true);
                let mut effects = vec![Effect::Show(Report::Online)];
                for chat in self.chats.iter_mut().filter(|chat| chat.stage == ChatStage::Pending) {
                    chat.stage = ChatStage::Calling;
                    effects.extend([calling(&chat.peer, false), Effect::Call(chat.peer.clone())]);
                }
                effects
            }
            Event::TookOver => vec![notice(TOOK_OVER)],
            Event::Offline { reason, retry_in } => self.offline(&reason, retry_in),
            Event::Request { peer, trust, identity } => self.request(peer, trust, identity, now),
            Event::OldApp { peer } => self.old_app(peer, now),
            Event::RequestEnded { peer } => {
                let is_told = self.requests.end(&peer);
                vec![Effect::Show(Report::RequestEnded { peer, is_told })]
            }
            Event::Connecting { peer } => vec![Effect::Show(Report::Connecting { peer })],
            Event::Identified { peer, trust, own, other } => {
                let is_named = !self.unnamed.remove(&peer);
                self.people.identified(&peer, trust, own, other, is_named)
            }
            Event::Open { peer } => self.opened(peer),
            Event::Message { peer, text } => {
                self.progress.has_message = true;
                // Without a prompt nobody turns to anybody: whatever comes is read as it comes.
                let is_unread = self.script.has_person && self.current.as_ref() != Some(&peer);
                let key = self.people.key(&peer);
                self.chat_or_new(&peer).unread += usize::from(is_unread);
                vec![Effect::Show(Report::Message { peer, text, key })]
            }
            Event::Delivered { peer, id } => self.delivered(peer, id),
            Event::Interrupted { peer } => {
                self.set_stage(&peer, ChatStage::Interrupted);
                self.transfers.interrupt(&peer);
                vec![Effect::Show(Report::Interrupted { peer })]
            }
            Event::Resumed { peer } => {
                let mut effects = vec![Effect::Show(Report::Resumed { peer: peer.clone() })];
                effects.extend(self.send_waiting(peer));
                effects
            }
            Event::KeyChanged { peer } => vec![Effect::Show(Report::KeyChanged { peer })],
            Event::NotSent { peer, id, text, reason } => self.not_sent(peer, id, text, reason),
            Event::Closed { peer, reason } => self.closed(peer, reason),
            Event::Refused { peer, reason } => self.refused(peer, reason),
            Event::Restarted => vec![notice(RESTARTED)],
            Event::ServerError { code, message } => {
                // A server that lies makes up codes too, so all of those are one kind.
                let kind =
                    ErrorCode::ALL.iter().map(|known| known.name()).find(|known| *known == code).unwrap_or_default();
                let count = self.errors.count(kind, now);
                count.map(|count| Effect::Show(Report::ServerError { code, message, count })).into_iter().collect()
            }
            // All others are about files.
            event => self.file_event(event, now),
        }
    }

    fn offline(&mut self, reason: &OfflineReason, retry_in: Option<Duration>) -> Vec<Effect> {
        self.server = ServerState::Lost;
        let is_first = !std::mem::replace(&mut self.has_heard, true);
        // Nobody can be listened to any more.
        self.is_cut_off |= retry_in.is_none();
        if self.is_cut_off && self.script.accepts != Accepts::None {
            self.finish();
            self.progress.ended(Some(ScriptFailure::NoServer));
            self.script.until.get_or_insert(Until::Message);
        }
        let has_chats = self.chats.iter().any(Chat::is_open);
        let mut told = match reason {
            OfflineReason::NameTaken if self.script.has_person => {
                format!("{reason}; /nick NAME takes another one")
            }
            _ => advice::on_loss(reason),
        };
        if retry_in.is_none() && self.script.has_person {
            told += "; /online tries again";
        }
        let mut effects = vec![Effect::Show(Report::Offline { reason: told, retry_in, has_chats })];
        if is_first && retry_in.is_some() {
            let pending = self.chats.iter().filter(|chat| chat.stage == ChatStage::Pending);
            effects.extend(pending.map(|chat| calling(&chat.peer, true)));
        }
        effects
    }

    fn opened(&mut self, peer: String) -> Vec<Effect> {
        self.progress.has_opened = true;
        // Whoever has no prompt need not turn to anybody.
        let is_current = self.current.as_ref() == Some(&peer) || !self.script.has_person;
        let mut effects = vec![Effect::Show(Report::Open { peer: peer.clone(), is_current })];
        effects.extend(self.send_waiting(peer));
        effects
    }

    fn delivered(&mut self, peer: String, number: u64) -> Vec<Effect> {
        let Some(chat) = self.chat_mut(&peer) else { return Vec::new() };
        let ids = chat.outbox.delivered(number);
        if ids.is_empty() { Vec::new() } else { vec![Effect::Show(Report::Delivered { peer, ids })] }
    }

    fn not_sent(&mut self, peer: String, number: u64, text: String, reason: NotSentReason) -> Vec<Effect> {
        self.fail_to_send(Some(&peer));
        let may_be_kept = self.keeps_for(&peer) && !matches!(reason, NotSentReason::TooLong { .. });
        let outbox = &mut self.chat_or_new(&peer).outbox;
        let id = outbox.not_sent(number);
        let needs_word = reason == NotSentReason::Unconfirmed;
        let is_kept = may_be_kept && outbox.keep(Text { text: text.clone(), id: id.clone() }, needs_word);
        vec![Effect::Show(Report::NotSent { peer: Some(peer), text, id, reason: reason.into(), is_kept })]
    }

    fn closed(&mut self, peer: String, reason: CloseReason) -> Vec<Effect> {
        if let CloseReason::IdentityChanged { identity, .. } = reason
            && self.people.has_made_way(&peer, identity)
        {
            let name = screen::name(&peer);
            return vec![notice(&format!("the chat with {name} that was open ends: the link may name somebody else"))];
        }
        let mut effects = vec![Effect::Show(Report::Closed { peer: peer.clone(), reason: reason.clone() })];
        if let CloseReason::IdentityChanged { own, known, identity } = &reason {
            effects.extend(self.people.changed(&peer, *own, known, *identity));
        }
        if matches!(reason, CloseReason::NoHello | CloseReason::Left) && !self.people.is_present(&peer) {
            effects.extend(self.people.link_led_nowhere(&peer));
        }
        // The question whether to talk to an old app is over with the call.
        self.requests.end(&peer);
        if matches!(reason, CloseReason::NoHello | CloseReason::NotRecognized | CloseReason::NoAnswer) {
            effects.extend(self.people.unanswered(&peer, &reason));
        }
        // Lines go on to a chat that takes the place of this one.
        if reason == CloseReason::Replaced {
            self.set_stage(&peer, ChatStage::Calling);
            return effects;
        }
        self.progress.has_closed |= self.chat(&peer).is_some_and(Chat::is_open);
        self.people.left(&peer);
        let failure = cause(&reason);
        self.progress.ended(failure);
        if self.script.ends_with_chat {
            let is_early = !self.progress.is_finishing;
            self.finish();
            if let Some(failure) = failure.or(is_early.then_some(ScriptFailure::Unreached)) {
                self.progress.fail(failure);
            }
            if is_early {
                let line = "the chat ended before standard input did: what comes of that now is not sent";
                effects.push(notice(line));
            }
        }
        if self.progress.is_finishing && self.chat(&peer).is_some_and(|chat| chat.stage == ChatStage::Calling) {
            failure.into_iter().for_each(|failure| self.progress.fail(failure));
        }
        self.set_stage(&peer, ChatStage::Closed);
        self.chat_or_new(&peer).cause = failure;
        effects.extend(self.give_back(&peer, failure.unwrap_or(ScriptFailure::Lost), &Unsent::Closed(reason.clone())));
        if let Some(chat) = self.chat_mut(&peer) {
            chat.outbox.end();
        }
        if reason == CloseReason::Left && self.current.as_ref() == Some(&peer) {
            self.current = None;
        }
        if matches!(reason, CloseReason::NotOnline | CloseReason::Oneself) {
            effects.extend(self.mistyped(&peer));
        }
        self.forget_if_empty(&peer);
        effects
    }

    /// A call has found nobody. A name that was never met may be mistyped, so what is typed next is not kept for it.
    fn mistyped(&mut self, peer: &str) -> Vec<Effect> {
        let is_kept = self.chat(peer).is_some_and(|chat| chat.outbox.kept() > 0);
        if !self.script.has_person || is_kept || self.people.is_known(peer) || self.people.is_present(peer) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if self.current.as_deref() == Some(peer) {
            // Nothing was typed for it, so lines go on to whom they went before.
            self.current = self.before.take().filter(|before| self.chat(before).is_some_and(Chat::is_open));
            effects.extend(self.current.as_deref().map(lines_go_to));
        }
        let near = self.people.nearest(peer);
        effects.extend(near.map(|near| notice(&format!("did you mean {0}? /connect {0}", screen::name(&near)))));
        effects
    }

    /// An accepted request came to nothing; a chat that was open before still is.
    fn refused(&mut self, peer: String, reason: CloseReason) -> Vec<Effect> {
        let mut effects = vec![Effect::Show(Report::Refused { peer: peer.clone(), reason: reason.clone() })];
        if let CloseReason::IdentityChanged { own, known, identity } = &reason {
            effects.extend(self.people.changed(&peer, *own, known, *identity));
        }
        // Of whom the user had not accepted, nothing changes.
        if self.chat(&peer).is_none_or(|chat| chat.stage != ChatStage::Calling) {
            return effects;
        }
        let failure = cause(&reason);
        self.progress.ended(failure);
        let unsent = Unsent::Closed(reason);
        let stage = if self.people.is_present(&peer) { ChatStage::Open } else { ChatStage::Closed };
        self.set_stage(&peer, stage);
        self.chat_or_new(&peer).cause = failure;
        // What was typed in the meantime was meant for whom the user had accepted.
        effects.extend(self.give_back(&peer, ScriptFailure::Untrusted, &unsent));
        self.forget_if_empty(&peer);
        effects
    }
}

/// The peer of an event that tells how a call or chat goes, without a text; `None` for other events.
fn quiet_part(event: &Event) -> Option<&str> {
    match event {
        Event::RequestEnded { peer }
        | Event::Connecting { peer }
        | Event::Identified { peer, .. }
        | Event::Open { peer }
        | Event::Interrupted { peer }
        | Event::Resumed { peer }
        | Event::KeyChanged { peer }
        | Event::Closed { peer, .. }
        | Event::Refused { peer, .. } => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::peer::link::Link;

    #[test]
    fn of_many_calls_five_are_told_and_all_can_be_answered() {
        let mut chat = with_bob(Trust::New);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        let now = Instant::now();
        let told = |effects: &[Effect]| -> Vec<String> {
            let line = |effect: &Effect| match effect {
                Effect::Show(report) => screen::line(report, screen::Look::default(), "").map(|line| line.text),
                _ => None,
            };
            effects.iter().filter_map(line).collect()
        };
        let is_news = |effect: &Effect| matches!(effect, Effect::Show(report) if screen::is_news(report));
        let (mut lines, mut news) = (Vec::new(), 0);
        for index in 0..3000 {
            let peer = format!("stranger_{}", index % 7);
            let effects = chat.event(request(peer.clone()), now);
            news += effects.iter().filter(|effect| is_news(effect)).count();
            lines.extend(told(&effects));
            lines.extend(told(&chat.event(Event::RequestEnded { peer }, now)));
        }
        assert_eq!(lines.len(), 5 + 5 + 3, "and a line for each power of ten: {lines:?}");
        assert_eq!(news, 5, "bells, and runs of the user's command");
        assert!(lines[8].contains("more calls in this minute are only counted"), "{}", lines[8]);
        assert_eq!(lines[12], "* 1000 calls within a minute; /who lists who is calling");
        // Who is known is still heard of.
        assert_eq!(told(&chat.event(request(bob()), now)).len(), 1);
        chat.event(Event::RequestEnded { peer: bob() }, now);
        assert_eq!(told(&chat.event(request("late".to_owned()), now)), [""; 0]);
        let who = told(&typed(&mut chat, "/who"));
        assert!(who[0].contains("calling you: late"), "{who:?}");
        assert_eq!(done(typed(&mut chat, "/accept")), [Effect::Accept("late".to_owned())]);
        let later = now + std::time::Duration::from_secs(60);
        assert_eq!(told(&chat.event(request("carol".to_owned()), later)).len(), 1);
    }

    #[test]
    fn of_many_whose_calls_are_taken_only_texts_are_told() {
        let now = Instant::now();
        let mut chat = start(Script { accepts: Accepts::All, ..Script::default() });
        chat.event(Event::Online, now);
        let (mut lines, mut recorded) = (Vec::new(), 0);
        for index in 0..1000 {
            let peer = format!("stranger_{index}");
            let text = Event::Message { peer: peer.clone(), text: "hi".to_owned() };
            for event in [
                request(peer.clone()),
                Event::RequestEnded { peer: peer.clone() },
                Event::Connecting { peer: peer.clone() },
                text,
                closed(&peer, CloseReason::Declined),
            ] {
                for effect in chat.event(event, now) {
                    match effect {
                        Effect::Show(report) => lines.extend(screen::line(&report, screen::Look::default(), "")),
                        Effect::Record(_) => recorded += 1,
                        Effect::Accept(accepted) => assert_eq!(accepted, peer),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(lines.iter().filter(|line| line.is_message).count(), 1000, "no text is lost");
        let notices: Vec<&str> = lines.iter().filter(|line| !line.is_message).map(|line| &*line.text).collect();
        assert_eq!(notices.len(), 5 * 2 + 1 + 3, "{notices:?}");
        assert_eq!(notices[notices.len() - 1], "* 1000 calls within a minute");
        assert_eq!(recorded, 995 * 3, "programs hear of each");
        // The next minute begins anew.
        let later = now + std::time::Duration::from_secs(60);
        chat.event(request(bob()), later);
        assert!(matches!(chat.event(closed("bob", CloseReason::Declined), later)[..], [Effect::Show(_)]));
    }

    #[test]
    fn who_was_taken_without_being_named_is_known_for_this_run_only() {
        let identified = |chat: &mut Conversation, peer: &str| {
            let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
            let event = Event::Identified { peer: peer.to_owned(), trust: Trust::New, own, other };
            matches!(done(chat.happened(event))[..], [Effect::Remember { .. }])
        };
        let script = |accepts| Script { accepts, ..Script::default() };
        let mut all = start(script(Accepts::All));
        all.happened(Event::Online);
        all.happened(request(bob()));
        assert!(!identified(&mut all, "bob"));
        // Whom the script calls by name is kept, and so is who calls back.
        typed(&mut all, "/msg carol hello");
        assert!(identified(&mut all, "carol"));
        typed(&mut all, "/msg dave hello");
        all.happened(closed("dave", CloseReason::NotOnline));
        all.happened(request("dave".to_owned()));
        assert!(identified(&mut all, "dave"));
        let mut only = start(script(Accepts::Only { names: vec![bob()], with_known: false }));
        only.happened(Event::Online);
        only.happened(request(bob()));
        assert!(identified(&mut only, "bob"));
    }

    #[test]
    fn errors_of_the_server_are_told_five_times_and_then_counted() {
        let mut chat = online();
        let mut told = Vec::new();
        for number in 0..20_000 {
            let code = if number % 2 == 0 { "INVALID_MESSAGE".to_owned() } else { format!("MADE_UP_{number}") };
            for effect in chat.happened(Event::ServerError { code: code.clone(), message: "x".to_owned() }) {
                let Effect::Show(Report::ServerError { count, .. }) = effect else { panic!("{effect:?}") };
                told.push((number % 2, count));
            }
        }
        for kind in [0, 1] {
            let counts: Vec<u64> = told.iter().filter(|(other, _)| *other == kind).map(|(_, count)| *count).collect();
            assert_eq!(counts, [1, 2, 3, 4, 5, 10, 100, 1000, 10_000]);
        }
    }

    #[test]
    fn who_is_not_who_they_were_hears_nothing_until_they_are_declined() {
        let mut chat = with_bob(Trust::New);
        let [own, identity] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        let known = Known { identity: own, is_verified: false };
        let changed = CloseReason::IdentityChanged { own, known: Box::new(known), identity: Some(identity) };
        assert_eq!(done(typed(&mut chat, "/decline bob")), [], "not yet");
        let effects = chat.happened(closed("bob", changed));
        let report = effects.iter().find_map(|effect| match effect {
            Effect::Show(report @ Report::IdentityChanged { .. }) => Some(report),
            _ => None,
        });
        let words = screen::line(report.unwrap(), screen::Look::default(), "").unwrap().text;
        for way in ["/trust bob NUMBER", "/connect LINK", "/forget bob", "/decline bob"] {
            assert!(words.contains(way), "{way}: {words}");
        }
        assert_eq!(done(typed(&mut chat, "/decline bob")), [Effect::Decline(bob())]);
        // A link that names the new identity is a way to trust it.
        let link = |identity| Link { host: "chat.example".to_owned(), is_plain: false, name: bob(), identity };
        let other = KeyPair::generate().public();
        assert_eq!(done(typed(&mut chat, &format!("/connect {}", link(other)))), []);
        let effects = done(typed(&mut chat, &format!("/connect {}", link(identity))));
        assert!(matches!(&effects[..], [Effect::Pin { .. }, Effect::Call(_)]), "{effects:?}");
    }

    #[test]
    fn who_is_not_answered_has_their_number_to_read_to_whom_they_know() {
        let mut chat = online();
        chat.people.identity = Some(KeyPair::generate().public());
        let told = |effects: &[Effect]| match effects.last() {
            Some(Effect::Show(Report::Notice(words))) => (words.contains("/link"), words.contains("    ")),
            _ => (false, false),
        };
        let unanswered = |chat: &mut Conversation, peer: &str| {
            typed(chat, &format!("/connect {peer}"));
            told(&chat.happened(closed(peer, CloseReason::NoHello)))
        };
        assert_eq!(unanswered(&mut chat, "bob"), (true, false), "of a stranger there is no number");
        typed(&mut chat, "/connect bob");
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: bob(), trust: Trust::New, own, other });
        chat.happened(open("bob"));
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert_eq!(unanswered(&mut chat, "bob"), (true, true));
    }

    #[test]
    fn after_a_mistyped_name_lines_go_to_nobody_and_words_for_the_program_are_commands() {
        let person = || {
            let mut chat = start(Script { has_person: true, ..Script::default() });
            chat.happened(Event::Online);
            chat
        };
        let mut chat = person();
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: "robert".to_owned(), trust: Trust::New, own, other });
        typed(&mut chat, "/connect robret");
        let effects = chat.happened(closed("robret", CloseReason::NotOnline));
        assert_eq!(effects.last(), Some(&notice("did you mean robert? /connect robert")));
        assert_eq!(chat.prompt().peer, None);
        assert_eq!(typed(&mut chat, "help"), [Effect::Show(Report::Help(None))]);
        assert_eq!(done(typed(&mut chat, "quit")), [Effect::Quit]);
        // What was typed meanwhile is kept, and so is whom it was for; and so is somebody who was met.
        let mut chat = person();
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "hello");
        chat.happened(closed("bob", CloseReason::NotOnline));
        assert_eq!(chat.prompt().peer, Some(bob()));
        // In a chat, and in a script, they are texts.
        let mut chat = with_bob(Trust::Known);
        assert_eq!(typed(&mut chat, "quit"), [send("quit")]);
        assert_eq!(not_sent(&typed(&mut online(), "quit")), [("quit", false)]);
    }
}
