//! A bad network between two peers: a server that names each a hop in the place of the other, and the hop, which takes
//! its time, loses what it is told to, and passes on the rest. Real datagrams on loopback, so it needs no namespaces,
//! no module of the kernel, and no permission.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::evil_server::{EvilServer, Frame};

/// What is lost: told to whom a datagram goes and what it is, this says whether it arrives.
pub type Fate = Box<dyn FnMut(&str, &[u8]) -> bool + Send>;

/// A server and the way between those who meet there. To the programs each is an old app, since only what is not sealed
/// can be changed.
pub struct Hop {
    pub server: EvilServer,
}

struct Way {
    fate: Mutex<Fate>,
    /// How long a datagram takes.
    delay: Duration,
    ends: Mutex<HashMap<SocketAddr, End>>,
    /// Who talks to whom.
    others: Mutex<HashMap<String, String>>,
    queue: Sender<Passing>,
}

/// The socket that stands for an address of a peer.
#[derive(Clone)]
struct End {
    socket: Arc<UdpSocket>,
    /// Whose address it is.
    owner: String,
}

/// A datagram on its way: when it arrives, in which order, through which socket, where, and what it is.
type Passing = (Instant, u64, Arc<UdpSocket>, SocketAddr, Vec<u8>);

impl Hop {
    /// A way on which each datagram takes so long, and meets this fate.
    pub fn new(delay: Duration, fate: impl FnMut(&str, &[u8]) -> bool + Send + 'static) -> Self {
        let (queue, queued) = mpsc::channel();
        thread::spawn(move || deliver(&queued));
        let way =
            Way { fate: Mutex::new(Box::new(fate)), delay, ends: Mutex::default(), others: Mutex::default(), queue };
        let (server, way) = (EvilServer::start(), Arc::new(way));
        server.play(move |frame| way.change(frame).into_iter().collect());
        Self { server }
    }
}

impl Way {
    /// Makes an old app of whoever sends this, and names the hop for it.
    fn change(self: &Arc<Self>, mut frame: Frame) -> Option<Frame> {
        let sender = frame.message["sender"].as_str().unwrap_or_default().to_owned();
        self.others.lock().unwrap().insert(sender.clone(), frame.to.clone());
        if let Some(payload) = frame.message["payload"].as_object_mut() {
            payload.remove("lowkey");
            if let Some(Value::String(sdp)) = payload.get_mut("sdp") {
                let lines = sdp.split_inclusive('\n').filter_map(|line| match line.strip_prefix("a=candidate:") {
                    Some(_) => self.instead(&sender, line),
                    None => Some(line.to_owned()),
                });
                *sdp = lines.collect();
            }
            if let Some(Value::String(candidate)) = payload.get_mut("candidate") {
                *candidate = self.instead(&sender, candidate)?;
            }
        }
        Some(frame)
    }

    /// A candidate line with the hop in it; `None` where the hop leads nowhere.
    fn instead(self: &Arc<Self>, owner: &str, line: &str) -> Option<String> {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if !words.get(2)?.eq_ignore_ascii_case("udp") {
            return None;
        }
        let address: SocketAddr = format!("{}:{}", words.get(4)?, words.get(5)?).parse().ok()?;
        if !address.is_ipv4() {
            return None;
        }
        let hop = self.end(address, owner).socket.local_addr().unwrap();
        (words[4], words[5]) = (hop.ip().to_string(), hop.port().to_string());
        Some(words.join(" "))
    }

    /// What stands for an address of this owner.
    fn end(self: &Arc<Self>, address: SocketAddr, owner: &str) -> End {
        let mut ends = self.ends.lock().unwrap();
        let end = ends.entry(address).or_insert_with(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let end = End { socket: Arc::new(socket), owner: owner.to_owned() };
            let (way, copy) = (Arc::downgrade(self), end.clone());
            thread::spawn(move || carry(&way, &copy, address));
            end
        });
        end.clone()
    }
}

/// Passes on what comes for `address`, for as long as the way is there.
fn carry(way: &Weak<Way>, end: &End, address: SocketAddr) {
    let mut datagram = vec![0; 65_536];
    let mut number = 0;
    loop {
        let received = end.socket.recv_from(&mut datagram);
        let Some(way) = way.upgrade() else { return };
        let Ok((length, from)) = received else { continue };
        let datagram = &datagram[..length];
        if (way.fate.lock().unwrap())(&end.owner, datagram) {
            // An address that nobody has named is that of the one of the two who does not own this end.
            let other = way.others.lock().unwrap().get(&end.owner).cloned().unwrap_or_default();
            let through = way.end(from, &other).socket;
            number += 1;
            let _ = way.queue.send((Instant::now() + way.delay, number, through, address, datagram.to_vec()));
        }
    }
}

/// Sends each datagram when its time has come.
fn deliver(queued: &mpsc::Receiver<Passing>) {
    // In the order of their times, and those of one time as they came.
    let mut waiting = BinaryHeap::new();
    let mut held = HashMap::new();
    let mut number = 0_u64;
    loop {
        let next = waiting.peek().map(|Reverse((at, _)): &Reverse<(Instant, u64)>| *at);
        let patience = next.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        match queued.recv_timeout(patience) {
            Ok((at, _, socket, address, datagram)) => {
                number += 1;
                waiting.push(Reverse((at, number)));
                held.insert(number, (socket, address, datagram));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse((at, number))) = waiting.peek().copied()
            && at <= Instant::now()
        {
            waiting.pop();
            if let Some((socket, address, datagram)) = held.remove(&number) {
                // Nobody may be there any more.
                let _ = socket.send_to(&datagram, address);
            }
        }
    }
}

/// Whether this is DTLS, and no data of an application: a part of the handshake.
pub fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20 | 22))
}
