//! What a user can ask for: a typed line, or the same as JSON, to a [`Command`]; and what the Tab key adds to a line. Pure.

use serde::Deserialize;

use super::harmless::{first_word, name, read_name};

/// What a line asks for. As JSON it is an object whose `command` is the name in lower case and whose other members are the fields here,
/// as in `{"command":"send","peer":"bob","text":"hello"}`.
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
        peer: String,
    },
    /// Take a request; without a name, the only one.
    Accept {
        /// Whose.
        peer: Option<String>,
    },
    /// Turn a request down; without a name, the only one.
    Decline {
        /// Whose.
        peer: Option<String>,
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
    },
    /// Take the new identity of a peer who was refused.
    Trust {
        /// Who.
        peer: String,
        /// The safety number as it was typed in.
        number: String,
    },
    /// Say who was seen before.
    Peers,
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
        let (first, further) = first_word(rest);
        let Some(word) = read_name(first) else {
            return Self::Mistake(format!("{first} is no name: one in quotes is as it was shown, such as \"a%20b\""));
        };
        let (first, further) = ((!first.is_empty()).then_some(word), further.trim_end());
        match (name, first, further) {
            ("msg", Some(peer), text) if !text.is_empty() => {
                Self::Send { peer: Some(peer), text: text.to_owned(), id: None }
            }
            ("connect", Some(peer), "") => Self::Connect { peer },
            ("accept", peer, "") => Self::Accept { peer },
            ("decline", peer, "") => Self::Decline { peer },
            ("to", Some(peer), "") => Self::To { peer },
            ("retry", peer, "") => Self::Retry { peer },
            ("leave", peer, "") => Self::Leave { peer },
            ("who", None, "") => Self::Who,
            ("verify", Some(word), "") if word == "yes" => Self::Verified { peer: None },
            ("verify", peer, "") => Self::Verify { peer },
            ("trust", Some(peer), number) if !number.is_empty() => {
                Self::Trust { peer, number: number.split_whitespace().collect() }
            }
            ("peers", None, "") => Self::Peers,
            ("forget", Some(peer), "") => Self::Forget { peer },
            ("block", peer, "") => Self::Block { peer },
            ("unblock", Some(peer), "") => Self::Unblock { peer },
            ("link", None, "") => Self::Link,
            ("set", name, "") => Self::Set { name, value: None },
            ("set", name, value) => Self::Set { name, value: Some(value.to_owned()) },
            ("help", about, "") => Self::Help { about: about.map(|about| about.trim_start_matches('/').to_owned()) },
            ("quit", None, "") => Self::Quit,
            _ => Self::Mistake(match usage(name) {
                Some(usage) => format!("that is not how /{name} goes: {usage}"),
                None => format!("there is no command /{name}; /help lists them, and //{name} sends it as text"),
            }),
        }
    }

    /// Whether a line may stand in the history that outlives the program: a command without a text of the user's.
    pub fn is_for_history(line: &str) -> bool {
        !matches!(Self::parse(line), Self::Send { .. } | Self::Mistake(_))
    }
}

/// A command as the help shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How it is typed.
    pub usage: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
    /// What else there is to know of it.
    pub details: &'static str,
}

/// All commands, in the order in which help shows them.
pub const COMMANDS: [Usage; 20] = [
    Usage {
        usage: "/connect NAME",
        meaning: "call NAME, or turn to the chat that is open with them",
        details: "NAME may be a link, as /link shows it: then nobody else is taken for them, and they count as verified. Lines typed before they answer go out as soon as they do.",
    },
    Usage {
        usage: "/accept [NAME]",
        meaning: "talk to who is calling; lines go to them from then on",
        details: "The name is only needed where several are calling.",
    },
    Usage {
        usage: "/decline [NAME]",
        meaning: "do not talk to who is calling",
        details: "The name is only needed where several are calling. /block NAME declines all their calls to come.",
    },
    Usage {
        usage: "/to NAME",
        meaning: "lines go to NAME from now on",
        details: "There has to be a chat with them; /connect NAME begins one.",
    },
    Usage {
        usage: "/msg NAME TEXT",
        meaning: "send one text to NAME; lines go where they went",
        details: "They are called if there is no chat with them yet.",
    },
    Usage {
        usage: "/retry [NAME]",
        meaning: "send again what could not be sent",
        details: "What could not be sent is kept as long as the program runs. It goes out by itself when somebody who is known comes back; /retry calls them, and also sends again what may have arrived.",
    },
    Usage {
        usage: "/leave [NAME]",
        meaning: "end the chat or the call",
        details: "What was sent arrives before. What is kept for them is dropped.",
    },
    Usage {
        usage: "/who",
        meaning: "say with whom you are talking, who they are, and who is calling",
        details: "Verified: you have compared the safety number, or called them by their link. Seen before: the same as the last time. New: never seen. Old app: cannot prove who they are.",
    },
    Usage {
        usage: "/verify [NAME]",
        meaning: "show the safety number, to be compared by voice or in person",
        details: "If both of you see the same number, nobody stands between you. Then /verify yes.",
    },
    Usage {
        usage: "/verify yes",
        meaning: "it was compared and is the same: they count as verified",
        details: "That is remembered for the next times.",
    },
    Usage {
        usage: "/trust NAME NUMBER",
        meaning: "take the new identity of somebody who was refused",
        details: "NUMBER is the new safety number, as they read it to you by voice or in person.",
    },
    Usage { usage: "/peers", meaning: "say who was seen before", details: "At this server." },
    Usage {
        usage: "/forget NAME",
        meaning: "forget them, so that they are new the next time",
        details: "That also lets an old app in where an identity was known.",
    },
    Usage {
        usage: "/block [NAME]",
        meaning: "decline all calls of NAME; alone, say who is blocked",
        details: "An open chat with them ends. That is remembered for the next times.",
    },
    Usage { usage: "/unblock NAME", meaning: "let NAME call again", details: "" },
    Usage {
        usage: "/link",
        meaning: "show your link, by which others reach you and nobody else",
        details: "Give it to them on a way that you trust. lowkey --qr shows it as a QR code.",
    },
    Usage {
        usage: "/set [NAME [VALUE]]",
        meaning: "change a setting for as long as the program runs",
        details: "bell on|off, color on|off, times on|off, notify COMMAND|off. Alone it shows them all. The settings file keeps them for good.",
    },
    Usage { usage: "/help [COMMAND]", meaning: "show this, or more of one command", details: "" },
    Usage { usage: "/quit", meaning: "end the program", details: "So do Ctrl-D, and Ctrl-C twice." },
    Usage {
        usage: "//TEXT",
        meaning: "send a text that begins with a slash",
        details: "Anything else goes to the peer that the prompt names.",
    },
];

/// The settings that `/set` knows.
pub const SETTINGS: [&str; 4] = ["bell", "color", "notify", "times"];

/// How a command is typed.
fn usage(name: &str) -> Option<&'static str> {
    let is_it = |usage: &&Usage| usage.usage.split(' ').next().and_then(|word| word.strip_prefix('/')) == Some(name);
    COMMANDS.iter().find(is_it).map(|usage| usage.usage)
}

/// What the word before the cursor could be: where it begins, and what can stand there. `names` are those who can be named, the most
/// likely first.
pub fn complete(line: &str, names: &[String]) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &line[start..];
    let before: Vec<&str> = line[..start].split_whitespace().collect();
    let names: Vec<_> = names.iter().map(|peer| name(peer)).collect();
    let fits = |candidates: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        candidates.filter(|candidate| candidate.starts_with(word)).map(|candidate| format!("{candidate} ")).collect()
    };
    let mut commands: Vec<&str> = COMMANDS.iter().filter_map(|usage| usage.usage.split(' ').next()).collect();
    commands.retain(|command| !command.starts_with("//"));
    commands.dedup();
    let candidates = match before[..] {
        [] if word.starts_with('/') => fits(&mut commands.into_iter()),
        [
            "/connect" | "/accept" | "/decline" | "/to" | "/msg" | "/retry" | "/leave" | "/trust" | "/forget"
            | "/block" | "/unblock",
        ] => fits(&mut names.iter().map(|name| &**name)),
        ["/verify"] => fits(&mut names.iter().map(|name| &**name).chain(["yes"])),
        ["/set"] => fits(&mut SETTINGS.into_iter()),
        ["/set", "bell" | "color" | "times"] => fits(&mut ["on", "off"].into_iter()),
        ["/help"] => fits(&mut commands.iter().map(|command| command.trim_start_matches('/'))),
        // A name at the start of a text, as in "bob: ".
        [] if !word.is_empty() => {
            let names = names.into_iter().filter(|name| name.starts_with(word));
            names.map(|name| format!("{name}: ")).collect()
        }
        _ => Vec::new(),
    };
    (start, candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("/connect  bob ", Command::Connect { peer: bob() }),
            ("/accept", Command::Accept { peer: None }),
            ("/accept bob", Command::Accept { peer: Some(bob()) }),
            ("/decline bob", Command::Decline { peer: Some(bob()) }),
            ("/to bob", Command::To { peer: bob() }),
            ("/retry", Command::Retry { peer: None }),
            ("/leave", Command::Leave { peer: None }),
            ("/leave bob", Command::Leave { peer: Some(bob()) }),
            ("/who", Command::Who),
            ("/verify", Command::Verify { peer: None }),
            ("/verify bob", Command::Verify { peer: Some(bob()) }),
            ("/verify yes", Command::Verified { peer: None }),
            ("/trust bob 12345 67890", Command::Trust { peer: bob(), number: "1234567890".to_owned() }),
            ("/peers", Command::Peers),
            ("/forget bob", Command::Forget { peer: bob() }),
            ("/block", Command::Block { peer: None }),
            ("/unblock bob", Command::Unblock { peer: bob() }),
            ("/unblock \"b%6Fb\"", Command::Unblock { peer: bob() }),
            ("/decline \"a b\"", Command::Decline { peer: Some("a b".to_owned()) }),
            ("/msg \"b%6Fb\"  \"two  words\" ", msg("\"two  words\"")),
            ("/link", Command::Link),
            ("/set", Command::Set { name: None, value: None }),
            ("/set bell off", Command::Set { name: Some("bell".to_owned()), value: Some("off".to_owned()) }),
            ("/help", Command::Help { about: None }),
            ("/help /msg", Command::Help { about: Some("msg".to_owned()) }),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), command, "{line}");
        }
    }

    #[test]
    fn mistakes_are_never_sent() {
        for line in [
            "/",
            "/quti",
            "/connect",
            "/connect a b",
            "/accept a b",
            "/quit now",
            "/verify a b",
            "/trust",
            "/trust bob",
            "/forget",
            "/QUIT",
            "/ quit x",
            "/msg",
            "/msg bob",
            "/to",
            "/to a b",
            "/unblock",
            "/who x",
            "/connect \"a",
            "/msg \"a\"b x",
            "/block \"%ff\"",
        ] {
            assert!(matches!(Command::parse(line), Command::Mistake(_)), "{line}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for Usage { usage, .. } in COMMANDS {
            let line = usage.replace("[NAME [VALUE]]", "bell off").replace("[NAME]", "bob").replace("NAME", "bob");
            let line = line.replace("NUMBER", "12345").replace("[COMMAND]", "msg");
            let is_text = matches!(Command::parse(&line), Command::Send { peer: None, .. });
            assert_eq!(is_text, usage.starts_with("//"), "{usage}");
            assert!(!matches!(Command::parse(&line), Command::Mistake(_)), "{usage}");
        }
    }

    #[test]
    fn commands_names_and_settings_are_completed() {
        let names = ["bob".to_owned(), "bobby".to_owned(), "carol".to_owned()];
        let complete = |line: &str| complete(line, &names);
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let odd = ["a b".to_owned()];
        assert_eq!(super::complete("/decline ", &odd), (9, strings(&["\"a%20b\" "])), "as it can be read again");
        assert_eq!(complete("/con"), (0, strings(&["/connect "])));
        assert_eq!(complete("/ver"), (0, strings(&["/verify "])), "once, though the help has it twice");
        assert_eq!(complete("/connect bo"), (9, strings(&["bob ", "bobby "])));
        assert_eq!(complete("/msg "), (5, strings(&["bob ", "bobby ", "carol "])));
        assert_eq!(complete("/set b"), (5, strings(&["bell "])));
        assert_eq!(complete("/set bell o"), (10, strings(&["on ", "off "])));
        assert_eq!(complete("/help qu"), (6, strings(&["quit "])));
        assert_eq!(complete("ca"), (0, strings(&["carol: "])));
        assert_eq!(complete("hello ca"), (6, Vec::new()));
        assert_eq!(complete(""), (0, Vec::new()));
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
