//! What the system refuses, in words for people and with what to do next: never a library's, nor a number of the
//! system's. Pure.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Words of ours in an error of the system's kind. Other crates put theirs there too, so these have a type.
#[derive(Debug)]
struct Ours(String);

impl fmt::Display for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Ours {}

/// An error in words for people, which are what is said of it.
pub fn ours(kind: ErrorKind, words: impl Into<String>) -> io::Error {
    io::Error::new(kind, Ours(words.into()))
}

/// The words of an error that has some of [`ours`].
pub fn words(error: &io::Error) -> Option<String> {
    Some(error.get_ref()?.downcast_ref::<Ours>()?.0.clone())
}

/// What is said of this file.
pub fn said(path: &Path, error: &io::Error) -> String {
    format!("{}: {}", path.display(), why(error))
}

/// Why a file or folder could not be opened, read or written.
pub fn why(error: &io::Error) -> String {
    if let Some(words) = words(error) {
        return words;
    }
    match error.raw_os_error() {
        Some(ELOOP) => return "it is a symbolic link that leads to itself; remove it".to_owned(),
        Some(EIO) => return "the disk cannot read or write it; is the disk still sound?".to_owned(),
        Some(EMFILE | ENFILE) => return TOO_MANY_FILES.to_owned(),
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
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => NO_SPACE,
        ErrorKind::FileTooLarge => "no file may become so long there; look at ulimit -f, and at what the disk can hold",
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

/// Why there was no thread, no memory, no terminal, or whatever else a program needs of the system to go on.
pub fn lacking(error: &io::Error) -> String {
    if let Some(words) = words(error) {
        return words;
    }
    match (error.raw_os_error(), error.kind()) {
        (Some(EMFILE | ENFILE), _) => TOO_MANY_FILES,
        (_, ErrorKind::OutOfMemory | ErrorKind::WouldBlock | ErrorKind::StorageFull) => {
            "this machine has no memory or no place for it; end some programs, and try again"
        }
        (_, ErrorKind::PermissionDenied) => "this user may not have it; does a sandbox or a security module forbid it?",
        (_, ErrorKind::Unsupported) => "this system has no such thing; a newer one may",
        (_, ErrorKind::NotFound) => "it is not there; are /dev and /proc mounted?",
        _ => "the system does not let this program have it; is the terminal still there, and is this no sandbox?",
    }
    .to_owned()
}

/// What is said where standard output takes no more.
pub fn output(error: &io::Error) -> String {
    let why = match (error.raw_os_error(), error.kind()) {
        (_, ErrorKind::BrokenPipe) => return "whoever read standard output has closed it".to_owned(),
        (_, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            "there is no space left for it"
        }
        (Some(EIO), _) => "the terminal or the disk that it leads to is gone",
        (Some(EBADF), _) => "it is closed; start the program with one, be it > /dev/null",
        (_, ErrorKind::WouldBlock) => "whoever reads it is too slow for it, and has it so that nobody waits",
        (_, ErrorKind::ConnectionReset | ErrorKind::NotConnected) => "whoever read it is gone",
        _ => "the system does not take it; send it elsewhere, as into a file",
    };
    format!("standard output cannot be written: {why}")
}

/// Why nobody can listen at an address of this machine.
#[cfg(feature = "server")]
pub fn listening(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program listens there already",
        ErrorKind::PermissionDenied => {
            "this user may not; ports below 1024 are root's, unless CAP_NET_BIND_SERVICE is given"
        }
        ErrorKind::AddrNotAvailable => "this machine has no such address; ip addr lists those that it has",
        ErrorKind::Unsupported => "this machine does not speak that version of IP",
        _ if error.raw_os_error() == Some(EAFNOSUPPORT) => "this machine does not speak that version of IP",
        _ => return lacking(error),
    }
    .to_owned()
}

/// Why no server answers at an address of this machine.
#[cfg(feature = "server")]
pub fn answering(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there; is the server running, and are HOST and PORT its own?",
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "it takes the call and says nothing in time; is it overloaded?",
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            "it has broken the connection off"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            "there is no way to that address; is HOST right?"
        }
        ErrorKind::PermissionDenied => "this machine does not allow it; is there a firewall here?",
        _ => return lacking(error),
    }
    .to_owned()
}

/// Why the database of a cluster cannot be asked.
#[cfg(feature = "cluster")]
pub(crate) fn asking(error: &io::Error) -> String {
    if let Some(words) = words(error) {
        return words;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there; does it run, and is CLUSTER_URL right?",
        ErrorKind::NotFound => "no such socket is there; does it run, and is CLUSTER_URL right?",
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "it does not answer",
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            "it has broken the connection off"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            "there is no way to that address; is CLUSTER_URL right?"
        }
        ErrorKind::PermissionDenied => "this user may not; look at the mode of its socket, or for a firewall here",
        _ => return lacking(error),
    }
    .to_owned()
}

/// What is said of a folder in the place of a file.
pub(crate) const A_FOLDER: &str = "it is a folder, and no regular file; move it away, or name a file";

/// What is said of a pipe, a socket or a device in the place of a file.
#[cfg(feature = "chat")]
pub(crate) const NO_FILE: &str = "it is a pipe, a socket or a device, and no regular file; remove it";

const NO_SPACE: &str = "there is no space left for it; make some, and try again";

const TOO_MANY_FILES: &str = "too many files are open; end some programs, or raise ulimit -n, and try again";

// Numbers of the system for which the standard library has no kind (errno(3)).
const EIO: i32 = 5;
const EBADF: i32 = 9;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ELOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };
#[cfg(feature = "server")]
const EAFNOSUPPORT: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_number_of_the_system_nor_its_words_are_said() {
        let words = [why, lacking, output, listening, answering, asking];
        for number in 1..134 {
            let error = io::Error::from_raw_os_error(number);
            let system = error.to_string();
            let system = system.split(" (os error").next().unwrap();
            for said in words.map(|words| words(&error)) {
                assert!(!said.contains("os error") && !said.contains(system), "{system}: {said}");
            }
        }
    }

    #[test]
    fn the_words_of_another_crate_are_not_said() {
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::Other, ErrorKind::InvalidData] {
            let error = io::Error::new(kind, "see https://docs.example/");
            for said in [why, lacking, output, listening, answering, asking].map(|words| words(&error)) {
                assert!(!said.contains("docs.example"), "{said}");
            }
        }
    }

    #[test]
    fn what_is_said_fits_what_went_wrong() {
        let unreadable = io::Error::from(ErrorKind::InvalidData);
        assert_eq!(why(&unreadable), "it is no text in UTF-8; is it the right file?");
        assert_eq!(why(&ours(ErrorKind::NotFound, "ours")), "ours");
        assert_eq!(lacking(&ours(ErrorKind::NotFound, "ours")), "ours");
        let of = |words: fn(&io::Error) -> String, number| words(&io::Error::from_raw_os_error(number));
        assert!(of(why, EMFILE).contains("too many files") && of(lacking, EMFILE).contains("too many files"));
        assert!(of(why, ELOOP).contains("leads to itself"));
        assert!(of(output, EBADF).contains("it is closed"));
        assert!(of(output, 28).contains("no space"), "ENOSPC");
        assert!(of(listening, EAFNOSUPPORT).contains("version of IP"));
        assert!(of(listening, 98).contains("another program"), "EADDRINUSE of Linux");
        assert!(of(answering, 111).contains("nothing listens there"), "ECONNREFUSED of Linux");
    }
}
