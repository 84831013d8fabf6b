//! A folder as it is sent: one sequence of bytes, in which each file and each folder below it has a header, and each
//! file its bytes behind that. So a folder is a file like any other until all of it has come and is what was sent; only
//! then are its headers looked at, and a folder made of it. What a header says is somebody else's: here stands which
//! place each entry is given, or why the whole is refused. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::name;

/// The header of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place below the folder that is sent, a component each.
    pub path: Vec<String>,
    /// The length of a file in bytes; `None` of a folder.
    pub size: Option<u64>,
    /// When a file was changed last, in seconds since 1970.
    pub modified: Option<u64>,
}

impl Entry {
    /// The header as it is sent: the length of what follows in four bytes, and JSON.
    pub fn header(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("headers serialize");
        [&(json.len() as u32).to_be_bytes(), &*json].concat()
    }

    /// The header of this JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn read(json: &[u8]) -> Result<Self, UnfitEntry> {
        serde_json::from_slice(json).map_err(|_| UnfitEntry::Header)
    }
}

/// How many bytes of JSON follow.
///
/// # Errors
/// So long is no header.
pub(crate) fn json_length(length: [u8; 4]) -> Result<usize, UnfitEntry> {
    let length = u32::from_be_bytes(length) as usize;
    if length <= MAX_HEADER { Ok(length) } else { Err(UnfitEntry::Header) }
}

/// Where the entries of a folder go below the one that is made of it.
#[derive(Debug, Default)]
pub(crate) struct Places {
    folders: HashMap<Vec<String>, Inside>,
    left: u64,
}

/// What is in a folder.
#[derive(Debug, Default)]
struct Inside {
    /// Where it is.
    stored: PathBuf,
    /// The names in it as they came.
    names: HashSet<String>,
    /// The names in it as they are stored, without regard to case, each with the number of the last one like it.
    taken: HashMap<String, u32>,
}

/// What is wrong with an entry, and so with the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnfitEntry {
    /// It has no header.
    Header,
    /// It has no name, or one that leads elsewhere.
    Name,
    /// It is too deep, or its path is too long.
    Deep,
    /// It is in no folder that came before, or came before itself.
    Order,
    /// There are more than were offered.
    Many,
}

impl fmt::Display for UnfitEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "what came is no folder as Lowkey sends it, so nothing of it is kept",
            Self::Name => "a name in the folder leads elsewhere, so nothing of it is kept",
            Self::Deep => "the folder is too deep, so nothing of it is kept",
            Self::Order => "the folder has an entry twice or at no place, so nothing of it is kept",
            Self::Many => "the folder holds more than was offered, so nothing of it is kept",
        })
    }
}

impl Places {
    /// Of a folder with so many entries at most.
    pub fn new(entries: u64) -> Self {
        Self { folders: HashMap::from([(Vec::new(), Inside::default())]), left: entries.min(MAX_ENTRIES) }
    }

    /// Where this entry goes: a path of components that lead nowhere else, of which all but the last are folders that
    /// have come. No two entries have the same place on any system.
    ///
    /// # Errors
    /// [`UnfitEntry`].
    pub fn place(&mut self, entry: &Entry) -> Result<PathBuf, UnfitEntry> {
        self.left = self.left.checked_sub(1).ok_or(UnfitEntry::Many)?;
        let bytes: usize = entry.path.iter().map(|name| name.len() + 1).sum();
        let (name, above) = entry.path.split_last().ok_or(UnfitEntry::Name)?;
        if above.len() > MAX_DEPTH || bytes > MAX_PATH {
            return Err(UnfitEntry::Deep);
        }
        if matches!(&**name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(UnfitEntry::Name);
        }
        let inside = self.folders.get_mut(above).ok_or(UnfitEntry::Order)?;
        if !inside.names.insert(name.clone()) {
            return Err(UnfitEntry::Order);
        }
        let free = inside.free(&name::safe(name));
        let place = inside.stored.join(free);
        if entry.size.is_none() {
            let inside = Inside { stored: place.clone(), ..Inside::default() };
            self.folders.insert(entry.path.clone(), inside);
        }
        Ok(place)
    }
}

impl Inside {
    /// A name like this one that no other entry here has, also where upper and lower case are one.
    fn free(&mut self, name: &str) -> String {
        let mut number = self.taken.get(&name.to_lowercase()).copied();
        let mut free = name.to_owned();
        while let Some(before) = number {
            free = name::numbered(name, before + 1);
            number = if self.taken.contains_key(&free.to_lowercase()) { Some(before + 1) } else { None };
            self.taken.insert(name.to_lowercase(), before + 1);
        }
        self.taken.insert(free.to_lowercase(), 0);
        free
    }
}

/// In how many folders an entry may be, below the one that is sent.
pub const MAX_DEPTH: usize = 32;

/// The longest path of an entry, in bytes. Most systems take no longer one.
pub(crate) const MAX_PATH: usize = 4096;

/// How many entries a folder may have. As many are kept in mind while it is sent, and while it is made.
pub(crate) const MAX_ENTRIES: u64 = 100_000;

/// The longest JSON of a header, in bytes: that of the longest path, each byte of which may be six.
const MAX_HEADER: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &[&str], size: Option<u64>) -> Entry {
        Entry { path: path.iter().map(|name| (*name).to_owned()).collect(), size, modified: None }
    }

    fn folder(path: &[&str]) -> Entry {
        entry(path, None)
    }

    fn file(path: &[&str]) -> Entry {
        entry(path, Some(0))
    }

    /// The places of these entries, or what is wrong with the last.
    fn places(entries: &[Entry]) -> Result<Vec<String>, UnfitEntry> {
        let mut places = Places::new(1000);
        entries.iter().map(|entry| Ok(places.place(entry)?.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let entry = Entry { path: vec!["a".to_owned(), "ä\n.txt".to_owned()], size: Some(5), modified: Some(7) };
        let header = entry.header();
        let (length, json) = header.split_at(4);
        assert_eq!(json_length(length.try_into().unwrap()), Ok(json.len()));
        assert_eq!(json, r#"{"path":["a","ä\n.txt"],"size":5,"modified":7}"#.as_bytes());
        assert_eq!(Entry::read(json), Ok(entry));
        assert_eq!(json_length([0, 1, 0, 0]), Err(UnfitEntry::Header));
        for bad in [&b""[..], b"[]", br#"{"path":"a"}"#, br#"{"path":["a"],"size":-1}"#, b"\xff"] {
            assert_eq!(Entry::read(bad), Err(UnfitEntry::Header));
        }
        let longest = Entry { path: vec!["\u{1}".repeat(MAX_PATH)], size: Some(u64::MAX), modified: Some(u64::MAX) };
        assert!(json_length(longest.header()[..4].try_into().unwrap()).is_ok());
    }

    #[test]
    fn each_component_is_made_harmless_and_none_is_the_same_as_another() {
        let entries = [
            folder(&["photos"]),
            file(&["photos", "a.jpg"]),
            file(&["photos", ".hidden"]),
            file(&["photos", "-rf"]),
            file(&["photos", "con"]),
            file(&["photos", "A.jpg"]),
            file(&["photos", "a?.txt"]),
            file(&["photos", "a*.txt"]),
            file(&["photos", "a_.txt"]),
            folder(&["Photos"]),
            file(&["Photos", "a.jpg"]),
            file(&["photos", "c:\\x"]),
        ];
        let stored = [
            "photos",
            "photos/a.jpg",
            "photos/_hidden",
            "photos/_rf",
            "photos/_con",
            "photos/A (1).jpg",
            "photos/a_.txt",
            "photos/a_ (1).txt",
            "photos/a_ (2).txt",
            "Photos (1)",
            "Photos (1)/a.jpg",
            "photos/x",
        ];
        assert_eq!(places(&entries).unwrap(), stored);
        assert_eq!(places(&[file(&["a (1)"]), file(&["a"]), file(&["A"])]).unwrap(), ["a (1)", "a", "A (2)"]);
    }

    #[test]
    fn what_leads_elsewhere_or_comes_twice_is_refused_as_a_whole() {
        let deep: Vec<&str> = std::iter::repeat_n("x", MAX_DEPTH + 2).collect();
        let long = "x".repeat(MAX_PATH);
        for (entries, unfit) in [
            (vec![file(&[])], UnfitEntry::Name),
            (vec![file(&[""])], UnfitEntry::Name),
            (vec![file(&["."])], UnfitEntry::Name),
            (vec![file(&[".."])], UnfitEntry::Name),
            (vec![file(&["../x"])], UnfitEntry::Name),
            (vec![file(&["/etc/passwd"])], UnfitEntry::Name),
            (vec![file(&["a\0b"])], UnfitEntry::Name),
            (vec![file(&["..", "x"])], UnfitEntry::Order),
            (vec![file(&["a", "b"])], UnfitEntry::Order),
            (vec![file(&["a"]), file(&["a", "b"])], UnfitEntry::Order),
            (vec![file(&["a"]), folder(&["a"])], UnfitEntry::Order),
            (vec![folder(&["a"]), folder(&["a"])], UnfitEntry::Order),
            (vec![file(&["a"]), file(&["a"])], UnfitEntry::Order),
            (vec![file(&deep)], UnfitEntry::Deep),
            (vec![file(&[&long])], UnfitEntry::Deep),
        ] {
            assert_eq!(places(&entries), Err(unfit), "{entries:?}");
        }
        let mut places = Places::new(1);
        assert!(places.place(&file(&["a"])).is_ok());
        assert_eq!(places.place(&file(&["b"])), Err(UnfitEntry::Many));
    }

    #[test]
    fn a_hundred_thousand_names_that_become_one_take_no_long_search() {
        let mut places = Places::new(MAX_ENTRIES);
        let begin = std::time::Instant::now();
        for number in 0..MAX_ENTRIES {
            // Each is another one, and each becomes the same.
            let name = format!("{number:017b}").replace('0', "?").replace('1', "*");
            places.place(&Entry { path: vec![name], size: Some(0), modified: None }).unwrap();
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn whatever_comes_has_a_place_below_the_folder_or_none(
            names in proptest::collection::vec(proptest::collection::vec("[ab./\\\\ A\u{0}:-]{0,3}", 0..4), 0..20),
        ) {
            let (mut places, mut seen) = (Places::new(1000), HashSet::new());
            for (number, path) in names.into_iter().enumerate() {
                let size = (number % 2 == 0).then_some(0);
                let Ok(place) = places.place(&Entry { path, size, modified: None }) else { continue };
                let text = place.to_str().unwrap();
                prop_assert!(!text.starts_with('/') && !text.is_empty(), "{text}");
                prop_assert!(text.split('/').all(|name| name::safe(name) == name), "{text}");
                prop_assert!(seen.insert(text.to_lowercase()), "{text} is there twice");
            }
        }
    }
}
