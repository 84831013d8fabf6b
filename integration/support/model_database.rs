//! The database of a cluster in memory: what Redis and Valkey do with all that a server says to them, by a clock that
//! is set from outside. `cluster_model.rs` compares it with real ones, and moves servers over it through any order of
//! faults.

use std::collections::{BTreeMap, HashMap};

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};

/// A database and its connections.
pub struct ModelDatabase {
    /// Milliseconds since 1970.
    pub now: u64,
    /// It has no room for anything new.
    pub is_full: bool,
    texts: HashMap<Vec<u8>, Text>,
    /// The one sorted set: the ends of leases.
    nodes: BTreeMap<Vec<u8>, u64>,
    links: Vec<Attached>,
    hashes: [String; 6],
    /// What a command of a connection's own causes comes before its reply (as with Redis 7.0) or after it (as with
    /// Valkey 9).
    pushes_first: bool,
}

struct Text {
    bytes: Vec<u8>,
    end: Option<u64>,
}

#[derive(Default)]
struct Attached {
    input: Vec<u8>,
    output: Vec<u8>,
    channel: Option<Vec<u8>>,
    is_closed: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Ok,
    Null,
    Number(u64),
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Error(&'static str),
    /// Nothing: the answer has come already.
    None,
}

impl ModelDatabase {
    pub fn new(pushes_first: bool) -> Self {
        let (texts, nodes, links) = (HashMap::new(), BTreeMap::new(), Vec::new());
        let hashes = SCRIPTS.map(|text| hash(text.as_bytes()));
        Self { now: 1_800_000_000_000, is_full: false, texts, nodes, links, hashes, pushes_first }
    }

    /// A new connection.
    pub fn open(&mut self) -> usize {
        self.links.push(Attached::default());
        self.links.len() - 1
    }

    /// Its end.
    pub fn close(&mut self, link: usize) {
        self.links[link] = Attached { is_closed: true, ..Attached::default() };
    }

    /// Whether it has not ended.
    pub fn is_open(&self, link: usize) -> bool {
        !self.links[link].is_closed
    }

    /// All connections end, and with them what the database knows, unless it keeps that.
    pub fn restart(&mut self, keeps_data: bool) {
        (0..self.links.len()).for_each(|link| self.close(link));
        if !keeps_data {
            self.is_full = false;
            self.texts.clear();
            self.nodes.clear();
        }
    }

    /// Takes what comes by a connection.
    pub fn hear(&mut self, link: usize, bytes: &[u8]) {
        if self.links[link].is_closed {
            return;
        }
        let mut input = std::mem::take(&mut self.links[link].input);
        input.extend_from_slice(bytes);
        let mut rest = &input[..];
        while let Some(parts) = command(&mut rest) {
            let before = self.links[link].output.len();
            let reply = self.run(Some(link), &parts);
            let mut bytes = Vec::new();
            reply.write(&mut bytes);
            let place = if self.pushes_first { self.links[link].output.len() } else { before };
            self.links[link].output.splice(place..place, bytes);
        }
        self.links[link].input = rest.to_vec();
    }

    /// What it has said on a connection and nobody has taken yet: so many bytes of it at most.
    pub fn say(&mut self, link: usize, most: usize) -> Vec<u8> {
        let output = &mut self.links[link].output;
        output.drain(..most.min(output.len())).collect()
    }

    /// Does what a command says.
    pub fn run(&mut self, link: Option<usize>, parts: &[Vec<u8>]) -> Reply {
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        match parts[..] {
            [b"HELLO", ..] | [b"PING"] => Reply::Ok,
            [b"DEL", key] => Reply::Number(self.texts.remove(key).is_some().into()),
            [b"SCRIPT", b"LOAD", text] => Reply::Bytes(hash(text).into_bytes()),
            [b"GET", key] => self.get(key).map_or(Reply::Null, Reply::Bytes),
            [b"SET", ..] if self.is_full => FULL,
            [b"SET", key, value, b"NX"] => self.set_new(key, value, None),
            [b"SET", key, value, b"PX", time, b"NX"] => self.set_new(key, value, Some(number(time))),
            [b"PUBLISH", channel, bytes] => Reply::Number(self.publish(channel, bytes)),
            [b"SUBSCRIBE", channel] => {
                let link = &mut self.links[link.expect("who subscribes is connected")];
                link.channel = Some(channel.to_vec());
                let push = [&b">3\r\n"[..], &bulk(b"subscribe"), &bulk(channel), b":1\r\n"].concat();
                link.output.extend(push);
                Reply::None
            }
            [b"EVALSHA", script, count, ref rest @ ..] => {
                let (keys, arguments) = rest.split_at(number(count) as usize);
                match self.hashes.iter().position(|hash| hash.as_bytes() == script) {
                    Some(0) => self.claim(keys, arguments),
                    Some(1) => self.release(keys, arguments),
                    Some(2) => self.mark(keys, arguments),
                    Some(3) => self.seek(keys, arguments),
                    Some(4) => self.join(keys, arguments),
                    Some(5) => self.renew(keys, arguments),
                    _ => Reply::Error("NOSCRIPT No matching script."),
                }
            }
            _ => Reply::Error("ERR unknown command"),
        }
    }

    fn claim(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([name, ..], [owner, token, ttl, reservation, grace]) = (keys, arguments) else { return WRONG };
        let (mut since, mut has_replaced) = (None, 0);
        let held = self.get(name);
        if self.is_full && held.is_none() {
            return FULL;
        }
        if held.as_ref().is_none_or(|held| held.len() == 21 && !is_of(held, owner)) {
            let mut end = self.get(GRACE).map_or(u64::MAX, |end| number(&end));
            if end > self.now + 4 * number(grace) {
                end = self.now + number(grace);
                self.set(GRACE, end.to_string().into_bytes(), None);
            }
            if end > self.now {
                return Reply::Number(2);
            }
        }
        if let Some(held) = held {
            let (is_online, is_kept) = self.standing(&held, number(reservation));
            if is_kept && held.len() > 21 {
                if &held[21..] != *token {
                    return Reply::Number(0);
                }
                since = Some(held[15..21].to_vec());
            }
            if is_online && !is_of(&held, owner) {
                self.replace(&held);
                has_replaced = 1;
            }
        }
        let since: Vec<u8> = since.unwrap_or_else(|| self.now.to_be_bytes()[2..].to_vec());
        self.set(name, [&b"O"[..], owner, &since, token].concat(), Some(number(ttl)));
        Reply::Bytes([&since[..], &[has_replaced]].concat())
    }

    fn release(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([name], [owner, reservation]) = (keys, arguments) else { return WRONG };
        let Some(mut held) = self.get(name).filter(|held| is_of(held, owner)) else { return Reply::Number(0) };
        if *reservation != b"0" && held.len() > 21 {
            held[0] = b'K';
            self.set(name, held, Some(number(reservation)));
        } else {
            self.texts.remove(*name);
        }
        Reply::Number(1)
    }

    fn mark(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([name, _], [owner, token, since, ttl, reservation]) = (keys, arguments) else { return WRONG };
        if let Some(held) = self.get(name).filter(|held| !is_of(held, owner)) {
            let (is_online, is_kept) = self.standing(&held, number(reservation));
            let (their_token, their_since) = (&held[21..], &held[15..21]);
            let is_theirs = is_kept && (is_online || their_token != *token);
            let is_first = !their_token.is_empty() && their_since <= *since;
            if is_theirs && (token.is_empty() || their_token == *token || is_first) {
                return Reply::Number(0);
            }
            if is_online {
                self.replace(&held);
            }
        }
        self.set(name, [&b"O"[..], owner, since, token].concat(), Some(number(ttl)));
        Reply::Number(1)
    }

    fn seek(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([name, _], [head, tail]) = (keys, arguments) else { return WRONG };
        let Some(held) = self.get(name).filter(|held| self.standing(held, 0).0) else { return Reply::Null };
        let frame = [*head, &held[9..15], tail].concat();
        match self.publish(&channel(&held[1..7]), &frame) {
            0 => Reply::Null,
            _ => Reply::Bytes(held[1..15].to_vec()),
        }
    }

    fn join(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([session], [joiner, ttl]) = (keys, arguments) else { return WRONG };
        match self.get(session) {
            None => Reply::Number(0),
            Some(held) if held[0] == b'F' => Reply::Number(1),
            Some(held) if &held[1..] == *joiner => Reply::Number(2),
            Some(mut held) => {
                held[0] = b'F';
                let creator = held[1..].to_vec();
                self.set(session, held, Some(number(ttl)));
                Reply::Bytes(creator)
            }
        }
    }

    fn renew(&mut self, keys: &[&[u8]], arguments: &[&[u8]]) -> Reply {
        let ([_, _], [lease, keep, extend, grace, members @ ..]) = (keys, arguments) else { return WRONG };
        let mut before = 0;
        for member in members {
            before = match self.nodes.insert(member.to_vec(), self.now + number(lease)) {
                None => 2,
                Some(end) if end <= self.now => 1,
                _ => 0,
            };
        }
        let oldest = self.now - number(keep);
        self.nodes.retain(|_, end| *end > oldest);
        let (extended, least) = (self.now + number(extend), self.now + number(extend).max(number(grace)));
        let latest = self.now + 4 * number(grace);
        match self.get(GRACE).map(|grace| number(&grace)).filter(|grace| *grace <= latest) {
            None => self.set(GRACE, least.to_string().into_bytes(), None),
            Some(grace) if number(extend) > 0 && grace < extended => {
                self.set(GRACE, extended.to_string().into_bytes(), None);
            }
            _ => {}
        }
        let mut alive: Vec<(u64, &Vec<u8>)> =
            self.nodes.iter().filter(|(_, end)| **end >= self.now).map(|(node, end)| (*end, node)).collect();
        alive.sort_unstable();
        let alive = alive.into_iter().map(|(_, node)| Reply::Bytes(node.clone()));
        Reply::List(std::iter::once(Reply::Number(before)).chain(alive).collect())
    }

    /// Whether a record's connection is online, and whether its name is kept for it at all.
    fn standing(&self, held: &[u8], reservation: u64) -> (bool, bool) {
        if held[0] != b'O' {
            return (false, true);
        }
        let lease = self.nodes.get(&held[1..9]).copied().unwrap_or_default();
        let is_online = lease > self.now;
        (is_online, is_online || held.len() > 21 && lease + reservation > self.now)
    }

    /// Tells the owner of a record that another one has its name.
    fn replace(&mut self, held: &[u8]) {
        self.publish(&channel(&held[1..7]), &[b"\0\0\0\x07R", &held[9..15]].concat());
    }

    /// How many have heard of it.
    fn publish(&mut self, channel: &[u8], bytes: &[u8]) -> u64 {
        let push = [&b">3\r\n"[..], &bulk(b"message"), &bulk(channel), &bulk(bytes)].concat();
        let mut count = 0;
        for link in self.links.iter_mut().filter(|link| link.channel.as_deref() == Some(channel)) {
            link.output.extend_from_slice(&push);
            count += 1;
        }
        count
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let text = self.texts.get(key)?;
        if text.end.is_some_and(|end| end <= self.now) {
            self.texts.remove(key);
            return None;
        }
        Some(text.bytes.clone())
    }

    fn set(&mut self, key: &[u8], bytes: Vec<u8>, time: Option<u64>) {
        self.texts.insert(key.to_vec(), Text { bytes, end: time.map(|time| self.now + time) });
    }

    fn set_new(&mut self, key: &[u8], bytes: &[u8], time: Option<u64>) -> Reply {
        if self.get(key).is_some() {
            return Reply::Null;
        }
        self.set(key, bytes.to_vec(), time);
        Reply::Ok
    }
}

impl Reply {
    fn write(&self, output: &mut Vec<u8>) {
        match self {
            Self::Ok => output.extend_from_slice(b"+OK\r\n"),
            Self::Null => output.extend_from_slice(b"_\r\n"),
            Self::Number(number) => output.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Bytes(bytes) => output.extend(bulk(bytes)),
            Self::List(items) => {
                output.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.write(output));
            }
            Self::Error(text) => output.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Self::None => {}
        }
    }
}

/// By what the database knows a script once it was loaded.
pub fn hash(script: &[u8]) -> String {
    HEXLOWER.encode(&Sha1::digest(script))
}

/// The scripts of the servers, in the order of the functions above.
pub const SCRIPTS: [&str; 6] = [
    concat!(include_str!("../../src/server/cluster/holder.lua"), include_str!("../../src/server/cluster/claim.lua")),
    include_str!("../../src/server/cluster/release.lua"),
    concat!(include_str!("../../src/server/cluster/holder.lua"), include_str!("../../src/server/cluster/mark.lua")),
    include_str!("../../src/server/cluster/seek.lua"),
    include_str!("../../src/server/cluster/join.lua"),
    include_str!("../../src/server/cluster/renew.lua"),
];

const GRACE: &[u8] = b"lk1:grace";
const FULL: Reply = Reply::Error("OOM command not allowed when used memory > 'maxmemory'.");
const WRONG: Reply = Reply::Error("ERR wrong number of arguments");

/// Whether a record is of this connection, in whatever incarnation of its node.
fn is_of(held: &[u8], owner: &[u8]) -> bool {
    held[1..7] == owner[..6] && held[9..15] == owner[8..14]
}

fn channel(process: &[u8]) -> Vec<u8> {
    [b"lk1:to:", process].concat()
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Takes a command from the front, if it is whole.
fn command(input: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = *input;
    let length = |rest: &mut &[u8]| {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let count = number(&rest[1..end]) as usize;
        *rest = &rest[end + 2..];
        Some(count)
    };
    let count = length(&mut rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let size = length(&mut rest)?;
        let part = rest.get(..size + 2)?;
        parts.push(part[..size].to_vec());
        rest = &rest[size + 2..];
    }
    *input = rest;
    Some(parts)
}
