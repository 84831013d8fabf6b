//! What stands at the bottom of the screen: the prompt and the line that is being edited, painted, erased for lines
//! above it, and found again when the window has another size. Bytes for the terminal come out; no terminal in here.
//!
//! Rows are broken by us, and while we write the terminal is told not to break any. So no row joins with the next where
//! a window becomes wider. Where it becomes narrower, some terminals break rows that are too long now, and others cut
//! them: which one it is shows in the column of the cursor, which the terminal is asked for. Where both would look
//! alike, what is known of the terminal decides; where that is nothing, or it does not answer, rather a row too many
//! stays than that one of the chat is erased.

use super::wrap;

/// The size of a window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How wide.
    pub columns: usize,
    /// How high.
    pub rows: usize,
}

/// What is painted below all lines.
#[derive(Debug)]
pub struct Painter {
    size: Size,
    /// Whom a line goes to, or what is asked; with styles.
    prompt: String,
    /// The line that is edited; nothing between two lines.
    edited: Option<Edited>,
    standing: Option<Standing>,
    state: PainterState,
    /// Lines that wait until it is known where the prompt stands.
    waiting: String,
    /// Whether this terminal breaks rows anew when it becomes narrower, where that is known.
    breaks_anew: Option<bool>,
}

/// A line that is being edited.
#[derive(Debug)]
struct Edited {
    /// What the editor shows in place of the prompt, as while it searches the history.
    search: Option<String>,
    line: String,
    /// Where the cursor is, in bytes.
    at: usize,
}

/// What was painted last: the width of each row, and in which row and column the cursor is.
#[derive(Debug)]
struct Standing {
    widths: Vec<usize>,
    cursor: (usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PainterState {
    Painting,
    /// The window has another size now. Where the prompt stands is not known.
    Resizing,
    /// The terminal is another program's, or is given back.
    Away,
}

impl Painter {
    /// Nothing is painted yet. `breaks_anew` is what is known of the terminal: whether it breaks rows that are too long
    /// when it becomes narrower.
    pub fn new(size: Size, breaks_anew: Option<bool>) -> Self {
        Self {
            size,
            prompt: String::new(),
            edited: None,
            standing: None,
            state: PainterState::Painting,
            waiting: String::new(),
            breaks_anew,
        }
    }

    /// The window that is painted for.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Whether lines wait for [`resize`](Self::resize).
    pub fn is_resizing(&self) -> bool {
        self.state == PainterState::Resizing
    }

    /// How many bytes wait for [`resize`](Self::resize).
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Changes the prompt in place.
    pub fn set_prompt(&mut self, prompt: String) -> String {
        if self.prompt == prompt {
            return String::new();
        }
        self.prompt = prompt;
        self.repaint()
    }

    /// Shows a line as it is now, with the cursor before the byte `at`.
    pub fn edit(&mut self, search: Option<String>, line: &str, at: usize) -> String {
        self.take(search, line, at);
        self.repaint()
    }

    /// Takes a line as it is now, which is shown with what is painted next.
    pub fn take(&mut self, search: Option<String>, line: &str, at: usize) {
        self.edited = Some(Edited { search, line: line.to_owned(), at });
    }

    /// Shows rows, each ended by a line feed, above the prompt. What is wider than the window, such as a link that is
    /// to be copied in one piece, is broken by the terminal.
    pub fn print(&mut self, rows: &str) -> String {
        match self.state {
            PainterState::Painting => {
                let erased = self.erase();
                let painted = self.paint();
                let columns = self.size.columns;
                let whole = |row: &str| {
                    if wrap::width(row.trim_end_matches('\n')) > columns {
                        format!("{BREAKS}{row}{STEADY}")
                    } else {
                        row.to_owned()
                    }
                };
                let rows: String = rows.split_inclusive('\n').map(whole).collect();
                steady(format!("{erased}{rows}{painted}"))
            }
            PainterState::Resizing => {
                self.waiting += rows;
                String::new()
            }
            PainterState::Away => rows.to_owned(),
        }
    }

    /// The line is entered: the rows take its place.
    pub fn enter(&mut self, rows: &str) -> String {
        self.edited = None;
        self.print(rows)
    }

    /// The line is given up, and stays as it is.
    pub fn leave(&mut self) -> String {
        self.edited = None;
        let Some(standing) = self.standing.take() else { return String::new() };
        down(standing.widths.len() - 1 - standing.cursor.0) + "\n"
    }

    /// Clears the screen.
    pub fn clear(&mut self) -> String {
        self.standing = None;
        let painted = if self.state == PainterState::Painting { self.paint() } else { String::new() };
        steady(format!("\x1b[H\x1b[2J{painted}"))
    }

    /// Erases the prompt, as for another program, and paints it no more.
    pub fn go_away(&mut self) -> String {
        let erased = self.erase();
        self.state = PainterState::Away;
        let waiting = std::mem::take(&mut self.waiting);
        erased + &waiting
    }

    /// Paints again, in a window of this size.
    pub fn come_back(&mut self, size: Size) -> String {
        self.standing = None;
        self.size = size;
        self.state = PainterState::Painting;
        steady(self.paint())
    }

    /// The window has another size: until [`resize`](Self::resize) nothing is painted. Returns whether that is new.
    pub fn start_resizing(&mut self) -> bool {
        let is_new = self.state == PainterState::Painting;
        if is_new {
            self.state = PainterState::Resizing;
        }
        is_new
    }

    /// Whether the column of the cursor tells where the prompt stands in a window of this size.
    pub fn asks_for_column(&self, size: Size) -> bool {
        let places = self.places(size.columns);
        places.iter().any(|place| place.rows != places[0].rows)
    }

    /// Paints for a window of this size. The cursor is in this column, counted from 0, if the terminal has said so.
    pub fn resize(&mut self, size: Size, column: Option<usize>) -> String {
        if self.state != PainterState::Resizing {
            return String::new();
        }
        let places = self.places(size.columns);
        let in_column: Vec<&Place> = places.iter().filter(|place| Some(place.column) == column).collect();
        if let [only] = in_column[..] {
            self.breaks_anew = Some(only.is_broken_anew);
        }
        let rows = match &in_column[..] {
            [] => places[0].rows,
            [first, ..] => {
                let known = in_column.iter().find(|place| Some(place.is_broken_anew) == self.breaks_anew);
                known.unwrap_or(first).rows
            }
        };
        if let Some(standing) = &mut self.standing {
            standing.cursor.0 = rows;
        }
        self.size = size;
        self.state = PainterState::Painting;
        let waiting = std::mem::take(&mut self.waiting);
        self.print(&waiting)
    }

    /// Where the cursor can be, below the first row of the prompt, in a window of so many columns: rows that have
    /// become too long were cut, or broken. A cursor behind the last column is shown on it, or in the next row.
    fn places(&self, columns: usize) -> Vec<Place> {
        let Some(Standing { widths, cursor: (row, column) }) = &self.standing else {
            return vec![Place { rows: 0, column: 0, is_broken_anew: false }];
        };
        let cut = Place { rows: *row, column: (*column).min(columns.saturating_sub(1)), is_broken_anew: false };
        let columns = columns.max(1);
        let above: usize = widths[..*row].iter().map(|width| width.div_ceil(columns).max(1)).sum();
        let broken = Place { rows: above + column / columns, column: column % columns, is_broken_anew: true };
        let mut places = vec![cut];
        if broken.column == 0 && *column > 0 {
            places.push(Place { rows: broken.rows - 1, column: columns - 1, is_broken_anew: true });
        }
        places.push(broken);
        places
    }

    /// Paints what there is now.
    pub fn repaint(&mut self) -> String {
        if self.state != PainterState::Painting {
            return String::new();
        }
        let erased = self.erase();
        steady(erased + &self.paint())
    }

    fn erase(&mut self) -> String {
        match self.standing.take() {
            Some(standing) => format!("{}\r\x1b[J", up(standing.cursor.0)),
            None => String::new(),
        }
    }

    /// Paints where the cursor is, in the first column of an empty row.
    fn paint(&mut self) -> String {
        let Some(edited) = &self.edited else { return String::new() };
        let prompt = edited.search.as_ref().unwrap_or(&self.prompt);
        let (mut rows, (mut row, column)) = wrap::edited(prompt, &edited.line, edited.at, self.size.columns);
        // What does not fit into the window could not be erased.
        let fits = self.size.rows.saturating_sub(1).max(1);
        if rows.len() > fits {
            let first = (row + 1).saturating_sub(fits);
            rows = rows.drain(first..).take(fits).collect();
            row -= first;
        }
        let below = rows.len() - 1 - row;
        let right = if column > 0 { format!("\x1b[{column}C") } else { String::new() };
        let painted = format!("{}{}\r{right}", rows.join("\n"), up(below));
        let widths = rows.iter().map(|row| wrap::width(row)).collect();
        self.standing = Some(Standing { widths, cursor: (row, column) });
        painted
    }
}

/// A place of the cursor: so many rows below the first one of the prompt.
struct Place {
    rows: usize,
    column: usize,
    is_broken_anew: bool,
}

fn up(rows: usize) -> String {
    if rows > 0 { format!("\x1b[{rows}A") } else { String::new() }
}

fn down(rows: usize) -> String {
    if rows > 0 { format!("\x1b[{rows}B") } else { String::new() }
}

/// Bytes during which the terminal breaks no rows.
fn steady(bytes: String) -> String {
    if bytes.is_empty() { bytes } else { format!("{STEADY}{bytes}{BREAKS}") }
}

/// The terminal breaks no rows, or does (DECAWM).
const STEADY: &str = "\x1b[?7l";
const BREAKS: &str = "\x1b[?7h";

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that cuts rows where it becomes narrower, as vt100 does.
    struct Screen {
        emulator: vt100::Parser,
        painter: Painter,
    }

    impl Screen {
        fn new(columns: u16, rows: u16) -> Self {
            let size = Size { columns: columns.into(), rows: rows.into() };
            Self { emulator: vt100::Parser::new(rows, columns, 100), painter: Painter::new(size, None) }
        }

        fn does(&mut self, act: impl FnOnce(&mut Painter) -> String) {
            let bytes = act(&mut self.painter).replace('\n', "\r\n");
            self.emulator.process(bytes.as_bytes());
        }

        fn resize(&mut self, columns: u16, rows: u16) {
            self.emulator.screen_mut().set_size(rows, columns);
            self.painter.start_resizing();
            self.does(|painter| painter.resize(Size { columns: columns.into(), rows: rows.into() }, None));
        }

        fn shows(&self) -> Vec<String> {
            self.emulator.screen().contents().lines().map(|line| line.trim_end().to_owned()).collect()
        }

        fn cursor(&self) -> (u16, u16) {
            self.emulator.screen().cursor_position()
        }
    }

    #[test]
    fn lines_stand_above_and_the_cursor_where_it_was() {
        let mut screen = Screen::new(20, 10);
        screen.does(|painter| painter.set_prompt("\x1b[1mbob\x1b[0m> ".to_owned()));
        screen.does(|painter| painter.edit(None, "hello", 2));
        screen.does(|painter| painter.print("one\ntwo\n"));
        assert_eq!(screen.shows(), ["one", "two", "bob> hello"]);
        assert_eq!(screen.cursor(), (2, 7));
        screen.does(|painter| painter.set_prompt("carol> ".to_owned()));
        assert_eq!(screen.shows(), ["one", "two", "carol> hello"]);
        screen.does(|painter| painter.enter("carol> hello\n"));
        screen.does(|painter| painter.print("three\n"));
        assert_eq!(screen.shows(), ["one", "two", "carol> hello", "three"]);
        screen.does(|painter| painter.edit(None, "", 0));
        assert_eq!(screen.cursor(), (4, 7));
    }

    #[test]
    fn a_long_line_takes_several_rows_and_all_of_them_go() {
        let mut screen = Screen::new(10, 10);
        screen.does(|painter| painter.set_prompt("> ".to_owned()));
        screen.does(|painter| painter.print("one\n"));
        for length in 0..40 {
            screen.does(|painter| painter.edit(None, &"x".repeat(length), length));
        }
        assert_eq!(screen.shows()[1..], ["> xxxxxxxx", "xxxxxxxxxx", "xxxxxxxxxx", "xxxxxxxxxx", "x"]);
        screen.does(|painter| painter.edit(None, "世界世界世\x0bb\tc", 0));
        assert_eq!(screen.shows(), ["one", "> 世界世界", "世", "b       c"]);
        assert_eq!(screen.cursor(), (1, 2));
        screen.does(|painter| painter.edit(Some("(search): ".to_owned()), "", 0));
        assert_eq!(screen.shows(), ["one", "(search):"]);
        assert_eq!(screen.cursor(), (2, 0));
    }

    #[test]
    fn of_what_is_higher_than_the_window_the_part_with_the_cursor_is_shown() {
        let mut screen = Screen::new(10, 4);
        let line: String = ('a'..='j').map(|c| c.to_string().repeat(10)).collect();
        screen.does(|painter| painter.edit(None, &line, line.len()));
        screen.does(|painter| painter.edit(None, &line, 35));
        assert_eq!(screen.shows()[..3], ["bbbbbbbbbb", "cccccccccc", "dddddddddd"]);
        screen.does(|painter| painter.edit(None, "", 0));
        screen.does(|painter| painter.print("one\n"));
        assert_eq!(screen.shows(), ["one"]);
    }

    #[test]
    fn a_window_of_another_size_erases_nothing() {
        for (before, after) in [(80, 100), (40, 100), (80, 30), (30, 80)] {
            let mut screen = Screen::new(before, 24);
            screen.does(|painter| painter.set_prompt("bob> ".to_owned()));
            screen.does(|painter| painter.print("one\ntwo\nthree\n"));
            let line = "x".repeat(80);
            screen.does(|painter| painter.edit(None, &line, 80));
            screen.resize(after, 24);
            let shown = screen.shows();
            assert_eq!(shown[..3], ["one", "two", "three"]);
            assert_eq!(shown[3..].concat(), format!("bob> {line}"), "{before} to {after}");
        }
    }

    #[test]
    fn the_column_of_the_cursor_tells_how_rows_were_broken() {
        let painter = |columns| {
            let mut painter = Painter::new(Size { columns, rows: 24 }, None);
            painter.edit(None, &"x".repeat(65), 65);
            painter.start_resizing();
            painter
        };
        let narrow = Size { columns: 40, rows: 24 };
        assert!(painter(80).asks_for_column(narrow));
        assert!(!painter(80).asks_for_column(Size { columns: 100, rows: 24 }));
        assert!(painter(80).resize(narrow, Some(25)).contains("\x1b[1A\r\x1b[J"), "it was broken into two");
        for cut in [Some(39), None, Some(7)] {
            assert!(!painter(80).resize(narrow, cut).contains('A'), "{cut:?}");
        }
    }

    #[test]
    fn where_both_would_look_alike_it_counts_what_is_known_of_the_terminal() {
        for (known, climbed) in [(None, "\x1b[1A"), (Some(false), "\x1b[1A"), (Some(true), "\x1b[2A")] {
            let mut painter = Painter::new(Size { columns: 80, rows: 24 }, known);
            painter.edit(None, &"x".repeat(90), 90);
            painter.start_resizing();
            let bytes = painter.resize(Size { columns: 77, rows: 24 }, Some(10));
            assert!(bytes.contains(&format!("{climbed}\r\x1b[J")), "{known:?}: {bytes:?}");
        }
    }

    #[test]
    fn what_is_wider_than_the_window_is_broken_by_the_terminal() {
        let mut painter = Painter::new(Size { columns: 10, rows: 24 }, None);
        let shown = painter.print("0123456789\n0123456789x\n");
        assert_eq!(shown, format!("{STEADY}0123456789\n{BREAKS}0123456789x\n{STEADY}{BREAKS}"));
    }

    #[test]
    fn lines_that_come_while_the_window_changes_wait() {
        let mut screen = Screen::new(20, 10);
        screen.does(|painter| painter.edit(None, "half", 4));
        screen.painter.start_resizing();
        screen.does(|painter| painter.print("one\n"));
        screen.does(|painter| painter.edit(None, "half a", 6));
        assert_eq!(screen.shows(), ["half"]);
        screen.resize(30, 10);
        assert_eq!(screen.shows(), ["one", "half a"]);
    }

    #[test]
    fn a_terminal_that_is_another_programs_gets_lines_and_no_prompt() {
        let mut screen = Screen::new(20, 10);
        screen.does(|painter| painter.edit(None, "half", 4));
        screen.does(Painter::go_away);
        screen.does(|painter| painter.print("one\n"));
        assert_eq!(screen.shows(), ["one"]);
        screen.does(|painter| painter.come_back(Size { columns: 20, rows: 10 }));
        assert_eq!(screen.shows(), ["one", "half"]);
    }
}
