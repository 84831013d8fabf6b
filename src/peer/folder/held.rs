//! How much a folder holds and its disk has room for, beside files that are still coming into it. What is told of these
//! is behind what the disk has of them, so it is the disk that is asked: a byte counts once, whether it is to come or
//! has come a moment ago.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::super::files::work::ComingFile;
use super::inner;
use super::partial::PartialPaths;
use crate::amount::bytes;

/// Whether the disk has room for what is not here yet of a file or a folder, beside what is missing of others.
///
/// # Errors
/// It has not; in words for people, with both figures.
pub fn has_room(
    paths: &PartialPaths,
    size: Option<u64>,
    is_folder: bool,
    coming: &[(PartialPaths, ComingFile)],
) -> Result<(), String> {
    let (Some(size), Some(free)) = (size, free(&paths.folder)) else { return Ok(()) };
    let missing = size.saturating_mul(if is_folder { 2 } else { 1 }).saturating_sub(come(paths));
    let to_come = coming.iter().map(|(paths, coming)| still_missing(paths, coming)).fold(0, u64::saturating_add);
    if missing.saturating_add(to_come) <= free {
        return Ok(());
    }
    let others =
        if to_come > 0 { format!(" beside the {} that are still to come", bytes(to_come)) } else { String::new() };
    let (path, missing, free) = (paths.folder.display(), bytes(missing), bytes(free));
    Err(format!("{path}: it takes {missing}{others}, and there is room for {free}; make some, or choose another disk"))
}

/// How many bytes a folder holds once what is `coming` has come, without what is at these `paths`.
///
/// # Errors
/// It cannot be looked at.
pub fn held(paths: &PartialPaths, coming: &[(PartialPaths, ComingFile)]) -> io::Result<u64> {
    let all = coming.iter().map(|(paths, _)| paths).chain([paths]);
    let parts: Vec<&Path> = all.flat_map(|paths| [&*paths.part, &*paths.tree]).collect();
    let mut to_come: Vec<_> = coming.iter().filter(|(paths, _)| !is_whole(paths)).collect();
    loop {
        let here = bytes_in(&paths.folder, &parts)?;
        let count = to_come.len();
        to_come.retain(|(paths, _)| !is_whole(paths));
        // What has got its name meanwhile may have been counted by that, too.
        if to_come.len() == count {
            return Ok(to_come.iter().map(|(_, coming)| coming.size).fold(here, u64::saturating_add));
        }
    }
}

/// How many bytes a disk has room for, as far as it says so: some that are no disks say that they have none at all, not
/// even for what they hold.
fn free(folder: &Path) -> Option<u64> {
    let disk = statvfs(folder).ok().filter(|disk| disk.blocks() > 0)?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// How many bytes of a part are here.
fn come(paths: &PartialPaths) -> u64 {
    fs::symlink_metadata(&paths.part).map_or(0, |metadata| metadata.len())
}

/// How many bytes of a file are neither here nor told to be elsewhere. Its part is gone once it has its name, which is
/// looked at last.
fn still_missing(paths: &PartialPaths, coming: &ComingFile) -> u64 {
    let missing = coming.size.saturating_sub(coming.done.max(come(paths)));
    if is_whole(paths) { 0 } else { missing }
}

/// Whether a file that has come is here by its name.
fn is_whole(paths: &PartialPaths) -> bool {
    let is_ours = paths.list.parent().is_some_and(|inner| inner::check(inner).is_ok());
    is_ours && paths.read_list().is_some_and(|list| paths.whole(&list).is_some())
}

/// How many bytes are in a folder and in all in it, without these files and folders. One that cannot be looked at holds
/// nothing.
fn bytes_in(folder: &Path, without: &[&Path]) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if without.contains(&&*entry.path()) {
            continue;
        }
        let held = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path(), without).unwrap_or(0),
            metadata => metadata.map_or(0, |metadata| metadata.len()),
        };
        bytes = bytes.saturating_add(held);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::super::files::note::FileId;
    use super::super::list::{Head, ListedFile};
    use super::*;
    use crate::peer::files::note::Digest;
    use crate::peer::scratch::Scratch;

    /// Where the file of this number would be.
    fn paths(scratch: &Scratch, number: u8) -> PartialPaths {
        let of = |end: &str| scratch.0.join(".lowkey").join(format!("{number}.{end}"));
        PartialPaths { folder: scratch.0.clone(), part: of("part"), list: of("json"), tree: of("tree") }
    }

    #[test]
    fn what_is_coming_counts_once_whatever_of_it_has_come() {
        let scratch = Scratch::made("folder-held");
        inner::make(&scratch.0.join(".lowkey")).unwrap();
        fs::create_dir(scratch.0.join("deep")).unwrap();
        fs::write(scratch.0.join("deep/mine"), [0; 10]).unwrap();
        let [coming, other] = [1, 2].map(|number| paths(&scratch, number));
        let all = [(coming.clone(), ComingFile { file: FileId([1; 16]), size: 2000, done: 0 })];
        // Lists count too, and are short.
        let both = || [&[][..], &all].map(|coming| held(&other, coming).unwrap() / 1000 * 1000);
        let missing = || still_missing(&coming, &all[0].1);
        assert_eq!((both(), missing()), ([0, 2000], 2000), "nothing of it is here");
        fs::write(&coming.part, [7; 1900]).unwrap();
        assert_eq!((both(), missing()), ([1000, 2000], 100), "a part");
        // The list says by which name it will be here, and then it is: by two names at first.
        fs::write(&coming.part, [7; 2000]).unwrap();
        let metadata = File::open(&coming.part).unwrap().metadata().unwrap();
        let head = Head { from: String::new(), size: Some(2000), name: None };
        let receipt = ListedFile::of(&metadata, "x".to_owned(), 2000, Digest([0; 32]));
        let lines = [serde_json::to_string(&head).unwrap(), serde_json::to_string(&receipt).unwrap()];
        fs::write(&coming.list, lines.join("\n")).unwrap();
        assert_eq!((both(), missing()), ([2000, 2000], 0), "all of it, without its name");
        fs::hard_link(&coming.part, scratch.0.join("x")).unwrap();
        assert_eq!((both(), missing()), ([4000, 2000], 0));
        fs::remove_file(&coming.part).unwrap();
        assert_eq!((both(), missing()), ([2000, 2000], 0), "by its name, which was not told yet");
        // Of one that goes on, what is here does not stand in its way.
        fs::write(&other.part, [7; 5000]).unwrap();
        assert_eq!(both(), [2000, 2000]);
    }
}
