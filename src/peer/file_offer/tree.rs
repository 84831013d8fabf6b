//! A folder that our user offers: all that is below it, as it was when it was looked at.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::super::files::checksum::Checksum;
use super::super::files::entries::{Entry, MAX_DEPTH, MAX_ENTRIES, MAX_PATH};
use super::super::files::name;
use super::super::files::note::Digest;
use super::stamp::Stamp;
use crate::trouble;

/// A folder, and what is sent of it.
#[derive(Debug)]
pub struct Tree {
    /// What is below it, each after the folder that it is in.
    pub branches: Vec<Branch>,
    /// How long the sequence is that is sent, in bytes.
    pub size: u64,
    /// How many links, devices, pipes and sockets are not sent.
    pub skipped: u64,
}

/// A file or a folder in it.
#[derive(Debug)]
pub struct Branch {
    /// What the other side is told of it.
    pub entry: Entry,
    /// Where it is.
    pub path: PathBuf,
    /// By which it is seen whether a file has changed; `None` of a folder.
    pub stamp: Option<Stamp>,
    /// Where its header begins in the sequence.
    pub start: u64,
}

impl Tree {
    /// Looks at all that is below a folder.
    ///
    /// # Errors
    /// Something in it cannot be read, or it is too deep or too large. The words are for people.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut tree = Self { branches: Vec::new(), size: 0, skipped: 0 };
        tree.walk(folder, &[])?;
        Ok(tree)
    }

    /// By what all of it is told from what it is after any change of a file in it.
    pub fn digest(&self) -> Digest {
        let mut sum = Checksum::default();
        for Branch { entry, stamp, .. } in &self.branches {
            sum.take(&entry.header());
            sum.take(&stamp.as_ref().map(Stamp::bytes).unwrap_or_default());
        }
        sum.digest()
    }

    fn walk(&mut self, folder: &Path, above: &[String]) -> io::Result<()> {
        if above.len() > MAX_DEPTH {
            return Err(at(folder, &trouble::ours(ErrorKind::Other, DEEP)));
        }
        let names = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = names.map_err(|error| at(folder, &error))?;
        // The same folder is the same sequence, so that it goes on where it was.
        names.sort();
        let mut taken = HashSet::new();
        for name in names {
            let path = folder.join(&name);
            let metadata = match fs::symlink_metadata(&path) {
                // It was removed just now.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata.map_err(|error| at(&path, &error))?,
            };
            if !metadata.is_dir() && !metadata.is_file() {
                self.skipped += 1;
                continue;
            }
            let text = name.to_string_lossy().replace(char::REPLACEMENT_CHARACTER, "_");
            let numbered = (1..).map(|number| name::numbered(&text, number));
            let text = [text.clone()].into_iter().chain(numbered).find(|text| taken.insert(text.clone()));
            let inner: Vec<String> = above.iter().cloned().chain(text).collect();
            if inner.iter().map(|name| name.len() + 1).sum::<usize>() > MAX_PATH {
                return Err(at(&path, &trouble::ours(ErrorKind::Other, DEEP)));
            }
            if metadata.is_dir() {
                self.push(Entry { path: inner.clone(), size: None, modified: None }, path.clone(), None)?;
                self.walk(&path, &inner)?;
            } else {
                // What cannot be read is known before anything is sent.
                let metadata = File::open(&path).and_then(|file| file.metadata()).map_err(|error| at(&path, &error))?;
                let stamp = Stamp::of(&metadata);
                let (size, modified) = (Some(stamp.size()), stamp.seconds());
                self.push(Entry { path: inner, size, modified }, path, Some(stamp))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry, path: PathBuf, stamp: Option<Stamp>) -> io::Result<()> {
        let start = self.size;
        let end =
            entry.size.unwrap_or(0).checked_add(entry.header().len() as u64).and_then(|more| start.checked_add(more));
        if self.branches.len() as u64 >= MAX_ENTRIES {
            return Err(trouble::ours(ErrorKind::Other, MANY));
        }
        self.size = end.ok_or_else(|| trouble::ours(ErrorKind::Other, MANY))?;
        self.branches.push(Branch { entry, path, stamp, start });
        Ok(())
    }
}

/// An error with something in the folder, whose path is said too.
fn at(path: &Path, error: &io::Error) -> io::Error {
    trouble::ours(error.kind(), trouble::said(path, error))
}

const DEEP: &str = "a folder is sent 32 folders deep and with paths of 4096 bytes at most; pack it, as tar does";
const MANY: &str = "a folder is sent with 100,000 files and folders in it at most; pack it, as tar does";

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::peer::scratch::Scratch;

    #[test]
    fn a_folder_is_a_sequence_in_an_order_of_its_own_without_links_and_devices() {
        let scratch = Scratch::made("tree-order");
        fs::create_dir_all(scratch.0.join("b/c")).unwrap();
        for (name, content) in [("b/c/x", "12345"), ("a", ""), ("z", "1")] {
            fs::write(scratch.0.join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", scratch.0.join("link")).unwrap();
        std::os::unix::fs::symlink("/", scratch.0.join("b/root")).unwrap();
        let odd = std::ffi::OsString::from_vec(b"\xff".to_vec());
        fs::write(scratch.0.join(&odd), "").unwrap();
        fs::write(scratch.0.join("_"), "").unwrap();
        let tree = Tree::of(&scratch.0).unwrap();
        let paths: Vec<String> = tree.branches.iter().map(|branch| branch.entry.path.join("/")).collect();
        assert_eq!(paths, ["_", "a", "b", "b/c", "b/c/x", "z", "_ (1)"]);
        assert_eq!(tree.skipped, 2);
        let lengths = tree.branches.iter().map(|branch| branch.entry.header().len() as u64);
        assert_eq!(tree.size, lengths.sum::<u64>() + 6);
        assert_eq!(Tree::of(&scratch.0).unwrap().digest(), tree.digest());
        fs::write(scratch.0.join("z"), "2").unwrap();
        File::options().write(true).open(scratch.0.join("z")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_ne!(Tree::of(&scratch.0).unwrap().digest(), tree.digest());
    }

    #[test]
    fn a_folder_of_the_greatest_depth_is_sent_and_a_deeper_one_is_not() {
        let scratch = Scratch::made("tree-deep");
        let mut path = scratch.0.clone();
        (0..MAX_DEPTH).for_each(|_| path.push("x"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(Tree::of(&scratch.0).unwrap().branches.len(), MAX_DEPTH + 1);
        fs::create_dir_all(path.join("y/z")).unwrap();
        let error = Tree::of(&scratch.0).unwrap_err();
        assert!(trouble::why(&error).contains("32 folders deep"), "{error}");
    }
}
