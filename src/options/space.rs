//! How much there is in a folder for files that are taken without asking, and how much may still come into it.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::quota::Quota;
use crate::peer::{ComingFile, FileId, Folder};

/// The folder that was measured last, and how much it held.
#[derive(Debug, Clone, Default)]
pub struct FolderSpace(Option<Measured>);

/// How many bytes a folder held, with all that was coming, and those that were let in since.
#[derive(Debug, Clone)]
struct Measured {
    folder: PathBuf,
    until: Instant,
    held: u64,
}

impl FolderSpace {
    /// How many bytes of a file of this length may come into a folder, beside others that are `coming`; `None` where
    /// there is no room for it. The folder is measured anew where it has to be, and not for each of many small files,
    /// of which every one would take longer than the one before.
    ///
    /// # Errors
    /// The folder cannot be looked at.
    pub fn left(
        &mut self,
        folder: &Folder,
        quota: Quota,
        (file, size): (FileId, Option<u64>),
        coming: &[ComingFile],
    ) -> io::Result<Option<u64>> {
        let now = Instant::now();
        let left = |held: u64| quota.of_all.saturating_sub(held).min(quota.of_one);
        let wanted = size.unwrap_or(quota.of_one);
        let measured = self.0.take().filter(|measured| measured.folder == folder.path() && now < measured.until);
        let mut measured = match measured.filter(|measured| left(measured.held) >= wanted) {
            Some(measured) => measured,
            None => {
                let held = folder.held(file, coming)?;
                Measured { folder: folder.path().to_owned(), until: now + MEASURED_FOR, held }
            }
        };
        let space = left(measured.held);
        let is_enough = space > 0 && size.is_none_or(|size| size <= space);
        if is_enough {
            measured.held = measured.held.saturating_add(wanted);
        }
        self.0 = Some(measured);
        Ok(is_enough.then_some(space))
    }
}

/// How long a folder counts as measured. What others put into it meanwhile is seen then.
const MEASURED_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_measured_anew_before_anything_is_refused_for_its_bound() {
        let path = std::env::temp_dir().join(format!("lowkey-space-{}", std::process::id()));
        fs::create_dir_all(path.join("deep")).unwrap();
        fs::write(path.join("a"), [0; 100]).unwrap();
        fs::write(path.join("deep/b"), [0; 50]).unwrap();
        let folder = Folder::open(&path).unwrap();
        let mut all = FolderSpace::default();
        let quota = Quota { of_one: 500, of_all: 1000, of_peer: 1000, count: 1000 };
        let mut space = |coming: &[u64], size| {
            let coming: Vec<_> =
                coming.iter().map(|&size| ComingFile { file: FileId([1; 16]), size, done: 0 }).collect();
            all.left(&folder, quota, (FileId([2; 16]), size), &coming).unwrap()
        };
        assert_eq!(space(&[], Some(400)), Some(500), "the longest file");
        assert_eq!(space(&[], Some(400)), Some(450), "what was let in counts");
        assert_eq!(space(&[800], Some(10)), Some(50), "and so does what was, the others of which it is told here");
        assert_eq!(space(&[800], Some(60)), None);
        assert_eq!(space(&[800], Some(40)), Some(50), "what was refused does not");
        // None of all that ever came.
        assert_eq!(space(&[], None), Some(500));
        fs::write(path.join("c"), [0; 800]).unwrap();
        assert_eq!(space(&[], Some(400)), None);
        assert_eq!(space(&[], None), Some(50), "as much as there is");
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_was_coming_when_it_was_measured_still_counts_when_it_has_come() {
        let path = std::env::temp_dir().join(format!("lowkey-space-come-{}", std::process::id()));
        let folder = Folder::open(&path).unwrap();
        let mut all = FolderSpace::default();
        let quota = Quota { of_one: 1000, of_all: 1000, of_peer: 1000, count: 1000 };
        let coming = [ComingFile { file: FileId([1; 16]), size: 600, done: 0 }];
        assert_eq!(all.left(&folder, quota, (FileId([2; 16]), Some(10)), &coming).unwrap(), Some(400));
        fs::write(path.join("come"), [0; 600]).unwrap();
        assert_eq!(all.left(&folder, quota, (FileId([3; 16]), Some(500)), &[]).unwrap(), None);
        fs::remove_dir_all(&path).unwrap();
    }
}
