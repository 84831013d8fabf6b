//! What is said to the database and by it, in version 3 of its protocol (RESP3). Commands are written here; replies are
//! read by a crate for that. Pure.

use redis_protocol::resp3::decode::complete::decode;
use redis_protocol::resp3::types::OwnedFrame;

/// A reply, or a message that comes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// A number.
    Number(i64),
    /// Nothing.
    Null,
    /// Several of these.
    List(Vec<Reply>),
    /// The command failed.
    Error(String),
    /// A message that no command asked for.
    Push(Vec<Reply>),
    /// Something of no interest here.
    Other,
}

/// What came is not the database's protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// Appends a command.
pub(super) fn command(output: &mut Vec<u8>, parts: &[&[u8]]) {
    put_length(output, b'*', parts.len());
    for part in parts {
        put_length(output, b'$', part.len());
        output.extend_from_slice(part);
        output.extend_from_slice(b"\r\n");
    }
}

fn put_length(output: &mut Vec<u8>, kind: u8, length: usize) {
    output.push(kind);
    output.extend_from_slice(length.to_string().as_bytes());
    output.extend_from_slice(b"\r\n");
}

/// Takes one reply from the front of `input`; `None` where it is not whole yet.
///
/// # Errors
/// [`Garbled`]; nothing that follows can be read.
pub(super) fn take(input: &mut &[u8]) -> Result<Option<Reply>, Garbled> {
    if input.is_empty() {
        return Ok(None);
    }
    let Some((frame, length)) = decode(input).map_err(|_| Garbled)? else { return Ok(None) };
    *input = input.get(length..).filter(|_| length > 0).ok_or(Garbled)?;
    Ok(Some(reply(frame)))
}

fn reply(frame: OwnedFrame) -> Reply {
    let list = |items: Vec<OwnedFrame>| items.into_iter().map(reply).collect();
    match frame {
        OwnedFrame::BlobString { data, .. }
        | OwnedFrame::SimpleString { data, .. }
        | OwnedFrame::VerbatimString { data, .. } => Reply::Bytes(data),
        OwnedFrame::Number { data, .. } => Reply::Number(data),
        OwnedFrame::Null => Reply::Null,
        OwnedFrame::Array { data, .. } => Reply::List(list(data)),
        OwnedFrame::Push { data, .. } => Reply::Push(list(data)),
        OwnedFrame::SimpleError { data, .. } => Reply::Error(data),
        OwnedFrame::BlobError { data, .. } => Reply::Error(String::from_utf8_lossy(&data).into_owned()),
        _ => Reply::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> (Vec<Reply>, usize) {
        let mut replies = Vec::new();
        while let Some(reply) = take(&mut input).unwrap() {
            replies.push(reply);
        }
        (replies, input.len())
    }

    #[test]
    fn a_command_is_an_array_of_bytes() {
        let mut output = Vec::new();
        command(&mut output, &[b"SET", b"k", b"\r\n"]);
        assert_eq!(output, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n");
    }

    #[test]
    fn replies_are_the_same_in_pieces_and_all_at_once() {
        let bytes = b"+OK\r\n:-7\r\n_\r\n$3\r\na\r\n\r\n*2\r\n:1\r\n$1\r\nx\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n\
                      $2\r\n\0\xff\r\n-NOPERM no\r\n=8\r\ntxt:info\r\n%1\r\n+a\r\n:1\r\n";
        let text = |text: &[u8]| Reply::Bytes(text.to_vec());
        let expected = [
            text(b"OK"),
            Reply::Number(-7),
            Reply::Null,
            text(b"a\r\n"),
            Reply::List(vec![Reply::Number(1), text(b"x")]),
            Reply::Push(vec![text(b"message"), text(b"c"), text(b"\0\xff")]),
            Reply::Error("NOPERM no".to_owned()),
            text(b"info"),
            Reply::Other,
        ];
        assert_eq!(all(bytes), (expected.to_vec(), 0));
        let mut held = Vec::new();
        let mut replies = Vec::new();
        for byte in bytes {
            held.push(*byte);
            let (more, left) = all(&held);
            replies.extend(more);
            held.drain(..held.len() - left);
        }
        assert_eq!(replies, expected);
    }

    #[test]
    fn what_is_none_is_told_and_what_claims_to_be_long_is_awaited() {
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"$x\r\n", b"\x16\x03\x01\r\n"] {
            assert_eq!(take(&mut &*bytes), Err(Garbled), "{bytes:?}");
        }
        for bytes in [&b"$999999999\r\nabc"[..], b"*99999999\r\n", b"%99999999\r\n", b"$"] {
            assert_eq!(take(&mut &*bytes), Ok(None), "{bytes:?}");
        }
    }
}
