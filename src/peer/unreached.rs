//! Why there is no server, in words for people and with what to do next: never a library's, nor a number of the
//! system's. Pure.

use std::io::{self, ErrorKind};
use std::time::Duration;

use rustls::CertificateError;
use tungstenite::Error;
use tungstenite::error::{ProtocolError, TlsError};
use tungstenite::http::{Response, StatusCode, header};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::event::OfflineReason;
use crate::escape::quoted;
use crate::trouble;

/// Why a connection to a server came to nothing, or ended. `is_plain`: it was tried without TLS. Nothing that is
/// advised leads away from TLS, since anybody on the way can bring about what it is said of.
pub fn why(error: &Error, is_plain: bool) -> OfflineReason {
    match error {
        Error::Http(response) if response.status() == StatusCode::CONFLICT => OfflineReason::NameTaken,
        Error::Http(response) if response.status() == StatusCode::UNAUTHORIZED => OfflineReason::AccessToken,
        error => words(error, is_plain).into(),
    }
}

fn words(error: &Error, is_plain: bool) -> String {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => CLOSED.to_owned(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the connection to the server broke off".to_owned()
        }
        Error::Protocol(ProtocolError::HandshakeIncomplete) => match is_plain {
            true => "what listens there hangs up: it is no chat server, or one with TLS, which is reached by wss://"
                .to_owned(),
            false => "what listens there hangs up: it is no chat server".to_owned(),
        },
        Error::Protocol(
            ProtocolError::HttparseError(_)
            | ProtocolError::WrongHttpVersion
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::SecWebSocketAcceptKeyMismatch
            | ProtocolError::SecWebSocketSubProtocolError(_)
            | ProtocolError::InvalidHeader(_),
        )
        | Error::HttpFormat(_) => match is_plain {
            true => {
                "what listens there is no chat server, or one with TLS, which is reached by wss://; is the port right?"
                    .to_owned()
            }
            false => "what listens there is no chat server; is the port right?".to_owned(),
        },
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt => {
            "what the server sends breaks the rules of WebSocket; is there a proxy in between that changes it?"
                .to_owned()
        }
        Error::Capacity(_) => "the server sends more than any server has to".to_owned(),
        Error::WriteBufferFull(_) => "the server takes nothing any more".to_owned(),
        Error::Http(response) => answered(response, is_plain),
        Error::Io(error) => io(error),
        Error::Tls(TlsError::Rustls(error)) => tls(error),
        Error::Tls(_) => "TLS could not be agreed upon with the server".to_owned(),
        Error::Url(_) => "the server's address is none that can be reached".to_owned(),
    }
}

/// How long a server wants to be left alone that takes nobody now (RFC 9110, section 10.2.3), where it says so in
/// seconds.
pub fn retry_after(error: &Error) -> Option<Duration> {
    let Error::Http(response) = error else { return None };
    let is_busy = matches!(
        response.status(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::INSUFFICIENT_STORAGE
    );
    let seconds = response.headers().get(header::RETRY_AFTER).filter(|_| is_busy)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// Why reading, writing or connecting failed.
pub fn io(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        return tls(error);
    }
    if let Some(words) = trouble::words(error) {
        return words;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there; is the server running, and the port right?".to_owned(),
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => "there is no way to it; is this machine online?".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "it does not answer; is the address right, and does a firewall let it through?".to_owned()
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => "the connection broke off".to_owned(),
        ErrorKind::PermissionDenied => "this machine does not allow it; is there a firewall here?".to_owned(),
        ErrorKind::InvalidInput => {
            "the system cannot use that address; one that begins with fe80 is of one network alone, so name another"
                .to_owned()
        }
        _ => trouble::lacking(error),
    }
}

/// Why the server's certificate is not trusted, where it is that.
pub fn untrusted(error: &Error) -> Option<String> {
    fault_of_tls(error).filter(|error| matches!(error, rustls::Error::InvalidCertificate(_))).map(tls)
}

fn fault_of_tls(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        Error::Tls(TlsError::Rustls(error)) => Some(error),
        _ => None,
    }
}

/// Why TLS came to nothing.
fn tls(error: &rustls::Error) -> String {
    let certificate = match error {
        rustls::Error::InvalidMessage(_) => {
            return "what comes from there is no TLS: is the port right, and does the server have TLS? If it has, \
                    somebody on the way changes it; ask who runs it"
                .to_owned();
        }
        rustls::Error::InvalidCertificate(error) => error,
        rustls::Error::NoCertificatesPresented => return "the server shows no certificate".to_owned(),
        rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_) => {
            return "the server does not agree to a way of TLS that is known here; ask who runs it".to_owned();
        }
        _ => return "TLS could not be agreed upon with the server; ask who runs it".to_owned(),
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; ask who runs it, and look at this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; is this machine's clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name; is the address spelled right?"
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate was issued by nobody whom this machine trusts; if the server is your own, \
             name its certificate, or its issuer's, by SSL_CERT_FILE=FILE, in PEM"
        }
        CertificateError::Revoked => "the server's certificate was taken back by its issuer; ask who runs it",
        // Most of all, a self-signed one that says that it is an issuer's.
        _ => {
            "the server's certificate is not fit for a server; ask who runs it for one that an authority has issued; \
             if the server is your own, make one without CA:TRUE, and name it by SSL_CERT_FILE=FILE, in PEM"
        }
    }
    .to_owned()
}

/// What the server's refusal means.
fn answered(response: &Response<Option<Vec<u8>>>, is_plain: bool) -> String {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let line = String::from_utf8_lossy(body);
    let line = line.trim();
    let said = if line.is_empty() || line.starts_with('<') { String::new() } else { format!(": {}", quoted(line)) };
    match status {
        StatusCode::FORBIDDEN => format!("the server, or a proxy before it, forbids it{said}; ask who runs it"),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UPGRADE_REQUIRED => {
            "a web server answers there, and no chat server; is the address right?".to_owned()
        }
        StatusCode::TOO_MANY_REQUESTS => "too many come to the server from this network at once".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE => "the server is full, or just restarts".to_owned(),
        StatusCode::INSUFFICIENT_STORAGE => {
            "the server has no room for new names right now; if that lasts, ask who runs it".to_owned()
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            "a proxy answers, and the chat server behind it is away".to_owned()
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "a proxy in between wants to know who you are".to_owned(),
        StatusCode::BAD_REQUEST if is_plain && said.is_empty() => {
            "what listens there does not understand; perhaps it wants TLS, which is wss://".to_owned()
        }
        status if status.is_redirection() => {
            match response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()) {
                Some(to) => format!("the server says that it is elsewhere, at {}", quoted(to)),
                None => "the server is elsewhere, and does not say where".to_owned(),
            }
        }
        status if status.is_success() => {
            "a web server answers there, and no chat server; is the address right?".to_owned()
        }
        status if status.is_server_error() => {
            format!("the server has an error of its own ({}){said}; ask who runs it", status.as_u16())
        }
        status => format!("the server refuses ({}){said}", status.as_u16()),
    }
}

/// Why the server has closed the connection, in its own words where it has some.
pub fn farewell(frame: Option<&CloseFrame>) -> String {
    // So a frame is handed on whose code may not be sent; the words are tungstenite's.
    let is_spoiled = |frame: &CloseFrame| frame.code == CloseCode::Protocol && frame.reason == "Protocol violation";
    let words = frame.filter(|frame| !is_spoiled(frame)).map(|frame| frame.reason.trim());
    words.filter(|words| !words.is_empty()).map_or(CLOSED.to_owned(), |words| format!("{CLOSED}: {}", quoted(words)))
}

const CLOSED: &str = "the server closed the connection";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_every_day_is_told_in_words_of_ours() {
        // As rustls has it where whoever ends TLS only hangs up.
        let hung_up = io::Error::new(ErrorKind::UnexpectedEof, "peer closed connection, see https://docs.rs/rustls/");
        assert_eq!(words(&Error::Io(hung_up), false), "the connection broke off");
        let no_scope = io::Error::from_raw_os_error(22);
        assert!(io(&no_scope).contains("fe80"), "EINVAL: {}", io(&no_scope));
        assert_eq!(io(&trouble::ours(ErrorKind::WouldBlock, "ours")), "ours");
        let frame = |code: u16, reason: &'static str| CloseFrame { code: code.into(), reason: reason.into() };
        assert_eq!(farewell(Some(&frame(1002, "Protocol violation"))), CLOSED);
        assert_eq!(farewell(Some(&frame(1001, "it restarts\nnow"))), format!("{CLOSED}: \"it restarts\""));
        assert_eq!((farewell(Some(&frame(1000, ""))), farewell(None)), (CLOSED.to_owned(), CLOSED.to_owned()));
    }

    #[test]
    fn nobody_on_the_way_can_talk_a_user_out_of_tls() {
        use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible, PeerMisbehaved};
        let faults = [
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
            rustls::Error::InvalidMessage(InvalidMessage::MessageTooLarge),
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
            rustls::Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
            rustls::Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
            rustls::Error::NoCertificatesPresented,
            rustls::Error::DecryptError,
        ];
        let broken = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::InvalidData, ErrorKind::Other];
        let faults = faults.into_iter().map(|fault| io::Error::new(ErrorKind::InvalidData, fault));
        for error in faults.chain(broken.map(io::Error::from)) {
            let said = words(&Error::Io(error), false);
            assert!(!said.contains("ws:") && !said.contains("without"), "{said}");
        }
    }

    #[test]
    fn a_server_without_room_is_told_from_one_with_an_error() {
        let response = Response::builder().status(507).body(None).unwrap();
        let OfflineReason::Other { message: said } = why(&Error::Http(Box::new(response)), false) else {
            panic!("words")
        };
        assert!(said.contains("no room for new names") && !said.contains("507"), "{said}");
    }

    #[test]
    fn a_busy_server_may_say_how_long() {
        let asked = |status: u16, value: &str| {
            let response = Response::builder().status(status).header("Retry-After", value).body(None).unwrap();
            retry_after(&Error::Http(Box::new(response))).map(|asked| asked.as_secs())
        };
        assert_eq!(asked(503, "7"), Some(7));
        assert_eq!(asked(429, " 30 "), Some(30));
        assert_eq!(asked(507, "10"), Some(10));
        for (status, value) in [(503, "Fri, 31 Dec 1999 23:59:59 GMT"), (503, "-1"), (503, ""), (404, "7")] {
            assert_eq!(asked(status, value), None, "{status} {value}");
        }
    }
}
