//! What a user can ask for: a typed line, or the same as JSON, to a [`Command`]. Beneath: [`usage`] is the table of all
//! commands as they are typed, and [`complete`] what the Tab key adds to a line. Pure.

pub mod complete;
pub mod usage;

use serde::Deserialize;

use super::callee::{Callee, NO_ADDRESS, is_address};
use super::harmless::{YES, first_word, read_name};
use crate::options::switch::is_on;
use usage::{ELSEWHERE, SYNONYMS, nearest, usage};

/// What a line asks for. As JSON it is an object whose `command` is the name in lower case and whose other members are
/// the fields here, as in `{"command":"send","peer":"bob","text":"hello"}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Send a text.
    Send {
        /// To this peer; without it, to the peer of the current chat.
        peer: Option<String>,
        /// The text.
        text: String,
        /// What the script calls it: `delivered` and `not_sent` say it again.
        id: Option<String>,
    },
    /// Call a peer, or turn to the chat that is open with it.
    Connect {
        /// Its name or its link.
        peer: Callee,
    },
    /// Take a request; without a name and a number, the only one.
    Accept {
        /// Whose.
        peer: Option<String>,
        /// Which: the number that it was told with. It goes before the name.
        number: Option<u64>,
    },
    /// Turn a request down; without a name and a number, the only one. Who was refused is told so.
    Decline {
        /// Whose.
        peer: Option<String>,
        /// Which: the number that it was told with. It goes before the name.
        number: Option<u64>,
    },
    /// Lines go to this peer from now on.
    To {
        /// Who.
        peer: String,
    },
    /// Send what is kept for this peer; without a name, for the current one.
    Retry {
        /// Who.
        peer: Option<String>,
    },
    /// End the chat or call with this peer; without a name, the current one.
    Leave {
        /// Who.
        peer: Option<String>,
    },
    /// Say with whom there are chats, and who is calling.
    Who,
    /// Show the safety number with a peer; without a name, of the current chat.
    Verify {
        /// Who.
        peer: Option<String>,
    },
    /// The safety number was compared: the peer is verified.
    Verified {
        /// Who; without a name, the peer of the current chat.
        peer: Option<String>,
        /// The number that was compared.
        number: String,
    },
    /// The safety number that was shown was compared: the peer is verified.
    #[serde(skip)]
    Compared {
        /// Who; without a name, the one whose number was shown last.
        peer: Option<String>,
    },
    /// The peer is not verified any more.
    Unverify {
        /// Who; without a name, the peer of the current chat.
        peer: Option<String>,
    },
    /// Take the new identity of a peer who was refused.
    Trust {
        /// Who.
        peer: String,
        /// The safety number as it was typed in.
        number: String,
    },
    /// Say who was seen before, and who is in a chat now.
    Peers,
    /// Call a peer by another name, for oneself; without any, say which there are.
    #[serde(skip)]
    Alias {
        /// The other name, and whose it is.
        names: Option<(String, String)>,
    },
    /// Do so no longer.
    #[serde(skip)]
    Unalias {
        /// The other name.
        alias: String,
    },
    /// Forget a peer.
    Forget {
        /// Who.
        peer: String,
    },
    /// Let nobody of this name call; without a name, say who is blocked.
    Block {
        /// Who.
        peer: Option<String>,
    },
    /// Let them call again.
    Unblock {
        /// Who.
        peer: String,
    },
    /// Show the user's own link.
    Link,
    /// Seek the server again, if it was given up: since another program went online under the name, for instance.
    Online,
    /// Go online under another name, until the end of the program.
    Nick {
        /// The name.
        name: String,
    },
    /// Keep a log of the texts, or keep none any more; without either, show its last ones.
    Log {
        /// With whom; without a name, with everybody, or the last texts of the current chat.
        peer: Option<String>,
        /// Whether to keep it from now on.
        #[serde(rename = "on")]
        is_on: Option<bool>,
    },
    /// Change a setting of the screen for as long as the program runs; without a value, say what it is.
    Set {
        /// Which; all without it.
        name: Option<String>,
        /// Its new value.
        value: Option<String>,
    },
    /// Say what can be typed.
    Help {
        /// The command to explain; all without it.
        about: Option<String>,
    },
    /// End the program.
    Quit,
    /// Several lines that were pasted at once.
    #[serde(skip)]
    Paste(String),
    /// Something that begins with a slash but is no command, or one with too few or too many words. It is never sent as
    /// text; this says what is wrong.
    #[serde(skip)]
    Mistake(String),
    /// A mistake in a command to which a script has given a name.
    #[serde(skip)]
    Misread {
        /// What is wrong.
        reason: String,
        /// The script's name for it.
        id: String,
    },
}

impl Command {
    /// A text for the peer of the current chat.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Send { peer: None, text: text.into(), id: None }
    }

    /// Reads a line. A first slash makes it a command, and two make it a text with one.
    pub fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::text(line) };
        if rest.starts_with('/') {
            return Self::text(rest);
        }
        let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let typed = name;
        let name = SYNONYMS.iter().find(|(other, _)| *other == name).map_or(name, |(_, name)| name);
        let (first, further) = first_word(rest);
        let Some((word, callee)) = read_name(first).zip(Callee::read(first)) else {
            return Self::Mistake(format!("{first} is no name: one in quotes is as it was shown, such as \"a%20b\""));
        };
        // In quotes it is a name, and nothing else.
        let number = first.parse().ok().filter(|_| first.bytes().all(|byte| byte.is_ascii_digit()));
        let is_yes = first == YES;
        let is_quoted = first.starts_with('"');
        let (first, further) = ((!first.is_empty()).then_some(word), further.trim_end());
        match (name, first, further) {
            ("msg", Some(peer), text) if !text.is_empty() => {
                Self::Send { peer: Some(peer), text: text.to_owned(), id: None }
            }
            ("connect", Some(_), "") if is_address(rest.trim()) => Self::Mistake(NO_ADDRESS.to_owned()),
            ("connect", Some(_), "") => Self::Connect { peer: callee },
            ("accept", peer, "") => Self::Accept { peer, number },
            ("decline", peer, "") => Self::Decline { peer, number },
            ("to", Some(peer), "") => Self::To { peer },
            ("retry", peer, "") => Self::Retry { peer },
            ("leave", peer, "") => Self::Leave { peer },
            ("who", None, "") => Self::Who,
            ("verify", Some(_), "") if is_yes => Self::Compared { peer: None },
            ("verify", peer, "") => Self::Verify { peer },
            ("verify", peer, YES) => Self::Compared { peer },
            ("verify", peer, digits) if is_number(digits) => {
                Self::Verified { peer, number: digits.split_whitespace().collect() }
            }
            ("unverify", peer, "") => Self::Unverify { peer },
            ("trust", Some(peer), number) if !number.is_empty() => {
                Self::Trust { peer, number: number.split_whitespace().collect() }
            }
            ("peers", None, "") => Self::Peers,
            ("alias", None, "") => Self::Alias { names: None },
            ("alias", Some(alias), peer) if !peer.is_empty() && first_word(peer).1.is_empty() => {
                match read_name(peer) {
                    Some(peer) => Self::Alias { names: Some((alias, peer)) },
                    None => Self::Mistake(format!("{peer} is no name")),
                }
            }
            ("unalias", Some(alias), "") => Self::Unalias { alias },
            ("forget", Some(peer), "") => Self::Forget { peer },
            ("block", peer, "") => Self::Block { peer },
            ("unblock", Some(peer), "") => Self::Unblock { peer },
            ("link", None, "") => Self::Link,
            ("online", None, "") => Self::Online,
            ("nick", Some(name), "") => Self::Nick { name },
            ("log", peer, "") => match peer.as_deref().and_then(|word| is_on(word).filter(|_| !is_quoted)) {
                Some(is_on) => Self::Log { peer: None, is_on: Some(is_on) },
                None => Self::Log { peer, is_on: None },
            },
            ("log", peer, word) if is_on(word).is_some() => Self::Log { peer, is_on: is_on(word) },
            ("set", name, "") => Self::Set { name, value: None },
            ("set", name, value) => Self::Set { name, value: Some(value.to_owned()) },
            ("help", about, "") => Self::Help { about: about.map(|about| about.trim_start_matches('/').to_owned()) },
            ("quit", None, "") => Self::Quit,
            _ => Self::Mistake(match (usage(name), ELSEWHERE.iter().find(|(other, _)| *other == name)) {
                (Some(usage), _) if typed != name => format!("/{typed} is /{name} here, which goes like this: {usage}"),
                (Some(usage), _) => format!("that is not how /{name} goes: {usage}"),
                (None, Some((_, instead))) => format!("there is no command /{name}: {instead}"),
                (None, None) => {
                    let meant = nearest(name).map(|meant| format!("did you mean /{meant}?"));
                    let meant = meant.unwrap_or("/help lists them,".to_owned());
                    format!("there is no command /{name}; {meant} and //{name} sends it as text")
                }
            }),
        }
    }

    /// Whom it names.
    pub fn peer_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Connect { peer: Callee::Link(_) } => None,
            Self::Connect { peer: Callee::Name(peer) } | Self::To { peer } | Self::Trust { peer, .. } => Some(peer),
            Self::Forget { peer } | Self::Unblock { peer } => Some(peer),
            Self::Send { peer, .. } | Self::Accept { peer, .. } | Self::Decline { peer, .. } => peer.as_mut(),
            Self::Retry { peer } | Self::Leave { peer } | Self::Block { peer } => peer.as_mut(),
            Self::Verify { peer } | Self::Verified { peer, .. } | Self::Compared { peer } => peer.as_mut(),
            Self::Unverify { peer } | Self::Log { peer, .. } => peer.as_mut(),
            Self::Who | Self::Peers | Self::Alias { .. } | Self::Unalias { .. } | Self::Link | Self::Set { .. } => None,
            Self::Online | Self::Nick { .. } => None,
            Self::Help { .. } | Self::Quit | Self::Paste(_) | Self::Mistake(_) | Self::Misread { .. } => None,
        }
    }

    /// Whether a line may stand in the history that outlives the program: a command without a text of the user's.
    pub fn is_for_history(line: &str) -> bool {
        !matches!(Self::parse(line), Self::Send { .. } | Self::Mistake(_))
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::usage::{SETTINGS, command_names};
    use super::*;
    use crate::chat::harmless::{TASKS, name};

    #[test]
    fn lines_are_read_as_commands_and_texts() {
        let bob = || "bob".to_owned();
        let msg = |text: &str| Command::Send { peer: Some(bob()), text: text.to_owned(), id: None };
        for (line, command) in [
            ("hello /quit", Command::text("hello /quit")),
            ("", Command::text("")),
            (" /quit", Command::text(" /quit")),
            ("//quit now", Command::text("/quit now")),
            ("/msg bob  two words ", msg("two words")),
            ("/msg bob /quit", msg("/quit")),
            ("/connect  bob ", Command::Connect { peer: Callee::Name(bob()) }),
            ("/accept", Command::Accept { peer: None, number: None }),
            ("/accept bob", Command::Accept { peer: Some(bob()), number: None }),
            ("/decline bob", Command::Decline { peer: Some(bob()), number: None }),
            ("/decline 2", Command::Decline { peer: Some("2".to_owned()), number: Some(2) }),
            ("/accept \"2\"", Command::Accept { peer: Some("2".to_owned()), number: None }),
            ("/accept +2", Command::Accept { peer: Some("+2".to_owned()), number: None }),
            ("/to bob", Command::To { peer: bob() }),
            ("/retry", Command::Retry { peer: None }),
            ("/leave", Command::Leave { peer: None }),
            ("/leave bob", Command::Leave { peer: Some(bob()) }),
            ("/who", Command::Who),
            ("/verify", Command::Verify { peer: None }),
            ("/verify bob", Command::Verify { peer: Some(bob()) }),
            ("/verify yes", Command::Compared { peer: None }),
            ("/verify \"yes\"", Command::Verify { peer: Some("yes".to_owned()) }),
            ("/verify bob yes", Command::Compared { peer: Some(bob()) }),
            ("/verify bob 12345 67890", Command::Verified { peer: Some(bob()), number: "1234567890".to_owned() }),
            ("/unverify bob", Command::Unverify { peer: Some(bob()) }),
            ("/trust bob 12345 67890", Command::Trust { peer: bob(), number: "1234567890".to_owned() }),
            ("/peers", Command::Peers),
            ("/alias", Command::Alias { names: None }),
            ("/alias b bob", Command::Alias { names: Some(("b".to_owned(), bob())) }),
            ("/unalias b", Command::Unalias { alias: "b".to_owned() }),
            ("/forget bob", Command::Forget { peer: bob() }),
            ("/block", Command::Block { peer: None }),
            ("/unblock bob", Command::Unblock { peer: bob() }),
            ("/unblock \"b%6Fb\"", Command::Unblock { peer: bob() }),
            ("/decline \"a b\"", Command::Decline { peer: Some("a b".to_owned()), number: None }),
            ("/msg \"b%6Fb\"  \"two  words\" ", msg("\"two  words\"")),
            ("/link", Command::Link),
            ("/online", Command::Online),
            ("/nick alice_2", Command::Nick { name: "alice_2".to_owned() }),
            ("/log", Command::Log { peer: None, is_on: None }),
            ("/log on", Command::Log { peer: None, is_on: Some(true) }),
            ("/log \"on\" off", Command::Log { peer: Some("on".to_owned()), is_on: Some(false) }),
            ("/log bob", Command::Log { peer: Some(bob()), is_on: None }),
            ("/log bob off", Command::Log { peer: Some(bob()), is_on: Some(false) }),
            ("/set", Command::Set { name: None, value: None }),
            ("/set bell off", Command::Set { name: Some("bell".to_owned()), value: Some("off".to_owned()) }),
            ("/help", Command::Help { about: None }),
            ("/help /msg", Command::Help { about: Some("msg".to_owned()) }),
            ("/quit", Command::Quit),
            ("/exit", Command::Quit),
            ("/h", Command::Help { about: None }),
            ("/?", Command::Help { about: None }),
            ("/connect lowkey://x/b#k", Command::Connect { peer: Callee::Link("lowkey://x/b#k".to_owned()) }),
            ("/connect \"lowkey%3A//x\"", Command::Connect { peer: Callee::Name("lowkey://x".to_owned()) }),
            ("/call bob", Command::Connect { peer: Callee::Name(bob()) }),
            ("/query bob", Command::Connect { peer: Callee::Name(bob()) }),
            ("/names", Command::Who),
        ] {
            assert_eq!(Command::parse(line), command, "{line}");
        }
    }

    #[test]
    fn a_name_that_was_shown_is_a_name_to_every_command() {
        // All short words, and whatever longer one means something to some command.
        let letters: Vec<char> = ('a'..='z').chain('0'..='9').collect();
        let mut words: Vec<String> = letters.iter().map(char::to_string).collect();
        for length in 1..3 {
            let shorter: Vec<String> = words.iter().filter(|word| word.len() == length).cloned().collect();
            words.extend(shorter.iter().flat_map(|word| letters.iter().map(move |letter| format!("{word}{letter}"))));
        }
        words.extend(["true", "false", "TRUE", "Yes", "ON", "12345678901234567890123", "0x10"].map(str::to_owned));
        words.extend(["/quit", "", "a b", "a\"b", "lowkey://h/b#k", "-rf", "b\u{f6}b", "%41"].map(str::to_owned));
        words.extend(command_names().chain(SETTINGS).chain(TASKS).map(str::to_owned));
        for word in words {
            let peer = || Some(word.clone());
            let given = || word.clone();
            for (command, expected) in [
                ("connect", Command::Connect { peer: Callee::Name(given()) }),
                ("accept", Command::Accept { peer: peer(), number: None }),
                ("decline", Command::Decline { peer: peer(), number: None }),
                ("to", Command::To { peer: given() }),
                ("retry", Command::Retry { peer: peer() }),
                ("leave", Command::Leave { peer: peer() }),
                ("verify", Command::Verify { peer: peer() }),
                ("unverify", Command::Unverify { peer: peer() }),
                ("forget", Command::Forget { peer: given() }),
                ("block", Command::Block { peer: peer() }),
                ("unblock", Command::Unblock { peer: given() }),
                ("log", Command::Log { peer: peer(), is_on: None }),
            ] {
                assert_eq!(Command::parse(&format!("/{command} {}", name(&word))), expected);
            }
            let shown = name(&word);
            assert_eq!(Command::parse(&format!("/verify {shown} yes")), Command::Compared { peer: peer() });
            assert_eq!(
                Command::parse(&format!("/alias mine {shown}")),
                Command::Alias { names: Some(("mine".to_owned(), given())) }
            );
        }
    }

    #[test]
    fn mistakes_are_never_sent() {
        let lines = "/;/quti;/connect;/connect a b;/accept a b;/quit now;/verify a b;/trust;/trust bob;/forget;/QUIT;\
                     / quit x;/msg;/msg bob;/to;/to a b;/unblock;/who x;/connect \"a;/msg \"a\"b x;/block \"%ff\"";
        for line in lines.split(';') {
            assert!(matches!(Command::parse(line), Command::Mistake(_)), "{line}");
        }
    }

    #[test]
    fn what_people_try_has_an_answer() {
        for (line, words) in [
            ("/qiut", "did you mean /quit?"),
            ("/conect bob", "did you mean /connect?"),
            ("/blok", "did you mean /block?"),
            ("/join room", "no rooms"),
            ("/whois bob", "/who says"),
            ("/me waves", "a text like any other"),
            ("/clear", "Ctrl-L"),
            ("/nonsense", "/help lists them"),
            ("/call", "/call is /connect here, which goes like this: /connect NAME"),
        ] {
            match Command::parse(line) {
                Command::Mistake(answer) => assert!(answer.contains(words), "{line}: {answer}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        // None of them hides a command.
        let taken = SYNONYMS.iter().chain(&ELSEWHERE).map(|(other, _)| other);
        assert_eq!(taken.filter(|other| usage(other).is_some()).count(), 0);
    }

    #[test]
    fn a_text_is_not_for_the_history() {
        for (line, is_for_history) in [
            ("/connect bob", true),
            ("hello", false),
            ("//x", false),
            ("/msg bob secret", false),
            ("/mgs bob secret", false),
            ("/quit", true),
        ] {
            assert_eq!(Command::is_for_history(line), is_for_history, "{line}");
        }
    }
}
