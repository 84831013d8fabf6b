//! The user's link as a QR code.

use std::io::{self, Write};

use qrcode::QrCode;
use qrcode::render::unicode;

use super::console::Console;
use super::people::{People, links};
use super::refusal::Refusal;
use super::wrap;
use crate::stderr::say;
use crate::trouble;

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
pub fn print(people: &People, console: &Console) -> Result<(), Refusal> {
    let link = people.own_link().map_err(|reason| Refusal::setting(reason.to_owned()))?;
    if let Some(words) = links::local(&link) {
        say(format!("* {words}"));
    }
    let link = link.to_string();
    let code = QrCode::new(&link)
        .map_err(|_| Refusal::other(format!("the link is too long for a QR code, so give it as it is: {link}")))?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let needed = wrap::width(picture.lines().next().unwrap_or_default());
    let window = match console {
        Console::Terminal(terminal) => Some(terminal.columns()),
        _ => terminal_size::terminal_size_of(io::stdout()).map(|(columns, _)| columns.0.into()),
    };
    let shown = match window {
        Some(columns) if columns < needed => {
            let why = format!(
                "the QR code needs {needed} columns, and this window has {columns}: make it wider, or give the link"
            );
            format!("{}\n{link}\n", wrap::rows(&why, "", columns).join("\n"))
        }
        _ => format!("{picture}\n{link}\n"),
    };
    let written = match console {
        Console::Terminal(terminal) => terminal.print_rows(&shown),
        _ => {
            let mut out = io::stdout().lock();
            write!(out, "{shown}").and_then(|()| out.flush())
        }
    };
    written.map_err(|error| Refusal::other(trouble::output(&error)))
}
