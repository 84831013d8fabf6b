//! A peer of ours that proves who it is, and says whatever a test wants from then on: in the chat, and over the
//! channels for files. Its handshake and its boxes are those of the library, and its WebRTC is its own.

use std::time::Duration;

use lowkey::peer::FileId;
use lowkey::peer::agreement::{Names, OwnKeys};
use lowkey::peer::boxes::Boxes;
use lowkey::peer::files::lane::FileKeys;
use lowkey::peer::files::note::Note;
use lowkey::peer::frame::{Body, Frame};
use lowkey::peer::hello::{self, Hello, Inside, Said};
use lowkey::protocol::{KeyExchange, MessageType};
use serde_json::json;

use crate::old_app::{OldApp, Side};
use crate::world::{Client, SOON, identity};

/// See the module.
pub struct Mallory {
    pub app: OldApp,
    /// What files are sealed with.
    pub keys: FileKeys,
    texts: Boxes,
    /// Numbers of the last text or note either way.
    sent: u64,
    received: u64,
    /// Whether what comes is acknowledged.
    pub acknowledges: bool,
}

impl Mallory {
    /// Calls `peer` as the one who is online by this name, with the identity that tests have for it.
    pub fn call(client: Client, name: &str, peer: &str) -> Self {
        let mut app = OldApp::with(client);
        app.connect(peer);
        let own = OwnKeys::generate();
        app.signal("key:exchange", &json!(hello::write_greeting(&own.greeting())));
        let exchange: KeyExchange = serde_json::from_value(app.find("key:exchange")["payload"].take()).unwrap();
        let Said::Answer(answer) = Said::read(&exchange) else { panic!("{exchange:?}") };
        let mut agreement = own.agree(&answer, Names { caller: name, called: peer });
        let identity = identity(name);
        let features = vec!["files".to_owned()];
        let proof = agreement.prove(&identity, &[]);
        let first = Hello { identity: identity.public(), proof, features, position: None }.write();
        app.signal("signal:ice", &json!({"sealed": agreement.seal_first(&first, None)}));
        let second = loop {
            let message = app.find("signal:ice");
            let inside = agreement.signals().open(message["payload"]["sealed"].as_str().unwrap()).unwrap();
            if let Some(Inside::Hello(_)) = Inside::read(MessageType::SignalIce, &inside) {
                break inside;
            }
        };
        let (texts, keys, signals) = agreement.conclude(&first, &second);
        app.signals = Some(signals);
        app.offer();
        app.negotiate();
        Self { app, keys, texts, sent: 0, received: 0, acknowledges: true }
    }

    /// Says a word about files.
    pub fn note(&mut self, note: &Note) {
        self.note_as(&note.write());
    }

    /// Says what may be no word about files.
    pub fn note_as(&mut self, note: &str) {
        self.sent += 1;
        self.say(&Frame::note(self.received, self.sent, note, LARGEST));
    }

    /// Offers a file of this name and size.
    pub fn offer(&mut self, file: FileId, name: &str, size: Option<u64>) {
        self.note(&Note::Offer { file, name: name.to_owned(), size, modified: None, entries: None });
    }

    /// Says a text.
    pub fn text(&mut self, text: &str) {
        self.sent += 1;
        self.say(&Frame::text(self.received, self.sent, text, LARGEST));
    }

    /// The next word about files, if one comes within a moment; what else comes is passed over.
    pub fn next_note(&mut self, wait: Duration) -> Option<Note> {
        loop {
            if let Body::Note(_, note) = self.next(wait)? {
                return Some(Note::read(note.as_bytes()).unwrap());
            }
        }
    }

    /// Waits for the word that the other side takes a file: its number, and from which byte on.
    pub fn taken(&mut self) -> (u64, u64) {
        loop {
            match self.next_note(SOON).expect("a take") {
                Note::Take { number, from, .. } => return (number, from),
                other => assert!(matches!(other, Note::Refuse { .. }), "{other:?}"),
            }
        }
    }

    /// Why the other side ends this file.
    pub fn refused(&mut self, file: FileId) -> lowkey::peer::EndReason {
        loop {
            match self.next_note(SOON).expect("a refusal") {
                Note::Refuse { file: of, reason } if of == file => return reason,
                _ => {}
            }
        }
    }

    /// The chat goes on: a text of the other side's comes.
    pub fn hears(&mut self, text: &str) {
        loop {
            match self.next(SOON).expect("a text") {
                Body::Text(_, heard) if heard == text => return,
                _ => {}
            }
        }
    }

    /// Opens a channel for files.
    pub fn lane(&self) -> Side {
        self.app.open_side("files")
    }

    /// The next thing that the other side says, but for acknowledgements.
    fn next(&mut self, wait: Duration) -> Option<Body> {
        loop {
            let sealed = self.app.raw_text(wait)?;
            let frame = Frame::read(self.texts.open(&sealed).unwrap()).unwrap();
            if let Body::Text(number, _) | Body::Note(number, _) = &frame.body {
                self.received = *number;
                if self.acknowledges {
                    self.say(&Frame::taken(self.received));
                }
            }
            if frame.body != Body::Taken {
                return Some(frame.body);
            }
        }
    }

    fn say(&mut self, frame: &[u8]) {
        let sealed = self.texts.seal(frame).unwrap();
        self.app.send_raw(&sealed);
    }
}

/// The longest frame.
const LARGEST: usize = 49_112;
