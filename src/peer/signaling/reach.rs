//! How the server is reached: TCP, perhaps by a proxy, TLS and the WebSocket handshake. It blocks, so it is done on
//! a thread of its own.

use std::net::TcpStream;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Connector, HandshakeError, WebSocket};

use crate::peer::event::OfflineReason;
use crate::peer::login::Login;
use crate::peer::{dial, tls, unreached};
use crate::protocol::HAS_REPLACED;

/// What a dialling thread brings back.
pub type Dialled = Result<Reached, NotDialled>;

/// A server that has taken us.
pub struct Reached {
    pub socket: Box<SignalingSocket>,
    /// Another connection under our name had to go for this one.
    pub has_replaced: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDialled {
    /// What was the cause.
    pub reason: OfflineReason,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<String> for NotDialled {
    fn from(reason: String) -> Self {
        Self { reason: reason.into(), retry_after: None }
    }
}

/// A WebSocket to the server, in the clear or over TLS.
pub type SignalingSocket = WebSocket<MaybeTlsStream<TcpStream>>;

/// Connects and shakes hands, with a time limit for each step.
pub fn dial(login: &Login) -> Dialled {
    let (host, port) = login.server.address();
    let is_plain = login.server.is_plain();
    let stream = dial::dial(login.proxy.as_ref().map(|proxy| (proxy, PROXY_TIME)), &host, port, DIAL_TIME)
        .map_err(|error| error.to_string())?;
    let socket = stream.try_clone().map_err(|error| unreached::io(&error))?;
    let mut request = login
        .server
        .for_user(&login.username)
        .into_client_request()
        .map_err(|error| NotDialled { reason: unreached::why(&error, is_plain), retry_after: None })?;
    let secret =
        |value: &str| HeaderValue::from_str(value).map_err(|_| "a token has characters that no token has".to_owned());
    request.headers_mut().insert("Lowkey-Token", secret(&login.name_token())?);
    if let Some(token) = &login.access_token {
        request.headers_mut().insert("Authorization", secret(&format!("Bearer {token}"))?);
    }
    let (connector, fault) = match is_plain {
        true => (Connector::Plain, None),
        false => {
            let (config, fault) = tls::config();
            (Connector::Rustls(config), fault)
        }
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT)
        .max_message_size(Some(MAX_SIGNAL))
        .max_frame_size(Some(MAX_SIGNAL));
    let (websocket, response) = tungstenite::client_tls_with_config(request, stream, Some(config), Some(connector))
        .map_err(|error| match error {
            HandshakeError::Failure(error) => NotDialled {
                reason: match (unreached::untrusted(&error), &fault) {
                    (Some(words), Some(fault)) => format!("{words}; {fault}").into(),
                    _ => unreached::why(&error, is_plain),
                },
                retry_after: unreached::retry_after(&error),
            },
            HandshakeError::Interrupted(_) => "the server does not answer; is the address right?".to_owned().into(),
        })?;
    socket.set_nonblocking(true).map_err(|error| unreached::io(&error))?;
    let has_replaced = response.headers().contains_key(HAS_REPLACED);
    Ok(Reached { socket: Box::new(websocket), has_replaced })
}

/// How long each step of dialling may take.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// How long a proxy may take to answer: one such as Tor finds its way only then.
const PROXY_TIME: Duration = Duration::from_secs(60);

/// The longest message that a server may send, and the most that may wait to be sent to it, in bytes.
const MAX_SIGNAL: usize = 256 * 1024;
const MAX_UNSENT: usize = 1024 * 1024;
