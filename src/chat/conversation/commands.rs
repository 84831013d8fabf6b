//! What the user asks for, and what a person is asked first.

use super::{Chat, Conversation, Server, Stage};
use crate::chat::callee::Callee;
use crate::chat::command::Command;
use crate::chat::effect::{Effect, Text, notice, texts};
use crate::chat::people::People;
use crate::chat::report::{ChatReport, ChatState, Report};
use crate::chat::screen;
use crate::chat::script::Failure;
use crate::options::is_on;
use crate::peer::link::Link;
use crate::profile::Username;

impl Conversation {
    /// Takes what the user asks for.
    pub fn command(&mut self, mut command: Command) -> Vec<Effect> {
        if let Some(peer) = command.peer_mut()
            && let Some(name) = self.people.aliases.get(peer).cloned()
        {
            if self.is_met(peer) {
                let alias = screen::name(peer);
                let line = format!(
                    "{alias} is what you call {}, and also the name of somebody who is here: /unalias {alias} first, \
                     or say the number of the call",
                    screen::name(&name)
                );
                return self.refuse(&line);
            }
            *peer = name;
        }
        if !self.script.has_person && runs_a_program(&command) {
            // A script passes on what others have written, and one slip of its quotes would make a command of that.
            return self.refuse(ONLY_BY_HAND);
        }
        let asked = self.asked.take();
        match (asked, yes_or_no(&command)) {
            (Some(asked), Some(true)) => return self.perform(asked),
            (Some(_), Some(false)) => return vec![notice("then all stays as it is")],
            (asked, _) => {
                if let Some(question) = self.question(&command).filter(|_| asked.as_ref() != Some(&command)) {
                    self.asked = Some(command);
                    return vec![question];
                }
            }
        }
        self.perform(command)
    }

    fn perform(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Send { peer: None, text, id } => match self.pasted.take() {
                Some(pasted) => self.answer_paste(pasted, text, id),
                None => self.text(Text { text, id }),
            },
            Command::Send { peer: Some(peer), text, id } => self.message(peer, Text { text, id }),
            Command::Paste(text) => self.paste(text),
            Command::Connect { peer: Callee::Link(link) } => match link.parse::<Link>() {
                Ok(link) => self.connect_by(&link),
                Err(reason) => self.refuse(reason),
            },
            Command::Connect { peer: Callee::Name(peer) } => self.connect(peer),
            Command::To { peer } => self.to(peer),
            Command::Retry { peer } => self.retry(peer),
            Command::Accept { peer, number } => self.answer(peer, number, true),
            Command::Decline { peer, number } => self.answer(peer, number, false),
            Command::Leave { peer } => self.leave(peer),
            Command::Who => vec![self.who()],
            Command::Verify { peer } => self.with(peer, |people, peer| people.verify(peer)),
            Command::Verified { peer, number } => self.with(peer, |people, peer| people.verified(peer, &number)),
            Command::Compared { peer } => self.noting_mistakes(|people| people.compared(peer)),
            Command::Unverify { peer } => self.with(peer, |people, peer| people.unverify(peer)),
            Command::Trust { peer, number } => self.trust(peer, &number),
            Command::Peers => self.people.peers(),
            Command::Alias { names: None } => self.people.all_aliases(),
            Command::Alias { names: Some((alias, peer)) } => {
                let met = [&alias, &peer].map(|name| self.is_met(name));
                let is_met = |name: &str| if name == alias { met[0] } else { met[1] };
                let (first, second) = (alias.clone(), peer);
                self.noting_mistakes(|people| people.alias(first, second, is_met))
            }
            Command::Unalias { alias } => self.noting_mistakes(|people| people.unalias(alias)),
            Command::Forget { peer } => self.noting_mistakes(|people| people.forget(&peer)),
            Command::Block { peer: None } => {
                vec![Effect::Show(Report::Blocked(self.blocked.iter().cloned().collect()))]
            }
            Command::Block { peer: Some(peer) } => self.block(peer),
            Command::Unblock { peer } => match self.blocked.remove(&peer) {
                true => {
                    let line = notice(&format!("{} can call again", screen::name(&peer)));
                    vec![line, Effect::Block { peer, is_blocked: false }]
                }
                false => self.refuse(&format!("{} is not blocked", screen::name(&peer))),
            },
            Command::Link => self.noting_mistakes(|people| people.link()),
            Command::Online => self.go_online(),
            Command::Nick { name } => self.rename(&name),
            Command::Log { peer, is_on } => self.log(peer, is_on),
            Command::Set { name, value } => vec![Effect::Set { name, value }],
            Command::Help { about } => vec![Effect::Show(Report::Help(about))],
            Command::Quit => self.give_up(),
            Command::Mistake(reason) => self.refuse(&reason),
        }
    }

    /// What a person is asked before texts that were not sent are lost by a command.
    fn question(&self, command: &Command) -> Option<Effect> {
        let leaving = match command {
            Command::Leave { peer } => self.chat(peer.as_ref().or(self.current.as_ref())?).into_iter().collect(),
            Command::Quit | Command::Nick { .. } => self.chats.iter().collect::<Vec<_>>(),
            _ => return None,
        };
        let lost = leaving.iter().map(|chat| (chat.outbox.unsent(), &chat.peer)).filter(|(count, _)| *count > 0);
        let lost: Vec<_> = lost.map(|(count, peer)| format!("{} for {}", texts(count), screen::name(peer))).collect();
        (self.script.has_person && !lost.is_empty()).then(|| {
            notice(&format!(
                "not sent yet and lost by this: {}. Do it all the same? y or n; /retry sends them",
                lost.join(", ")
            ))
        })
    }

    /// Seeks the server again that was given up.
    fn go_online(&mut self) -> Vec<Effect> {
        match self.server {
            Server::Online => vec![notice("you are online")],
            Server::Sought | Server::Lost => {
                self.is_cut_off = false;
                self.server = Server::Sought;
                vec![notice("going online"), Effect::GoOnline]
            }
        }
    }

    fn rename(&mut self, name: &str) -> Vec<Effect> {
        if !self.script.has_person {
            return self.refuse("the name of a script is given by --name");
        }
        match name.parse::<Username>() {
            Ok(name) => {
                let mut effects = self.give_up();
                effects.pop();
                effects.push(Effect::Rename(name));
                effects
            }
            Err(reason) => self.refuse(reason),
        }
    }

    /// Shows the last texts of the log, or switches it.
    fn log(&mut self, peer: Option<String>, is_on: Option<bool>) -> Vec<Effect> {
        let peer = if is_on.is_none() { peer.or_else(|| self.current.clone()) } else { peer };
        vec![Effect::Log { peer, is_on }]
    }

    fn who(&self) -> Effect {
        let report = |chat: &Chat| ChatReport {
            peer: chat.peer.clone(),
            state: match chat.stage {
                Stage::Closed => ChatState::Closed,
                Stage::Pending | Stage::Calling => ChatState::Calling,
                Stage::Open => ChatState::Open,
                Stage::Interrupted => ChatState::Interrupted,
            },
            trust: self.people.trust_in(&chat.peer),
            unread: chat.unread,
            underway: chat.outbox.underway(),
            kept: chat.outbox.unsent(),
        };
        Effect::Show(Report::Who {
            current: self.current.clone(),
            chats: self.chats.iter().map(report).collect(),
            requests: self.requests.all().to_vec(),
        })
    }

    /// Does something about a peer; without a name, about the current one.
    fn with(&mut self, peer: Option<String>, act: impl FnOnce(&mut People, &str) -> Vec<Effect>) -> Vec<Effect> {
        match peer.or_else(|| self.current.clone()) {
            Some(peer) => self.noting_mistakes(|people| act(people, &peer)),
            None => self.refuse("you are writing to nobody, so say whom you mean"),
        }
    }

    /// A script wants to know that a line of it did nothing.
    pub(super) fn noting_mistakes(&mut self, act: impl FnOnce(&mut People) -> Vec<Effect>) -> Vec<Effect> {
        let effects = act(&mut self.people);
        if effects.iter().any(|effect| matches!(effect, Effect::Show(Report::Mistake(_)))) {
            self.progress.fail(Failure::Lost);
        }
        effects
    }
}

/// Whether this sets something that runs a program.
fn runs_a_program(command: &Command) -> bool {
    let Command::Set { name: Some(name), value: Some(value) } = command else { return false };
    name == "notify" && is_on(value) != Some(false)
}

/// What a line says to a question.
fn yes_or_no(command: &Command) -> Option<bool> {
    let Command::Send { peer: None, text, .. } = command else { return None };
    match text.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

/// What a script is told that wants to set what runs a program.
const ONLY_BY_HAND: &str = "what runs a program is not set by a script's line, but with --notify, LOWKEY_NOTIFY, notify in \
     config.toml, or by hand at a terminal; off can be said everywhere";

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn whom_verify_yes_means_is_whose_number_was_shown_last() {
        let mut chat = with_bob(Trust::New);
        let identified = |peer: &str, trust| {
            let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
            Event::Identified { peer: peer.to_owned(), trust, own, other }
        };
        chat.happened(identified("carol", Trust::New));
        chat.happened(open("carol"));
        assert!(matches!(typed(&mut chat, "/verify yes")[..], [Effect::Show(Report::Mistake(_))]), "none was shown");
        let verified = |effects: Vec<Effect>| match &done(effects)[..] {
            [Effect::Remember { peer, known, replaces: true }] => Some((peer.clone(), known.is_verified)),
            _ => None,
        };
        typed(&mut chat, "/verify bob");
        typed(&mut chat, "/verify carol");
        // Lines go to bob.
        assert_eq!(chat.prompt().peer, Some(bob()));
        assert_eq!(verified(typed(&mut chat, "/verify yes")), Some(("carol".to_owned(), true)));
        // Somebody else is there by now.
        chat.happened(identified("bob", Trust::New));
        assert!(matches!(typed(&mut chat, "/verify bob yes")[..], [Effect::Show(Report::Mistake(_))]));
        typed(&mut chat, "/verify bob");
        assert_eq!(verified(typed(&mut chat, "/verify bob yes")), Some((bob(), true)));
        assert_eq!(verified(typed(&mut chat, "/unverify")), Some((bob(), false)));
        assert_eq!(chat.prompt().trust, Some(Trust::Known));
        assert_eq!(verified(typed(&mut chat, "/unverify bob")), None, "once");
    }

    #[test]
    fn a_script_says_which_number_was_compared() {
        let mut chat = with_bob(Trust::New);
        let effects = typed(&mut chat, "/verify bob");
        let [Effect::Show(Report::SafetyNumber { number, .. })] = &effects[..] else { panic!("{effects:?}") };
        let command = |number: &str| {
            let line = serde_json::json!({ "command": "verified", "peer": "bob", "number": number }).to_string();
            crate::chat::json::command(&line)
        };
        let wrong = number.to_string().replace('1', "2").replace('3', "4");
        assert!(matches!(chat.command(command(&wrong))[..], [Effect::Show(Report::Mistake(_))]));
        assert_eq!(chat.prompt().trust, Some(Trust::New));
        chat.command(command(&number.to_string()));
        assert_eq!(chat.prompt().trust, Some(Trust::Verified));
    }

    #[test]
    fn an_alias_stands_in_the_prompt_and_in_commands_and_passes_for_nobody() {
        let mut chat = with_bob(Trust::New);
        let refused = |effects: Vec<Effect>| matches!(effects[..], [Effect::Show(Report::Mistake(_))]);
        let alias = |peer: Option<String>| Effect::Alias { alias: "bob-laptop".to_owned(), peer };
        assert_eq!(done(typed(&mut chat, "/alias bob-laptop bob")), [alias(Some(bob()))]);
        assert_eq!(done(typed(&mut chat, "/alias bob bob-laptop")), [alias(Some(bob()))], "one of them was met");
        assert_eq!(chat.prompt().alias.as_deref(), Some("bob-laptop"));
        assert!(chat.names().contains(&"bob-laptop".to_owned()));
        assert_eq!(typed(&mut chat, "/leave bob-laptop"), [Effect::Leave(bob())]);
        assert_eq!(done(typed(&mut chat, "/msg bob-laptop hello")), [send("hello")]);
        // Names of the wire, seen or here, stand for themselves.
        chat.happened(request("carol".to_owned()));
        for line in [
            "/alias carol bob",
            "/alias 7 bob",
            "/alias alice bob",
            "/alias yes bob",
            "/alias on bob",
            "/alias x y",
            "/alias \"a b\" bob",
        ] {
            assert!(refused(typed(&mut chat, line)), "{line}");
        }
        let effects = chat.happened(request("bob-laptop".to_owned()));
        assert_eq!(effects.len(), 2, "{effects:?}");
        assert!(refused(typed(&mut chat, "/accept bob-laptop")), "it is not said who is meant");
        assert_eq!(done(typed(&mut chat, "/decline 2")), [Effect::Decline("bob-laptop".to_owned())]);
        assert_eq!(done(typed(&mut chat, "/unalias bob-laptop")), [alias(None)]);
        assert_eq!(chat.prompt().alias, None);
    }

    #[test]
    fn peers_says_who_is_here_now() {
        let mut chat = with_bob(Trust::New);
        chat.happened(closed("bob", CloseReason::PeerLeft));
        let [own, other] = [KeyPair::generate(), KeyPair::generate()].map(|pair| pair.public());
        chat.happened(Event::Identified { peer: "app".to_owned(), trust: Trust::Unproven, own, other });
        chat.happened(open("app"));
        let effects = typed(&mut chat, "/peers");
        let [Effect::Show(Report::Peers(peers))] = &effects[..] else { panic!("{effects:?}") };
        let told: Vec<_> = peers.iter().map(|peer| (&*peer.peer, peer.known.is_some(), peer.is_here)).collect();
        assert_eq!(told, [("bob", true, false), ("app", false, true)]);
    }

    #[test]
    fn what_runs_a_program_is_set_by_a_person_and_never_by_a_line_of_a_script() {
        let is_set = |has_person, line: &str| {
            let mut chat = start(Script { has_person, ..Script::default() });
            let effects = typed(&mut chat, line);
            assert_eq!(chat.failure().is_some(), effects == [mistake(ONLY_BY_HAND)], "{line}");
            matches!(effects[..], [Effect::Set { .. }])
        };
        for line in ["/set notify touch /tmp/x", "/set  notify  1", "/set \"notify\" x", "/set \"n%6Ftify\" on"] {
            assert!(is_set(true, line) && !is_set(false, line), "{line}");
        }
        for line in ["/set notify off", "/set notify", "/set bell on", "/set"] {
            assert!(is_set(true, line) && is_set(false, line), "{line}");
        }
        let json = r#"{"command":"set","name":"notify","value":"touch /tmp/x"}"#;
        let mut chat = start(Script::default());
        assert_eq!(chat.command(crate::chat::json::command(json)), [mistake(ONLY_BY_HAND)]);
    }

    #[test]
    fn a_mistake_is_said_and_not_sent() {
        let mut chat = with_bob(Trust::Known);
        assert_eq!(done(typed(&mut chat, "/qiut")), []);
        assert_eq!(typed(&mut chat, "//qiut"), [send("/qiut")]);
        assert_eq!(done(typed(&mut chat, &format!("/connect {}", "x".repeat(65)))), []);
    }

    /// A prompt with a person at it, and two texts for bob, who is not there.
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
                // Anything in between takes the question back, and a no does.
                typed(&mut chat, "/who");
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
}
