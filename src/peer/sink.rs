//! Where a file is to go that somebody offers.

use std::fmt;
use std::io::Write;

use super::folder::Folder;

/// Where a file that is taken goes.
pub struct Sink {
    pub(super) to: Target,
    /// The most bytes that are taken, where the sender does not know how many there are.
    pub(super) at_most: u64,
}

/// A folder, or a stream.
pub enum Target {
    /// Into a folder, by this name or by the one that it was offered by.
    Folder(Folder, Option<String>),
    /// Into a stream.
    Write(Box<dyn Write + Send>),
}

impl Sink {
    /// Into a folder. It gets a name like the one that it was offered by, once it is whole; if a file there has that
    /// name already, a number is put behind it.
    pub fn folder(folder: Folder) -> Self {
        Self { to: Target::Folder(folder, None), at_most: u64::MAX }
    }

    /// Into a folder, by a name of one's own choice. It is made harmless as others' names are, and changed in the same
    /// way where it is taken.
    pub fn folder_as(folder: Folder, name: impl Into<String>) -> Self {
        Self { to: Target::Folder(folder, Some(name.into())), at_most: u64::MAX }
    }

    /// Into a stream, as it comes. It is seen only at its end whether it is what was sent: see
    /// [`Event::FileReceived`](crate::peer::Event::FileReceived).
    pub fn write(stream: impl Write + Send + 'static) -> Self {
        Self { to: Target::Write(Box::new(stream)), at_most: u64::MAX }
    }

    /// Whether what comes of a file is kept where it does not come to its end.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.to, Target::Folder(..))
    }

    /// No more bytes than this are taken, also where the sender does not say how many there are; what has more ends as
    /// [`EndReason::TooLarge`](super::EndReason::TooLarge).
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.at_most = bytes;
        self
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match &self.to {
            Target::Folder(folder, name) => format!("{folder:?} as {name:?}"),
            Target::Write(_) => "a stream".to_owned(),
        };
        f.debug_struct("Sink").field("to", &to).field("at_most", &self.at_most).finish()
    }
}
