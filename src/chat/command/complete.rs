//! What the Tab key adds to a line. Pure.

use super::usage::{SETTINGS, command_names};
use crate::chat::harmless::{YES, name};

/// What the word before the cursor could be: where it begins, and what can stand there. `names` are those who can be
/// named, the most likely first.
pub fn complete(line: &str, names: &[String]) -> (usize, Vec<String>) {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let word = &line[start..];
    let before: Vec<&str> = line[..start].split_whitespace().collect();
    let names: Vec<_> = names.iter().map(|peer| name(peer)).collect();
    let fits = |candidates: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        candidates.filter(|candidate| candidate.starts_with(word)).map(|candidate| format!("{candidate} ")).collect()
    };
    let mut commands: Vec<String> = command_names().map(|name| format!("/{name}")).collect();
    commands.dedup();
    let candidates = match before[..] {
        [] if word.starts_with('/') => fits(&mut commands.iter().map(String::as_str)),
        [
            "/connect" | "/accept" | "/decline" | "/to" | "/msg" | "/retry" | "/leave" | "/trust" | "/forget"
            | "/block" | "/unblock" | "/unverify" | "/log" | "/alias" | "/unalias",
        ] => fits(&mut names.iter().map(|name| &**name)),
        ["/verify"] => fits(&mut names.iter().map(|name| &**name).chain([YES])),
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
}
