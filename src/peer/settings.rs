//! How a peer behaves, and why it cannot begin. Pure but for the randomness of a token.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::cipher::TextFormat;
use super::ice::IceServer;
use super::keys::KeyPair;
use super::login::ServerUrlError;
use super::random;
use super::socks::ProxyUrl;
use super::trust::Known;

/// How a [`Peer`](super::Peer) behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The SOCKS5 proxy by which the server is reached, and TURN servers over TCP and TLS; `None` goes there directly.
    /// Nothing goes past the proxy, and no name is looked up past it: peers are reached by such a TURN server alone,
    /// unless `is_direct` is set.
    pub proxy: Option<ProxyUrl>,
    /// Whether peers, and the STUN and TURN servers in `ice_servers`, are reached past the proxy. Servers that the chat
    /// server offers are not reached past it even then, since they could tell it the address that the proxy hides.
    pub is_direct: bool,
    /// STUN and TURN servers, which find and give ways through NATs. Those that are named here are used in place of
    /// those of the same kind that the server offers.
    pub ice_servers: Vec<IceServer>,
    /// Whether the STUN and TURN servers that the server offers are used. They learn who talks to whom by their
    /// addresses, and no more.
    pub uses_offered_relays: bool,
    /// Whether to talk through a TURN server and no other way, so that the other side never learns an address of ours.
    pub is_relay_only: bool,
    /// The secret that holds the name at the server (protocol 2.6): whoever has the same one gets the name back after a
    /// connection was lost, and nobody else does for a minute. The server sees a hash of it; `None` makes a fresh one.
    pub token: Option<String>,
    /// What a private server wants to know.
    pub access_token: Option<String>,
    /// The long-term key pair that this user is known by; `None` makes one that lasts as long as the program.
    pub identity: Option<KeyPair>,
    /// Who was seen before at this server, by name. Whoever has another identity now is refused.
    pub known: HashMap<String, Known>,
    /// Whether to refuse peers that cannot prove who they are, and peers that change their key in mid-chat.
    pub is_strict: bool,
    /// How texts are sent to a peer until it has said which formats it knows.
    pub text_format: TextFormat,
    /// How many requests may wait for an answer at once; more are dropped. A bot that accepts everyone wants more than
    /// a person can look at, since many may call in the same moment.
    pub max_requests: usize,
    /// How long nothing may be heard of the other side of a chat before it counts as lost. Mobile networks want more.
    pub lost_after: Duration,
    /// How long the peer connection of an open chat is sought again once it was lost; zero ends the chat at once. So
    /// does a loss in a chat with an old app, which cannot prove that it is the same again.
    pub resume_for: Duration,
    /// Whether files that others offer are told of as [`Event::FileOffered`](super::Event::FileOffered), so that they
    /// can be taken. Where they are not, each is refused at once. Our own can be offered in either case.
    pub takes_files: bool,
    /// What wakes a program whose loop waits for other things than the peer's [`Events`](super::Events). It is called
    /// from the peer's thread each time there are new events, and once when they have ended, and must not block. The
    /// program then takes them with [`Events::try_next`](super::Events::try_next).
    pub wake: Option<Wake>,
}

/// A function that wakes a program's loop, from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Settings {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("proxy", &self.proxy)
            .field("is_direct", &self.is_direct)
            .field("ice_servers", &self.ice_servers)
            .field("uses_offered_relays", &self.uses_offered_relays)
            .field("is_relay_only", &self.is_relay_only)
            .field("text_format", &self.text_format)
            .field("max_requests", &self.max_requests)
            .field("lost_after", &self.lost_after)
            .field("takes_files", &self.takes_files)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            is_direct: false,
            ice_servers: Vec::new(),
            uses_offered_relays: true,
            is_relay_only: false,
            token: None,
            access_token: None,
            identity: None,
            known: HashMap::new(),
            is_strict: false,
            text_format: TextFormat::V1,
            max_requests: 3,
            lost_after: Duration::from_secs(15),
            resume_for: Duration::from_secs(24 * 60 * 60),
            takes_files: false,
            wake: None,
        }
    }
}

impl Settings {
    /// Looks whether these settings leave a way to peers.
    ///
    /// # Errors
    /// [`Error::NoRelay`] and [`Error::PastProxy`].
    pub(super) fn check(&self) -> Result<(), Error> {
        let has_relay = self.uses_offered_relays || self.ice_servers.iter().any(IceServer::is_turn);
        if self.needs_relay() && !has_relay {
            return Err(Error::NoRelay);
        }
        let is_past_proxy = |server: &IceServer| server.is_turn() && !server.is_stream();
        if self.is_behind_proxy() && self.ice_servers.iter().any(is_past_proxy) {
            return Err(Error::PastProxy);
        }
        Ok(())
    }

    /// Whether nothing goes past the proxy.
    pub(super) fn is_behind_proxy(&self) -> bool {
        self.proxy.is_some() && !self.is_direct
    }

    /// Whether peers are reached through a TURN server and no other way.
    pub(super) fn needs_relay(&self) -> bool {
        self.is_relay_only || self.is_behind_proxy()
    }
}

/// Why a peer cannot begin. That a server is out of reach is no such error but an
/// [`Event::Offline`](super::Event::Offline).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server's URL is none.
    ServerUrl(ServerUrlError),
    /// The username is empty, longer than 64 bytes, or has control characters.
    Username,
    /// Only a relay may be used, and there is none, nor may the server offer one.
    NoRelay,
    /// A TURN server over UDP is named beside a proxy, which leads to none.
    PastProxy,
    /// The system has no thread or no descriptors to give.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUrl(error) => error.fmt(f),
            Self::Username => f.write_str("a username has 1 to 64 bytes and no control characters"),
            Self::NoRelay => f.write_str("only a relay may be used, and no TURN server is known"),
            Self::PastProxy => f.write_str(
                "no proxy leads to a TURN server over UDP; name it with ?transport=tcp behind it or turns: in front, \
                 which are reached by the proxy",
            ),
            Self::Io(error) => write!(f, "cannot start: {}", crate::trouble::lacking(error)),
        }
    }
}

impl std::error::Error for Error {}

impl From<ServerUrlError> for Error {
    fn from(error: ServerUrlError) -> Self {
        Self::ServerUrl(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Makes a secret that a name can be held with.
pub fn new_token() -> String {
    let mut bytes = [0; 24];
    random::fill(&mut bytes);
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}
