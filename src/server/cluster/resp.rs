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
    if is_too_deep(input) {
        return Err(Garbled);
    }
    let Some((frame, length)) = decode(input).map_err(|_| Garbled)? else { return Ok(None) };
    *input = input.get(length..).filter(|_| length > 0).ok_or(Garbled)?;
    Ok(Some(reply(frame)))
}

/// Whether the reply in front holds lists in lists beyond [`MAX_DEPTH`]. The crate reads each of them by a call within
/// the call for the one around it, as [`reply`] does, so that a few kilobytes would end the stack. Where this can read
/// no further the crate cannot either.
fn is_too_deep(mut input: &[u8]) -> bool {
    // How many items are still to come, of each list that is open.
    let mut open: Vec<usize> = Vec::new();
    while let Some(items) = items(&mut input) {
        if items > 0 {
            if open.len() == MAX_DEPTH {
                return true;
            }
            open.push(items);
            continue;
        }
        // Here an item ends, and with it each list whose last one it was.
        loop {
            match open.last_mut() {
                None => return false,
                Some(1) => open.pop(),
                Some(left) => {
                    *left -= 1;
                    break;
                }
            };
        }
    }
    false
}

/// Takes an item, or what a list begins with, from the front of `input`: how many items follow that are in it. `None`
/// where it is not whole, or is none.
fn items(input: &mut &[u8]) -> Option<usize> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, line) = input[..end].split_first()?;
    let length = || str::from_utf8(line).ok()?.parse::<usize>().ok();
    let mut rest = &input[end + 2..];
    let items = match kind {
        b'*' | b'~' | b'>' => length()?,
        b'%' => length()?.saturating_mul(2),
        // Behind it stands what it is said of, which ends it.
        b'|' => length()?.saturating_mul(2).saturating_add(1),
        b'$' | b'!' | b'=' => {
            rest = rest.get(length()?.checked_add(2)?..)?;
            0
        }
        _ => 0,
    };
    *input = rest;
    Some(items)
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

/// How deep lists may lie in each other: what a database says when it is greeted has four, and no answer to a command
/// of ours has more.
const MAX_DEPTH: usize = 16;

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
    fn lists_in_lists_beyond_all_need_are_refused_at_once() {
        for list in
            ["*1\r\n", "~1\r\n", ">1\r\n", "%1\r\n+a\r\n", "|1\r\n+a\r\n", "*2\r\n$3\r\n*1\r\r\n", "*2\r\n*0\r\n"]
        {
            let deep = list.repeat(5000);
            assert_eq!(take(&mut deep.as_bytes()), Err(Garbled), "{list:?}");
        }
        let nested = |depth: usize| ["*1\r\n".repeat(depth), ":1\r\n:2\r\n".to_owned()].concat().into_bytes();
        let (replies, left) = all(&nested(MAX_DEPTH));
        assert_eq!((replies.len(), &replies[1], left), (2, &Reply::Number(2), 0));
        assert_eq!(take(&mut &*nested(MAX_DEPTH + 1)), Err(Garbled));
        // Beside each other there may be as many as there are.
        let wide = ["*100\r\n".to_owned(), "*2\r\n*0\r\n*1\r\n_\r\n".repeat(100)].concat();
        assert_eq!(all(wide.as_bytes()).0.len(), 1);
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
