//! All commands as they are typed: what the help shows of them, and what is said to those who try others. Pure.

use crate::options::nearest;

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
pub const COMMANDS: [Usage; 31] = [
    Usage {
        usage: "/connect NAME",
        meaning: "call NAME, or turn to the open chat with them",
        details: "NAME may be a link, as /link shows it: then nobody else is taken for them, and they count as \
            verified. Lines typed before they answer go out as soon as they do.",
    },
    Usage {
        usage: "/accept [NAME]",
        meaning: "talk to who is calling, and write to them",
        details: "Only needed where several are calling: their name, or the number of the call, as in /accept 2.",
    },
    Usage {
        usage: "/decline [NAME]",
        meaning: "do not talk to who is calling",
        details: "The name, or the number of the call, as in /decline 2, is only needed where several are calling. \
            Who was refused, since they are not who they were, is told so too. /block NAME declines all their calls \
            to come.",
    },
    Usage {
        usage: "/to NAME",
        meaning: "write to NAME from now on",
        details: "There has to be a chat with them; /connect NAME begins one.",
    },
    Usage {
        usage: "/msg NAME TEXT",
        meaning: "send one text to NAME, and stay where you are",
        details: "They are called if there is no chat with them yet.",
    },
    Usage {
        usage: "/retry [NAME]",
        meaning: "send again what could not be sent",
        details: "What could not be sent is kept as long as the program runs. It goes out by itself when somebody who \
            is known comes back; /retry calls them, and also sends again what may have arrived.",
    },
    Usage {
        usage: "/leave [NAME]",
        meaning: "end the chat or the call",
        details: "What was sent arrives before. What is kept for them is dropped.",
    },
    Usage {
        usage: "/file PATH…",
        meaning: "offer files or folders to them; Tab completes paths",
        details: "A file that is dropped on the terminal behind it is one. It goes once they take it, and goes on by \
            itself after a loss; the same line again goes on where the last one was cut off.",
    },
    Usage {
        usage: "/take [N] [as NAME]",
        meaning: "take what they offer, or file N, or all",
        details: "It comes into your folder for downloads, or that of --downloads, and never over what is there. N is \
            the number that it was told with; /take all takes all that is offered in this chat.",
    },
    Usage {
        usage: "/refuse [N]",
        meaning: "do not take it, or none of all",
        details: "As in /refuse 2 and /refuse all.",
    },
    Usage {
        usage: "/cancel [N]",
        meaning: "end a file that is offered or on its way",
        details: "N is its number, which /files shows; without it, the only one. What had come of it is removed.",
    },
    Usage {
        usage: "/files",
        meaning: "say what is offered, on its way and done",
        details: "Of what is done it shows the SHA-256 as sha256sum prints it, to be compared.",
    },
    Usage {
        usage: "/who",
        meaning: "say whom you talk to, who they are, who is calling",
        details: "Verified: you have compared the safety number, or called them by their link. Seen before: the same \
            as the last time. New: never seen. Old app: cannot prove who they are.",
    },
    Usage {
        usage: "/verify [NAME]",
        meaning: "show the safety number, to be compared",
        details: "Compare it by voice or in person. If both of you see the same number, nobody stands between you. \
            Then /verify yes.",
    },
    Usage {
        usage: "/verify yes",
        meaning: "it is the same: they count as verified",
        details: "That is for whose number was shown last; /verify NAME yes says whom you mean, and /verify NAME \
            NUMBER compares it with what they read to you. It is remembered for the next times.",
    },
    Usage {
        usage: "/unverify [NAME]",
        meaning: "take that back: they count as seen before",
        details: "That is remembered for the next times.",
    },
    Usage {
        usage: "/trust NAME NUMBER",
        meaning: "take the new identity of somebody who was refused",
        details: "NUMBER is the new safety number, as they read it to you by voice or in person. Then they are called.",
    },
    Usage { usage: "/peers", meaning: "say who was seen before, and who is here now", details: "At this server." },
    Usage {
        usage: "/alias [NEW NAME]",
        meaning: "call NAME by a name of yours; alone, list those",
        details: "As in /alias bob-laptop bob. It stands in the prompt and can be typed in commands; nobody else sees \
            it, and who they are is always told with their own name. The name of somebody whom you have met, or who \
            is here, is refused. It is remembered for the next times.",
    },
    Usage { usage: "/unalias NEW", meaning: "call them by their own name again", details: "" },
    Usage {
        usage: "/forget NAME",
        meaning: "forget them, so that they are new the next time",
        details: "That also lets an old app in where an identity was known.",
    },
    Usage {
        usage: "/block [NAME]",
        meaning: "answer no calls of NAME; alone, list the blocked",
        details: "An open chat with them ends. That is remembered for the next times.",
    },
    Usage { usage: "/unblock NAME", meaning: "let NAME call again", details: "" },
    Usage {
        usage: "/link",
        meaning: "show your link, by which others reach only you",
        details: "Give it to them on a way that you trust. lowkey --qr shows it as a QR code.",
    },
    Usage {
        usage: "/log [NAME] [on|off]",
        meaning: "show the last texts of the log, or keep one",
        details: "Nothing is kept unless you say so: /log on keeps all texts from now on, /log NAME on those with \
            NAME, in the file log of your profile, which only you may read. lowkey --log keeps it from the start.",
    },
    Usage {
        usage: "/nick NAME",
        meaning: "go by another name until the end",
        details: "It has an identity of its own, so that nobody knows you by it yet; open chats end. lowkey config \
            set name NAME keeps it for the next starts.",
    },
    Usage {
        usage: "/online",
        meaning: "go online again",
        details: "Needed only where that was given up, as after another program of yours went online under your name. \
            It takes the name back.",
    },
    Usage {
        usage: "/set [NAME [VALUE]]",
        meaning: "change a setting for as long as the program runs",
        details: "bell on|off, color on|off, times on|off, notify COMMAND|off. Alone it shows them all. The settings \
            file keeps them for good.",
    },
    Usage { usage: "/help [COMMAND]", meaning: "show this, or more of one command", details: "" },
    Usage { usage: "/quit", meaning: "end the program", details: "So do Ctrl-D, and Ctrl-C twice." },
    Usage {
        usage: "//TEXT",
        meaning: "send a text that begins with a slash",
        details: "Anything else goes to the peer that the prompt names.",
    },
];

/// Commands that the list leaves out, so that it fits a screen: they are told of where they are needed.
pub const RARE: [&str; 10] = [
    "/alias [NEW NAME]",
    "/cancel [N]",
    "/log [NAME] [on|off]",
    "/nick NAME",
    "/online",
    "/refuse [N]",
    "/trust NAME NUMBER",
    "/unalias NEW",
    "/unblock NAME",
    "/unverify [NAME]",
];

/// The settings that `/set` knows.
pub const SETTINGS: [&str; 4] = ["bell", "color", "notify", "times"];

/// What the same commands are called in other programs.
pub const SYNONYMS: [(&str, &str); 12] = [
    ("?", "help"),
    ("bye", "quit"),
    ("call", "connect"),
    ("exit", "quit"),
    ("h", "help"),
    ("ignore", "block"),
    ("names", "who"),
    ("part", "leave"),
    ("q", "quit"),
    ("query", "connect"),
    ("sendfile", "file"),
    ("unignore", "unblock"),
];

/// Commands of other programs that there are not, and what there is.
pub const ELSEWHERE: [(&str, &str); 7] = [
    ("clear", "Ctrl-L clears the screen"),
    ("join", "there are no rooms, only chats of two; /connect NAME calls somebody"),
    ("list", "nobody can see who is online; /peers says whom you have met, /connect NAME calls somebody"),
    ("me", "what you do is a text like any other"),
    ("send", "what you type goes to them as it is; /file PATH offers them a file"),
    ("topic", "there are no rooms, only chats of two"),
    ("whois", "/who says with whom you are talking and who they are, /verify NAME how to be sure of it"),
];

/// The name of each command, as it stands behind the slash.
pub fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .filter_map(|usage| usage.usage.split(' ').next()?.strip_prefix('/'))
        .filter(|name| !name.starts_with('/'))
}

/// The command that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest::within(name, command_names(), |near| (near.len() / 3).max(1))
}

/// How a command is typed.
pub fn usage(name: &str) -> Option<&'static str> {
    let is_it = |usage: &&Usage| usage.usage.split(' ').next().and_then(|word| word.strip_prefix('/')) == Some(name);
    COMMANDS.iter().find(is_it).map(|usage| usage.usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::command::Command;
    use crate::chat::wrap;

    #[test]
    fn the_help_fits_a_terminal_of_80_columns_and_24_rows() {
        for Usage { usage, meaning, .. } in COMMANDS {
            let line = format!("12:34 * {} {meaning}", wrap::padded(usage, 20));
            assert!(wrap::width(&line) <= 80, "{line}");
        }
        assert!(COMMANDS.len() - RARE.len() < 24);
        assert!(RARE.iter().all(|rare| COMMANDS.iter().any(|usage| usage.usage == *rare)));
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        for Usage { usage, .. } in COMMANDS {
            let line = usage
                .replace("[N] [as NAME]", "1 as x")
                .replace("[NAME [VALUE]]", "bell off")
                .replace("[NEW NAME]", "b bob")
                .replace("[NAME]", "bob")
                .replace("NAME", "bob")
                .replace("[on|off]", "on")
                .replace("[N]", "1")
                .replace("PATH…", "x.pdf");
            let line = line.replace("NUMBER", "12345").replace("[COMMAND]", "msg");
            let is_text = matches!(Command::parse(&line), Command::Send { peer: None, .. });
            assert_eq!(is_text, usage.starts_with("//"), "{usage}");
            assert!(!matches!(Command::parse(&line), Command::Mistake(_)), "{usage}");
        }
    }
}
