//! TURN servers over TCP and TLS, for a crate that reaches them over UDP alone. It is given a made-up address for each;
//! what it sends there goes over a stream to the server instead, and what comes back seems to come from there. The
//! streams are tasks of their own: WebRTC's driver waits for none of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::Relay;
use super::framing;
use super::stream::{self, StreamServer};
use crate::lock::lock;
use crate::peer::ice::IceServer;
use crate::peer::rtc::flight::Datagram;
use crate::peer::rtc::layer::{Layer, over};
use crate::peer::socks::ProxyUrl;
use crate::protocol::ice::{IceScheme, IceUrl};

/// The TURN servers of one connection that are reached by a stream.
#[derive(Debug, Clone)]
pub struct Tunnels(Arc<Reach>);

#[derive(Debug)]
struct Reach {
    urls: Vec<String>,
    /// Those of which nobody has asked anything yet, and how long to wait for a better way. One stream is enough for
    /// all networks that this machine is in, so only the first socket that asks gets it.
    servers: Mutex<Vec<Option<(StreamServer, Duration)>>>,
    streams: Mutex<JoinSet<()>>,
    relay: Relay,
    is_only_way: bool,
}

impl Tunnels {
    /// The ways to those of these servers that need one, by the proxy if there is one. A relay over UDP loses no time
    /// to what was lost, and TCP less than TLS: so where there is a choice, the next is begun only if no relay was
    /// granted for a time.
    ///
    /// `is_only_way`: nothing is sent any other way, nor is a name looked up.
    pub fn new(servers: &[IceServer], proxy: Option<&ProxyUrl>, is_only_way: bool, relay: Relay) -> Self {
        let is_tcp = |server: &IceServer| server.is_stream() && server.url.starts_with("turn:");
        let is_udp = |server: &IceServer| server.is_turn() && !server.is_stream();
        let tcp_wait = if servers.iter().any(is_udp) { PATIENCE } else { Duration::ZERO };
        let tls_wait = if servers.iter().any(is_tcp) { tcp_wait + PATIENCE } else { tcp_wait };
        let tunnel = |server: &IceServer| {
            let url = IceUrl::parse(&server.url).ok().filter(|url| url.is_tcp)?;
            let (host, port) = url.host_and_port();
            let is_tls = url.scheme == IceScheme::Turns;
            let wait = if is_tls { tls_wait } else { tcp_wait };
            let way = StreamServer { host: host.to_owned(), port, is_tls, proxy: proxy.cloned() };
            Some((server.url.clone(), Some((way, wait))))
        };
        let (urls, servers) = servers.iter().filter_map(tunnel).unzip();
        let (servers, streams) = (Mutex::new(servers), Mutex::default());
        Self(Arc::new(Reach { urls, servers, streams, relay, is_only_way }))
    }

    /// Whether nothing goes any other way.
    pub fn is_only_way(&self) -> bool {
        self.0.is_only_way
    }

    /// The URL that the crate is to know this server by.
    pub fn stand_in(&self, url: &str) -> String {
        match self.0.urls.iter().position(|known| known == url) {
            // Port 0 is none.
            Some(index) => format!("turn:{STAND_IN}:{}", index + 1),
            None => url.to_owned(),
        }
    }

    /// The socket with ways to these servers.
    pub fn beside(&self, socket: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        if self.0.urls.is_empty() && !self.0.is_only_way {
            return socket;
        }
        let (inbox, arrived) = mpsc::channel(QUEUE);
        over(Tunnel {
            below: socket,
            tunnels: self.clone(),
            ways: Mutex::default(),
            inbox,
            arrived: Mutex::new(arrived),
            was_stream: AtomicBool::new(false),
        })
    }

    /// Waits until all that was sent is on its way, once the sockets are gone.
    pub async fn end(&self) {
        let mut streams = std::mem::take(&mut *lock(&self.0.streams));
        let _ = timeout(END_TIME, async { while streams.join_next().await.is_some() {} }).await;
    }

    /// Which server is meant by an address.
    fn index(&self, address: SocketAddr) -> Option<usize> {
        let index = usize::from(address.port()).checked_sub(1)?;
        (address.ip() == STAND_IN && index < self.0.urls.len()).then_some(index)
    }

    /// Begins a stream for the socket of this inbox, and gives its queue; `None` where another has it already.
    fn begin(&self, index: usize, from: SocketAddr, inbox: Sender<Datagram>) -> Option<Sender<Vec<u8>>> {
        let (server, wait) = lock(&self.0.servers).get_mut(index)?.take()?;
        let (queue, queued) = mpsc::channel(QUEUE);
        let relay = self.0.relay.clone();
        lock(&self.0.streams).spawn(async move {
            sleep(wait).await;
            if relay.is_granted() {
                return;
            }
            match stream::reach(&server).await {
                Ok(stream) => stream::carry(stream, queued, from, inbox, &relay).await,
                Err(cause) => relay.set_trouble(cause),
            }
        });
        Some(queue)
    }
}

/// A socket with ways to servers by a stream.
struct Tunnel {
    below: Arc<dyn AsyncUdpSocket>,
    tunnels: Tunnels,
    /// The streams that are this socket's.
    ways: Mutex<HashMap<usize, Way>>,
    inbox: Sender<Datagram>,
    arrived: Mutex<Receiver<Datagram>>,
    /// The last datagram came by a stream.
    was_stream: AtomicBool,
}

struct Way {
    queue: Sender<Vec<u8>>,
    /// The last request.
    asked: Vec<u8>,
}

impl Tunnel {
    /// Sends a datagram over the stream to this server. As with any datagram, that it was sent does not say that it
    /// arrives; an error says that none will.
    fn send(&self, index: usize, address: SocketAddr, datagram: &[u8]) -> io::Result<usize> {
        let Some(message) = framing::framed(datagram) else { return Ok(datagram.len()) };
        let mut ways = lock(&self.ways);
        let way = match ways.entry(index) {
            Entry::Occupied(way) => way.into_mut(),
            Entry::Vacant(place) => {
                let queue = self.tunnels.begin(index, address, self.inbox.clone()).ok_or(io::ErrorKind::AddrInUse)?;
                place.insert(Way { queue, asked: Vec::new() })
            }
        };
        let is_request = framing::is_request(&message);
        if is_request && way.asked == message && !way.queue.is_closed() {
            return Ok(datagram.len());
        }
        match way.queue.try_send(message.clone()) {
            Ok(()) if is_request => way.asked = message,
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(datagram.len())
    }

    /// Hands out the next datagram that has come by a stream.
    fn poll_streams(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<()> {
        while let Poll::Ready(Some((from, datagram))) = lock(&self.arrived).poll_recv(cx) {
            // What is longer than WebRTC's driver expects of any datagram is lost, as over UDP.
            if let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut())
                && let Some(buffer) = buffer.get_mut(..datagram.len())
            {
                buffer.copy_from_slice(&datagram);
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len());
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Layer for Tunnel {
    fn below(&self) -> &dyn AsyncUdpSocket {
        &*self.below
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        match self.tunnels.index(transmit.destination) {
            Some(index) => Poll::Ready(self.send(index, transmit.destination, transmit.contents)),
            // As any datagram that is lost on its way.
            None if self.tunnels.is_only_way() => Poll::Ready(Ok(transmit.contents.len())),
            None => self.below.poll_send(cx, transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // After a stream it is the socket's turn, so that a full stream does not keep it waiting.
        if self.was_stream.swap(false, Ordering::Relaxed)
            && let Poll::Ready(received) = self.below.poll_recv(cx, buffers, meta)
        {
            return Poll::Ready(received);
        }
        if self.poll_streams(cx, buffers, meta).is_ready() {
            self.was_stream.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(1));
        }
        self.below.poll_recv(cx, buffers, meta)
    }
}

/// An address that nothing is ever sent to (RFC 7600, section 4.8); the port tells the servers apart. A socket of IPv4
/// can be had on any machine.
const STAND_IN: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// How long a relay by a better way is waited for: two answers of a server that is far away.
const PATIENCE: Duration = Duration::from_millis(600);

/// Datagrams that may wait in each direction. More than is ever on its way on a data channel; beyond it they are lost,
/// as in the buffer of a socket.
const QUEUE: usize = 256;

/// How long the last words may take to be sent.
const END_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rtc::prepared::Prepared;

    #[test]
    fn each_stream_has_an_address_of_its_own_and_waits_for_what_is_better() {
        let tunnels = |urls: &[&str]| {
            let server =
                |url: &&str| IceServer { url: (*url).to_owned(), username: String::new(), credential: String::new() };
            Tunnels::new(&urls.iter().map(server).collect::<Vec<_>>(), None, false, Relay::default())
        };
        let urls = ["stun:a", "turn:a", "turn:a?transport=tcp", "turns:[::1]:443"];
        let all = tunnels(&urls);
        assert_eq!(urls.map(|url| all.stand_in(url)), ["stun:a", "turn:a", "turn:192.0.0.8:1", "turn:192.0.0.8:2"]);
        let index = |address: &str| all.index(address.parse().unwrap());
        assert_eq!(["192.0.0.8:1", "192.0.0.8:2"].map(index), [Some(0), Some(1)]);
        assert_eq!(["192.0.0.8:3", "192.0.0.8:0", "192.0.0.9:1", "[::1]:1"].map(index), [None; 4]);
        let waits = |urls: &[&str]| -> Vec<u32> {
            let tunnels = tunnels(urls);
            let servers = lock(&tunnels.0.servers);
            servers.iter().flatten().map(|(_, wait)| wait.div_duration_f32(PATIENCE) as u32).collect()
        };
        assert_eq!(waits(&urls), [1, 2]);
        assert_eq!(waits(&["turn:a", "turns:a"]), [1]);
        assert_eq!(waits(&["turns:a", "stun:a", "turn:a?transport=tcp"]), [1, 0]);
        assert_eq!(waits(&["turns:a"]), [0]);
    }

    #[test]
    fn where_the_streams_are_the_only_way_no_datagram_leaves() {
        for (is_only_way, sent) in [(true, 0), (false, 1)] {
            let tunnels = Tunnels::new(&[], None, is_only_way, Relay::default());
            let below = Prepared::new([]);
            let socket = tunnels.beside(below.clone());
            let destination = "192.0.2.1:3478".parse().unwrap();
            let transmit = Transmit { destination, ecn: None, contents: b"asked", segment_size: None, src_ip: None };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(matches!(socket.poll_send(&mut cx, &transmit), Poll::Ready(Ok(5))));
            assert_eq!(below.sent.load(Ordering::Relaxed), sent);
        }
    }
}
