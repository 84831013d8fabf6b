//! Hellos: how each side of a call shows and proves who it is (protocol 2.3).

use super::super::agreement::Agreement;
use super::super::frame::ChatPosition;
use super::super::hello::{Hello, Inside};
use super::super::keys::PublicKey;
use super::super::planted::{self, Fault};
use super::interface::Round;
use crate::protocol::MessageType;

/// Somebody who calls and has proven who it is.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Guest {
    pub(super) agreement: Agreement,
    /// The bytes of its hello, which ours is bound to.
    pub(super) first: Vec<u8>,
    pub(super) identity: PublicKey,
    /// Where it is in the chat with us, if it says so.
    pub(super) position: Option<ChatPosition>,
    /// Its program knows of files.
    pub(super) knows_files: bool,
    /// Its hello was sealed so that nobody but we could read it.
    pub(super) knows_us: bool,
}

impl Guest {
    /// Who has sent this hello, of which these are the bytes.
    pub(super) fn new(agreement: Agreement, first: Vec<u8>, hello: &Hello, knows_us: bool) -> Self {
        let (identity, position, knows_files) = (hello.identity, hello.position, knows_files(hello));
        Self { agreement, first, identity, position, knows_files, knows_us }
    }
}

/// A hello of ours, as the bytes that are to be sealed. `first`: the caller's hello, where we are called.
pub(super) fn own_hello(agreement: &Agreement, first: &[u8], position: ChatPosition, round: &Round<'_>) -> Vec<u8> {
    let identity = &round.setup.identity;
    let proof = agreement.prove(identity, first);
    Hello { identity: identity.public(), proof, features: vec![FILES.to_owned()], position: Some(position) }.write()
}

/// Reads the other side's hello, which proves what it shows; `None` for one that does not.
pub(super) fn read_hello(agreement: &Agreement, first: &[u8], bytes: &[u8], round: &Round<'_>) -> Option<Hello> {
    let Some(Inside::Hello(hello)) = Inside::read(MessageType::SignalIce, bytes) else { return None };
    is_true(agreement, first, &hello, round).then_some(hello)
}

/// Whether a hello of the other side proves what it shows. Our own identity is shown by nobody honest.
pub(super) fn is_true(agreement: &Agreement, first: &[u8], hello: &Hello, round: &Round<'_>) -> bool {
    let is_proven = agreement.is_proven(&hello.proof, hello.identity, first) || planted::has(Fault::AnyProof);
    hello.identity != round.setup.identity.public() && is_proven
}

/// Whether somebody's program knows of files, by its hello.
pub(super) fn knows_files(hello: &Hello) -> bool {
    hello.features.iter().any(|feature| feature == FILES)
}

/// What a program has in its hello that knows of files (protocol 2.13).
const FILES: &str = "files";
