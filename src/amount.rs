//! Amounts of bytes in words, for all that is said of files and disks. Pure.

/// So many bytes, in words as short as they can be read aloud.
pub fn bytes(count: u64) -> String {
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| count >= *unit) else { return format!("{count} B") };
    // Beside a larger unit one digit behind the point says enough, and never more than there is.
    let tenths = count / (unit / 10);
    match tenths {
        ..100 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", tenths / 10),
    }
}

/// How disks and networks count, the largest first.
pub const UNITS: [(u64, &str); 4] =
    [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
