//! What was written of a part is put on the disk, and then the list says so. That is done while more is written: who
//! writes does not wait for the disk.

use std::fs::File;
use std::io::{self, Write};
use std::thread::JoinHandle;

use super::super::files::checksum::Checksum;
use super::list::sum_line;
use crate::threads;

/// A thread that does it for all that was written before it began. It is waited for where this is dropped, since the
/// part is held meanwhile.
#[derive(Debug)]
pub struct Syncing(Option<JoinHandle<io::Result<u64>>>);

impl Syncing {
    /// Begins.
    ///
    /// # Errors
    /// There is no descriptor or no thread for it.
    pub fn start(part: &File, list: &File, sum: &Checksum) -> io::Result<Self> {
        let (part, mut list, sum) = (part.try_clone()?, list.try_clone()?, sum.clone());
        Ok(Self(Some(threads::spawn("files", move || sync(&part, &mut list, &sum))?)))
    }

    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for it: up to which byte the list goes.
    ///
    /// # Errors
    /// Something is not on the disk, and nobody is told a second time.
    pub fn wait(mut self) -> io::Result<u64> {
        self.0.take().map_or(Ok(0), |thread| thread.join().unwrap_or(Err(io::ErrorKind::Other.into())))
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Puts a part, of which this is the checksum, on the disk, and then a line of that into its list: up to which byte the
/// list goes. Where there is no room for the line, it goes as far as it did.
///
/// # Errors
/// Something is not on the disk.
pub fn sync(part: &File, list: &mut File, sum: &Checksum) -> io::Result<u64> {
    part.sync_data()?;
    Ok(list.write_all(sum_line(sum).as_bytes()).map_or(0, |()| sum.position()))
}
