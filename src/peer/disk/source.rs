//! A file or a folder that is sent, or a stream: read on from any place that the other side may ask for, and what of it
//! is known so far.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

use super::super::file_offer::{FileOffer, FileOrigin};
use super::super::files::checksum::Checksum;
use super::super::files::note::{Digest, EndReason};
use super::content::{Content, ReadError};
use crate::trouble;

/// Where the bytes come from.
pub enum Source {
    /// A file or a folder.
    OnDisk(OnDisk),
    /// A stream.
    Stream(OnePass),
}

/// A file or a folder, which can be read from any place on.
pub struct OnDisk {
    content: Content,
    /// The checksums of its beginning, up to some places.
    sums: Vec<Checksum>,
}

/// A stream, which is read once: what the other side has not on its disk for certain is kept.
pub struct OnePass {
    stream: Box<dyn Read + Send>,
    /// The checksum up to the first byte that is kept.
    before: Checksum,
    /// What was read and is not on the other side's disk for certain.
    kept: VecDeque<u8>,
    is_at_end: bool,
}

impl Source {
    /// What is offered.
    pub fn new(offer: FileOffer) -> Self {
        match offer.into_origin() {
            FileOrigin::File { file, path, stamp } => Self::on_disk(Content::File { file, path, stamp }),
            FileOrigin::Folder { tree, .. } => Self::on_disk(Content::Folder { tree, open: None }),
            FileOrigin::Stream(stream) => {
                let (before, kept) = (Checksum::default(), VecDeque::new());
                Self::Stream(OnePass { stream, before, kept, is_at_end: false })
            }
        }
    }

    fn on_disk(content: Content) -> Self {
        Self::OnDisk(OnDisk { content, sums: Vec::new() })
    }

    /// The checksum of as much of what is before this byte as can be had at once. What is still to be read before it is
    /// up to [`read`](Self::read).
    ///
    /// # Errors
    /// It cannot be read from there on.
    pub fn start(&mut self, from: u64) -> Result<Checksum, ReadError> {
        match self {
            Self::OnDisk(on_disk) => {
                on_disk.content.check()?;
                let known = on_disk.sums.iter().rev().find(|sum| sum.position() <= from);
                Ok(known.cloned().unwrap_or_default())
            }
            Self::Stream(OnePass { before, kept, .. }) => {
                let first = before.position();
                if (first..=first + kept.len() as u64).contains(&from) {
                    return Ok(before.clone());
                }
                let words = "it is a stream, of which the other side has lost a part; send it again from its beginning";
                Err(ReadError { reason: EndReason::Failed, trouble: Some(words.to_owned()) })
            }
        }
    }

    /// Reads on behind `sum`, as much as there is room for in `buffer`, and takes it into the sum. Returns how many
    /// bytes that is; 0 at the end.
    ///
    /// # Errors
    /// It cannot be read, or has changed.
    pub fn read(&mut self, sum: &mut Checksum, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let count = match self {
            Self::OnDisk(on_disk) => on_disk.content.read(sum.position(), buffer)?,
            Self::Stream(stream) => stream.read(sum.position(), buffer)?,
        };
        sum.take(&buffer[..count]);
        if let Self::OnDisk(OnDisk { sums, .. }) = self
            && sums.last().map_or(0, Checksum::position) + SUMS_EVERY <= sum.position()
        {
            sums.push(sum.clone());
        }
        Ok(count)
    }

    /// All was read: returns its length in bytes and its digest.
    ///
    /// # Errors
    /// It has changed.
    pub fn finish(&self, sum: &Checksum) -> Result<(u64, Digest), ReadError> {
        if let Self::OnDisk(on_disk) = self {
            on_disk.content.check()?;
        }
        Ok((sum.position(), sum.digest()))
    }

    /// The other side has this on its disk up to this byte.
    pub fn let_go(&mut self, until: u64) {
        let Self::Stream(OnePass { before, kept, .. }) = self else { return };
        let count = until.saturating_sub(before.position()).min(kept.len() as u64) as usize;
        let (first, second) = kept.as_slices();
        before.take(&first[..count.min(first.len())]);
        before.take(&second[..count.saturating_sub(first.len())]);
        kept.drain(..count);
    }
}

impl OnePass {
    fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let place = usize::try_from(position - self.before.position()).unwrap_or(usize::MAX);
        if place >= self.kept.len() && !self.is_at_end {
            let count = loop {
                match self.stream.read(buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.map_err(read_error)?,
                }
            };
            self.is_at_end = count == 0;
            self.kept.extend(&buffer[..count]);
            return Ok(count);
        }
        let known = self.kept.range(place.min(self.kept.len())..).take(buffer.len());
        Ok(buffer.iter_mut().zip(known).map(|(to, from)| *to = *from).count())
    }
}

fn read_error(error: io::Error) -> ReadError {
    ReadError { reason: EndReason::Failed, trouble: Some(format!("the stream: {}", trouble::why(&error))) }
}

/// How far apart the places are from which a checksum goes on, in bytes. To read so much again takes some milliseconds.
const SUMS_EVERY: u64 = 16 * 1024 * 1024;
