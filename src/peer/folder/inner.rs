//! The folder for what is not whole, inside of the one for what is. Somebody else may have made it, or may write in it;
//! so it is judged before anything in it is read, written or removed.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;

use super::failure::Failure;
use crate::trouble;

/// Makes it, if it is not there.
///
/// # Errors
/// It cannot be made, or what is there is not for us alone.
pub fn make(path: &Path) -> Result<(), Failure> {
    match create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Failure::at(path)(error)),
        _ => check(path),
    }
}

/// Looks at it where it is there, before anybody is told that files can come. A full disk is told of once one comes.
///
/// # Errors
/// It is not for us alone.
pub fn check_if_there(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path).and(Ok(check(path))) {
        Ok(Err(Failure::Other(why))) => Err(trouble::ours(ErrorKind::PermissionDenied, why)),
        _ => Ok(()),
    }
}

/// Whether nobody else could have put anything into it.
///
/// # Errors
/// What is there is not for us alone, or there is none.
pub fn check(path: &Path) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(path).map_err(Failure::at(path))?;
    let refuse = |why: &str| Err(Failure::Other(format!("{}: {why}", path.display())));
    if !metadata.is_dir() {
        return refuse("it is no folder, where one for parts of files is to be; move it away");
    }
    let (owner, others) = (metadata.uid(), writers(&metadata));
    if (owner, others) == (geteuid().as_raw(), 0) {
        return Ok(());
    }
    // Some disks know no owners, or no modes: there one that we make looks no better.
    let own = beside(path, create).map_err(Failure::at(path))?;
    if owner != own.uid() {
        return refuse("it belongs to somebody else, who could change what comes; choose another folder");
    }
    if others & !writers(&own) != 0 {
        return refuse("others on this machine may write in it; look what is there, then chmod 700 it");
    }
    Ok(())
}

/// What a folder has that we make beside this one, by `create`. It does not stay. Where a full disk has no room for it,
/// an empty file says the same: FAT and its like have one owner for all, and the same mode for files and folders unless
/// they were mounted otherwise, and take room for a folder alone.
fn beside(path: &Path, create: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Metadata> {
    let name = format!("{}.{:016x}", path.file_name().unwrap_or_default().display(), fastrand::u64(..));
    let path = path.with_file_name(name);
    match create(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let metadata = file.metadata();
            fs::remove_file(&path)?;
            metadata
        }
        created => {
            created?;
            let metadata = fs::symlink_metadata(&path);
            fs::remove_dir(&path)?;
            metadata
        }
    }
}

/// Nobody else looks at what is not whole; so a part may have the mode that the whole is to have.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Who may write besides its owner.
fn writers(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o022
}

#[cfg(test)]
mod tests {
    use super::super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn where_a_full_disk_has_no_room_for_a_folder_an_empty_file_says_what_one_would_look_like() {
        let scratch = Scratch::made("folder-beside");
        let inner = scratch.0.join(".lowkey");
        let seen = |kind: Option<ErrorKind>| {
            let own = beside(&inner, |path| kind.map_or_else(|| create(path), |kind| Err(kind.into())));
            assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0, "nothing stays");
            own.map(|own| (own.is_dir(), own.uid(), writers(&own))).map_err(|error| error.kind())
        };
        let owner = geteuid().as_raw();
        assert_eq!(seen(None), Ok((true, owner, 0)));
        assert_eq!(seen(Some(ErrorKind::StorageFull)), Ok((false, owner, 0)));
        assert_eq!(seen(Some(ErrorKind::QuotaExceeded)), Ok((false, owner, 0)));
        assert_eq!(seen(Some(ErrorKind::ReadOnlyFilesystem)), Err(ErrorKind::ReadOnlyFilesystem));
    }
}
