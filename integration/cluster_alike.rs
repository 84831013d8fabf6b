//! Whether the database in memory, over which the faults are tried, does what real ones do: the same commands, in any
//! order, have the same replies.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use proptest::prelude::*;
use proptest::sample::select;

use crate::databases::{Database, databases};
use crate::model_database::{ModelDatabase, Reply, SCRIPTS, hash};
use crate::world::SOON;

/// A connection to a real database.
pub struct Real(BufReader<TcpStream>);

impl Real {
    pub fn connect(database: &Database) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", database.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn run(&mut self, parts: &[Vec<u8>]) -> Reply {
        let mut command = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            command.extend(format!("${}\r\n", part.len()).bytes());
            command.extend(part);
            command.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&command).unwrap();
        self.reply()
    }

    /// Its time.
    fn milliseconds(&mut self) -> String {
        let Reply::List(items) = self.run(&[b"TIME".to_vec()]) else { panic!("no time") };
        let [Reply::Bytes(seconds), Reply::Bytes(rest)] = &items[..] else { panic!("no time") };
        let micros: u32 = String::from_utf8_lossy(rest).parse().unwrap();
        format!("{}.{}", String::from_utf8_lossy(seconds), micros / 1000)
    }

    /// What comes next.
    pub fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match (kind, rest.parse::<usize>()) {
            ("+", _) => Reply::Ok,
            (":", Ok(number)) => Reply::Number(number as u64),
            ("$", Ok(length)) => {
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(length);
                Reply::Bytes(bytes)
            }
            ("*", Ok(count)) => Reply::List((0..count).map(|_| self.reply()).collect()),
            ("$" | "*", Err(_)) | (":", Err(_)) => Reply::Null,
            _ => panic!("{line}"),
        }
    }
}

/// A command that a server may say, of few names, servers and tokens, so that they meet. Times are so long or so short
/// that the clocks of the two make no difference.
fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    const LONG: &str = "3600000";
    let member = (select(vec!["proc-a", "proc-b"]), 1..3_u8);
    let token = select(vec!["", "1111222233334444", "5555666677778888"]);
    // Before all claims, and after them.
    let since = select(vec![[0; 6], [0xff; 6]]);
    let called = select(vec!["alice", "bob"]);
    // A lease of no time is one that has ended.
    let (kept, lease) = (select(vec!["0", LONG]), select(vec!["0", LONG, LONG]));
    let choices = (0..20, 0..3, 0..3, member, 0..3_u8, token, since, called, kept, lease);
    choices.prop_map(|(kind, name, session, (process, node), user, token, since, called, kept, lease)| {
        let text = |text: &str| text.as_bytes().to_vec();
        let (name, session) = (text(&format!("lk1:n:{name}")), text(&format!("lk1:s:{session}")));
        let (nodes, grace) = (text("lk1:nodes"), text("lk1:grace"));
        let member = [process.as_bytes(), &[0, node]].concat();
        let owner = [&member[..], &[0, 0, 0, 0, 0, user]].concat();
        let (token, since, kept) = (text(token), since.to_vec(), text(kept));
        let (script, keys, arguments) = match kind {
            0..6 => (0, vec![name, nodes, grace], vec![owner, token, text(LONG), kept, text(LONG)]),
            6..8 => (1, vec![name], vec![owner, kept]),
            8..11 => (2, vec![name, nodes], vec![owner, token, since, text(LONG), kept]),
            11..13 => (3, vec![name, nodes], vec![text("head"), text("tail")]),
            13 => (4, vec![session], vec![text(called), text(LONG)]),
            14..17 => (5, vec![nodes, grace], vec![text(lease), text(LONG), text("0"), text("0"), member]),
            17 => return vec![text("SET"), session, text("Walice"), text("PX"), text(LONG), text("NX")],
            18 => return vec![text("GET"), name],
            _ => return vec![text("GET"), session],
        };
        let head = vec![text("EVALSHA"), text(&hash(SCRIPTS[script].as_bytes())), text(&keys.len().to_string())];
        [head, keys, arguments].concat()
    })
}

/// What is the same with every clock: when something was claimed is not.
fn timeless(parts: &[Vec<u8>], reply: Reply) -> Reply {
    match reply {
        Reply::Bytes(bytes) if parts[0] == b"EVALSHA" && bytes.len() == 7 => {
            Reply::Bytes([b"since", &bytes[6..]].concat())
        }
        Reply::Bytes(bytes) if parts[0] == b"GET" && bytes.len() > 20 => {
            Reply::Bytes([&bytes[..15], b"since", &bytes[21..]].concat())
        }
        // The nodes stand in the order of their ends.
        Reply::List(items) => {
            let mut members: Vec<Reply> = items[1..].to_vec();
            members.sort_by_key(|member| format!("{member:?}"));
            Reply::List([&items[..1], &members].concat())
        }
        reply => reply,
    }
}

/// A real database, and the one in memory.
struct Both {
    real: Real,
    model: ModelDatabase,
    /// Which replies there were.
    seen: BTreeSet<String>,
}

impl Both {
    /// Both forget everything. Then all names are known, as when the grace is over.
    fn forget(&mut self) {
        self.model.restart(false);
        let link = self.model.open();
        self.model.run(Some(link), &subscribe());
        self.real.run(&[b"FLUSHALL".to_vec()]);
        let known = [b"SET".to_vec(), b"lk1:grace".to_vec(), b"1".to_vec(), b"NX".to_vec()];
        assert_eq!((self.real.run(&known), self.model.run(None, &known)), (Reply::Ok, Reply::Ok));
    }

    /// What each replies to a command, without what differs by the clock.
    fn run(&mut self, parts: &[Vec<u8>]) -> [Reply; 2] {
        self.model.now += 1;
        let replies = [self.real.run(parts), self.model.run(None, parts)].map(|reply| timeless(parts, reply));
        if parts[0] == b"EVALSHA" && parts[5] == b"0" {
            // A lease of no time is over in the next millisecond.
            let began = self.real.milliseconds();
            while self.real.milliseconds() == began {}
        }
        let kind = (parts[0].clone(), parts[1][..4].to_vec(), std::mem::discriminant(&replies[0]));
        self.seen.insert(format!("{kind:?}"));
        replies
    }
}

/// What one of two servers hears.
fn subscribe() -> [Vec<u8>; 2] {
    [b"SUBSCRIBE".to_vec(), b"lk1:to:proc-a".to_vec()]
}

#[test]
fn the_database_in_memory_answers_as_real_ones_do() {
    for path in databases() {
        let database = Database::start(&path);
        let (real, mut listener) = (Real::connect(&database), Real::connect(&database));
        let both = RefCell::new(Both { real, model: ModelDatabase::new(true), seen: BTreeSet::new() });
        for script in SCRIPTS {
            let load = [b"SCRIPT".to_vec(), b"LOAD".to_vec(), script.as_bytes().to_vec()];
            let Both { real, model, .. } = &mut *both.borrow_mut();
            assert_eq!(real.run(&load), model.run(None, &load));
        }
        listener.run(&subscribe());
        let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(commands in prop::collection::vec(command(), 200))| {
            let mut both = both.borrow_mut();
            both.forget();
            for parts in commands {
                let [theirs, ours] = both.run(&parts);
                let said: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
                prop_assert_eq!(theirs, ours, "{:?} over {}", said, path);
            }
        });
        let seen = both.into_inner().seen;
        assert!(seen.len() >= 13, "every reply occurs: {seen:?}");
    }
}
