//! Where a file that is taken goes, and how far it has come there.

use std::io::Write;
use std::path::PathBuf;

use super::super::files::checksum::Checksum;
use super::super::files::note::{Digest, EndReason, FileId};
use super::super::files::work::OfferedFile;
use super::super::folder::{Begun, Failure, Folder, Partial};
use super::super::keys::PublicKey;
use super::super::sink::{Sink, Target};
use crate::trouble;

/// Where the bytes of one file go.
pub struct Store {
    target: Stored,
    at_most: u64,
    /// How long it was offered to be.
    size: Option<u64>,
    /// The number of the take for which it is held. The thread of a connection that was lost may still have something
    /// of an earlier one, which is of no use any more.
    take: Option<u64>,
}

enum Stored {
    Folder { folder: Folder, name: Option<String>, partial: Option<Box<Partial>> },
    Stream { stream: Box<dyn Write + Send>, sum: Checksum },
}

/// Why a file that is taken cannot be stored any further.
pub struct StoreError {
    /// What the other side is told.
    pub reason: EndReason,
    /// What our user is told beyond that.
    pub trouble: Option<String>,
}

/// A file that is on the disk under its name: where, its length and its digest.
pub type Whole = (Option<PathBuf>, u64, Digest);

/// How much of a file is here.
pub enum Ready {
    /// A part, which may be nothing: its length in bytes, and its digest where it is something.
    From(u64, Option<Digest>),
    /// All of it.
    Whole(Whole),
}

impl Store {
    /// Nothing is there yet.
    pub fn new(Sink { to, at_most }: Sink) -> Self {
        let target = match to {
            Target::Folder(folder, name) => Stored::Folder { folder, name, partial: None },
            Target::Write(stream) => Stored::Stream { stream, sum: Checksum::default() },
        };
        Self { target, at_most, size: None, take: None }
    }

    /// Looks how much is here, for this take. What still comes of an earlier one is passed over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prepare(&mut self, offered: &OfferedFile, identity: PublicKey, take: u64) -> Result<Ready, StoreError> {
        // It is held open only while bytes come, since many may wait.
        self.let_go();
        (self.take, self.size) = (Some(take), offered.size);
        if offered.size.is_some_and(|size| size > self.at_most) {
            return Err(TOO_LARGE);
        }
        match &mut self.target {
            Stored::Folder { folder, name, .. } => Ok(match folder.begin(offered, identity, name.clone())? {
                Begun::Partial(partial) => {
                    let from = partial.position();
                    if let Err(words) = folder.has_room(offered.file, offered.size, offered.entries.is_some(), &[]) {
                        if from == 0 {
                            folder.discard(offered.file);
                        }
                        return Err(Failure::NoRoom(words).into());
                    }
                    Ready::From(from, partial.digest_before())
                }
                Begun::Whole(path, size, digest) => Ready::Whole((Some(path), size, digest)),
            }),
            Stored::Stream { .. } if offered.entries.is_some() => {
                Err(store_error("a folder goes into a folder, and not into a stream"))
            }
            Stored::Stream { sum, .. } => Ok(Ready::From(sum.position(), sum.digest_before())),
        }
    }

    /// The bytes from this one on come, which is where it has come to, or the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&mut self, offered: &OfferedFile, identity: PublicKey, from: u64) -> Result<(), StoreError> {
        match &mut self.target {
            Stored::Folder { folder, name, partial } => {
                let Begun::Partial(mut part) = folder.begin(offered, identity, name.clone())? else {
                    return Err(store_error("it is here already"));
                };
                if from == 0 && part.position() > 0 {
                    part.begin_anew()?;
                }
                let is_there = part.position() == from;
                *partial = Some(part);
                if is_there { Ok(()) } else { Err(store_error("the part that was here has changed; take it again")) }
            }
            Stored::Stream { sum, .. } if sum.position() == from => Ok(()),
            Stored::Stream { .. } => Err(store_error("its beginning was written already, and it begins anew")),
        }
    }

    /// Stores the next bytes of this take.
    ///
    /// # Errors
    /// [`StoreError`]; where there was no room, it can be tried again.
    pub fn write(&mut self, take: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.take != Some(take) {
            return Ok(());
        }
        let length = self.position() + bytes.len() as u64;
        if self.size.is_some_and(|size| length > size) {
            return Err(Failure::Damaged.into());
        }
        if length > self.at_most {
            return Err(TOO_LARGE);
        }
        match &mut self.target {
            Stored::Folder { partial: Some(partial), .. } => Ok(partial.write(bytes)?),
            Stored::Folder { partial: None, .. } => Ok(()),
            Stored::Stream { stream, sum } => {
                stream.write_all(bytes).map_err(|error| store_error(&trouble::why(&error)))?;
                sum.take(bytes);
                Ok(())
            }
        }
    }

    /// How many bytes are here.
    pub fn position(&self) -> u64 {
        match &self.target {
            Stored::Folder { partial, .. } => partial.as_ref().map_or(0, |partial| partial.position()),
            Stored::Stream { sum, .. } => sum.position(),
        }
    }

    /// That was all; gives it its name, if it is what was sent.
    ///
    /// # Errors
    /// [`StoreError`]; where there was no room, it can be tried again.
    pub fn finish(&mut self, take: u64, size: u64, digest: Digest) -> Result<Whole, StoreError> {
        if self.take != Some(take) {
            return Err(store_error("it was taken anew"));
        }
        if self.size.is_some_and(|offered| offered != size) {
            return Err(Failure::Damaged.into());
        }
        match &mut self.target {
            Stored::Folder { partial, .. } => {
                let Some(part) = partial else { return Err(store_error("it was not begun")) };
                let path = part.finish(size, digest)?;
                *partial = None;
                Ok((Some(path), size, digest))
            }
            Stored::Stream { stream, sum } => {
                stream.flush().map_err(|error| store_error(&trouble::why(&error)))?;
                match (sum.position(), sum.digest()) == (size, digest) {
                    true => Ok((None, size, digest)),
                    false => Err(Failure::Damaged.into()),
                }
            }
        }
    }

    /// Writes down how far it has come, and lets go of it until it goes on, if this take is the last.
    pub fn rest(&mut self, take: u64) {
        if self.take == Some(take) {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        if let Stored::Folder { partial, .. } = &mut self.target
            && let Some(mut partial) = partial.take()
        {
            // Then it goes on from an earlier place.
            let _ = partial.list();
        }
    }

    /// Removes what came of the file.
    pub fn discard(&mut self, file: FileId) {
        if let Stored::Folder { folder, partial, .. } = &mut self.target {
            *partial = None;
            folder.discard(file);
        }
        self.take = None;
    }
}

impl StoreError {
    /// Whether it can be tried again soon: the disk is full, and may have room by then.
    pub fn may_pass(&self) -> bool {
        self.reason == EndReason::NoSpace && self.trouble.is_none()
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self { reason: failure.reason(), trouble: failure.trouble() }
    }
}

fn store_error(words: &str) -> StoreError {
    StoreError { reason: EndReason::Failed, trouble: Some(words.to_owned()) }
}

const TOO_LARGE: StoreError = StoreError { reason: EndReason::TooLarge, trouble: None };
