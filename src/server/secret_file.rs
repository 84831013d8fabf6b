//! The files that hold the server's secrets. One that others on this machine could have written says who may come in by
//! their word, so it is refused, as the programs of a peer refuse such a one of theirs. What is looked at is the open
//! file.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::trouble;

/// The text of the file.
///
/// # Errors
/// It cannot be read, or others could have written it; for people, as what comes behind "but".
pub fn read(path: &str) -> Result<String, String> {
    let mut file = File::open(path).map_err(|error| trouble::why(&error))?;
    let metadata = file.metadata().map_err(|error| trouble::why(&error))?;
    // A pipe is whoever's opened it.
    if metadata.is_file() {
        judge(metadata.mode(), metadata.uid(), own_uid())?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| trouble::why(&error))?;
    Ok(text)
}

/// Whether only this user, `own`, and root could have written a file with this mode and owner. A group that may is
/// one that was made for it, as a rule.
fn judge(mode: u32, owner: u32, own: Option<u32>) -> Result<(), String> {
    if owner != 0 && own.is_some_and(|own| own != owner) {
        let own = own.unwrap_or_default();
        return Err(format!(
            "this one belongs to another user of this machine (uid {owner}), who could change it; chown it to {own} or root"
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

#[cfg(test)]
mod tests {
    use super::*;

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
