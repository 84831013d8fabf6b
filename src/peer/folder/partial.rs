//! A file or a folder that is not whole yet: its part on the disk, and the list beside it. At its end a folder is made
//! of it where it is one, and it is given its name.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::files::checksum::Checksum;
use super::super::files::name;
use super::super::files::note::Digest;
use super::super::files::work::OfferedFile;
use super::super::keys::PublicKey;
use super::failure::Failure;
use super::list::{Head, ListedFile, last_listed, last_sum};
use super::syncing::{Syncing, sync};
use super::unpack::{self, unpack};
use crate::trouble;

/// Where a file is until it is whole, and in which folder it is to be then.
#[derive(Debug, Clone)]
pub struct PartialPaths {
    /// The folder that it is to be in.
    pub folder: PathBuf,
    /// What has come of it.
    pub part: PathBuf,
    /// The list beside that.
    pub list: PathBuf,
    /// What is made of it at its end, where it is a folder.
    pub tree: PathBuf,
}

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Partial {
    paths: PartialPaths,
    offered: OfferedFile,
    /// Who sends it, as it has proven.
    from: PublicKey,
    /// By which name our user wants it, where it is not the one that it was offered by.
    chosen: Option<String>,
    part: File,
    list: File,
    sum: Checksum,
    /// Up to which byte the list goes, and when that was last begun to be looked after.
    listed: u64,
    listed_at: Option<Instant>,
    syncing: Option<Syncing>,
    /// The disk has failed to take something that it had said to take, in words for people. That is told once, and
    /// whether it has the rest, nobody can know.
    lost: Option<String>,
}

impl PartialPaths {
    /// What the list says; `None` where there is none of ours.
    pub fn read_list(&self) -> Option<String> {
        // The last line may have been cut off with the program.
        let bytes = is_plain_file(&self.list).then(|| fs::read(&self.list).ok())?;
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole file of which the list tells, if it is still there and as it was.
    pub fn whole(&self, list: &str) -> Option<ListedFile> {
        last_listed(list).filter(|listed| {
            // It was a name of ours, and is to be nothing else.
            let metadata = fs::symlink_metadata(self.folder.join(name::safe(&listed.name)));
            metadata.is_ok_and(|metadata| listed.is_of(&metadata))
        })
    }

    /// Removes what has come.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.part);
        let _ = fs::remove_file(&self.list);
        let _ = unpack::discard(&self.tree);
    }
}

impl Partial {
    /// Begins a file, of which nothing has come.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(
        paths: PartialPaths,
        offered: &OfferedFile,
        from: PublicKey,
        chosen: Option<String>,
    ) -> Result<Self, Failure> {
        paths.discard();
        let create = |path: &Path| {
            OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(Failure::at(path))
        };
        let (part, list) = (create(&paths.part)?, create(&paths.list)?);
        lock(&part)?;
        Self::with(paths, offered, from, chosen, (part, list), |_| Checksum::default())
    }

    /// Goes on with a file, whose part is held, and of which the list says this.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn go_on(
        paths: PartialPaths,
        part: File,
        offered: &OfferedFile,
        from: PublicKey,
        chosen: Option<String>,
        text: &str,
    ) -> Result<Self, Failure> {
        let list = OpenOptions::new().read(true).write(true).open(&paths.list).map_err(Failure::at(&paths.list))?;
        Self::with(paths, offered, from, chosen, (part, list), |length| last_sum(text, length))
    }

    fn with(
        paths: PartialPaths,
        offered: &OfferedFile,
        from: PublicKey,
        chosen: Option<String>,
        (part, list): (File, File),
        sum: impl FnOnce(u64) -> Checksum,
    ) -> Result<Self, Failure> {
        let metadata = part.metadata().map_err(Failure::at(&paths.part))?;
        let (offered, sum) = (offered.clone(), sum(metadata.len()));
        let mut partial = Self {
            paths,
            offered,
            from,
            chosen,
            part,
            list,
            sum,
            listed: 0,
            listed_at: None,
            syncing: None,
            lost: None,
        };
        partial.rewrite()?;
        Ok(partial)
    }

    /// How many bytes are written.
    pub fn position(&self) -> u64 {
        self.sum.position()
    }

    /// The digest of those; `None` at the beginning.
    pub fn digest_before(&self) -> Option<Digest> {
        self.sum.digest_before()
    }

    /// Stores the next bytes.
    ///
    /// # Errors
    /// [`Failure`]. What was stored before stays.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let position = self.position();
        if self.offered.size.is_some_and(|size| size.saturating_sub(position) < bytes.len() as u64) {
            return Err(Failure::Damaged);
        }
        let is_far = position - self.listed >= UNLISTED_BYTES;
        if self.syncing.as_ref().is_some_and(|syncing| is_far || syncing.is_done()) {
            self.end_syncing();
        }
        self.check()?;
        self.part.write_all_at(bytes, position).map_err(Failure::at(&self.paths.part))?;
        self.sum.take(bytes);
        let is_recent = self.listed_at.is_some_and(|listed_at| listed_at.elapsed() < LISTED_EVERY);
        if self.syncing.is_none() && self.position() - self.listed >= LISTED_BYTES && !is_recent {
            self.listed_at = Some(Instant::now());
            // Where that fails, it goes on from an earlier place.
            self.syncing = Syncing::start(&self.part, &self.list, &self.sum).ok();
        }
        Ok(())
    }

    /// Writes down how far it has come, so that it goes on from there whatever becomes of this program.
    ///
    /// # Errors
    /// [`Failure`]. Then it goes on from the place before.
    pub fn list(&mut self) -> Result<(), Failure> {
        self.end_syncing();
        self.check()?;
        if self.listed < self.position() {
            let synced = sync(&self.part, &mut self.list, &self.sum);
            self.note(synced);
        }
        self.check()
    }

    /// Waits until what is being put on the disk is there.
    fn end_syncing(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            self.note(syncing.wait());
        }
    }

    fn note(&mut self, synced: io::Result<u64>) {
        match synced {
            Ok(listed) => self.listed = self.listed.max(listed),
            Err(error) => self.lost = Some(trouble::said(&self.paths.folder, &error)),
        }
    }

    /// Whether the disk has taken all that it was given, as far as is known.
    fn check(&self) -> Result<(), Failure> {
        self.lost.clone().map_or(Ok(()), |words| Err(Failure::Other(words)))
    }

    /// Gives up what came, since the sender begins anew.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn begin_anew(&mut self) -> Result<(), Failure> {
        (self.syncing, self.lost, self.sum) = (None, None, Checksum::default());
        self.rewrite()
    }

    /// Writes the list anew, and cuts off what of the part is not in it.
    fn rewrite(&mut self) -> Result<(), Failure> {
        let path = self.paths.part.clone();
        self.part.set_len(self.position()).map_err(Failure::at(&path))?;
        let (from, size, name) = (self.from.to_base64(), self.offered.size, self.chosen.clone());
        let written = self.list.set_len(0).and_then(|()| self.list.rewind());
        written.and_then(|()| self.write_line(&Head { from, size, name })).map_err(Failure::at(&path))?;
        self.listed = 0;
        self.list()
    }

    fn write_line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.list.write_all(&line)
    }

    /// Gives the file its name, if all of it has come and is what was sent. It is on the disk then, whatever happens.
    /// Where it is.
    ///
    /// # Errors
    /// [`Failure`]. Where there was no room, it can be tried again.
    pub fn finish(&mut self, size: u64, digest: Digest) -> Result<PathBuf, Failure> {
        if (self.position(), self.sum.digest()) != (size, digest) {
            self.paths.discard();
            return Err(Failure::Damaged);
        }
        self.end_syncing();
        self.check()?;
        let part = self.paths.part.clone();
        let name = name::safe(self.chosen.as_ref().unwrap_or(&self.offered.name));
        let path = match self.offered.entries {
            Some(entries) => {
                let tree = self.paths.tree.clone();
                unpack(&self.part, size, entries, &tree)?;
                let metadata = fs::symlink_metadata(&tree).map_err(Failure::at(&tree))?;
                self.give_name(&tree, &metadata, &name, size, digest)?
            }
            None => {
                unpack::set_modified(&self.part, self.offered.modified);
                self.lost = self.part.sync_all().err().map(|error| trouble::said(&self.paths.folder, &error));
                self.check()?;
                let metadata = self.part.metadata().map_err(Failure::at(&part))?;
                self.give_name(&part, &metadata, &name, size, digest)?
            }
        };
        let _ = fs::remove_file(part);
        // The names too are to outlive a loss of power. Not every disk can say so.
        let _ = File::open(&self.paths.folder).and_then(|folder| folder.sync_all());
        Ok(path)
    }

    /// Gives what is whole this name, or the next one that is not taken. The list says before by which, so that it is
    /// known again even where this program ends just then.
    fn give_name(
        &mut self,
        whole: &Path,
        metadata: &Metadata,
        name: &str,
        size: u64,
        digest: Digest,
    ) -> Result<PathBuf, Failure> {
        let numbered = (1..MAX_NUMBER).map(|number| name::numbered(name, number));
        for name in [name.to_owned()].into_iter().chain(numbered) {
            let path = self.paths.folder.join(&name);
            if fs::symlink_metadata(&path).is_ok() {
                continue;
            }
            self.write_line(&ListedFile::of(metadata, name, size, digest)).map_err(Failure::at(whole))?;
            let named = if metadata.is_dir() { rename_folder(whole, &path) } else { link(whole, &path) };
            match named {
                Ok(()) => return Ok(path),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(Failure::at(&path)(error)),
            }
        }
        let path = self.paths.folder.join(name);
        Err(Failure::Other(format!("{}: a thousand files have that name already; move some away", path.display())))
    }
}

/// Gives a folder its name. What that can take the place of is a folder with nothing in it, if somebody makes one at
/// this very moment.
fn rename_folder(folder: &Path, path: &Path) -> io::Result<()> {
    fs::rename(folder, path)
}

/// Gives a file its name, unless that is taken.
fn link(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Err(error) if !is_taken(&error) => {
            // Some disks have no links: there the name is taken first, and what has it is ours.
            OpenOptions::new().write(true).create_new(true).open(path)?;
            fs::rename(part, path)
        }
        linked => linked,
    }
}

/// Whether something else has the name.
fn is_taken(error: &io::Error) -> bool {
    use ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory)
}

/// Takes the part of a file for this program alone, if there is one.
///
/// # Errors
/// [`Failure`].
pub fn hold(paths: &PartialPaths) -> Result<Option<File>, Failure> {
    let path = &paths.part;
    if !is_plain_file(path) {
        return Ok(None);
    }
    let part = OpenOptions::new().read(true).write(true).open(path).map_err(Failure::at(path))?;
    lock(&part)?;
    // It may have become whole meanwhile, and is no part any more.
    let metadata = part.metadata().map_err(Failure::at(path))?;
    let is_there = fs::symlink_metadata(path).is_ok_and(|there| there.ino() == metadata.ino());
    Ok(is_there.then_some(part))
}

/// Takes a part for this program alone. Who has lost its connection a moment ago may still be writing.
fn lock(part: &File) -> Result<(), Failure> {
    let until = Instant::now() + LOCK_TIME;
    while let Err(error) = part.try_lock() {
        match error {
            TryLockError::WouldBlock if Instant::now() < until => std::thread::sleep(LOCK_POLL),
            TryLockError::WouldBlock => {
                return Err(Failure::Other("another program is taking the same file into the same folder".to_owned()));
            }
            // Some disks have no locks.
            TryLockError::Error(_) => break,
        }
    }
    Ok(())
}

/// Whether this is a file of our own making: somebody could have put a link in its place.
pub fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// How many files of one name there may be.
const MAX_NUMBER: u32 = 1000;

/// How often it is written down how far a file has come: after so many bytes and so much time, since the disk has to
/// have all of it then, which is work for it. So much is sent again where a program is killed.
pub const LISTED_BYTES: u64 = 4 * 1024 * 1024;
const LISTED_EVERY: Duration = Duration::from_millis(250);

/// How far what is written may be ahead of that, in bytes, where the disk is slower than the network. Otherwise the
/// system would hold whatever comes, and each end would wait until the disk has it.
const UNLISTED_BYTES: u64 = 64 * 1024 * 1024;

/// How long another one may hold a part that we go on with, and how often that is looked at.
const LOCK_TIME: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::super::super::files::note::FileId;
    use super::super::super::keys::KeyPair;
    use super::super::super::scratch::Scratch;
    use super::*;

    /// A part in a folder of its own, to which these bytes were written.
    fn begun(scratch: &Scratch, bytes: &[u8]) -> Partial {
        let of = |end: &str| scratch.0.join(format!("x.{end}"));
        let paths = PartialPaths { folder: scratch.0.clone(), part: of("part"), list: of("json"), tree: of("tree") };
        let size = Some(bytes.len() as u64);
        let offered = OfferedFile { file: FileId([7; 16]), name: "x".to_owned(), size, modified: None, entries: None };
        let mut partial = Partial::start(paths, &offered, KeyPair::generate().public(), None).unwrap();
        partial.write(bytes).unwrap();
        partial
    }

    #[test]
    fn what_a_disk_loses_that_it_had_taken_gets_no_name_and_is_not_gone_on_with() {
        let scratch = Scratch::made("partial-lost");
        let mut partial = begun(&scratch, b"abc");
        // No pipe can be put on a disk.
        let (reader, _writer) = io::pipe().unwrap();
        let part = File::from(std::os::fd::OwnedFd::from(reader));
        partial.syncing = Some(Syncing::start(&part, &partial.list, &partial.sum).unwrap());
        let told = |failed: Result<(), Failure>| match failed {
            Err(Failure::Other(words)) => words,
            other => panic!("{other:?}"),
        };
        let words = told(partial.list());
        assert!(words.contains(scratch.0.to_str().unwrap()), "{words}");
        // It is told to us once, and stays so.
        assert_eq!(told(partial.write(b"")), words);
        assert_eq!(told(partial.finish(3, partial.sum.digest()).map(drop)), words);
        assert_eq!(last_sum(&fs::read_to_string(&partial.paths.list).unwrap(), 3).position(), 0);
        assert!(!scratch.0.join("x").exists());
        // Another part of it is begun with, and the disk may do better.
        partial.begin_anew().unwrap();
        partial.write(b"abc").unwrap();
        assert_eq!(partial.finish(3, partial.sum.digest()).unwrap(), scratch.0.join("x"));
    }

    #[test]
    fn it_is_put_on_the_disk_and_listed_while_more_is_written() {
        let scratch = Scratch::made("partial-listed");
        let bytes = vec![7; LISTED_BYTES as usize + 1];
        let partial = begun(&scratch, &bytes);
        assert!(partial.syncing.is_some() && partial.listed == 0, "nobody has waited for it");
        let list = partial.paths.list.clone();
        drop(partial);
        assert_eq!(last_sum(&fs::read_to_string(list).unwrap(), u64::MAX).position(), bytes.len() as u64);
    }
}
