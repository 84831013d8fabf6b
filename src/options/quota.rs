//! Files that a program takes without asking: whose, and how much of them. What was taken stands in a [`Ledger`], which
//! lasts as long as the program. Pure.

use std::collections::HashMap;

use clap::Args;

use super::amount::Amount;
use crate::peer::keys::PublicKey;
use crate::peer::{ComingFile, EndReason, FileId};

/// The options that bound what is taken without asking.
#[derive(Debug, Clone, Args)]
pub struct QuotaOptions {
    /// The longest file that is taken so
    #[arg(long, value_name = "BYTES", default_value = "1G", requires = "accept_files")]
    pub max_file: Amount,
    /// How much the folder may hold in all
    #[arg(long, value_name = "BYTES", default_value = "10G", requires = "accept_files")]
    pub max_files: Amount,
    /// How much one sender may put there as long as the program runs
    #[arg(long, value_name = "BYTES", default_value = "5G", requires = "accept_files")]
    pub max_peer: Amount,
    /// How many files one sender may put there as long as the program runs
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, requires = "accept_files")]
    pub max_count: u64,
}

impl QuotaOptions {
    /// The quota that these options allow.
    pub fn quota(&self) -> Quota {
        let Self { max_file, max_files, max_peer, max_count } = self;
        Quota { of_one: max_file.0, of_all: max_files.0, of_peer: max_peer.0, count: *max_count }
    }
}

/// How much is taken without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The longest file, in bytes.
    pub of_one: u64,
    /// All bytes that the folder may hold.
    pub of_all: u64,
    /// The bytes that one sender may put there.
    pub of_peer: u64,
    /// How many files one sender may put there.
    pub count: u64,
}

/// Whose calls or files are taken without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Accepts {
    /// Those of nobody.
    #[default]
    None,
    /// Those of everybody.
    All,
    /// Those of some; others are ignored.
    Only {
        /// The names of those.
        names: Vec<String>,
        /// Whether those who were seen before are meant, too.
        with_known: bool,
    },
}

impl Accepts {
    /// Whether somebody of this name, who was seen before or was not, may call and send files.
    pub fn is_for(&self, peer: &str, is_known: bool) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Only { names, with_known } => *with_known && is_known || names.iter().any(|name| name == peer),
        }
    }
}

/// The files that were taken without asking, and whose they were.
#[derive(Debug, Default)]
pub struct Ledger {
    senders: HashMap<PublicKey, Given>,
    coming: HashMap<(String, FileId), (PublicKey, u64)>,
    count: u64,
}

/// What somebody has sent or is sending.
#[derive(Debug, Default)]
struct Given {
    bytes: u64,
    count: u64,
}

impl Ledger {
    /// Enters a file of this length; one of which nobody knows the length counts as the longest.
    ///
    /// # Errors
    /// Why it is not taken: it, or all of its sender's, would be more than the quota; also in words, for people here.
    pub fn take(
        &mut self,
        (peer, file): (&str, FileId),
        sender: PublicKey,
        size: Option<u64>,
        quota: Quota,
    ) -> Result<(), (EndReason, &'static str)> {
        if size.is_some_and(|size| size > quota.of_one) {
            return Err((EndReason::TooLarge, "it is longer than --max-file allows"));
        }
        // It is asked for anew.
        self.end(peer, file, None);
        let size = size.unwrap_or(quota.of_one);
        let given = self.senders.get(&sender);
        let (bytes, count) = given.map_or((0, 0), |given| (given.bytes, given.count));
        if self.count >= MAX_COUNT {
            return Err((EndReason::TooMany, "as many files were taken as one start of the program takes"));
        }
        if count >= quota.count {
            return Err((EndReason::TooMany, "its sender has put as many files there as --max-count allows"));
        }
        let bytes = bytes.saturating_add(size);
        if bytes > quota.of_peer {
            return Err((EndReason::NoSpace, "with it, its sender would have put more there than --max-peer allows"));
        }
        self.count += 1;
        self.senders.insert(sender, Given { bytes, count: count + 1 });
        self.coming.insert((peer.to_owned(), file), (sender, size));
        Ok(())
    }

    /// A file has come, with so many bytes; or it has not come (`None`), and counts for nothing.
    pub fn end(&mut self, peer: &str, file: FileId, came: Option<u64>) {
        let Some((sender, size)) = self.coming.remove(&(peer.to_owned(), file)) else { return };
        let Some(given) = self.senders.get_mut(&sender) else { return };
        given.bytes = given.bytes.saturating_sub(size).saturating_add(came.unwrap_or(0));
        if came.is_none() {
            (self.count, given.count) = (self.count - 1, given.count - 1);
            if given.count == 0 {
                self.senders.remove(&sender);
            }
        }
    }

    /// The files that were taken and have not come to their end, but for this one.
    pub fn coming_beside(&self, peer: &str, file: FileId) -> Vec<ComingFile> {
        let others = self.coming.iter().filter(|((from, other), _)| (&**from, *other) != (peer, file));
        others.map(|((_, file), (_, size))| ComingFile { file: *file, size: *size, done: 0 }).collect()
    }
}

/// How many files are taken without asking of all senders together, as long as the program runs: who makes up ever new
/// names is not to use up all inodes of a disk.
const MAX_COUNT: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::keys::KeyPair;

    fn file(number: u64) -> FileId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        FileId(id)
    }

    #[test]
    fn each_sender_has_so_many_bytes_and_files_and_what_does_not_come_counts_for_nothing() {
        let quota = Quota { of_one: 100, of_all: 10_000, of_peer: 250, count: 3 };
        let [alice, bob] = [(); 2].map(|()| KeyPair::generate().public());
        let mut ledger = Ledger::default();
        let mut take =
            |sender, number, size| ledger.take(("x", file(number)), sender, size, quota).map_err(|(reason, _)| reason);
        assert_eq!(take(alice, 0, Some(101)), Err(EndReason::TooLarge));
        assert_eq!(take(alice, 1, Some(100)), Ok(()));
        assert_eq!(take(alice, 1, Some(100)), Ok(()), "the same once more counts once");
        assert_eq!(take(alice, 2, None), Ok(()), "it counts as the longest");
        assert_eq!(take(alice, 3, Some(51)), Err(EndReason::NoSpace));
        assert_eq!(take(bob, 3, Some(51)), Ok(()), "that is nobody else's affair");
        let coming = |ledger: &Ledger, beside: u64| -> u64 {
            ledger.coming_beside("x", file(beside)).iter().map(|coming| coming.size).sum()
        };
        assert_eq!((coming(&ledger, 0), coming(&ledger, 3)), (251, 200));
        ledger.end("x", file(2), Some(10));
        assert_eq!(coming(&ledger, 0), 151);
        let mut take =
            |number, size| ledger.take(("x", file(number)), alice, Some(size), quota).map_err(|(reason, _)| reason);
        assert_eq!(take(4, 100), Ok(()), "it was shorter");
        assert_eq!(take(5, 0), Err(EndReason::TooMany));
        ledger.end("x", file(4), None);
        assert_eq!(ledger.take(("x", file(5)), alice, Some(0), quota), Ok(()));
        ledger.end("x", file(9), None);
    }

    #[test]
    fn all_together_have_so_many_files_whatever_they_call_themselves() {
        let quota = Quota { of_one: 100, of_all: 10_000, of_peer: 250, count: u64::MAX };
        let sender = KeyPair::generate().public();
        let mut ledger = Ledger::default();
        for number in 0..MAX_COUNT {
            assert_eq!(ledger.take(("x", file(number)), sender, Some(0), quota), Ok(()));
            ledger.end("x", file(number), Some(0));
        }
        let other = KeyPair::generate().public();
        assert!(matches!(ledger.take(("y", file(0)), other, Some(0), quota), Err((EndReason::TooMany, _))));
    }
}
