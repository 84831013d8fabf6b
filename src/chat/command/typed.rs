//! Lines as they are typed, read as commands. Pure.

use super::Command;
use super::usage::{ELSEWHERE, SYNONYMS, nearest, usage};
use crate::chat::callee::{Callee, NO_ADDRESS, is_address};
use crate::chat::harmless::{YES, first_word, read_name};
use crate::chat::paths;
use crate::options::switch::is_on;

impl Command {
    /// Reads a line. A first slash makes it a command, and two make it a text with one.
    pub fn parse(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::text(line) };
        if rest.starts_with('/') {
            return Self::text(rest);
        }
        let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let typed = name;
        let name = SYNONYMS.iter().find(|(other, _)| *other == name).map_or(name, |(_, name)| name);
        if let Some(command) = of_files(name, rest.trim()) {
            return command;
        }
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
                (None, None) if name.contains('/') => format!("that is a path: /file /{name} offers the file"),
                (None, None) => {
                    let meant = nearest(name).map(|meant| format!("did you mean /{meant}?"));
                    let meant = meant.unwrap_or("/help lists them,".to_owned());
                    format!("there is no command /{name}; {meant} and //{name} sends it as text")
                }
            }),
        }
    }

    /// Whether a line may stand in the history that outlives the program: a command without a text of the user's.
    pub fn is_for_history(line: &str) -> bool {
        !matches!(Self::parse(line), Self::Send { .. } | Self::Mistake(_))
    }
}

/// What is typed about files, where words are not names but paths and numbers. `None` where it is about something else,
/// or is not how that goes.
fn of_files(name: &str, rest: &str) -> Option<Command> {
    if name == "file" {
        return (!rest.is_empty()).then(|| Command::OfferFiles { paths: rest.to_owned() });
    }
    if !["take", "refuse", "cancel", "files"].contains(&name) {
        return None;
    }
    let words = match paths::plain_words(rest) {
        Ok(words) => words,
        Err(reason) => return Some(Command::Mistake(reason)),
    };
    let mut words = words.iter().map(String::as_str).peekable();
    let which = words.next_if(|word| *word != AS);
    let all = which == Some(ALL);
    let number = match which.filter(|_| !all).map(str::parse) {
        Some(Err(_)) => return None,
        Some(Ok(number)) => Some(number),
        None => None,
    };
    let (word, new_name) = (words.next(), words.next());
    let is_over = words.next().is_none();
    let (peer, file, path, folder) = (None, None, None, None);
    match (name, word, new_name.map(str::to_owned)) {
        ("take", None, name) if is_over => Some(Command::TakeFile { peer, file, number, all, path, folder, name }),
        ("take", Some(AS), name @ Some(_)) if is_over && !all => {
            Some(Command::TakeFile { peer, file, number, all, path, folder, name })
        }
        ("refuse", None, _) => Some(Command::RefuseFile { peer, file, number, all }),
        ("cancel", None, _) if !all => Some(Command::CancelFile { peer, file, number }),
        ("files", None, _) if which.is_none() => Some(Command::Files),
        _ => None,
    }
}

/// In front of the name that a file is to have.
const AS: &str = "as";

/// Instead of the number of a file.
const ALL: &str = "all";

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::command::usage::{SETTINGS, command_names};
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
    fn files_are_named_by_their_paths_and_numbers() {
        let (peer, file, path, folder) = (None, None, None, None);
        let take = |number: Option<u64>, all: bool, name: Option<&str>| Command::TakeFile {
            peer: peer.clone(),
            file: file.clone(),
            number,
            all,
            path: path.clone(),
            folder: folder.clone(),
            name: name.map(str::to_owned),
        };
        for (line, command) in [
            ("/file  'my report.pdf' ~/x ", Command::OfferFiles { paths: "'my report.pdf' ~/x".to_owned() }),
            ("/take", take(None, false, None)),
            ("/take 2", take(Some(2), false, None)),
            ("/take all", take(None, true, None)),
            ("/take as x", take(None, false, Some("x"))),
            ("/take 2 as 'my report.pdf'", take(Some(2), false, Some("my report.pdf"))),
            ("/take as as", take(None, false, Some("as"))),
            ("/refuse", Command::RefuseFile { peer: None, file: None, number: None, all: false }),
            ("/refuse all", Command::RefuseFile { peer: None, file: None, number: None, all: true }),
            ("/cancel 3", Command::CancelFile { peer: None, file: None, number: Some(3) }),
            ("/files", Command::Files),
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
            ("/home/alice/report.pdf", "/file /home/alice/report.pdf offers"),
            ("/file", "/file PATH…"),
            ("/take bob", "/take [N] [as NAME]"),
            ("/take 1 as \"x", "a quote does not end"),
            ("/take all as x", "/take [N] [as NAME]"),
            ("/refuse 1 as x", "/refuse [N]"),
            ("/cancel all", "/cancel [N]"),
            ("/files x", "/files"),
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
