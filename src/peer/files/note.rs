//! What two peers say to each other about files, in numbered frames beside their texts. Pure.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name that both sides have for a file. The same file that is offered to the same peer again has the same, as long
/// as nobody changes it, so that it goes on where it was left; what is read from a stream has one of its own each time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(pub [u8; 16]);

/// The SHA-256 of a file, or of its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// A word about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// May I send this?
    Offer {
        /// The file's id.
        file: FileId,
        /// Its name, as the sender has it. It may hold anything.
        name: String,
        /// Its length in bytes; `None` where that is not known before its end.
        size: Option<u64>,
        /// When it was changed last, in seconds since 1970.
        modified: Option<u64>,
        /// How many files and folders are in it, where it is a folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
    },
    /// Yes, or go on: begin at this byte.
    Take {
        /// The file's id.
        file: FileId,
        /// Its number among the takes of this receiver in this chat: the bytes that are sent for it begin with that.
        number: u64,
        /// The first byte to send. What is before it is on the disk.
        from: u64,
        /// The digest of what is before `from`; `None` at the beginning. (The wire's word for it, and no proof of who
        /// somebody is.)
        proof: Option<Digest>,
    },
    /// No, or no longer.
    Refuse {
        /// The file's id.
        file: FileId,
        /// Why it ends.
        reason: EndReason,
    },
    /// It is not offered any more.
    Withdraw {
        /// The file's id.
        file: FileId,
        /// Why it ends.
        reason: EndReason,
    },
    /// All of it is on the disk, under its name, and what was sent.
    Done {
        /// The file's id.
        file: FileId,
        /// Its length in bytes.
        size: u64,
        /// Its digest.
        digest: Digest,
    },
}

/// Why a file was not sent, or no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The receiver does not want it.
    Declined,
    /// The receiver takes no files.
    NotAccepting,
    /// It is longer than the receiver takes.
    TooLarge,
    /// Too many are offered at once.
    TooMany,
    /// The receiver has no room for it.
    NoSpace,
    /// Somebody has ended it.
    Cancelled,
    /// The file has changed while it was sent.
    Changed,
    /// What came is not what was sent.
    Damaged,
    /// Nobody has answered in time.
    Expired,
    /// There is no chat with that peer. Said on this side alone.
    #[serde(skip)]
    NotOpen,
    /// The other side's program knows nothing of files. Said on this side alone.
    #[serde(skip)]
    Unsupported,
    /// The chat has ended before. Said on this side alone.
    #[serde(skip)]
    ChatEnded,
    /// It could not be read or stored.
    #[serde(other)]
    Failed,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Declined => "declined",
            Self::NotAccepting => "the other side takes no files",
            Self::TooLarge => "it is longer than the other side takes",
            Self::TooMany => "too many files are offered at once; wait until some are done",
            Self::NoSpace => "there is no room for it on the receiver's disk",
            Self::Cancelled => "cancelled",
            Self::Changed => "the file has changed while it was sent; offer it again",
            Self::Damaged => "what came is not what was sent; offer it again",
            Self::Expired => "nobody has answered in time",
            Self::NotOpen => "no chat is open",
            Self::Unsupported => "the other side's program takes no files",
            Self::ChatEnded => "the chat has ended",
            Self::Failed => "it could not be read or stored",
        })
    }
}

/// Why nothing of a file moves for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseReason {
    /// Our disk is full, or we may not have more of it. It is tried again for a minute.
    NoSpace,
    /// The other side has taken nothing for half a minute: its disk is full, or very slow.
    Stalled,
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "the disk is full; make room within a minute",
            Self::Stalled => "the other side takes nothing at the moment",
        })
    }
}

impl Note {
    /// The note as it is sent.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("notes serialize")
    }

    /// Reads a note. `None` where it is one that is not known, or none; that has no effect.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

impl fmt::Display for FileId {
    /// As base64url, as it stands in a note.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for FileId {
    type Err = NoFileId;

    fn from_str(text: &str) -> Result<Self, NoFileId> {
        decoded(text).map(Self).ok_or(NoFileId)
    }
}

/// A text is not the id of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFileId;

impl fmt::Display for NoFileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a file has 22 characters of base64url, as the event that told of it said")
    }
}

impl std::error::Error for NoFileId {}

impl fmt::Display for Digest {
    /// As `sha256sum` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl Serialize for FileId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes(deserializer).map(Self)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes(deserializer).map(Self)
    }
}

fn bytes<'de, D: Deserializer<'de>, const LENGTH: usize>(deserializer: D) -> Result<[u8; LENGTH], D::Error> {
    let text = String::deserialize(deserializer)?;
    decoded(&text).ok_or_else(|| serde::de::Error::custom("not so many bytes in base64url"))
}

fn decoded<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The longest note, in bytes. The longest name that a system knows is a quarter of that.
const MAX_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let file = FileId([1; 16]);
        for (note, text) in [
            (
                Note::Offer { file, name: "ä\n.pdf".to_owned(), size: Some(u64::MAX), modified: None, entries: None },
                concat!(
                    r#"{"note":"offer","file":"AQEBAQEBAQEBAQEBAQEBAQ","name":"ä\n.pdf","#,
                    r#""size":18446744073709551615,"modified":null}"#
                ),
            ),
            (
                Note::Offer { file, name: "a".to_owned(), size: Some(7), modified: None, entries: Some(2) },
                concat!(
                    r#"{"note":"offer","file":"AQEBAQEBAQEBAQEBAQEBAQ","name":"a","#,
                    r#""size":7,"modified":null,"entries":2}"#
                ),
            ),
            (
                Note::Take { file, number: 3, from: 0, proof: None },
                r#"{"note":"take","file":"AQEBAQEBAQEBAQEBAQEBAQ","number":3,"from":0,"proof":null}"#,
            ),
            (
                Note::Refuse { file, reason: EndReason::NotAccepting },
                r#"{"note":"refuse","file":"AQEBAQEBAQEBAQEBAQEBAQ","reason":"not_accepting"}"#,
            ),
            (
                Note::Done { file, size: 7, digest: Digest([0; 32]) },
                concat!(
                    r#"{"note":"done","file":"AQEBAQEBAQEBAQEBAQEBAQ","size":7,"#,
                    r#""digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#
                ),
            ),
        ] {
            assert_eq!(note.write(), text);
            assert_eq!(Note::read(text.as_bytes()), Some(note));
        }
    }

    #[test]
    fn what_is_not_known_has_no_effect() {
        let done = |file: &str| format!(r#"{{"note":"refuse","file":"{file}","reason":"declined","more":1}}"#);
        assert!(Note::read(done("AQEBAQEBAQEBAQEBAQEBAQ").as_bytes()).is_some(), "a member of a later version");
        let other = r#"{"note":"refuse","file":"AQEBAQEBAQEBAQEBAQEBAQ","reason":"a later one"}"#;
        let failed = Note::Refuse { file: FileId([1; 16]), reason: EndReason::Failed };
        assert_eq!(Note::read(other.as_bytes()), Some(failed));
        for bad in [&*done("AQ"), &done("AQEBAQEBAQEBAQEBAQEBAQ=="), r#"{"note":"later"}"#, "[]", "", "{\"note\":"] {
            assert_eq!(Note::read(bad.as_bytes()), None, "{bad}");
        }
        let long = Note::Offer {
            file: FileId([1; 16]),
            name: "x".repeat(MAX_BYTES),
            size: None,
            modified: None,
            entries: None,
        };
        assert_eq!(Note::read(long.write().as_bytes()), None);
    }
}
