//! How much there is in a folder for files that are taken without asking, and how much may still come into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::quota::Quota;

/// What was measured last.
#[derive(Debug, Clone, Default)]
pub struct Room(Option<Measured>);

/// How many bytes a folder held, with those that were let in since.
#[derive(Debug, Clone)]
struct Measured {
    folder: PathBuf,
    until: Instant,
    held: u64,
}

impl Room {
    /// How many bytes of a file of this length may come into a folder, beside those that are still to come of others.
    /// It is measured anew where it has to be, and not for each of many small files, of which every one would take
    /// longer than the one before.
    ///
    /// # Errors
    /// The folder cannot be looked at.
    pub fn left(&mut self, folder: &Path, quota: Quota, to_come: u64, size: Option<u64>) -> io::Result<u64> {
        let now = Instant::now();
        let left = |held: u64| quota.of_all.saturating_sub(held).saturating_sub(to_come).min(quota.of_one);
        let wanted = size.unwrap_or(quota.of_one);
        let measured = self.0.take().filter(|measured| measured.folder == folder && now < measured.until);
        let mut measured = match measured.filter(|measured| left(measured.held) >= wanted) {
            Some(measured) => measured,
            None => Measured { folder: folder.to_owned(), until: now + MEASURED_FOR, held: held(folder)? },
        };
        let room = left(measured.held);
        measured.held = measured.held.saturating_add(wanted);
        self.0 = Some(measured);
        Ok(room)
    }
}

/// How many bytes a folder holds: its files, all that is in folders in it, and the parts of what is coming. What is in
/// such a folder and cannot be looked at holds nothing.
fn held(folder: &Path) -> io::Result<u64> {
    let mut held: u64 = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => self::held(&entry.path()).unwrap_or(0),
            metadata => metadata.map_or(0, |metadata| metadata.len()),
        };
        held = held.saturating_add(bytes);
    }
    Ok(held)
}

/// How long a folder counts as measured. What others put into it meanwhile is seen then.
const MEASURED_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_anew_before_anything_is_refused_for_its_bound() {
        let folder = std::env::temp_dir().join(format!("lowkey-room-{}", std::process::id()));
        fs::create_dir_all(folder.join(".lowkey/deep")).unwrap();
        fs::write(folder.join("a"), [0; 100]).unwrap();
        fs::write(folder.join(".lowkey/b.part"), [0; 20]).unwrap();
        fs::write(folder.join(".lowkey/deep/c"), [0; 30]).unwrap();
        let mut all = Room::default();
        let quota = Quota { of_one: 500, of_all: 1000, of_peer: 1000, count: 1000 };
        let mut room = |to_come, size| all.left(&folder, quota, to_come, size).unwrap();
        assert_eq!(room(0, Some(400)), 500, "the longest file");
        assert_eq!(room(0, Some(400)), 450, "what was let in counts");
        assert_eq!(room(800, Some(10)), 50, "and so does what is still to come");
        // The first two never came.
        assert_eq!(room(0, None), 500);
        fs::write(folder.join("c"), [0; 800]).unwrap();
        assert_eq!(room(0, Some(400)), 50);
        fs::remove_dir_all(&folder).unwrap();
    }
}
