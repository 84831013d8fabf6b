//! What is wrong with a file, in words for people and with what to do next: never a library's, nor a number of the system's. Pure.

use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;

/// What is said of this file.
pub fn said(path: &Path, error: &io::Error) -> String {
    format!("{}: {}", path.display(), why(error))
}

/// Why a file or folder could not be opened, read or written.
pub fn why(error: &io::Error) -> String {
    if let Some(words) = error.get_ref() {
        // These are words of ours.
        return words.to_string();
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => return "it is a link that leads to itself; remove it".to_owned(),
        Some(Errno::EMFILE | Errno::ENFILE) => {
            return "too many files are open; end some programs, and try again".to_owned();
        }
        Some(Errno::EIO) => return "the disk cannot read or write it; is the disk still sound?".to_owned(),
        _ => {}
    }
    match error.kind() {
        ErrorKind::NotFound => "it, or the folder for it, is not there; is the path right?",
        ErrorKind::PermissionDenied => "this user may not read or write it; look at its owner and mode with ls -l",
        ErrorKind::IsADirectory => A_FOLDER,
        ErrorKind::NotADirectory => {
            "a part of that path is a file, where a folder is to be; are the path, HOME and XDG_CONFIG_HOME right?"
        }
        ErrorKind::AlreadyExists => "something else is there already; move it away first",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "there is no space left for it; make some, and try again"
        }
        ErrorKind::ReadOnlyFilesystem => "the disk that it is on can only be read; keep it elsewhere",
        ErrorKind::InvalidData => "it is no text in UTF-8; is it the right file?",
        ErrorKind::InvalidFilename => "no file can have that name; choose a shorter one",
        ErrorKind::BrokenPipe => "whoever read it has closed it",
        ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut | ErrorKind::HostUnreachable => {
            "the disk that it is on is out of reach; is the network up?"
        }
        _ => "the system does not let it be used; look at it with ls -l",
    }
    .to_owned()
}

/// What is said of a folder in the place of a file.
pub const A_FOLDER: &str = "it is a folder, and no regular file; move it away, or name a file";

/// What is said of a pipe, a socket or a device in the place of a file.
pub const NO_FILE: &str = "it is a pipe, a socket or a device, and no regular file; remove it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_the_system_is_said() {
        for number in 1..134 {
            let words = why(&io::Error::from_raw_os_error(number));
            assert!(!words.contains("os error") && !words.contains(&Errno::from_raw(number).to_string()), "{words}");
        }
        let unreadable = io::Error::from(ErrorKind::InvalidData);
        assert_eq!(why(&unreadable), "it is no text in UTF-8; is it the right file?");
        assert_eq!(why(&io::Error::other("ours")), "ours");
    }
}
