//! A stream to a TURN server, over TCP or TLS: how it is reached, by a proxy or not, and how it carries datagrams.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use log::debug;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::Relay;
use super::framing::{Garbage, Unframed};
use crate::peer::dial::dial;
use crate::peer::ice::NoRelayCause;
use crate::peer::rtc::blocking::blocking;
use crate::peer::rtc::flight::Datagram;
use crate::peer::socks::ProxyUrl;
use crate::peer::tls;

/// Where a stream goes.
#[derive(Debug)]
pub struct StreamServer {
    /// Its name or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is TLS over TCP.
    pub is_tls: bool,
    /// The proxy to go by.
    pub proxy: Option<ProxyUrl>,
}

/// TCP, or TLS over it.
pub trait TurnStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> TurnStream for T {}

/// Connects, and shakes hands where it is TLS.
///
/// # Errors
/// What the user is to be told.
pub async fn reach(server: &StreamServer) -> Result<Box<dyn TurnStream>, NoRelayCause> {
    let deadline = Instant::now() + REACH_TIME;
    let stream = match server.proxy.clone() {
        None => timeout_at(deadline, connect(server)).await.unwrap_or(Err(NoRelayCause::NotReached))?,
        Some(proxy) => {
            let stream = timeout_at(deadline, connect_by(proxy, server)).await;
            stream.ok().and_then(Result::ok).ok_or(NoRelayCause::NotByProxy)?
        }
    };
    if !server.is_tls {
        return Ok(Box::new(stream));
    }
    // To read all certificates takes its time.
    let (config, fault) = blocking(tls::config).await.map_err(|_| NoRelayCause::NoTls)?;
    fault.iter().for_each(|fault| debug!("a TURN server: {fault}"));
    let name = ServerName::try_from(server.host.clone()).map_err(|_| NoRelayCause::Certificate)?;
    let shaken = timeout_at(deadline, TlsConnector::from(config).connect(name, stream)).await;
    let stream = shaken.map_err(|_| NoRelayCause::Silent)?.map_err(|error| {
        debug!("a TURN server: {error}");
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => NoRelayCause::Certificate,
            _ => NoRelayCause::NoTls,
        }
    })?;
    Ok(Box::new(stream))
}

/// Tries each address of the server in turn.
async fn connect(server: &StreamServer) -> Result<TcpStream, NoRelayCause> {
    let (host, port) = (server.host.clone(), server.port);
    let look_up = blocking(move || (&*host, port).to_socket_addrs());
    let Ok(Ok(Ok(addresses))) = timeout(LOOK_UP_TIME, look_up).await else { return Err(NoRelayCause::NotFound) };
    for address in addresses {
        match timeout(DIAL_TIME, TcpStream::connect(address)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            // What is sent is small, and waits for nothing.
            Ok(stream) if stream.set_nodelay(true).is_ok() => return Ok(stream),
            Ok(_) => {}
            Err(error) => debug!("a TURN server: {error}"),
        }
    }
    Err(NoRelayCause::NotReached)
}

/// Connects by a proxy, which looks the server's name up.
async fn connect_by(proxy: ProxyUrl, server: &StreamServer) -> io::Result<TcpStream> {
    let (host, port) = (server.host.clone(), server.port);
    let dialled = blocking(move || dial(Some((&proxy, REACH_TIME)), &host, port, DIAL_TIME)).await?;
    let stream = dialled.map_err(|error| {
        debug!("a TURN server: {error}");
        io::Error::other(error.to_string())
    })?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Carries what is queued to the server, and what comes back to the socket, as if from that address. It ends when the
/// server ends it; where nothing more can be queued, it is asked to.
pub async fn carry(
    stream: Box<dyn TurnStream>,
    mut queued: Receiver<Vec<u8>>,
    from: SocketAddr,
    inbox: Sender<Datagram>,
    relay: &Relay,
) {
    // That is what is wrong until something comes.
    relay.set_trouble(NoRelayCause::Silent);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        while let Some(mut bytes) = queued.recv().await {
            while bytes.len() < WRITE
                && let Ok(message) = queued.try_recv()
            {
                bytes.extend(message);
            }
            writer.write_all(&bytes).await?;
            writer.flush().await?;
        }
        writer.shutdown().await?;
        // The end is read, for to close a stream with something unread would take back what was sent last.
        std::future::pending().await
    };
    let read = async {
        let (mut unframed, mut bytes) = (Unframed::default(), vec![0; READ]);
        loop {
            let length = reader.read(&mut bytes).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            unframed.receive(&bytes[..length]);
            while let Some(datagram) = unframed.next().map_err(|Garbage| io::ErrorKind::InvalidData)? {
                // WebRTC's driver is waited for if it is slow, as the server waits for whoever reads slowly. One that
                // is gone needs no more.
                let _ = inbox.send((from, datagram)).await;
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        written = write => written,
        read = read => read,
    };
    if let Err(error) = ended {
        debug!("the stream to a TURN server has ended: {error}");
        relay.set_trouble(NoRelayCause::HungUp);
        relay.set_broken();
    }
}

/// How long the look-up of a server's name may take, each of its addresses, and the whole way to it: the crate asks for
/// a relay for 7.8 s and no longer.
const LOOK_UP_TIME: Duration = Duration::from_secs(3);
const DIAL_TIME: Duration = Duration::from_secs(3);
const REACH_TIME: Duration = Duration::from_secs(7);

/// How many bytes are read at once, and written if so many wait: as much as a TLS record holds.
const READ: usize = 16 * 1024;
const WRITE: usize = 16 * 1024;
