//! How the files of a profile are read and written: as a whole, by one program at a time, and readable by their user
//! alone.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::trouble::{self, A_FOLDER, NO_FILE};

/// Locks a file for a change: whoever else changes it waits as long as what comes back is held.
pub fn lock(folder: &Path, name: &str) -> io::Result<File> {
    create_folder(folder)?;
    let path = folder.join(format!("{name}.lock"));
    // Whoever is told names the file that is to be changed.
    let said = |error: io::Error| trouble::ours(error.kind(), format!("its lock, {}", trouble::said(&path, &error)));
    let lock = open(&path, OpenOptions::new().create(true).truncate(false).write(true).mode(0o600)).map_err(said)?;
    lock.lock().map_err(said)?;
    Ok(lock)
}

/// Writes beside the file and renames, so that nobody ever finds half of it. Where a symbolic link stands in its place,
/// as some keep their settings elsewhere, the file is replaced that it leads to.
///
/// # Errors
/// What is there is no regular file, such as a device, and must not be replaced; or it cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    create_folder(folder)?;
    let path = target(&folder.join(name))?;
    let beside = write_beside(&path, name, text)?;
    let written = fs::rename(&beside, &path);
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Writes a file that is not there, or is empty; one that another program has made in the meantime stays.
pub fn create(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    create_folder(folder)?;
    let path = folder.join(name);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
        fs::remove_file(&path)?;
    }
    let beside = write_beside(&path, name, text)?;
    let created = match fs::hard_link(&beside, &path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    let _ = fs::remove_file(&beside);
    created
}

/// Appends a line to a file, which is made if it is not there. Where somebody was ended in the middle of a line, or the
/// disk was full, that line is ended first, so that no other is lost with it.
pub fn append(folder: &Path, name: &str, line: &str) -> io::Result<()> {
    create_folder(folder)?;
    let mut file = open(&folder.join(name), OpenOptions::new().create(true).read(true).append(true).mode(0o600))?;
    let mut last = [0];
    let length = file.metadata()?.len();
    let is_broken = length > 0 && file.read_at(&mut last, length - 1)? == 1 && last != *b"\n";
    // In one piece, because others may append too.
    file.write_all(format!("{}{line}", if is_broken { "\n" } else { "" }).as_bytes())
}

/// The end of a file, of so many bytes at most; nothing where there is none. It may begin within a line.
pub fn read_end(path: &Path, length: u64) -> io::Result<String> {
    let mut file = match open(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(length)))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a regular file, without waiting for whoever is at the other end of a pipe. What is looked at is the open file,
/// so that nobody can put another in its place in between.
///
/// # Errors
/// It is something else: to read or write that could last for ever, or do something else than to read and write. The
/// null device, which some lead a file to that they do not want, is let pass.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let opened = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let metadata = match &opened {
        Ok(file) => file.metadata(),
        // A pipe that nobody reads, or a socket, does not open; what the system says of that is no help.
        Err(_) => fs::metadata(path),
    };
    match metadata {
        Ok(metadata) if metadata.is_dir() => Err(trouble::ours(ErrorKind::IsADirectory, A_FOLDER)),
        Ok(metadata) if !metadata.is_file() && !is_null(&metadata) => {
            Err(trouble::ours(ErrorKind::InvalidInput, NO_FILE))
        }
        _ => opened,
    }
}

fn is_null(metadata: &Metadata) -> bool {
    let is_it = |null: Metadata| null.rdev() == metadata.rdev();
    metadata.file_type().is_char_device() && fs::metadata("/dev/null").is_ok_and(is_it)
}

pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Where a file is to be written that stands, or is to stand, at `path`.
fn target(path: &Path) -> io::Result<PathBuf> {
    let refuse = |reason: &str| Err(trouble::ours(ErrorKind::InvalidInput, reason));
    let is_link = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path.to_owned()),
        metadata => metadata?.is_symlink(),
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::canonicalize(path),
        Ok(_) if is_link => refuse("it is a symbolic link to something that is no regular file, which is not replaced"),
        Ok(_) => refuse("it is no regular file, and is not replaced"),
        Err(error) if is_link && error.kind() == ErrorKind::NotFound => {
            refuse("it is a symbolic link that leads to nothing; remove it, or make the file that it is to lead to")
        }
        Err(error) => Err(error),
    }
}

/// Writes a new file beside the one at `path`, and returns where. What somebody has left there who was ended too early
/// is in nobody's way.
fn write_beside(path: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    loop {
        let beside = path.with_file_name(format!("{name}.{:016x}", fastrand::u64(..)));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            opened => {
                let mut file = opened?;
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                if written.is_err() {
                    let _ = fs::remove_file(&beside);
                }
                return written.map(|()| beside);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_last_line_takes_no_other_with_it() {
        let folder = std::env::temp_dir().join(format!("lowkey-append-{:016x}", fastrand::u64(..)));
        for (before, after) in [(None, "new\n"), (Some("old\n"), "old\nnew\n"), (Some("bro"), "bro\nnew\n")] {
            let path = folder.join("log");
            before.into_iter().for_each(|text| fs::write(&path, text).unwrap());
            append(&folder, "log", "new\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_left_beside_a_file_is_in_nobodys_way() {
        let folder = std::env::temp_dir().join(format!("lowkey-beside-{:016x}", fastrand::u64(..)));
        create_folder(&folder).unwrap();
        // As a program with our number would have left it, and one that was lucky in its guess.
        fastrand::seed(7);
        let guess = format!("new.{:016x}", fastrand::u64(..));
        for name in [format!("new.{}", std::process::id()), guess] {
            fs::write(folder.join(name), "half").unwrap();
        }
        fastrand::seed(7);
        create(&folder, "new", "one").unwrap();
        fastrand::seed(7);
        write(&folder, "new", "two").unwrap();
        assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "nothing more is left");
        fs::remove_dir_all(folder).unwrap();
    }
}
