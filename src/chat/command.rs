//! A typed line to a command. Pure.

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send this to the peer of the current chat.
    Text(String),
    /// Call this peer, or turn to the chat that is open with it.
    Connect(String),
    /// Take a request; without a name, the only one.
    Accept(Option<String>),
    /// Turn a request down; without a name, the only one.
    Decline(Option<String>),
    /// End the chat or call with this peer; without a name, the current one.
    Leave(Option<String>),
    /// Say with whom there are chats, and who is calling.
    Who,
    /// Show the safety number with a peer; without a name, of the current chat.
    Verify(Option<String>),
    /// The safety number of the current chat was compared: the peer is verified.
    Verified,
    /// Take the new identity of a peer who was refused, with its safety number as it was typed in.
    Trust(String, String),
    /// Say who was seen before.
    Peers,
    /// Forget a peer.
    Forget(String),
    /// Show the user's own link.
    Link,
    /// Send this to the peer of the current chat, whatever it begins with.
    Paste(String),
    /// Say what can be typed.
    Help,
    /// End the program.
    Quit,
    /// Something that begins with a slash but is no command, or one with too few or too many words. It is never sent as
    /// text; this says what is wrong.
    Mistake(String),
}

impl Command {
    /// Reads a line. A first slash makes it a command, and two make it a text with one.
    pub fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::Text(line.to_owned()) };
        if rest.starts_with('/') {
            return Self::Text(rest.to_owned());
        }
        let mut words = rest.split_whitespace();
        let name = words.next().unwrap_or_default();
        if name == "trust" {
            let peer = words.next().unwrap_or_default().to_owned();
            let number: Vec<&str> = words.collect();
            return match peer.is_empty() || number.is_empty() {
                true => Self::Mistake("/trust takes a name and the safety number: /trust NAME 12345 …".to_owned()),
                false => Self::Trust(peer, number.concat()),
            };
        }
        let (argument, extra) = (words.next().map(str::to_owned), words.next());
        match (name, argument, extra) {
            ("connect", Some(peer), None) => Self::Connect(peer),
            ("connect", _, _) => Self::Mistake("/connect takes one name: /connect NAME".to_owned()),
            ("accept", peer, None) => Self::Accept(peer),
            ("decline", peer, None) => Self::Decline(peer),
            ("leave", peer, None) => Self::Leave(peer),
            ("accept" | "decline" | "leave", _, _) => Self::Mistake(format!("/{name} takes one name at most")),
            ("verify", Some(word), None) if word == "yes" => Self::Verified,
            ("verify", peer, None) => Self::Verify(peer),
            ("verify", _, _) => {
                Self::Mistake("/verify shows the safety number; /verify yes says it was compared".to_owned())
            }
            ("forget", Some(peer), None) => Self::Forget(peer),
            ("forget", _, _) => Self::Mistake("/forget takes one name: /forget NAME".to_owned()),
            ("peers", None, _) => Self::Peers,
            ("link", None, _) => Self::Link,
            ("who", None, _) => Self::Who,
            ("help", None, _) => Self::Help,
            ("quit", None, _) => Self::Quit,
            ("who" | "peers" | "link" | "help" | "quit", _, _) => Self::Mistake(format!("/{name} stands alone")),
            _ => Self::Mistake(format!("there is no command /{name}; /help lists them, and //{name} sends it as text")),
        }
    }
}

/// The commands with their words and what they do, in the order in which help shows them.
pub const COMMANDS: [(&str, &str); 13] = [
    ("/connect NAME", "call NAME, or turn to the chat that is open with them; a link is good too"),
    ("/accept [NAME]", "talk to who is calling; lines go to them from then on"),
    ("/decline [NAME]", "do not talk to who is calling"),
    ("/leave [NAME]", "end the chat or the call"),
    ("/who", "say with whom you are talking, and who is calling"),
    ("/verify [NAME]", "show the safety number, to be compared by voice or in person"),
    ("/verify yes", "it was compared and is the same: they count as verified"),
    ("/trust NAME NUMBER", "take the new identity of somebody who was refused"),
    ("/peers", "say who was seen before"),
    ("/forget NAME", "forget them, so that they are new the next time"),
    ("/link", "show your link, by which others reach you and nobody else"),
    ("/help", "show this"),
    ("/quit", "end the program; so do Ctrl-D, and Ctrl-C twice"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_commands_and_texts() {
        let name = || "bob".to_owned();
        for (line, command) in [
            ("hello /quit", Command::Text("hello /quit".to_owned())),
            ("", Command::Text(String::new())),
            (" /quit", Command::Text(" /quit".to_owned())),
            ("//quit now", Command::Text("/quit now".to_owned())),
            ("/connect  bob ", Command::Connect(name())),
            ("/accept", Command::Accept(None)),
            ("/accept bob", Command::Accept(Some(name()))),
            ("/decline bob", Command::Decline(Some(name()))),
            ("/leave", Command::Leave(None)),
            ("/leave bob", Command::Leave(Some(name()))),
            ("/who", Command::Who),
            ("/verify", Command::Verify(None)),
            ("/verify bob", Command::Verify(Some(name()))),
            ("/verify yes", Command::Verified),
            ("/trust bob 12345 67890", Command::Trust(name(), "1234567890".to_owned())),
            ("/peers", Command::Peers),
            ("/forget bob", Command::Forget(name())),
            ("/link", Command::Link),
            ("/help", Command::Help),
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
        ] {
            assert!(matches!(Command::parse(line), Command::Mistake(_)), "{line}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for (usage, _) in COMMANDS {
            let line = usage.replace("[NAME]", "bob").replace("NAME", "bob").replace("NUMBER", "12345");
            assert!(!matches!(Command::parse(&line), Command::Mistake(_) | Command::Text(_)), "{usage}");
        }
    }
}
