//! Reads a message to be forwarded that is written as programs write it: type, target and payload, in this order,
//! without spaces. Nearly every message is, and this takes a third of serde's time. All else, be it right or wrong,
//! is left to serde, which so remains the one judge of what a message is. Pure.

use memchr::memchr2;

use crate::protocol::MessageType;

/// A message that is to be forwarded.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// What it is.
    pub kind: MessageType,
    /// To whom it goes.
    pub target: &'a str,
    /// The message up to the target, that included.
    pub head: &'a str,
    /// The rest of it: the payload, which is a JSON value, and what is around it.
    pub tail: &'a str,
}

impl<'a> Plain<'a> {
    /// Reads a message; `None` where serde has to say what it is.
    pub fn read(text: &'a str) -> Option<Self> {
        // Control characters are looked for in one go: without a way out at each byte, a processor takes many at once.
        if text.bytes().fold(u8::MAX, u8::min) < b' ' {
            return None;
        }
        let (kind, rest) = string(text.strip_prefix(r#"{"type":""#)?)?;
        let (target, tail) = string(rest.strip_prefix(r#","target":""#)?)?;
        let head = &text[..text.len() - tail.len()];
        let kind = MessageType::from_name(kind).filter(|kind| kind.is_forwarded())?;
        let payload = tail.strip_prefix(r#","payload":"#)?;
        (skip_value(payload.as_bytes(), MAX_DEPTH)? == b"}").then_some(Self { kind, target, head, tail })
    }
}

/// Reads a string without escapes whose first quote is taken already, and gives what is behind it, too.
fn string(text: &str) -> Option<(&str, &str)> {
    let end = memchr2(b'"', b'\\', text.as_bytes())?;
    let (string, rest) = text.split_at(end);
    Some((string, rest.strip_prefix('"')?))
}

/// What is behind the value with which `bytes` begin (RFC 8259). There are no control characters.
fn skip_value(bytes: &[u8], depth: u32) -> Option<&[u8]> {
    match bytes {
        [b'"', rest @ ..] => skip_string(rest),
        [b'{', rest @ ..] => skip_list(rest, b'}', depth, |member, depth| {
            let value = skip_string(member.strip_prefix(b"\"")?)?;
            skip_value(value.strip_prefix(b":")?, depth)
        }),
        [b'[', rest @ ..] => skip_list(rest, b']', depth, skip_value),
        [b't', b'r', b'u', b'e', rest @ ..]
        | [b'f', b'a', b'l', b's', b'e', rest @ ..]
        | [b'n', b'u', b'l', b'l', rest @ ..]
        // Whole numbers; what else a number may be is not plain.
        | [b'0', rest @ ..] => Some(rest),
        [b'1'..=b'9', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            Some(&rest[digits..])
        }
        _ => None,
    }
}

/// What is behind a list of items, with commas between them, up to `end`.
fn skip_list(bytes: &[u8], end: u8, depth: u32, skip_item: impl Fn(&[u8], u32) -> Option<&[u8]>) -> Option<&[u8]> {
    let depth = depth.checked_sub(1)?;
    let mut rest = bytes;
    if let [byte, rest @ ..] = rest
        && *byte == end
    {
        return Some(rest);
    }
    loop {
        match skip_item(rest, depth)? {
            [b',', items @ ..] => rest = items,
            [byte, rest @ ..] if *byte == end => return Some(rest),
            _ => return None,
        }
    }
}

/// What is behind a string whose first quote is taken already.
fn skip_string(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        rest = &rest[memchr2(b'"', b'\\', rest)?..];
        // Escapes come in pairs in an SDP, at the ends of its lines. One with four hexadecimal digits is not plain.
        while let [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind @ ..] = rest {
            rest = behind;
        }
        match rest {
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', ..] => return None,
            _ => {}
        }
    }
}

/// How deep a plain payload may be nested.
const MAX_DEPTH: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Envelope;

    fn with_payload(payload: &str) -> String {
        format!(r#"{{"type":"signal:ice","target":"böb","payload":{payload}}}"#)
    }

    #[test]
    fn what_programs_write_is_plain() {
        for payload in [
            r#"{"sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\na=\"x\\\"\r\n","type":"offer"}"#,
            r#"{"candidate":"candidate:1 1 UDP 1 ::1 9 typ host","sdpMid":"0","sdpMLineIndex":0}"#,
            r#"{"publicKey":"AAAA","lowkey":{"features":["proof","seal"],"resumes":true}}"#,
            r#""text""#,
            r#""""#,
            r#""böb\\""#,
            "null",
            "[false,[],{},10,0]",
        ] {
            let text = with_payload(payload);
            let (head, tail) = text.split_at(text.find(r#","payload""#).unwrap());
            let plain = Plain { kind: MessageType::SignalIce, target: "böb", head, tail };
            assert_eq!(Plain::read(&text), Some(plain), "{text}");
        }
    }

    /// What serde makes of it is just that.
    fn agrees_with_serde(text: &str) -> bool {
        let Some(Plain { kind, target, head, tail }) = Plain::read(text) else { return true };
        let envelope = Envelope::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let target_head = format!(r#"{{"type":"{}","target":"{target}""#, kind.name());
        head == target_head && head.to_owned() + tail == text && serde_json::to_string(&envelope).unwrap() == text
    }

    #[test]
    fn whatever_is_plain_is_the_same_to_serde() {
        const LETTERS: &[u8] = b"\"\\{}[],:0159.-+eEtfnu/x \n\0";
        let mut plain = 0;
        let mut check = |bytes: &[u8]| {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            assert!(agrees_with_serde(text), "{text}");
            plain += usize::from(Plain::read(text).is_some());
        };
        for payload in [r#"{"a":[1,{},"\n\\\""],"b":null}"#, r#"["x",true,false,0,10]"#, r#""""#] {
            let text = with_payload(payload).into_bytes();
            for at in 0..text.len() {
                let (before, rest) = text.split_at(at);
                check(before);
                check(&[before, &rest[1..]].concat());
                for letter in LETTERS {
                    check(&[before, &[*letter], rest].concat());
                    check(&[before, &[*letter], &rest[1..]].concat());
                    for next in LETTERS {
                        check(&[before, &[*letter, *next], rest].concat());
                    }
                }
            }
        }
        assert!(plain > 1000, "{plain} texts were plain");
    }

    #[test]
    fn what_is_wrong_or_written_otherwise_is_left_to_serde() {
        for payload in [
            "",
            "tru",
            "truex",
            "nul",
            "01",
            "1.0",
            "1e3",
            "-1",
            "+1",
            "0x1",
            "{",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1, 2]",
            "{]",
            "[}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{a:1}"#,
            r#"{1:1}"#,
            r#"{"a" 1}"#,
            r#"""#,
            r#""\"#,
            r#""\""#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u00e9""#,
            "\"\n\"",
            "\"\0\"",
            "'a'",
            "1}",
            r#"1,"payload":1"#,
            "1,",
            "1 1",
            " 1",
            "1 ",
        ] {
            let text = with_payload(payload);
            assert!(Plain::read(&text).is_none(), "{text}");
        }
        let deep = |depth: usize| with_payload(&("[".repeat(depth) + &"]".repeat(depth)));
        assert!(Plain::read(&deep(16)).is_some() && Plain::read(&deep(17)).is_none());
        for text in [
            "",
            "{}",
            r#"{"type":"signal:ice"}"#,
            r#"{"type":"signal:unknown","target":"b","payload":1}"#,
            r#"{"type":"session:connect","target":"b","payload":1}"#,
            r#"{"type":"signal:ice","payload":1}"#,
            r#"{"target":"b","type":"signal:ice","payload":1}"#,
            r#" {"type":"signal:ice","target":"b","payload":1}"#,
            r#"{"type":"signal:ice","target":"b","payload":1} "#,
            r#"{"type":"signal:ice","target":null,"payload":1}"#,
            r#"{"type":"signal\u003aice","target":"b","payload":1}"#,
            r#"{"type":"signal:ice","target":"b\"","payload":1}"#,
            r#"{"type":"signal:ice","target":"b","payload":1"#,
            r#"{"type":"signal:ice","target":"b","payload":1]"#,
            r#"{"type":"signal:ice","target":"b,"payload":1}"#,
        ] {
            assert!(Plain::read(text).is_none(), "{text}");
        }
    }
}
