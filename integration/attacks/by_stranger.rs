//! Who has no part in a call and writes to every port that it opens, from many sockets: what DTLS would take from the
//! other side.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::world::{Program, Server, until};

/// A stranger on this machine, at work until dropped.
struct Stranger {
    is_over: Arc<AtomicBool>,
    /// What was sent to each of the programs.
    sent: Arc<[AtomicUsize; 2]>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Writes to all ports that these processes have, as soon as they have them.
    fn writes_to(processes: [u32; 2]) -> Self {
        let (is_over, sent) = (Arc::new(AtomicBool::default()), Arc::<[AtomicUsize; 2]>::default());
        let (until, counts) = (is_over.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let datagrams = datagrams();
            while !until.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                for (process, count) in processes.iter().zip(&*counts) {
                    for port in ports(*process) {
                        for datagram in &datagrams {
                            count.fetch_add(usize::from(socket.send_to(datagram, port).is_ok()), Ordering::Relaxed);
                        }
                    }
                }
                // So seldom that what is meant for others still has room.
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { is_over, sent, thread: Some(thread) }
    }

    fn sent(&self) -> [usize; 2] {
        self.sent.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Waits until more was sent to both.
    fn has_gone_on(&self) {
        let before = self.sent();
        until("the stranger writes to both", || {
            self.sent().iter().zip(before).all(|(now, before)| *now > before).then_some(())
        });
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// The UDP ports of a process over IPv4, and the addresses that they are bound to.
fn ports(process: u32) -> Vec<SocketAddr> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    let sockets: HashSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let table = fs::read_to_string(format!("/proc/{process}/net/udp")).unwrap_or_default();
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_le_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_own = sockets.contains(*fields.get(9)?) && port != MULTICAST_DNS;
        is_own.then_some(SocketAddr::from((if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }, port)))
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// What the other side could send at some time in a handshake or after it, and what ends one.
fn datagrams() -> Vec<Vec<u8>> {
    let record = |kind: u8, epoch: u8, content: &[u8]| {
        let length = (content.len() as u16).to_be_bytes();
        [&[kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 0], &length[..], content].concat()
    };
    let hello = [&[1, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 40][..], &[254, 253], &[7; 38]].concat();
    vec![
        // Twice, at once: that is what can be held of a handshake before it is due.
        record(23, 1, &[]).repeat(100),
        record(23, 1, &[]).repeat(100),
        record(22, 1, &[7; 40]),
        record(22, 0, &hello),
        record(22, 0, &hello).repeat(15),
        record(20, 0, &[1]),
        // A fatal alert, and the wish to close.
        record(21, 0, &[2, 40]),
        record(21, 0, &[1, 0]),
        // An answer of no TURN server, who refuses; and what no channel brings.
        [&[1, 0x13, 0, 8, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], &[0, 9, 0, 4, 0, 0, 4, 1]].concat(),
        [&[64, 0, 0, 13][..], &record(23, 1, &[])].concat(),
    ]
}

/// The port where names are asked for. Others ask there, too, and no call goes that way.
const MULTICAST_DNS: u16 = 5353;

/// Goal: end calls of others by writing to every port from outside.
#[test]
fn a_call_opens_and_a_chat_goes_on_while_a_stranger_writes_to_every_port() {
    let server = Server::start();
    let bot = server.bot();
    for call in 0..3 {
        let mut alice = Program::start("lowkey", &["--server", &server.url(), "--name", "alice"], &[]);
        alice.stderr.find("online");
        let stranger = Stranger::writes_to([bot.id(), alice.id()]);
        alice.write("/connect echo");
        alice.stderr.find("connected with echo");
        for text in 0..3 {
            stranger.has_gone_on();
            alice.write(&format!("text {text} of call {call}"));
            alice.stdout.find(&format!("echo: text {text} of call {call}"));
        }
        alice.write("/quit");
        assert!(alice.wait().success());
    }
}
