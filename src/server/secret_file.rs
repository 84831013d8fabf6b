//! The files that hold the server's secrets. One that others on this machine could have written says who may come in by
//! their word, so it is refused, as the programs of a peer refuse such a one of theirs. What is looked at is the open
//! file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use log::info;

use crate::{trouble, waiting};

/// The text of the file.
///
/// # Errors
/// It cannot be read, is too large, or others could have written it; for people, as what comes behind "but".
pub fn read(path: &str) -> Result<String, String> {
    let tell = |words| info!("{words}");
    waiting::for_what_comes(Path::new(path), tell, || text_of(File::open(path).map_err(|error| trouble::why(&error))?))
}

/// The same while the server runs. To open a pipe is to wait for whoever writes to it, and all users with it, so it has
/// to be a file.
///
/// # Errors
/// As of [`read`], or it is no file.
pub fn read_again(path: &str) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| trouble::why(&error))?;
    if !metadata.is_file() {
        return Err("it is no regular file, and a server that runs waits for no pipe".to_owned());
    }
    read(path)
}

fn text_of(file: File) -> Result<String, String> {
    let metadata = file.metadata().map_err(|error| trouble::why(&error))?;
    // A pipe is whoever's opened it.
    if metadata.is_file() {
        judge(metadata.mode(), metadata.uid(), own_uid())?;
    }
    let mut bytes = Vec::new();
    let mut start = file.take(MAX_BYTES + 1);
    let length = start.read_to_end(&mut bytes).map_err(|error| trouble::why(&error))?;
    if length as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| trouble::why(&io::ErrorKind::InvalidData.into()))
}

/// Whether only this user, `own`, and root could have written a file with this mode and owner. A group that may is
/// one that was made for it, as a rule.
fn judge(mode: u32, owner: u32, own: Option<u32>) -> Result<(), String> {
    if owner != 0 && own.is_some_and(|own| own != owner) {
        let own = own.unwrap_or_default();
        return Err(format!(
            "this one belongs to another user of this machine (uid {owner}), who could change it; chown it to {own} or \
             root"
        ));
    }
    if mode & 0o002 != 0 {
        return Err(
            "all users of this machine may write this one; see that it is as you left it, then chmod go-w".to_owned()
        );
    }
    Ok(())
}

/// The user that this program acts as, the second of the four numbers that Linux tells (proc_pid_status(5)). Where
/// there is no such file, that is not known.
fn own_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// More is no list of secrets, but the wrong file, perhaps one without an end: a megabyte holds thousands of tokens.
const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_none_and_a_pipe_is_waited_for_at_the_start_alone() {
        assert!(read("/dev/zero").unwrap_err().contains("more than 1048576 bytes"));
        for no_file in ["/dev/zero", "/dev/stdin", "/proc"] {
            assert!(read_again(no_file).is_err(), "{no_file}");
        }
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let judged = |mode: u32, owner| judge(0o100_000 | mode, owner, Some(1000)).err().unwrap_or_default();
        for mode in [0o600, 0o400, 0o440, 0o640, 0o644, 0o660] {
            assert_eq!((judged(mode, 1000), judged(mode, 0)), (String::new(), String::new()), "{mode:o}");
            assert!(judged(mode, 7).contains("uid 7"), "{mode:o}");
        }
        for mode in [0o666, 0o602, 0o777] {
            assert!(judged(mode, 1000).contains("chmod go-w") && judged(mode, 0).contains("chmod go-w"), "{mode:o}");
        }
        assert_eq!(judge(0o600, 7, None), Ok(()), "who this is cannot be told");
        assert!(own_uid().is_some() || fs::metadata("/proc/self").is_err());
    }
}
