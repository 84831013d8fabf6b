//! The user's link as a QR code.

use std::io;

use qrcode::render::unicode;
use qrcode::{EcLevel, QrCode};

use super::console::Console;
use super::people::{People, links};
use super::start_error::StartError;
use super::wrap;
use crate::stderr::say;
use crate::stdout;
use crate::trouble;

/// Prints the user's link as a QR code, in half blocks: dark on light, as scanners expect it on a dark terminal.
pub fn print(people: &People, console: &Console) -> Result<(), StartError> {
    let link = people.own_link().map_err(|reason| StartError::setting(reason.to_owned()))?;
    if let Some(words) = links::local(&link) {
        say(format!("* {words}"));
    }
    let link = link.to_string();
    // A screen is read without dirt or glare, so little of the code repairs others and it is small.
    let code = QrCode::with_error_correction_level(&link, EcLevel::L)
        .map_err(|_| StartError::other(format!("the link is too long for a QR code, so give it as it is: {link}")))?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    let picture = renderer.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    let window = match console {
        Console::Terminal(terminal) => Some(terminal.window()),
        _ => terminal_size::terminal_size_of(io::stdout()).map(|(columns, rows)| (columns.0.into(), rows.0.into())),
    };
    // On a screen the code is the last, where it is seen whole, but for the row of the shell's prompt. A script finds
    // the link in the last line.
    let (columns, rows) = (wrap::width(picture.lines().next().unwrap_or_default()), picture.lines().count() + 1);
    let shown = match window {
        Some((wide, high)) if wide < columns || high < rows => {
            let why = format!(
                "the QR code needs {columns} columns and {rows} rows, and this window has {wide} and {high}: make it \
                 larger, or give the link"
            );
            format!("{}\n{link}\n", wrap::rows(&why, "", wide).join("\n"))
        }
        Some(_) => format!("{link}\n{picture}\n"),
        None => format!("{picture}\n\n{link}\n"),
    };
    let written = match console {
        Console::Terminal(terminal) => terminal.print_rows(&shown),
        _ => stdout::write(shown.as_bytes()),
    };
    written.map_err(|error| StartError::other(trouble::output(&error)))
}
