//! A narrow and long link to a server over UDP: each way carries so many bytes a second, takes its time, and lets what
//! comes too fast wait in a queue, beyond which it is lost. Real datagrams on loopback, so it needs no permission.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What a link carries.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Bytes a second, each way, with what IP and UDP put in front of a datagram.
    pub rate: f64,
    /// Half of a round trip.
    pub delay: Duration,
    /// How long what comes may wait before it goes.
    pub queue: Duration,
}

/// Where clients of the server at the end of a link send to.
pub struct NetworkLink {
    pub address: SocketAddr,
}

impl NetworkLink {
    /// A link to this server.
    pub fn to(server: SocketAddr, kind: Kind) -> Self {
        let front = Arc::new(socket());
        let address = front.local_addr().unwrap();
        let there = Way::new(kind);
        let back = Way::new(kind);
        thread::spawn(move || {
            let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let (mut there, mut datagram) = (there, vec![0; 65_536]);
            while let Ok((length, client)) = front.recv_from(&mut datagram) {
                let to_server = backs.entry(client).or_insert_with(|| {
                    let to_server = Arc::new(socket());
                    to_server.connect(server).unwrap();
                    let (of, front, mut back) = (to_server.clone(), front.clone(), back.clone());
                    thread::spawn(move || {
                        let mut datagram = vec![0; 65_536];
                        while let Ok(length) = of.recv(&mut datagram) {
                            back.carry(&front, client, &datagram[..length]);
                        }
                    });
                    to_server
                });
                there.carry(to_server, server, &datagram[..length]);
            }
        });
        Self { address }
    }
}

/// One direction. Of clones only one may be in use, as one client is all that a test has.
#[derive(Clone)]
struct Way {
    kind: Kind,
    /// When all that has come has gone.
    free_at: Instant,
    queue: Sender<Passing>,
}

/// A datagram on its way: when it arrives, through which socket, where, and what it is.
type Passing = (Instant, Arc<UdpSocket>, SocketAddr, Vec<u8>);

impl Way {
    fn new(kind: Kind) -> Self {
        let (queue, queued) = mpsc::channel();
        thread::spawn(move || deliver(&queued));
        Self { kind, free_at: Instant::now(), queue }
    }

    fn carry(&mut self, through: &Arc<UdpSocket>, to: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        let begins = self.free_at.max(now);
        if begins - now > self.kind.queue {
            return;
        }
        self.free_at = begins + Duration::from_secs_f64((datagram.len() + HEADERS) as f64 / self.kind.rate);
        let _ = self.queue.send((self.free_at + self.kind.delay, through.clone(), to, datagram.to_vec()));
    }
}

/// Sends each datagram when its time has come.
fn deliver(queued: &Receiver<Passing>) {
    for (at, through, to, datagram) in queued {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // Nobody may be there any more.
        let _ = match through.peer_addr() {
            Ok(_) => through.send(&datagram),
            Err(_) => through.send_to(&datagram, to),
        };
    }
}

/// A socket that loses nothing where this process has to wait for a processor.
pub fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket
}

/// Of IPv4 and UDP.
const HEADERS: usize = 28;
