//! What the user asks for.

use super::{Chat, ChatStage, Conversation, ServerState};
use crate::chat::callee::Callee;
use crate::chat::command::Command;
use crate::chat::effect::{Effect, Text, notice};
use crate::chat::people::People;
use crate::chat::report::{ChatReport, ChatState, Report};
use crate::chat::screen;
use crate::chat::script::ScriptFailure;
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
        self.ask_or_perform(command)
    }

    /// Does a command without asking first, whatever it brings about.
    pub(super) fn perform(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Send { peer: None, text, id } => self.text(Text { text, id }),
            Command::Send { peer: Some(peer), text, id } => self.message(peer, Text { text, id }),
            Command::Paste(text) => self.text(Text { text, id: None }),
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
            Command::OfferFiles { .. }
            | Command::OfferFile { .. }
            | Command::OfferInput { .. }
            | Command::TakeFile { .. }
            | Command::RefuseFile { .. }
            | Command::CancelFile { .. }
            | Command::Files => self.file_command(command),
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
            Command::Misread { reason: message, id } => {
                self.progress.fail(ScriptFailure::Lost);
                vec![Effect::Show(Report::Misread { message, id })]
            }
        }
    }

    /// Seeks a server again that was given up.
    fn go_online(&mut self) -> Vec<Effect> {
        match self.server {
            ServerState::Online => vec![notice("you are online")],
            ServerState::Sought | ServerState::Lost => {
                self.is_cut_off = false;
                self.server = ServerState::Sought;
                vec![notice("going online"), Effect::GoOnline]
            }
        }
    }

    fn rename(&mut self, name: &str) -> Vec<Effect> {
        if !self.script.has_person {
            return self.refuse("the name of a script is given by --name");
        }
        match name.parse::<Username>() {
            Ok(name) => vec![Effect::Rename(name)],
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
                ChatStage::Closed => ChatState::Closed,
                ChatStage::Pending | ChatStage::Calling => ChatState::Calling,
                ChatStage::Open => ChatState::Open,
                ChatStage::Interrupted => ChatState::Interrupted,
            },
            trust: self.people.trust_in(&chat.peer),
            unread: chat.unread,
            underway: chat.outbox.underway(),
            waiting: chat.outbox.waiting(),
            kept: chat.outbox.kept(),
        };
        Effect::Show(Report::Who {
            current: self.current.clone(),
            chats: self.chats.iter().map(report).collect(),
            requests: self.requests.all().to_vec(),
            refused: self.people.refused(),
        })
    }

    /// Does something about a peer; without a name, about the current one.
    fn with(&mut self, peer: Option<String>, act: impl FnOnce(&mut People, &str) -> Vec<Effect>) -> Vec<Effect> {
        match peer.or_else(|| self.current.clone()) {
            Some(peer) => self.noting_mistakes(|people| act(people, &peer)),
            None => self.refuse("you are writing to nobody, so say whom you mean"),
        }
    }

    /// Does something about people, and notes a mistake for scripts: they want to know that a line did nothing.
    pub(super) fn noting_mistakes(&mut self, act: impl FnOnce(&mut People) -> Vec<Effect>) -> Vec<Effect> {
        let effects = act(&mut self.people);
        if effects.iter().any(|effect| matches!(effect, Effect::Show(Report::Mistake(_)))) {
            self.progress.fail(ScriptFailure::Lost);
        }
        effects
    }
}

/// Whether a command sets something that runs a program.
fn runs_a_program(command: &Command) -> bool {
    let Command::Set { name: Some(name), value: Some(value) } = command else { return false };
    name == "notify" && is_on(value) != Some(false)
}

/// What a script is told that wants to set what runs a program.
const ONLY_BY_HAND: &str = "what runs a program is not set by a script's line, but with --notify, LOWKEY_NOTIFY, \
                            notify in config.toml, or by hand at a terminal; off can be said everywhere";

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
}
