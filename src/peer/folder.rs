//! Where files that others send are stored. What has come so far lies in a folder of our own, under a name of our own,
//! beside a list of how far it has come for certain; at its end a file is given the name that it was offered by, unless
//! that is taken, by one step that can neither overwrite anything nor be seen half done. No part of a path is ever
//! somebody else's.

mod failure;
mod held;
mod inner;
mod list;
mod partial;
mod syncing;
mod unpack;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;

use super::files::note::{Digest, FileId};
use super::files::work::{ComingFile, OfferedFile};
use super::keys::PublicKey;
pub use failure::Failure;
use list::{Head, ListedFile};
pub use partial::Partial;
use partial::{PartialPaths, is_plain_file};

/// A folder for files that others send. Clones are the same folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// How many parts were begun.
    begun: Arc<AtomicUsize>,
}

/// What there is of a file.
#[derive(Debug)]
pub enum Begun {
    /// A part, of which nothing may have come.
    Partial(Box<Partial>),
    /// All of it: where, its length and its digest.
    Whole(PathBuf, u64, Digest),
}

impl Folder {
    /// The folder at this path, which is made where it is missing. Parts in it that nobody has gone on with for a week
    /// are removed.
    ///
    /// # Errors
    /// It cannot be made, or is none; or others could have put something where parts are.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let folder = Self { path: fs::canonicalize(path)?, begun: Arc::default() };
        inner::check_if_there(&folder.inner())?;
        folder.tidy(SystemTime::now());
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a part of this file is here, or all of it, so that it was agreed to before. It goes on from there if it
    /// is taken again. `identity` and `size` are those of the file offer.
    pub fn has_begun(&self, identity: PublicKey, file: FileId, size: Option<u64>) -> bool {
        let Some(list) = self.is_for_us_alone().then(|| self.paths(file).read_list()).flatten() else { return false };
        let is_of = Head::read(&list).is_some_and(|head| head.is_of(identity, size));
        is_of && (is_plain_file(&self.paths(file).part) || self.paths(file).whole(&list).is_some())
    }

    /// Whether the disk has room for what is not here yet of a file or a folder of this length, beside what is missing
    /// of others that are `coming`, here or to another folder. A folder is made of what was sent once that is whole,
    /// and takes twice its length. Where nobody knows the length, or the disk does not say, it is tried.
    ///
    /// # Errors
    /// It has not; in words for people, with both figures.
    pub fn has_room(
        &self,
        file: FileId,
        size: Option<u64>,
        is_folder: bool,
        coming: &[ComingFile],
    ) -> Result<(), String> {
        held::has_room(&self.paths(file), size, is_folder, &self.with_paths(coming))
    }

    /// How many bytes are in the folder, and in all folders in it, once what is `coming` has come: each of these counts
    /// with its whole length, however much of it is here by now. `file`, which is to come too, does not count. What is
    /// in a folder that cannot be looked at holds nothing.
    ///
    /// # Errors
    /// This folder cannot be looked at.
    pub fn held(&self, file: FileId, coming: &[ComingFile]) -> io::Result<u64> {
        held::held(&self.paths(file), &self.with_paths(coming))
    }

    fn with_paths(&self, coming: &[ComingFile]) -> Vec<(PartialPaths, ComingFile)> {
        coming.iter().map(|coming| (self.paths(coming.file), *coming)).collect()
    }

    /// What is here of a file that is to be stored, or else its beginning. `chosen`: the name that our user wants.
    ///
    /// # Errors
    /// `Failure`.
    pub fn begin(&self, offered: &OfferedFile, from: PublicKey, chosen: Option<String>) -> Result<Begun, Failure> {
        inner::make(&self.inner())?;
        let paths = self.paths(offered.file);
        // Whoever has just lost its connection may still be writing the list.
        let part = partial::hold(&paths)?;
        if let Some(list) = paths.read_list()
            && let Some(head) = Head::read(&list).filter(|head| head.is_of(from, offered.size))
        {
            if let Some(ListedFile { name, size, digest, .. }) = paths.whole(&list) {
                let _ = fs::remove_file(&paths.part);
                return Ok(Begun::Whole(self.path.join(name), size, digest));
            }
            if let Some(part) = part {
                let chosen = chosen.or(head.name);
                let partial = Partial::go_on(paths, part, offered, from, chosen, &list)?;
                return Ok(Begun::Partial(Box::new(partial)));
            }
        }
        if self.begun.fetch_add(1, Ordering::Relaxed) % TIDIED_EVERY == TIDIED_EVERY - 1 {
            self.tidy(SystemTime::now());
        }
        Ok(Begun::Partial(Box::new(Partial::start(paths, offered, from, chosen)?)))
    }

    /// Removes what has come of a file.
    pub fn discard(&self, file: FileId) {
        self.is_for_us_alone().then(|| self.paths(file).discard());
    }

    /// Whether nobody else could have put anything where parts are. Else that is neither believed nor removed.
    fn is_for_us_alone(&self) -> bool {
        inner::check(&self.inner()).is_ok()
    }

    /// Removes what nobody has gone on with for a week, and the oldest parts of too many. What cannot be removed stays.
    fn tidy(&self, now: SystemTime) {
        let Some(Ok(entries)) = self.is_for_us_alone().then(|| fs::read_dir(self.inner())) else { return };
        let mut parts = Vec::new();
        for entry in entries.flatten().filter(|entry| is_of_ours(&entry.path())) {
            // A part that is whole has the time of its sender's file.
            let changed = fs::metadata(entry.path().with_extension(LIST)).and_then(|metadata| metadata.modified());
            let is_recent = |changed: &SystemTime| now.duration_since(*changed).map_or(true, |age| age < KEPT);
            match changed.ok().filter(is_recent) {
                Some(changed) if entry.path().extension().is_some_and(|end| end == PART) => {
                    parts.push((changed, entry.path()));
                }
                Some(_) => {}
                None => drop(unpack::discard(&entry.path())),
            }
        }
        parts.sort();
        let too_many = parts.len().saturating_sub(MAX_PARTS);
        let is_held = |part: &PathBuf| File::open(part).is_ok_and(|part| part.try_lock().is_err());
        for (_, part) in parts.drain(..too_many).filter(|(_, part)| !is_held(part)) {
            let (list, tree) = (part.with_extension(LIST), part.with_extension(TREE));
            PartialPaths { folder: self.path.clone(), part, list, tree }.discard();
        }
    }

    fn inner(&self) -> PathBuf {
        self.path.join(PARTS)
    }

    fn paths(&self, file: FileId) -> PartialPaths {
        let of = |end: &str| self.inner().join(format!("{}.{end}", HEXLOWER.encode(&file.0)));
        PartialPaths { folder: self.path.clone(), part: of(PART), list: of(LIST), tree: of(TREE) }
    }
}

/// Whether this is a name of what is not whole. Whatever else may lie there is not ours to remove.
fn is_of_ours(path: &Path) -> bool {
    let file = path.file_stem().map(|stem| HEXLOWER.decode(stem.as_encoded_bytes()));
    let is_file = file.is_some_and(|file| file.is_ok_and(|file| file.len() == size_of::<FileId>()));
    is_file && path.extension().is_some_and(|end| [PART, LIST, TREE].iter().any(|ours| end == *ours))
}

/// The folder of what is not whole, and how names in it end.
const PARTS: &str = ".lowkey";
const PART: &str = "part";
const LIST: &str = "json";
const TREE: &str = "tree";

/// How many parts are kept, or a few more: whoever may send could begin files without end, and end none. So often it is
/// looked at, as more are begun.
const MAX_PARTS: usize = 1000;
const TIDIED_EVERY: usize = 100;

/// How long what is not whole is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::fs::{OpenOptions, Permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::super::files::checksum::Checksum;
    use super::super::keys::KeyPair;
    use super::super::scratch::Scratch;
    use super::partial::LISTED_BYTES;
    use super::*;

    const BYTES: usize = LISTED_BYTES as usize;

    impl Scratch {
        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name != PARTS).collect();
            names.sort();
            names
        }
    }

    fn begin(folder: &Folder, from: PublicKey, name: &str, size: usize) -> Box<Partial> {
        match begun(folder, from, name, size) {
            Begun::Partial(partial) => partial,
            whole => panic!("{whole:?}"),
        }
    }

    fn begun(folder: &Folder, from: PublicKey, name: &str, size: usize) -> Begun {
        let (name, size) = (name.to_owned(), Some(size as u64));
        let offered = OfferedFile { file: FileId([7; 16]), name, size, modified: Some(1_000_000_000), entries: None };
        folder.begin(&offered, from, None).unwrap()
    }

    fn digest(bytes: &[u8]) -> Digest {
        let mut sum = Checksum::default();
        sum.take(bytes);
        sum.digest()
    }

    #[test]
    fn a_whole_file_gets_its_name_and_one_that_is_taken_stays() {
        let scratch = Scratch::new("folder-names");
        let folder = Folder::open(&scratch.0).unwrap();
        for (text, stored) in [("one", "a.txt"), ("two", "a (1).txt"), ("", "a (2).txt")] {
            let mut partial = begin(&folder, KeyPair::generate().public(), "../a.txt", text.len());
            partial.write(text.as_bytes()).unwrap();
            let path = partial.finish(text.len() as u64, digest(text.as_bytes())).unwrap();
            assert_eq!(
                (path.as_path(), fs::read_to_string(&path).unwrap()),
                (&*scratch.0.join(stored), text.to_owned())
            );
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        }
        assert_eq!(scratch.names(), ["a (1).txt", "a (2).txt", "a.txt"]);
        let left = fs::read_dir(scratch.0.join(PARTS)).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), [format!("{}.json", "07".repeat(16)).as_str()], "nothing but the receipt");
    }

    #[test]
    fn what_was_stored_just_before_the_program_was_killed_is_not_stored_again() {
        let scratch = Scratch::new("folder-receipts");
        let (folder, key) = (Folder::open(&scratch.0).unwrap(), KeyPair::generate().public());
        let mut partial = begin(&folder, key, "x", 3);
        partial.write(b"abc").unwrap();
        let path = partial.finish(3, digest(b"abc")).unwrap();
        drop(partial);
        let part = folder.paths(FileId([7; 16])).part;
        // Before it could say so; before it could remove the part.
        for has_part in [false, true] {
            if has_part {
                fs::hard_link(&path, &part).unwrap();
            }
            assert!(folder.has_begun(key, FileId([7; 16]), Some(3)));
            let Begun::Whole(stored, size, of) = begun(&folder, key, "x", 3) else { panic!() };
            assert_eq!((&stored, size, of), (&path, 3, digest(b"abc")));
            assert!(!part.exists());
        }
        // What somebody has changed since, or put there, or taken away is not it.
        fs::rename(&path, scratch.0.join("y")).unwrap();
        assert!(!folder.has_begun(key, FileId([7; 16]), Some(3)));
        fs::write(&path, "abd").unwrap();
        let mut partial = begin(&folder, key, "x", 3);
        partial.write(b"abc").unwrap();
        assert_eq!(partial.finish(3, digest(b"abc")).unwrap(), scratch.0.join("x (1)"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "abd");
    }

    /// A folder for files, in which somebody has made the one for parts, and what becomes of a file there.
    fn prepared(name: &str, prepare: impl FnOnce(&Path)) -> (Scratch, Result<Begun, Failure>) {
        let (scratch, key) = (Scratch::made(name), KeyPair::generate().public());
        let inner = scratch.0.join(PARTS);
        fs::create_dir(&inner).unwrap();
        let head = Head { from: key.to_base64(), size: Some(3), name: None };
        let list = serde_json::to_string(&head).unwrap() + "\n";
        for (byte, end, text) in [("07", PART, "ab"), ("07", LIST, &list), ("08", PART, "old"), ("", "diary", "x")] {
            fs::write(inner.join(format!("{}.{end}", byte.repeat(16))), text).unwrap();
        }
        prepare(&inner);
        assert_eq!(Folder::open(&scratch.0).is_ok(), name == "folder-ours");
        let (folder, file) = (Folder { path: scratch.0.clone(), begun: Arc::default() }, FileId([7; 16]));
        folder.tidy(SystemTime::now());
        let offered = OfferedFile { file, name: "x".into(), size: Some(3), modified: None, entries: None };
        assert_eq!(folder.has_begun(key, file, Some(3)), name == "folder-ours");
        let begun = folder.begin(&offered, key, None);
        begun.is_err().then(|| folder.discard(file));
        (scratch, begun)
    }

    #[test]
    fn in_a_folder_of_parts_that_others_have_made_or_can_write_nothing_is_written_believed_or_removed() {
        let elsewhere = Scratch::new("folder-elsewhere");
        let by_link = |inner: &Path| {
            fs::rename(inner, &elsewhere.0).unwrap();
            std::os::unix::fs::symlink(&elsewhere.0, inner).unwrap();
        };
        let by_mode = |mode| move |inner: &Path| fs::set_permissions(inner, Permissions::from_mode(mode)).unwrap();
        let mut all = vec![
            ("no folder", prepared("folder-link", by_link)),
            ("others on this", prepared("folder-all", by_mode(0o707))),
            ("others on this", prepared("folder-group", by_mode(0o1770))),
        ];
        // Only root can give one away.
        if nix::unistd::geteuid().is_root() {
            let given = prepared("folder-given", |inner| std::os::unix::fs::chown(inner, Some(12345), None).unwrap());
            all.push(("belongs to somebody else", given));
        }
        for (why, (scratch, begun)) in all {
            assert!(matches!(&begun, Err(Failure::Other(words)) if words.contains(why)), "{why}: {begun:?}");
            let part = scratch.0.join(format!("{PARTS}/{}.{PART}", "07".repeat(16)));
            assert_eq!(fs::read_dir(part.parent().unwrap()).unwrap().count(), 4, "{why}");
            assert_eq!(fs::read_to_string(part).unwrap(), "ab", "{why}");
            assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn of_ones_own_folder_of_parts_only_parts_are_removed() {
        let (scratch, begun) =
            prepared("folder-ours", |inner| fs::set_permissions(inner, Permissions::from_mode(0o755)).unwrap());
        assert!(matches!(begun, Ok(Begun::Partial(_))), "{begun:?}");
        let inner = scratch.0.join(PARTS);
        assert_eq!(fs::read_to_string(inner.join(".diary")).unwrap(), "x");
        assert_eq!(fs::read_dir(inner).unwrap().count(), 3, "the one that nobody goes on with is gone");
    }

    #[test]
    fn a_part_goes_on_from_where_it_is_for_certain_for_the_same_offer_of_the_same_sender_alone() {
        let scratch = Scratch::new("folder-parts");
        let (folder, key) = (Folder::open(&scratch.0).unwrap(), KeyPair::generate().public());
        let bytes: Vec<u8> = (0..2 * BYTES + 9).map(|number| (number / 7) as u8).collect();
        let mut killed = begin(&folder, key, "x", bytes.len());
        bytes[..BYTES + 99].chunks(32_768).for_each(|piece| killed.write(piece).unwrap());
        drop(killed);
        let list = scratch.0.join(PARTS).join(format!("{}.json", "07".repeat(16)));
        // Its last line was not finished.
        OpenOptions::new().append(true).open(&list).unwrap().write_all(b"00ab").unwrap();
        let mut partial = begin(&folder, key, "x", bytes.len());
        assert_eq!((partial.position(), partial.digest_before()), (BYTES as u64, Some(digest(&bytes[..BYTES]))));
        partial.write(&bytes[BYTES..]).and_then(|()| partial.list()).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap().lines().count(), 3, "the line that was cut off is gone");
        drop(partial);
        let id = FileId([7; 16]);
        assert!(folder.has_begun(key, id, Some(bytes.len() as u64)));
        for (other, length) in [(KeyPair::generate().public(), bytes.len()), (key, bytes.len() + 1)] {
            assert!(!folder.has_begun(other, id, Some(length as u64)));
            assert_eq!(begin(&folder, other, "x", length).position(), 0);
        }
    }

    #[test]
    fn what_is_not_what_was_sent_gets_no_name() {
        let scratch = Scratch::new("folder-damaged");
        let (folder, key) = (Folder::open(&scratch.0).unwrap(), KeyPair::generate().public());
        let mut partial = begin(&folder, key, "x", 3);
        assert!(matches!(partial.write(b"four"), Err(Failure::Damaged)));
        partial.write(b"abc").unwrap();
        assert!(matches!(partial.finish(3, digest(b"abd")), Err(Failure::Damaged)));
        let mut partial = begin(&folder, key, "x", 3);
        partial.write(b"ab").unwrap();
        assert!(matches!(partial.finish(3, digest(b"ab")), Err(Failure::Damaged)), "it is not whole");
        assert!(scratch.names().is_empty() && fs::read_dir(scratch.0.join(PARTS)).unwrap().count() == 0);
    }

    #[test]
    fn a_link_in_the_place_of_a_part_leads_nowhere() {
        let scratch = Scratch::new("folder-links");
        let (folder, key) = (Folder::open(&scratch.0).unwrap(), KeyPair::generate().public());
        let precious = scratch.0.join("precious");
        fs::write(&precious, "precious").unwrap();
        fs::create_dir(scratch.0.join(PARTS)).unwrap();
        for end in ["part", "json"] {
            let path = scratch.0.join(PARTS).join(format!("{}.{end}", "07".repeat(16)));
            std::os::unix::fs::symlink(&precious, path).unwrap();
        }
        let mut partial = begin(&folder, key, "precious", 3);
        partial.write(b"abc").unwrap();
        let path = partial.finish(3, digest(b"abc")).unwrap();
        assert_eq!(path, scratch.0.join("precious (1)"));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }

    #[test]
    fn what_nobody_goes_on_with_is_removed_after_a_week() {
        let scratch = Scratch::new("folder-tidy");
        let folder = Folder::open(&scratch.0).unwrap();
        drop(begin(&folder, KeyPair::generate().public(), "x", 3));
        folder.tidy(SystemTime::now() + KEPT / 2);
        assert_eq!(fs::read_dir(scratch.0.join(PARTS)).unwrap().count(), 2);
        folder.tidy(SystemTime::now() + KEPT * 2);
        assert_eq!(fs::read_dir(scratch.0.join(PARTS)).unwrap().count(), 0);
    }

    #[test]
    fn of_parts_without_end_the_oldest_go() {
        let scratch = Scratch::new("folder-many");
        let (folder, key) = (Folder::open(&scratch.0).unwrap(), KeyPair::generate().public());
        let mut held = None;
        for number in 0..(MAX_PARTS + 2 * TIDIED_EVERY) as u128 {
            let file = FileId(number.to_be_bytes());
            let offered = OfferedFile { file, name: "x".to_owned(), size: Some(3), modified: None, entries: None };
            let begun = folder.begin(&offered, key, None).unwrap();
            held.get_or_insert(begun);
        }
        let parts = fs::read_dir(scratch.0.join(PARTS)).unwrap().filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|end| end == PART)
        });
        assert!((MAX_PARTS..=MAX_PARTS + TIDIED_EVERY).contains(&parts.count()));
        assert!(folder.has_begun(key, FileId([0; 16]), Some(3)), "what is under way stays");
        assert!(!folder.has_begun(key, FileId(1_u128.to_be_bytes()), Some(3)), "the oldest goes");
    }
}
