//! Tokio for the `webrtc` crate, in a hurry: its driver is not woken between the steps of opening a connection, and would
//! wait for its next tick of 200 ms.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle as TaskHandle, Runtime, TokioRuntime,
};

/// Tokio, but with short sleeps until the connection is open.
#[derive(Debug)]
pub struct Prompt {
    inner: TokioRuntime,
    is_open: Arc<AtomicBool>,
    until: Instant,
}

impl Prompt {
    /// Prompt until `is_open` is set, or [`PROMPT_TIME`] is over.
    pub fn new(is_open: Arc<AtomicBool>) -> Self {
        Self { inner: TokioRuntime, is_open, until: Instant::now() + PROMPT_TIME }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Prompt {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn TaskHandle> {
        self.inner.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.inner.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.inner.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let is_prompt = !self.is_open.load(Ordering::Relaxed) && Instant::now() < self.until;
        self.inner.sleep(if is_prompt { duration.min(PROMPT_SLEEP) } else { duration })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

/// The longest sleep of a driver that is opening a connection, and for how long that is worth its price.
const PROMPT_SLEEP: Duration = Duration::from_millis(5);
const PROMPT_TIME: Duration = Duration::from_secs(15);
