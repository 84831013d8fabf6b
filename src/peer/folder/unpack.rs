//! A folder that has come whole, as one sequence, is made of it here: in a folder of our own, where nobody sees it half
//! done. Files and folders are created and never opened, so no link is followed or written through, and none is made.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::files::entries::{Entry, Places, UnfitEntry, json_length};
use super::failure::Failure;

/// Makes a folder at `into`, with so many entries at most, of the sequence that `part` holds. What was left there by a
/// program that has ended meanwhile is removed first, and so is what could not be made whole.
///
/// # Errors
/// [`Failure`]. Where there was no room, it can be tried again.
pub fn unpack(part: &File, size: u64, entries: u64, into: &Path) -> Result<(), Failure> {
    discard(into).map_err(Failure::at(into))?;
    let made = DirBuilder::new().create(into).map_err(Failure::at(into));
    let made =
        made.and_then(|()| Sequence { part, size, position: 0, buffer: vec![0; COPY_BYTES] }.make(entries, into));
    made.inspect_err(|_| drop(discard(into)))
}

/// Removes what is at this path, be it a folder with all that is in it or something else; a link leads nowhere.
pub fn discard(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// What was sent, and how far it was read.
struct Sequence<'a> {
    part: &'a File,
    size: u64,
    position: u64,
    buffer: Vec<u8>,
}

impl Sequence<'_> {
    fn make(mut self, entries: u64, into: &Path) -> Result<(), Failure> {
        let mut places = Places::new(entries);
        while self.position < self.size {
            let entry = self.entry()?;
            let path = into.join(places.place(&entry)?);
            match entry.size {
                None => fs::create_dir(&path).map_err(Failure::at(&path))?,
                Some(size) => self.file(size, entry.modified, &path)?,
            }
        }
        // Once for all of it: a call for each of many small files would take far longer.
        sync(into).map_err(Failure::at(into))
    }

    fn entry(&mut self) -> Result<Entry, Failure> {
        let mut length = [0; 4];
        length.copy_from_slice(self.take(4)?);
        Ok(Entry::read(self.take(json_length(length)?)?)?)
    }

    fn file(&mut self, size: u64, modified: Option<u64>, path: &Path) -> Result<(), Failure> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(Failure::at(path))?;
        let mut left = size;
        while left > 0 {
            let bytes = self.take(usize::try_from(left).unwrap_or(usize::MAX).min(COPY_BYTES))?;
            file.write_all(bytes).map_err(Failure::at(path))?;
            left -= bytes.len() as u64;
        }
        set_modified(&file, modified);
        Ok(())
    }

    /// The next bytes, of which there are to be so many.
    fn take(&mut self, count: usize) -> Result<&[u8], Failure> {
        if (count as u64) > self.size - self.position {
            return Err(UnfitEntry::Header.into());
        }
        let bytes = &mut self.buffer[..count];
        self.part.read_exact_at(bytes, self.position).map_err(Failure::at(Path::new("what came of the folder")))?;
        self.position += count as u64;
        Ok(bytes)
    }
}

/// Has the disk of this folder have all that was written.
fn sync(folder: &Path) -> std::io::Result<()> {
    let folder = File::open(folder)?;
    #[cfg(target_os = "linux")]
    nix::unistd::syncfs(&folder)?;
    #[cfg(not(target_os = "linux"))]
    nix::unistd::sync();
    folder.sync_all()
}

/// Gives a file the time of its sender's. One that is not yet is wrong, and would make it look new for ever.
pub fn set_modified(file: &File, seconds: Option<u64>) {
    let modified = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    if let Some(modified) = modified.filter(|modified| *modified <= SystemTime::now()) {
        let _ = file.set_modified(modified);
    }
}

/// How much is copied at once; no header is longer.
const COPY_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::scratch::Scratch;
    use std::os::unix::fs::symlink;

    impl Scratch {
        /// Unpacks this sequence into the folder `in`.
        fn unpack(&self, sequence: &[u8], entries: u64) -> Result<(), Failure> {
            fs::write(self.0.join("part"), sequence).unwrap();
            let part = File::open(self.0.join("part")).unwrap();
            unpack(&part, sequence.len() as u64, entries, &self.0.join("in"))
        }
    }

    /// An entry of a sequence: the content of a file, or a folder.
    fn entry(path: &[&str], content: Option<&str>) -> Vec<u8> {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        let entry = Entry { path, size: content.map(|content| content.len() as u64), modified: Some(1_000_000_000) };
        [entry.header(), content.unwrap_or_default().as_bytes().to_vec()].concat()
    }

    #[test]
    fn a_sequence_becomes_a_folder_in_the_place_of_what_was_left_there() {
        let scratch = Scratch::made("unpack-whole");
        let precious = scratch.0.join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("x"), "precious").unwrap();
        let sequence = [entry(&["a"], None), entry(&["a", "x"], Some("1")), entry(&["y"], Some(""))].concat();
        for left in ["nothing", "a link", "a folder"] {
            let _ = discard(&scratch.0.join("in"));
            match left {
                "a link" => symlink(&precious, scratch.0.join("in")).unwrap(),
                "a folder" => {
                    fs::create_dir_all(scratch.0.join("in/a")).unwrap();
                    symlink(precious.join("x"), scratch.0.join("in/a/x")).unwrap();
                }
                _ => {}
            }
            scratch.unpack(&sequence, 3).unwrap();
            assert_eq!(fs::read_to_string(scratch.0.join("in/a/x")).unwrap(), "1", "{left}");
            assert_eq!(fs::read_to_string(scratch.0.join("in/y")).unwrap(), "");
            let modified = fs::metadata(scratch.0.join("in/y")).unwrap().modified().unwrap();
            assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
            assert_eq!(fs::read_to_string(precious.join("x")).unwrap(), "precious", "{left}");
        }
    }

    #[test]
    fn of_what_is_no_folder_as_it_is_to_be_nothing_is_made() {
        let scratch = Scratch::made("unpack-hostile");
        let good = entry(&["good"], Some("x"));
        let cut = entry(&["cut"], Some("x"));
        let cut = cut[..cut.len() - 1].to_vec();
        let endless = Entry { path: vec!["e".to_owned()], size: Some(u64::MAX), modified: None }.header();
        for (bad, words) in [
            (entry(&["..", "x"], Some("x")), "twice or at no place"),
            (entry(&[".."], Some("x")), "leads elsewhere"),
            (entry(&["../x"], Some("x")), "leads elsewhere"),
            (entry(&["/tmp/x"], Some("x")), "leads elsewhere"),
            (entry(&["good"], None), "twice or at no place"),
            (entry(&["good", "below"], Some("x")), "twice or at no place"),
            (cut, "no folder as Lowkey sends it"),
            (endless, "no folder as Lowkey sends it"),
            (vec![255; 99], "no folder as Lowkey sends it"),
            (vec![0; 4], "no folder as Lowkey sends it"),
            (vec![0; 3], "no folder as Lowkey sends it"),
            ([entry(&["b"], None), entry(&["c"], None)].concat(), "more than was offered"),
        ] {
            let failed = scratch.unpack(&[&*good, &bad].concat(), 2);
            let Err(Failure::Unfit(said)) = failed else { panic!("{words}: {failed:?}") };
            assert!(said.contains(words), "{words}: {said}");
            let mut left = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!((left.next().unwrap().to_str(), left.next()), (Some("part"), None), "{words}");
        }
    }
}
