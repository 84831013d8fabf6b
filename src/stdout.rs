//! Standard output, as texts and files are written to it. The standard library takes a write that fails since the
//! stream can only be read for one that was done (`EBADF`), so that a text would count as stored that nobody has. One
//! that is closed at the start it replaces by `/dev/null`, which nobody can tell from a `/dev/null` that was meant.

use std::io;

use nix::errno::Errno;
use nix::unistd;

/// Writes all of it at once: nothing stays in a buffer.
///
/// # Errors
/// It cannot be written: whoever read it is gone, the disk is full, or it was opened to be read.
pub fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match unistd::write(io::stdout(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
