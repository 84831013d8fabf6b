//! Requests to TURN servers that are answered by "stale nonce" (438), made again with the new nonce (RFC 8489, section
//! 9.2.5). The crate would take 438 for the last answer: it would give a channel up and take another number, which
//! servers refuse, and let relays and permissions go. So 438 is kept from it, and it gets the answer to the second
//! request. Pure.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use rtc::crypto::default_provider;
use rtc::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType,
};
use rtc::stun::error_code::{CODE_STALE_NONCE, ErrorCodeAttribute};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{Getter, Message, Setter};

use crate::peer::ice::IceServer;

/// The requests on one socket that wait for an answer.
#[derive(Debug)]
pub struct TurnRequests {
    /// The users at TURN servers that this connection is one of.
    servers: Arc<[IceServer]>,
    waiting: VecDeque<TurnRequest>,
    /// What each server has said last of a nonce.
    answers: HashMap<SocketAddr, Message>,
}

#[derive(Debug)]
struct TurnRequest {
    to: SocketAddr,
    /// As the crate has made it.
    made: Vec<u8>,
    /// With a newer nonce than the crate knows.
    renewed: Option<Vec<u8>>,
    renewals: usize,
}

impl TurnRequests {
    /// Requests to these servers.
    pub fn new(servers: Arc<[IceServer]>) -> Self {
        Self { servers, waiting: VecDeque::new(), answers: HashMap::new() }
    }

    /// Learns of a datagram that is sent. What is to be sent instead, if it is a request for which a newer nonce is
    /// known: so it is also granted where nobody waits for the answer, as when a relay is given up.
    pub fn sent(&mut self, to: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let [0, method @ (ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND), ..] = datagram else { return None };
        if let Some(known) = self.waiting.iter().find(|known| known.to == to && known.made == datagram) {
            return known.renewed.clone();
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        // The nonce of a first request is of just now.
        let answer = self.answers.get(&to).filter(|_| *method != ALLOCATE);
        let renewed = answer.and_then(|answer| renew(datagram, answer, &self.servers));
        self.waiting.push_back(TurnRequest { to, made: datagram.to_vec(), renewed: renewed.clone(), renewals: 0 });
        renewed
    }

    /// Learns of a datagram that has come. What is to be sent to where it came from, if it says that a nonce is
    /// stale; then nobody is to know of it. `None` where it is for others.
    pub fn received(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        // An answer, be it an error or not.
        let [1, ..] = datagram else { return None };
        let is_meant =
            |request: &TurnRequest| request.to == from && transaction(&request.made) == transaction(datagram);
        let index = self.waiting.iter().position(is_meant)?;
        let request = self.waiting.get_mut(index)?;
        let renewed = match stale(datagram) {
            Some(answer) if request.renewals < MAX_RENEWALS => {
                let renewed = renew(&request.made, &answer, &self.servers);
                if renewed.is_some() {
                    self.answers.insert(from, answer);
                }
                renewed
            }
            _ => None,
        };
        if renewed.is_none() {
            self.waiting.remove(index);
        } else {
            request.renewals += 1;
            request.renewed.clone_from(&renewed);
        }
        renewed
    }
}

/// What requests and answers are matched by.
fn transaction(message: &[u8]) -> Option<&[u8]> {
    message.get(8..20)
}

/// An answer that says that the nonce is stale.
fn stale(datagram: &[u8]) -> Option<Message> {
    let answer = decoded(datagram)?;
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&answer).ok()?;
    (code.code == CODE_STALE_NONCE).then_some(answer)
}

fn decoded(datagram: &[u8]) -> Option<Message> {
    let mut message = Message::new();
    message.raw = datagram.to_vec();
    message.decode().ok()?;
    Some(message)
}

/// A request with the nonce of this answer, by the user among these who has made it.
fn renew(made: &[u8], answer: &Message, servers: &[IceServer]) -> Option<Vec<u8>> {
    let mut request = decoded(made)?;
    let provider = default_provider().ok()?;
    let crypto = provider.crypto();
    let text = |message: &Message, attribute: AttrType| String::from_utf8(message.get(attribute).ok()?).ok();
    let (username, realm) = (text(&request, ATTR_USERNAME)?, text(&request, ATTR_REALM)?);
    let key = |realm: &str, server: &IceServer| {
        MessageIntegrity::long_term_integrity_key(username.clone(), realm.to_owned(), server.credential.clone(), crypto)
            .ok()
    };
    // Two servers may have users of one name; the one is meant whose secret the request was made with.
    let is_users = |server: &&IceServer| {
        server.username == username
            && key(&realm, server).is_some_and(|key| MessageIntegrity::check(&mut request, &key, crypto).is_ok())
    };
    let server = servers.iter().find(is_users)?;
    let nonce = answer.get(ATTR_NONCE).ok()?;
    let new_realm = text(answer, ATTR_REALM).unwrap_or(realm);
    let mut renewed = Message::new();
    renewed.typ = request.typ;
    renewed.transaction_id = request.transaction_id;
    renewed.write_header();
    for attribute in &request.attributes.0 {
        match attribute.typ {
            ATTR_NONCE => renewed.add(ATTR_NONCE, &nonce),
            ATTR_REALM => renewed.add(ATTR_REALM, new_realm.as_bytes()),
            // They cover all that stands before them.
            ATTR_MESSAGE_INTEGRITY | ATTR_FINGERPRINT => {}
            other => renewed.add(other, &attribute.value),
        }
    }
    let key = key(&new_realm, server)?;
    MessageIntegrity::new_raw_integrity_with_provider(key, crypto).add_to(&mut renewed).ok()?;
    FINGERPRINT.add_to(&mut renewed).ok()?;
    Some(renewed.raw)
}

// The second bytes of requests that need a nonce (RFC 8656, section 17); the first is 0.
const ALLOCATE: u8 = 0x03;
const REFRESH: u8 = 0x04;
const CREATE_PERMISSION: u8 = 0x08;
const CHANNEL_BIND: u8 = 0x09;

/// How often one request is renewed. A nonce that is fresh is not stale; a server that says so again and again is not
/// asked for ever.
const MAX_RENEWALS: usize = 3;

/// Requests that may wait at once. A relay has some for each address of the other side; what is longer ago was
/// answered or lost.
const MAX_WAITING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::stun::message::{CLASS_REQUEST, METHOD_CHANNEL_BIND, MessageType, TransactionId};
    use rtc::stun::textattrs::TextAttribute;

    fn server(url: &str, credential: &str) -> IceServer {
        IceServer { url: url.to_owned(), username: "both".to_owned(), credential: credential.to_owned() }
    }

    fn text(typ: AttrType, text: &str) -> Box<TextAttribute> {
        Box::new(TextAttribute { attr: typ, text: text.to_owned() })
    }

    fn key(realm: &str, secret: &str) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let (username, realm, secret) = ("both".to_owned(), realm.to_owned(), secret.to_owned());
        MessageIntegrity::long_term_integrity_key(username, realm, secret, provider.crypto()).unwrap()
    }

    const CHANNEL_NUMBER: AttrType = AttrType(0x000c);

    struct Raw(AttrType, Vec<u8>);

    impl Setter for Raw {
        fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
            message.add(self.0, &self.1);
            Ok(())
        }
    }

    /// A request for channel 0x4001 with this nonce.
    fn request(nonce: &str, secret: &str) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let mut message = Message::new();
        message
            .build(&[
                Box::new(TransactionId([7; 12])),
                Box::new(MessageType::new(METHOD_CHANNEL_BIND, CLASS_REQUEST)),
                Box::new(Raw(CHANNEL_NUMBER, vec![0x40, 1, 0, 0])),
                text(ATTR_USERNAME, "both"),
                text(ATTR_REALM, "turn.example"),
                text(ATTR_NONCE, nonce),
                Box::new(MessageIntegrity::new_raw_integrity_with_provider(
                    key("turn.example", secret),
                    provider.crypto(),
                )),
                Box::new(FINGERPRINT),
            ])
            .unwrap();
        message.raw
    }

    /// An error for that request, with this code.
    fn error(code: [u8; 2], nonce: &str, realm: Option<&str>) -> Vec<u8> {
        let mut message = Message::new();
        let mut setters: Vec<Box<dyn Setter>> = vec![
            Box::new(TransactionId([7; 12])),
            Box::new(Raw(AttrType(0x0009), vec![0, 0, code[0], code[1]])),
            text(ATTR_NONCE, nonce),
        ];
        if let Some(realm) = realm {
            setters.push(text(ATTR_REALM, realm));
        }
        message.build(&setters).unwrap();
        message.raw[..2].copy_from_slice(&[1, 0x19]);
        message.raw
    }

    fn address(port: u16) -> SocketAddr {
        ([203, 0, 113, 1], port).into()
    }

    const STALE: [u8; 2] = [4, 38];

    #[test]
    fn a_request_with_a_stale_nonce_is_made_again_with_the_new_one_and_is_else_the_same() {
        let servers =
            [server("stun:a", ""), server("turn:a", "wrong"), server("turn:b", "s3cret"), server("turn:c", "x")];
        for (realm, expected) in [(None, "turn.example"), (Some("turn.example"), "turn.example"), (Some("new"), "new")]
        {
            let mut requests = TurnRequests::new(servers.clone().into());
            assert_eq!(requests.sent(address(1), &request("old", "s3cret")), None);
            let renewed = requests.received(address(1), &error(STALE, "new nonce", realm)).unwrap();
            let mut message = decoded(&renewed).unwrap();
            let provider = default_provider().unwrap();
            MessageIntegrity::check(&mut message, &key(expected, "s3cret"), provider.crypto()).unwrap();
            FINGERPRINT.check(&message).unwrap();
            assert_eq!(message.get(ATTR_NONCE).unwrap(), b"new nonce");
            assert_eq!(message.get(CHANNEL_NUMBER).unwrap(), [0x40, 1, 0, 0]);
            assert_eq!((&renewed[..2], transaction(&renewed)), (&[0, 9][..], Some(&[7; 12][..])));
            // What the crate sends again is sent as it now has to be, until there is an answer.
            assert_eq!(requests.sent(address(1), &request("old", "s3cret")), Some(renewed));
            assert_eq!(requests.received(address(1), &error([4, 0], "", None)), None);
            assert_eq!(requests.waiting.len(), 0);
            // The next one is asked with it at once; another server has said nothing of it.
            let next = decoded(&requests.sent(address(1), &request("old", "s3cret")).unwrap()).unwrap();
            assert_eq!(next.get(ATTR_NONCE).unwrap(), b"new nonce");
            assert_eq!(requests.sent(address(2), &request("old", "s3cret")), None);
        }
    }

    #[test]
    fn with_the_same_nonce_it_is_the_very_same_request() {
        let mut requests = TurnRequests::new([server("turn:a", "s3cret")].into());
        let made = request("nonce", "s3cret");
        requests.sent(address(1), &made);
        assert_eq!(requests.received(address(1), &error(STALE, "nonce", None)), Some(made));
    }

    #[test]
    fn other_answers_and_those_of_others_go_up() {
        let answers = [
            (address(1), error([4, 1], "new", None)),
            (address(1), error([4, 37], "new", None)),
            (address(2), error(STALE, "new", None)),
            (address(1), vec![]),
            (address(1), vec![1, 0x19]),
            (address(1), vec![0x40, 1, 0, 0]),
        ];
        for (from, answer) in answers {
            let mut requests = TurnRequests::new([server("turn:a", "s3cret")].into());
            requests.sent(address(1), &request("old", "s3cret"));
            assert_eq!(requests.received(from, &answer), None, "{answer:?}");
        }
        // Nobody has asked for this, and of this nobody knows the secret.
        let mut requests = TurnRequests::new([server("turn:a", "s3cret")].into());
        assert_eq!(requests.received(address(1), &error(STALE, "new", None)), None);
        requests.sent(address(1), &request("old", "another"));
        assert_eq!(requests.received(address(1), &error(STALE, "new", None)), None);
    }

    #[test]
    fn nothing_is_renewed_for_ever_nor_kept() {
        let mut requests = TurnRequests::new([server("turn:a", "s3cret")].into());
        requests.sent(address(1), &request("old", "s3cret"));
        let renewals = (0..10)
            .filter(|number| requests.received(address(1), &error(STALE, &format!("nonce {number}"), None)).is_some());
        assert_eq!(renewals.count(), MAX_RENEWALS);
        (0..1000).for_each(|port| {
            requests.sent(address(port), &request("old", "s3cret"));
        });
        assert_eq!(requests.waiting.len(), MAX_WAITING);
    }

    #[test]
    fn whatever_comes_does_no_harm() {
        let mut random = fastrand::Rng::with_seed(7);
        let whole = error(STALE, "new", Some("turn.example"));
        for _ in 0..2000 {
            let mut requests = TurnRequests::new([server("turn:a", "s3cret")].into());
            requests.sent(address(1), &request("old", "s3cret"));
            let mut answer = whole[..random.usize(..=whole.len())].to_vec();
            if let Some(index) = answer.len().checked_sub(1) {
                answer[random.usize(..=index)] = random.u8(..);
            }
            requests.received(address(1), &answer);
            requests.sent(address(1), &answer);
        }
    }
}
