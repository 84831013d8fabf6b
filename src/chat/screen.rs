//! What is told, as it stands on a screen: with the time and colours, in rows of a window, and the prompt. Pure.

use super::amount;
use super::flood::SHOWN;
pub use super::harmless::{harmless, name};
pub use super::look::Look;
use super::look::{MARK, gutter};
use super::report::{FileMark, FileNews, Mark, Prompt, Report};
use super::words::words;
use super::wrap;
use crate::peer::Trust;

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whether it is a text from a peer.
    pub is_message: bool,
    /// One line or several, without the last line end.
    pub text: String,
}

/// How a report is shown at `time`; nothing where it has nothing to say to people.
pub fn line(report: &Report, look: Look, time: &str) -> Option<Line> {
    let is_message = matches!(report, Report::Message { .. } | Report::Log { .. });
    let mut words = words(report, look)?;
    if !is_message {
        words = words.lines().map(|line| format!("* {line}")).collect::<Vec<_>>().join("\n");
    }
    if !look.has_times || matches!(report, Report::Log { .. }) {
        return Some(Line { is_message, text: words });
    }
    let text = format!("{} {}", look.styled("2", time), words.replace('\n', &format!("\n{}", gutter(look))));
    Some(Line { is_message, text })
}

/// Whether a report rings the bell and is handed to the user's own command. A flood of calls is no flood of bells and
/// processes.
pub fn is_news(report: &Report) -> bool {
    match report {
        Report::Message { .. } => true,
        Report::Request { count, .. } => *count <= SHOWN,
        Report::File { news: FileNews::Offered { .. }, .. } => true,
        _ => false,
    }
}

/// The prompt: a gutter as wide as the time in front of lines, and whom a line goes to.
pub fn prompt(prompt: &Prompt, look: Look) -> String {
    let Some(peer) = &prompt.peer else { return "> ".to_owned() };
    let mark = match prompt.mark {
        Mark::None => " ",
        Mark::Busy => "…",
        Mark::Delivered => "✓",
        Mark::Kept => "!",
        Mark::Closed => "×",
    };
    let unread = match prompt.unread {
        0 => "   ".to_owned(),
        1..=9 => format!("+{} ", prompt.unread),
        10..=99 => format!("+{}", prompt.unread),
        _ => "+++".to_owned(),
    };
    let gutter = prompt.file.map_or_else(|| format!("{unread} {mark}"), |file| with_file(prompt.unread, file));
    format!("{} {}> ", look.styled("2", &gutter), addressee(prompt.alias.as_ref().unwrap_or(peer), prompt.trust, look))
}

/// The gutter of a prompt while a file is on its way: how far it is, in place of the mark.
fn with_file(unread: usize, file: FileMark) -> String {
    let arrow = if file.is_ours { '↑' } else { '↓' };
    let how_far = match (file.size, unread) {
        (Some(size), 0) => format!("{}%", amount::percent(file.done, size)),
        (Some(size), _) => format!("{:02}", amount::percent(file.done, size)),
        (None, 0) => amount::short_bytes(file.done),
        (None, _) => String::new(),
    };
    match unread {
        0 => format!("{:>5}", format!("{arrow}{how_far}")),
        1..=9 => format!("{:<5}", format!("+{unread}{arrow}{how_far}")),
        10..=99 => format!("{:<5}", format!("+{unread}{arrow}")),
        _ => format!("+++{arrow} "),
    }
}

/// A line of the user's that was entered at this prompt. It may be of several lines.
pub fn entered(prompt: &Prompt, line: &str, look: Look, time: &str) -> Line {
    let peer = prompt.peer.as_ref().map(|peer| addressee(prompt.alias.as_ref().unwrap_or(peer), prompt.trust, look));
    let peer = peer.unwrap_or_default();
    let time = if look.has_times && prompt.peer.is_some() { look.styled("2", time) + " " } else { String::new() };
    let further = format!("\n{}{MARK}", gutter(look));
    let shown: Vec<_> = line.split(['\n', '\x0b']).map(harmless).collect();
    Line { is_message: true, text: format!("{time}{peer}> {}", shown.join(&further)) }
}

/// A name in the colour of who that is.
fn addressee(peer: &str, trust: Option<Trust>, look: Look) -> String {
    let color = match trust {
        Some(Trust::Verified) => "1;32",
        Some(Trust::Known) => "1",
        Some(Trust::New) => "1;33",
        Some(Trust::Unproven) => "1;31",
        None => "2",
    };
    look.styled(color, &name(peer))
}

/// The line between two days.
pub fn date(day: &str) -> Line {
    Line { is_message: false, text: format!("* it is {day}") }
}

/// A line in rows of a window, each ended by a line feed. Each further row of a text has a mark in front that no text
/// can have, and each of our own words is set in.
pub fn rows(line: &Line, look: Look, columns: usize) -> String {
    let gutter = if columns < NARROW { String::new() } else { gutter(look) };
    let mark = gutter + if line.is_message { MARK } else { "    " };
    // A link of ours stays whole: the terminal breaks it so that it can be copied.
    let is_link = |row: &str| !line.is_message && row.contains(" lowkey://") && row.split(' ').count() <= 3;
    let rows = line.text.split('\n').flat_map(|row| match is_link(row) {
        true => vec![row.to_owned()],
        false => number_rows(row, columns).unwrap_or_else(|| wrap::rows(row, &mark, columns)),
    });
    rows.map(|row| row + "\n").collect()
}

/// A row that holds a safety number, or half of one, and is too long: in even rows of whole groups, so that it can be
/// read aloud.
fn number_rows(row: &str, columns: usize) -> Option<Vec<String>> {
    let (head, number) = row.split_at(row.find(NUMBER_HEAD)? + NUMBER_HEAD.len());
    let groups: Vec<&str> = number.split(' ').collect();
    let is_number = groups.iter().all(|group| group.len() == 5 && group.bytes().all(|byte| byte.is_ascii_digit()));
    let taken = wrap::width(head);
    let fits = |count: &usize| taken + count * 6 - 1 <= columns;
    if !is_number || fits(&groups.len()) {
        return None;
    }
    let count = [6, 3].into_iter().find(fits).unwrap_or(1);
    let begin = |index| if index == 0 { head.to_owned() } else { " ".repeat(taken) };
    Some(groups.chunks(count).enumerate().map(|(index, row)| begin(index) + &row.join(" ")).collect())
}

/// In a window with fewer columns further rows begin without the room for a time.
const NARROW: usize = 24;

/// What stands before a safety number.
const NUMBER_HEAD: &str = "*     ";

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(report: &Report, look: Look) -> String {
        line(report, look, "12:34").unwrap().text
    }

    fn message(text: &str) -> Report {
        Report::Message { peer: "bob".into(), text: text.into(), key: None }
    }

    #[test]
    fn a_second_line_cannot_pass_for_another_author() {
        let text = |text: &str| shown(&message(text), Look::default());
        assert_eq!(text("hi\r\nalice: x"), "bob: hi\n  | alice: x");
        assert_eq!(text(""), "bob: ");
    }

    #[test]
    fn the_prompt_shows_how_far_a_file_is_and_stays_as_wide_as_it_is() {
        let shown = |unread, is_ours, done, size| {
            let file = Some(FileMark { is_ours, done, size });
            prompt(&Prompt { peer: Some("bob".into()), unread, file, ..Prompt::default() }, Look::default())
        };
        for (unread, is_ours, done, size, gutter) in [
            (0, true, 42, Some(100), " ↑42%"),
            (0, false, 7, Some(100), "  ↓7%"),
            (0, false, 100, Some(100), " ↓99%"),
            (2, false, 42, Some(100), "+2↓42"),
            (2, true, 7, Some(100), "+2↑07"),
            (12, true, 7, Some(100), "+12↑ "),
            (100, true, 7, Some(100), "+++↑ "),
            (0, true, 12_345_678, None, " ↑12M"),
            (0, true, 999_999, None, "↑999K"),
            (3, false, 1, None, "+3↓  "),
        ] {
            assert_eq!(shown(unread, is_ours, done, size), format!("{gutter} bob> "));
        }
    }

    #[test]
    fn times_stand_in_front_and_colours_only_where_they_are_wanted() {
        let timed = Look { has_times: true, ..Look::default() };
        assert_eq!(shown(&message("hi\nyou"), timed), "12:34 bob: hi\n        | you");
        assert_eq!(shown(&Report::Online, timed), "12:34 * online; you can call and be called");
        let colored = Look { has_color: true, ..Look::default() };
        assert_eq!(shown(&message("hi"), colored), "\x1b[1mbob\x1b[0m: hi");
        let hostile = shown(&message("\x1b[31m"), colored);
        assert!(!hostile.contains("\x1b[31m"));
    }

    #[test]
    fn a_safety_number_that_is_too_long_is_in_even_rows() {
        let line = Line { is_message: false, text: format!("* {}{}", "    ", ["12345"; 12].join(" ")) };
        for (columns, count) in [(80, 12), (70, 6), (40, 3), (24, 3), (20, 1)] {
            let shown = rows(&line, Look::default(), columns);
            assert!(shown.lines().all(|row| wrap::width(row) <= columns), "{shown}");
            assert!(shown.lines().all(|row| row[6..].split(' ').count() == count), "{columns}: {shown}");
            assert_eq!(shown.matches("12345").count(), 12);
        }
    }
}
