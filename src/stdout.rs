//! Standard output, as texts and files are written to it. The standard library takes a write that fails since the
//! stream can only be read for one that was done (`EBADF`), so that a text would count as stored that nobody has.
//!
//! One that is closed at the start it replaces by `/dev/null` before `main`, and so texts are acknowledged that went
//! nowhere, as where somebody has meant `/dev/null`. The two cannot be told apart later. What is put in place of a
//! closed stream is open for reading and writing, and a shell's `>/dev/null` for writing alone; but Python's
//! `subprocess.DEVNULL`, Node's `ignore` and daemon(3) open it both ways too, and who starts us so means it. To look
//! before the standard library does takes code that runs before `main`, which is unsafe to write.

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
