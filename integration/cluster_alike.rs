//! Whether the database in memory, over which the faults are tried, does what real ones do: the same commands, in any
//! order, have the same replies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

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
fn command(random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    const LONG: &str = "3600000";
    let some = |random: &mut fastrand::Rng, of: &[&str]| random.choice(of).unwrap().as_bytes().to_vec();
    let name = format!("lk1:n:{}", random.u8(..3)).into_bytes();
    let session = format!("lk1:s:{}", random.u8(..3)).into_bytes();
    let process = some(random, &["proc-a", "proc-b"]);
    let member = [&process[..], &[0, random.u8(1..3)]].concat();
    let owner = [&member[..], &[0, 0, 0, 0, 0, random.u8(..3)]].concat();
    let token = some(random, &["", "1111222233334444", "5555666677778888"]);
    // Before all claims, and after them.
    let since = if random.bool() { vec![0; 6] } else { vec![0xff; 6] };
    let (nodes, grace) = (b"lk1:nodes".to_vec(), b"lk1:grace".to_vec());
    let kept = some(random, &["0", LONG]);
    let text = |text: &str| text.as_bytes().to_vec();
    let (script, keys, arguments) = match random.u8(..20) {
        0..6 => (0, vec![name, nodes, grace], vec![owner, token, text(LONG), kept, text(LONG)]),
        6..8 => (1, vec![name], vec![owner, kept]),
        8..11 => (2, vec![name, nodes], vec![owner, token, since, text(LONG), kept]),
        11..13 => (3, vec![name, nodes], vec![text("head"), text("tail")]),
        13 => (4, vec![session], vec![some(random, &["alice", "bob"]), text(LONG)]),
        14..17 => {
            // A lease of no time is one that has ended. Both databases know of no grace before the first of these.
            let lease = some(random, &["0", LONG, LONG]);
            (5, vec![nodes, grace], vec![lease, text(LONG), text("0"), text("0"), member])
        }
        17 => return vec![text("SET"), session, text("Walice"), text("PX"), text(LONG), text("NX")],
        18 => return vec![text("GET"), name],
        _ => return vec![text("GET"), session],
    };
    let head = vec![text("EVALSHA"), text(&hash(SCRIPTS[script].as_bytes())), text(&keys.len().to_string())];
    [head, keys, arguments].concat()
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

#[test]
fn the_database_in_memory_answers_as_real_ones_do() {
    for path in databases() {
        let database = Database::start(&path);
        let (mut real, mut listener) = (Real::connect(&database), Real::connect(&database));
        let mut model = ModelDatabase::new(true);
        for script in SCRIPTS {
            let load = [b"SCRIPT".to_vec(), b"LOAD".to_vec(), script.as_bytes().to_vec()];
            assert_eq!(real.run(&load), model.run(None, &load));
        }
        // One of two servers hears what is sent to it.
        let subscribe = [b"SUBSCRIBE".to_vec(), b"lk1:to:proc-a".to_vec()];
        let link = model.open();
        model.run(Some(link), &subscribe);
        listener.run(&subscribe);
        let mut random = fastrand::Rng::with_seed(20);
        let mut seen = std::collections::BTreeMap::new();
        for number in 0..20_000 {
            // Now and then they forget everything; then all names are known, as when the grace is over.
            if number % 200 == 0 {
                model.restart(false);
                let link = model.open();
                model.run(Some(link), &subscribe);
                real.run(&[b"FLUSHALL".to_vec()]);
                let known = [b"SET".to_vec(), b"lk1:grace".to_vec(), b"1".to_vec(), b"NX".to_vec()];
                assert_eq!((real.run(&known), model.run(None, &known)), (Reply::Ok, Reply::Ok));
            }
            let parts = command(&mut random);
            model.now += 1;
            let [theirs, ours] = [real.run(&parts), model.run(None, &parts)].map(|reply| timeless(&parts, reply));
            if parts[0] == b"EVALSHA" && parts[5] == b"0" {
                // A lease of no time is over in the next millisecond.
                let began = real.milliseconds();
                while real.milliseconds() == began {}
            }
            let said: Vec<String> = parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
            assert_eq!(theirs, ours, "{number}: {said:?} over {path}");
            let kind = (parts[0].clone(), parts[1][..4].to_vec(), std::mem::discriminant(&theirs));
            *seen.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
        assert!(seen.len() >= 13, "every reply occurs: {seen:?}");
    }
}
