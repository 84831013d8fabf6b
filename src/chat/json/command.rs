//! A command as a line of JSON, and what is wrong with a line that is none: in words of ours, with what would do. Pure.

use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{self, Deserialize, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use crate::chat::command::Command;
use crate::chat::harmless::harmless;
use crate::options::nearest::{nearest, question};

/// Reads a command from a line.
pub fn command(line: &str) -> Command {
    match serde_json::from_str(line) {
        Ok(command) => command,
        Err(_) => match (why(line), id(line)) {
            (reason, Some(id)) => Command::Misread { reason, id },
            (reason, None) => Command::Mistake(reason),
        },
    }
}

/// The `id` that a script gave to what a line was to do.
fn id(line: &str) -> Option<String> {
    let members: serde_json::Map<String, Value> = serde_json::from_str(line).ok()?;
    Some(members.get("id")?.as_str()?.to_owned())
}

/// Why a line is no command.
fn why(line: &str) -> String {
    let members = match serde_json::from_str(line) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return format!("that is JSON, and no command; {EXAMPLE}"),
        Err(_) if line.trim().is_empty() => return format!("there is nothing here; {EXAMPLE}"),
        Err(error) if error.is_eof() => return format!("that JSON ends too soon; {EXAMPLE}"),
        Err(error) => return format!("that is no JSON, from character {} on; {EXAMPLE}", error.column()),
    };
    let read = |members: Vec<(String, Value)>| {
        let members = members.into_iter().map(|(name, value)| (name, Member(value)));
        Command::deserialize(MapDeserializer::<_, Wrong>::new(members))
    };
    let members: Vec<(String, Value)> = members.into_iter().collect();
    // A number there would be taken for the place of a command among all.
    let name = match members.iter().find(|(name, _)| name == "command") {
        Some((_, Value::String(name))) => harmless(name).into_owned(),
        Some(_) => return format!("the field command takes a text in quotes; {EXAMPLE}"),
        None => return format!("that command has no name, as the field command; {EXAMPLE}"),
    };
    match read(members.clone()) {
        Ok(_) => format!("{name} has a field twice"),
        Err(Wrong::Lacks(field)) => format!("the command {name} lacks the field {field}"),
        Err(Wrong::Field(field, fields)) => meant(&format!("the command {name} has no field"), &field, fields),
        Err(Wrong::Command(command, commands)) => meant("there is no command", &command, commands),
        Err(Wrong::Kind(kind)) => {
            // The one without which that is not wrong any more.
            let is_it = |culprit: &&(String, Value)| {
                let others = members.iter().filter(|member| member.0 != culprit.0).cloned().collect();
                !matches!(read(others), Err(Wrong::Kind(_)))
            };
            match members.iter().filter(|(name, _)| name != "command").find(is_it) {
                Some((field, _)) => format!("the field {} takes {kind}", harmless(field)),
                None => format!("several fields of {name} take something else, as {kind}"),
            }
        }
    }
}

/// Says what there is not, and which of `all` was meant most likely; where none is near, all of them.
fn meant(there_is_no: &str, word: &str, all: &[&str]) -> String {
    let rest = match nearest(word, all.iter().copied()) {
        None if all.is_empty() => "; it takes none".to_owned(),
        None => format!(", only {}", all.join(", ")),
        near => question(near),
    };
    format!("{there_is_no} {}{rest}", harmless(word))
}

/// What is wrong with the members of an object.
#[derive(Debug)]
enum Wrong {
    Lacks(&'static str),
    Field(String, &'static [&'static str]),
    Command(String, &'static [&'static str]),
    /// A value is of another kind than this.
    Kind(&'static str),
}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Kind("something else")
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        Self::Kind(match expected.as_str() {
            "u64" => "a whole number, as 1",
            "a boolean" => "true or false",
            _ => "a text in quotes",
        })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Command(variant.to_owned(), expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::Field(field.to_owned(), expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Lacks(field)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Wrong {}

/// The value of a member, which hands on what is wrong as it is.
struct Member(Value);

impl IntoDeserializer<'_, Wrong> for Member {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Member {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is_on) => visitor.visit_bool(is_on),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            // No command takes one, so it is as wrong as an empty one.
            Value::Array(_) => {
                visitor.visit_seq(de::value::SeqDeserializer::<_, Wrong>::new(std::iter::empty::<Self>()))
            }
            Value::Object(_) => {
                visitor.visit_map(MapDeserializer::<_, Wrong>::new(std::iter::empty::<(String, Self)>()))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// How a command looks as JSON.
const EXAMPLE: &str = r#"a command is an object, as {"command":"send","peer":"bob","text":"hello"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_is_said_in_words_of_ours() {
        for (line, words) in [
            ("", "there is nothing here; a command is an object"),
            (" \t", "there is nothing here"),
            (r#"{"command":"quit""#, "that JSON ends too soon; a command is an object"),
            ("nonsense", "that is no JSON, from character 2 on; a command is an object"),
            ("7", "that is JSON, and no command; a command is an object, as {\"command\":\"send\""),
            ("[]", "that is JSON, and no command"),
            ("{}", "that command has no name, as the field command"),
            (r#"{"peer":"bob"}"#, "that command has no name"),
            (r#"{"command":7}"#, "the field command takes a text in quotes"),
            (r#"{"command":null}"#, "the field command takes a text in quotes"),
            (r#"{"command":[]}"#, "the field command takes a text in quotes"),
            (r#"{"command":"bogus"}"#, "there is no command bogus, only send, connect, accept"),
            (r#"{"command":"conect","peer":"bob"}"#, "there is no command conect; did you mean connect?"),
            (r#"{"command":"connect"}"#, "the command connect lacks the field peer"),
            (r#"{"command":"verified","peer":"bob"}"#, "the command verified lacks the field number"),
            (r#"{"command":"connect","peer":7}"#, "the field peer takes a text in quotes"),
            (r#"{"command":"connect","peer":["bob"]}"#, "the field peer takes a text in quotes"),
            (r#"{"command":"connect","peer":{"bob":1}}"#, "the field peer takes a text in quotes"),
            (r#"{"command":"accept","number":"1"}"#, "the field number takes a whole number, as 1"),
            (r#"{"command":"accept","number":-1}"#, "the field number takes a whole number, as 1"),
            (r#"{"command":"log","on":"yes"}"#, "the field on takes true or false"),
            (r#"{"command":"connect","peer":"bob","text":"x"}"#, "the command connect has no field text, only peer"),
            (r#"{"command":"send","txt":"x"}"#, "the command send has no field txt; did you mean text?"),
            (r#"{"command":"connect","peer":"bob","peer":"eve"}"#, "connect has a field twice"),
        ] {
            let Command::Mistake(said) = command(line) else { panic!("{line}") };
            assert!(said.starts_with(words), "{line}: {said}");
            assert!(!said.contains('`') && !said.contains(" line "), "{said}");
        }
    }
}
