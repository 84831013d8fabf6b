//! What happens to a line on the screen, with everything from others made harmless. Pure.

use std::borrow::Cow;

use super::command::COMMANDS;
use crate::peer::{CloseReason, Event};

/// A line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A text from a peer.
    Message(String),
    /// Something that the program says.
    Notice(String),
}

/// The line that says what a peer's event means; none where there is nothing to say.
pub fn describe(event: &Event) -> Option<Line> {
    let text = match event {
        Event::Online => "online; you can call and be called".to_owned(),
        Event::Offline { reason, retry_in: Some(_) } => {
            format!("no server ({}); trying again", harmless(reason))
        }
        Event::Offline { reason, retry_in: None } => {
            format!("no server any more: {}", harmless(reason))
        }
        Event::Request { peer } => {
            let peer = name(peer);
            format!("{peer} wants to talk to you: /accept {peer} or /decline {peer}")
        }
        Event::RequestEnded { peer } => format!("{} is no longer calling", name(peer)),
        Event::KeysExchanged { peer } => format!("keys exchanged with {}, connecting", name(peer)),
        // What is said of it depends on what was known before.
        Event::Identified { .. }
        | Event::Closed { reason: CloseReason::IdentityChanged { .. }, .. }
        | Event::Refused { reason: CloseReason::IdentityChanged { .. }, .. } => return None,
        Event::Refused { peer, reason } => closed(&name(peer), reason),
        Event::Delivered { .. } => return None,
        Event::Interrupted { peer } => format!("the connection to {} was lost; it is sought again", name(peer)),
        Event::Resumed { peer } => format!("{} is back; the chat goes on", name(peer)),
        Event::Open { peer } => format!("connected directly with {}", name(peer)),
        Event::Message { peer, text } => return Some(Line::Message(message(peer, text))),
        Event::KeyChanged { peer } => format!("{} has changed its key in mid-chat", name(peer)),
        Event::NotSent { peer, text, reason, .. } => {
            format!("not sent to {} ({reason}): {}", name(peer), harmless(text))
        }
        Event::Closed { peer, reason } => closed(&name(peer), reason),
        Event::ServerError { code, message } => {
            format!("the server says: {} ({})", harmless(message), harmless(code))
        }
    };
    Some(Line::Notice(text))
}

fn closed(peer: &str, reason: &CloseReason) -> String {
    match reason {
        CloseReason::Left => format!("left {peer}"),
        CloseReason::PeerLeft => format!("{peer} left"),
        CloseReason::Replaced => format!("the chat with {peer} starts anew"),
        CloseReason::NotOnline => format!("{peer} is not online"),
        CloseReason::Declined => format!("{peer} declined"),
        CloseReason::Oneself => "that is you".to_owned(),
        CloseReason::NotCalling => format!("{peer} is no longer calling"),
        reason => format!("no chat with {peer}: {}", harmless(&reason.to_string())),
    }
}

/// What can be typed, a line for each command.
pub fn help() -> Vec<Line> {
    let commands = COMMANDS.iter().map(|(usage, meaning)| format!("{usage:<19} {meaning}"));
    let text = "anything else       goes to the peer; // at the start sends a text that begins with /".to_owned();
    commands.chain([text]).map(Line::Notice).collect()
}

/// A text with its author in front. Further lines are set in, so that none of them passes for another's.
fn message(peer: &str, text: &str) -> String {
    let mut lines = text.split('\n').map(|line| harmless(line.strip_suffix('\r').unwrap_or(line)));
    let mut message = format!("{}: {}", name(peer), lines.next().unwrap_or_default());
    for line in lines {
        message += "\n  | ";
        message += &line;
    }
    message
}

/// A username as it can be shown. What the app would not let anybody choose stands in quotes, so that it cannot pass for
/// a line of the program.
pub fn name(peer: &str) -> Cow<'_, str> {
    match !peer.is_empty() && peer.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Cow::Borrowed(peer),
        false => Cow::Owned(format!("\"{}\"", harmless(peer))),
    }
}

/// A text without what could take over a terminal or deceive the eye: control and escape characters, bidirectional
/// controls, invisible characters that carry text. Each becomes U+FFFD. A tab stays.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
}

fn is_harmful(c: char) -> bool {
    c.is_control() && c != '\t'
        || matches!(c,
            // Arabic letter mark, left-to-right and right-to-left marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Zero-width space and no-break space, word joiner and invisible operators. The joiners U+200C and U+200D
            // stay: Persian and emoji need them.
            | '\u{200b}' | '\u{feff}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}'
            // Soft hyphen, grapheme joiner, and fillers that look like nothing.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}'
            // Interlinear annotations, tags, and the variation selectors that only ideographs have.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_left_as_it_is() {
        for text in ["hello", "grüße, 世界", "👩🏽‍🚀 👋", "می‌خواهم", "שלום"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn what_could_take_over_a_terminal_or_deceive_is_replaced() {
        for (text, expected) in [
            ("\x1b[2Jgone", "�[2Jgone"),
            ("\u{9b}31m", "�31m"),
            ("bell\x07\x7f", "bell��"),
            ("a\rb", "a�b"),
            ("a\tb", "a\tb"),
            ("\ta\x1b", "\ta�"),
            ("soft\u{ad}\u{e0101}\u{3164}", "soft���"),
            ("evil\u{202e}txt.exe", "evil�txt.exe"),
            ("\u{2066}x\u{2069}", "�x�"),
            ("in\u{200b}visible\u{e0041}", "in�visible�"),
            ("two\u{2028}lines", "two�lines"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }

    #[test]
    fn a_second_line_cannot_pass_for_another_author() {
        let text = |text: &str| describe(&Event::Message { peer: "bob".into(), text: text.into() });
        assert_eq!(text("hi\r\nalice: x"), Some(Line::Message("bob: hi\n  | alice: x".to_owned())));
        assert_eq!(text(""), Some(Line::Message("bob: ".to_owned())));
    }

    #[test]
    fn a_name_that_nobody_could_choose_is_quoted() {
        assert_eq!(name("bob_2"), "bob_2");
        assert_eq!(name("* bob left\x1b"), "\"* bob left�\"");
        assert_eq!(name(""), "\"\"");
    }
}
