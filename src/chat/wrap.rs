//! Lines in rows of a window's width, broken by us at words, so that the terminal never breaks one and no row begins
//! with what the author of a text has chosen. Pure.
//!
//! How wide a character is drawn differs between terminals. The width here is the widest that is common; where a
//! terminal draws wider still, the row is cut at the edge, because the terminal is told not to break rows.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::harmless::harmless;

/// How many columns `text` takes at most, without its styles.
pub fn width(text: &str) -> usize {
    pieces(text).map(|(_, width)| width).sum()
}

/// `text` with as many spaces behind it as fill so many columns.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `line` in rows of at most `columns`, broken at spaces where there are some. Each row but the first begins with
/// `mark`. A tab is as many spaces as lead to the next stop.
pub fn rows(line: &str, mark: &str, columns: usize) -> Vec<String> {
    // A mark with room for one character is the narrowest row.
    let columns = columns.max(width(mark) + WIDEST);
    let mut rows = Rows { done: Vec::new(), row: String::new(), taken: 0, mark, columns };
    let mut spaces = 0;
    for word in line.split_inclusive([' ', '\t']) {
        let (word, space) = match word.char_indices().next_back() {
            Some((end, space @ (' ' | '\t'))) => (&word[..end], Some(space)),
            _ => (word, None),
        };
        if !word.is_empty() {
            rows.add(spaces, word);
            spaces = 0;
        }
        spaces += match space {
            Some('\t') => TAB - (rows.taken + spaces) % TAB,
            Some(_) => 1,
            None => 0,
        };
    }
    // Spaces at the end stay where there is room for them.
    let spaces = spaces.min(rows.columns - rows.taken);
    rows.row.extend(std::iter::repeat_n(' ', spaces));
    rows.done.push(rows.row);
    rows.done
}

/// Rows as they are filled.
struct Rows<'a> {
    done: Vec<String>,
    row: String,
    /// Columns of the last row.
    taken: usize,
    mark: &'a str,
    columns: usize,
}

impl Rows<'_> {
    /// A word with so many spaces before it. At the beginning of a further row there are none.
    fn add(&mut self, spaces: usize, word: &str) {
        let needed = width(word);
        if self.taken + spaces + needed <= self.columns {
            self.row.extend(std::iter::repeat_n(' ', spaces));
            self.row += word;
            self.taken += spaces + needed;
            return;
        }
        // A word that no row can hold, such as a line of Chinese, begins where it stands.
        let is_longer_than_a_row = needed > self.columns - width(self.mark);
        let has_room = self.taken + spaces < self.columns;
        if !is_longer_than_a_row || !has_room {
            self.turn();
        } else {
            self.row.extend(std::iter::repeat_n(' ', spaces));
            self.taken += spaces;
        }
        for (piece, width) in pieces(word) {
            if self.taken + width > self.columns {
                self.turn();
            }
            self.row += piece;
            self.taken += width;
        }
    }

    fn turn(&mut self) {
        self.done.push(std::mem::replace(&mut self.row, self.mark.to_owned()));
        self.taken = width(self.mark);
    }
}

/// Prompt and line in rows, and in which row and column the byte `at` of the line stands.
pub fn edited(prompt: &str, line: &str, at: usize, columns: usize) -> (Vec<String>, (usize, usize)) {
    let columns = columns.max(2);
    let mut rows = vec![String::new()];
    let mut column = 0;
    let mut add = |piece: &str, width: usize| {
        if column + width > columns {
            rows.push(String::new());
            column = 0;
        }
        if piece == "\n" {
            rows.push(String::new());
            column = 0;
        } else if let Some(row) = rows.last_mut() {
            row.push_str(piece);
            column += width;
        }
        // A cursor behind the last column stands in the next row.
        if column == columns {
            rows.push(String::new());
            column = 0;
        }
        (rows.len() - 1, column)
    };
    let mut place = (0, 0);
    for (piece, width) in pieces(prompt) {
        place = add(piece, width);
    }
    let mut cursor = place;
    let mut offset = 0;
    for piece in line.graphemes(true) {
        if offset <= at {
            cursor = place;
        }
        offset += piece.len();
        place = match piece {
            "\n" | "\r\n" | LINE_BREAK => add("\n", 0),
            "\t" => add(" ", 1),
            piece => {
                let shown = harmless(piece);
                pieces(&shown).fold(place, |_, (piece, width)| add(piece, width))
            }
        };
        if piece == "\t" {
            while !place.1.is_multiple_of(TAB) && place.1 > 0 {
                place = add(" ", 1);
            }
        }
    }
    if offset <= at {
        cursor = place;
    }
    (rows, cursor)
}

/// What stands in an edited line where its writer began a new one. It is none of the characters that end a line, as a
/// pasted line has them: lines that were pasted are asked about, and those that were written are not.
pub const LINE_BREAK: &str = "\x0b";

/// What is drawn as one, with its width: characters with all that combines with them, and styles (SGR sequences of
/// ECMA-48), which take no room.
fn pieces(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let style = rest.strip_prefix("\x1b[").and_then(|style| Some(style.find('m')? + 3));
        let (length, width) = match style {
            Some(length) => (length, 0),
            None => {
                let piece = rest.graphemes(true).next()?;
                match widest(piece) {
                    width @ ..=WIDEST => (piece.len(), width),
                    // Nothing that anybody writes; whoever joins hundreds of characters gets them broken.
                    _ => piece.chars().next().map(|c| (c.len_utf8(), c.width().unwrap_or(0)))?,
                }
            }
        };
        let (piece, further) = rest.split_at(length);
        rest = further;
        Some((piece, width))
    })
}

/// A terminal draws what belongs together as one or one after the other.
fn widest(piece: &str) -> usize {
    let apart: usize = piece.chars().map(|c| c.width().unwrap_or(0)).sum();
    apart.max(piece.width())
}

/// Columns between two stops of the tabulator.
const TAB: usize = 8;

/// Columns of the widest that is drawn as one: four emoji that are joined, on a terminal that draws them apart.
const WIDEST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words_and_each_further_row_has_the_mark() {
        let broken = |line: &str| rows(line, "  | ", 20);
        assert_eq!(broken("bob: hi"), ["bob: hi"]);
        assert_eq!(
            broken("bob: this is one line of several rows"),
            ["bob: this is one", "  | line of several", "  | rows"]
        );
        assert_eq!(broken(""), [""]);
        assert_eq!(broken("bob: "), ["bob: "]);
        assert_eq!(broken("a  b"), ["a  b"], "what stands between words stays");
        assert_eq!(broken("\tb"), ["        b"]);
        assert_eq!(broken("ab\tc"), ["ab      c"]);
    }

    #[test]
    fn spaces_up_to_the_edge_make_no_row_of_their_own() {
        for spaces in 1..200 {
            let line = format!("bob: ok{}* bob is verified", " ".repeat(spaces));
            for row in &rows(&line, "  | ", 40)[1..] {
                assert!(row.starts_with("  | "), "{row:?}");
            }
        }
    }

    #[test]
    fn no_row_is_wider_than_the_window_whatever_it_is_made_of() {
        for piece in ["x", "世", "é", "👩🏽‍🚀", "❤️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "க்ஷ", "ab ", "\u{301}", "👩\u{200d}", "\x1b[1mx\x1b[0m"]
        {
            let line = piece.repeat(60);
            for columns in 1..50 {
                let rows = rows(&line, "  | ", columns);
                assert!(rows.iter().all(|row| width(row) <= columns.max(16)), "{piece} in {columns}");
                let without = |row: &String| row.replace("  | ", "").replace(' ', "");
                assert_eq!(rows.iter().map(without).collect::<String>(), line.replace(' ', ""), "nothing is lost");
            }
        }
    }

    #[test]
    fn styles_take_no_room_and_characters_the_most_that_they_are_drawn_with() {
        assert_eq!(width("\x1b[1;31mbob\x1b[0m: hi"), 7);
        assert_eq!(width("世界"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("❤️"), 2);
        assert_eq!(width("👩🏽‍🚀"), 6);
    }
}
