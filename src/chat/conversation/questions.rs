//! What a person is asked before it is done: whether to send several lines that were pasted, and whether to do what
//! loses or ends something. A script is asked nothing.

use super::texts::goes_out;
use super::{Chat, ChatStage, Conversation, Question};
use crate::chat::command::Command;
use crate::chat::effect::{Effect, Text, notice, texts};
use crate::chat::screen;
use crate::profile::Username;

impl Question {
    fn words(&self) -> String {
        match self {
            Self::Paste { peer, text } => {
                let count = text.split('\n').count();
                format!("send these {count} lines to {} as one text? y or n", screen::name(peer))
            }
            Self::Command { words, .. } => words.clone(),
        }
    }

    /// What is said where a question was answered by no, or by going on with something else.
    fn no(&self) -> Effect {
        notice(match self {
            Self::Paste { .. } => "the pasted lines are not sent",
            Self::Command { .. } => "then all stays as it is",
        })
    }
}

impl Conversation {
    /// Does what the user asks for, or asks first. While a question waits, a line is the answer and never a text, and a
    /// command takes the question back.
    pub(super) fn ask_or_perform(&mut self, command: Command) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (self.asked.take(), answer(&command)) {
            (Some(Question::Paste { peer, text }), Some(Answer::Yes)) => {
                return self.send(&peer, Text { text, id: None });
            }
            (Some(Question::Command { command, .. }), Some(Answer::Yes)) => return self.perform(command),
            (Some(question), Some(Answer::No)) => return vec![question.no()],
            (Some(question), Some(Answer::Neither)) => {
                let words = format!("that was not sent, since a question waits: {}", question.words());
                self.asked = Some(question);
                return vec![notice(&words)];
            }
            (Some(Question::Command { command: asked, .. }), None) if asked == command => return self.perform(command),
            (Some(question), None) => effects.push(question.no()),
            (None, _) => {}
        }
        match self.question(&command) {
            Some(question) => {
                effects.push(notice(&question.words()));
                self.asked = Some(question);
            }
            None => effects.extend(self.perform(command)),
        }
        effects
    }

    /// What a person is asked before this is done.
    fn question(&self, command: &Command) -> Option<Question> {
        if !self.script.has_person {
            return None;
        }
        let (what, hint) = match command {
            Command::Paste(text) => {
                let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
                return Some(Question::Paste { peer: self.current.clone()?, text });
            }
            Command::Leave { peer } => self.ends(Some(peer.as_ref().or(self.current.as_ref())?)),
            Command::Quit => self.ends(None),
            Command::Nick { name } if name.parse::<Username>().is_ok() => self.ends(None).or_else(|| {
                let open: Vec<_> =
                    self.chats.iter().filter(|chat| chat.is_open()).map(|chat| screen::name(&chat.peer)).collect();
                (!open.is_empty())
                    .then(|| (format!("under another name the chat with {} ends", open.join(" and ")), None))
            }),
            Command::Forget { peer } => self.people.verified_since(peer).map(|since| {
                let name = screen::name(peer);
                (format!("{name} is verified since {since}, and would be a stranger the next time"), None)
            }),
            _ => None,
        }?;
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let words = format!("{what}. Do it all the same? y or n{hint}");
        Some(Question::Command { command: command.clone(), words })
    }

    /// What ends or is lost with the chat with this peer, or with all, and what else can be done.
    fn ends(&self, peer: Option<&String>) -> Option<(String, Option<String>)> {
        let files = self.files_on_their_way(peer.map(String::as_str)).map(|files| format!("cut off by this: {files}"));
        let texts = self.loss(self.chats.iter().filter(|chat| peer.is_none_or(|peer| chat.peer == *peer)));
        match (files, texts) {
            (Some(files), Some((texts, hint))) => Some((format!("{files}, and {texts}"), hint)),
            (files, texts) => files.map(|files| (files, None)).or(texts),
        }
    }

    /// The texts that are lost with these chats, and what else can be done with them.
    fn loss<'a>(&self, chats: impl Iterator<Item = &'a Chat>) -> Option<(String, Option<String>)> {
        let (mut lost, mut hint, mut is_sure) = (Vec::new(), None, true);
        for chat in chats {
            let (kept, waiting) = (chat.outbox.kept(), chat.outbox.waiting());
            // What was sent on a connection that works arrives before the end.
            let underway = if chat.stage == ChatStage::Interrupted { chat.outbox.underway() } else { 0 };
            is_sure &= underway == 0;
            let of_chat = match (kept, waiting, underway) {
                (0, 0, 0) => continue,
                (0, 0, _) => "they arrive once the connection is back".to_owned(),
                (0, _, _) => format!("what is {}", goes_out(chat)),
                _ => "/retry sends them".to_owned(),
            };
            hint.get_or_insert(of_chat);
            lost.push(format!("{} for {}", texts(kept + waiting + underway), screen::name(&chat.peer)));
        }
        let what =
            if is_sure { "not sent yet and lost by this" } else { "not known to have arrived, and lost by this" };
        (!lost.is_empty()).then(|| (format!("{what}: {}", lost.join(", ")), hint))
    }
}

enum Answer {
    Yes,
    No,
    Neither,
}

/// What a line says to a question; a command says nothing to it.
fn answer(command: &Command) -> Option<Answer> {
    let Command::Send { peer: None, text, .. } = command else { return None };
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Answer::Yes,
        "n" | "no" => Answer::No,
        _ => Answer::Neither,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::chat::report::Unsent;

    fn person() -> Script {
        Script { has_person: true, ..Script::default() }
    }

    /// A prompt with a person at it or not, and two texts for bob, who is not there.
    fn with_kept_texts(has_person: bool) -> Conversation {
        let mut chat = start(Script { has_person, ..Script::default() });
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "one");
        typed(&mut chat, "two");
        chat.happened(closed("bob", CloseReason::NotOnline));
        chat
    }

    #[test]
    fn a_person_is_asked_once_before_texts_are_lost() {
        let question = "not sent yet and lost by this: 2 texts for bob. Do it all the same? y or n; /retry sends them";
        for (word, done_then) in [("/quit", Effect::Quit), ("/leave", lost(2, "bob"))] {
            for yes in [word, "y", " Yes "] {
                let mut chat = with_kept_texts(true);
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                // A command in between takes the question back, and a no does.
                assert_eq!(typed(&mut chat, "/who")[0], notice("then all stays as it is"));
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                assert_eq!(typed(&mut chat, "n"), [notice("then all stays as it is")]);
                assert_eq!(typed(&mut chat, word), [notice(question)]);
                let effects = typed(&mut chat, yes);
                assert!(effects.contains(&lost(2, "bob")) && effects.contains(&done_then), "{effects:?}");
            }
        }
        let mut chat = with_kept_texts(true);
        typed(&mut chat, "/retry");
        chat.happened(open("bob"));
        assert_eq!(done(typed(&mut chat, "/quit")), [Effect::Quit], "nothing is lost");
        let effects = typed(&mut with_kept_texts(false), "/quit");
        assert_eq!(effects, [lost(2, "bob"), Effect::Quit], "a script is told, and asked nothing");
        let effects = typed(&mut with_kept_texts(false), "/leave bob");
        assert!(effects.contains(&lost(2, "bob")), "{effects:?}");
    }

    #[test]
    fn an_answer_other_than_yes_and_no_asks_again_and_is_no_text() {
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        chat.happened(closed("bob", CloseReason::ConnectionLost));
        typed(&mut chat, "one");
        for word in ["/quit", "/leave"] {
            let question = typed(&mut chat, word);
            for answer in ["yep", "hello bob", " "] {
                let effects = typed(&mut chat, answer);
                let [Effect::Show(Report::Notice(words))] = &effects[..] else { panic!("{effects:?}") };
                let Effect::Show(Report::Notice(asked)) = &question[0] else { panic!("{question:?}") };
                assert!(words.starts_with("that was not sent") && words.ends_with(asked), "{words}");
            }
            assert_eq!(done(typed(&mut chat, "n")), []);
        }
        assert_eq!(chat.chats[0].outbox.kept(), 1);
        chat.command(Command::Paste("a\nb".to_owned()));
        assert_eq!(done(typed(&mut chat, "something else")), []);
        assert_eq!(not_sent(&typed(&mut chat, "y")), [("a\nb", true)]);
    }

    #[test]
    fn what_is_said_to_be_lost_is_lost_and_what_is_said_to_be_kept_is_kept() {
        let waiting = || {
            let mut chat = start(person());
            chat.happened(Event::Online);
            typed(&mut chat, "/connect bob");
            for text in ["one", "two", "three"] {
                typed(&mut chat, text);
            }
            chat
        };
        let mut chat = waiting();
        let asked = typed(&mut chat, "/quit");
        let words = "not sent yet and lost by this: 3 texts for bob. Do it all the same? y or n; for bob will be sent \
                     as soon as they answer";
        assert_eq!(asked, [notice(&words.replace("; for bob", "; what is for bob"))]);
        let told = typed(&mut chat, "/retry");
        assert_eq!(told[1], notice("3 texts for bob will be sent as soon as they answer"), "{told:?}");
        // Who leaves wants nothing kept, whatever comes back later.
        for stage in [ChatStage::Pending, ChatStage::Calling] {
            let mut chat = waiting();
            chat.set_stage("bob", stage);
            typed(&mut chat, "/leave");
            let mut effects = typed(&mut chat, "y");
            effects.extend(chat.happened(closed("bob", CloseReason::Left)));
            assert_eq!(not_sent(&effects), [("one", false), ("two", false), ("three", false)]);
            assert!(matches!(typed(&mut chat, "/retry bob")[..], [Effect::Show(Report::Mistake(_))]));
            assert_eq!(typed(&mut chat, "/quit"), [Effect::Quit], "nothing is left to be lost");
        }
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        typed(&mut chat, "underway");
        chat.sent("bob", 1, None);
        assert_eq!(done(typed(&mut chat, "/quit")), [Effect::Quit], "it arrives before the end");
        chat.happened(Event::Interrupted { peer: bob() });
        let asked = typed(&mut chat, "/leave");
        let [Effect::Show(Report::Notice(words))] = &asked[..] else { panic!("{asked:?}") };
        assert!(words.starts_with("not known to have arrived, and lost by this: one text for bob"), "{words}");
        assert_eq!(typed(&mut chat, "y"), [Effect::Leave(bob())]);
        let (text, reason) = ("underway".to_owned(), crate::peer::NotSentReason::Unconfirmed);
        assert_eq!(
            not_sent(&chat.happened(Event::NotSent { peer: bob(), id: 1, text, reason })),
            [("underway", false)]
        );
    }

    #[test]
    fn a_paste_is_never_a_command_and_is_sent_if_the_user_says_so() {
        let mut chat = with_bob(Trust::Known);
        chat.script.has_person = true;
        let paste = || Command::Paste("/quit\nx".to_owned());
        assert_eq!(done(chat.command(paste())), []);
        assert_eq!(typed(&mut chat, "y"), [send("/quit\nx")]);
        chat.command(paste());
        assert_eq!(done(typed(&mut chat, "n")), []);
        assert_eq!(typed(&mut chat, "y"), [send("y")], "there is no question any more");
        chat.command(paste());
        assert_eq!(done(chat.command(Command::Paste("other\nlines".to_owned()))), []);
        assert_eq!(typed(&mut chat, "yes"), [send("other\nlines")]);
    }

    #[test]
    fn who_would_lose_a_chat_or_somebody_verified_is_asked() {
        let mut chat = with_bob(Trust::New);
        chat.script.has_person = true;
        assert_eq!(done(typed(&mut chat, "/nick alice_2")), []);
        assert_eq!(typed(&mut chat, "n"), [notice("then all stays as it is")]);
        assert!(!done(typed(&mut chat, "/forget bob")).is_empty(), "whom nobody has verified");
        let mut chat = with_bob(Trust::New);
        chat.script.has_person = true;
        typed(&mut chat, "/verify");
        typed(&mut chat, "/verify yes");
        assert_eq!(done(typed(&mut chat, "/forget bob")), []);
        assert_eq!(done(typed(&mut chat, "y")), [Effect::Forget(bob())]);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        assert!(matches!(done(typed(&mut chat, "/nick alice_2"))[..], [Effect::Rename(_)]), "no chat is open");
    }

    #[test]
    fn what_waited_is_told_with_the_reason_for_which_it_was_not_sent() {
        let mut chat = start(person());
        chat.happened(Event::Online);
        typed(&mut chat, "/connect bob");
        typed(&mut chat, "one");
        let effects = chat.happened(closed("bob", CloseReason::Declined));
        let reason = effects.iter().find_map(|effect| match effect {
            Effect::Show(Report::NotSent { reason, .. }) => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(reason, Some(Unsent::Closed(CloseReason::Declined)));
    }
}
