//! What `lowkey` and `lowkey-bot` both take on the command line and from the environment, and how they say what is wrong
//! with it: in one line, with exit code 2.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, ValueEnum};

use crate::peer::{IceServer, ServerUrl, Settings, TextFormat};
use crate::profile::{Profile, Username};
use crate::protocol::ice::IceUrl;

/// The options of every program that is a peer.
#[derive(Debug, Clone, Args)]
pub struct PeerOptions {
    /// The signaling server, by its ws:// or wss:// URL; the path /ws is added where it is missing
    #[arg(long, env = "LOWKEY_SERVER", value_name = "URL", default_value = "ws://localhost:8080")]
    pub server: ServerUrl,
    /// The username to be known by: 3 to 20 of a-z, A-Z, 0-9 and _
    #[arg(long, env = "LOWKEY_NAME")]
    pub name: Option<Username>,
    /// A STUN server, which helps to find a way through NATs but learns of your calls; may be repeated. It is asked instead of
    /// those that the server offers
    #[arg(long, env = "LOWKEY_STUN", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub stun: Vec<StunServer>,
    /// A TURN server, which relays what cannot go directly; may be repeated. It is reached over UDP, not over TCP or TLS, and
    /// used instead of those that the server offers. Others on this machine can see your command line, so give the secret by
    /// the environment where that matters
    #[arg(long, env = "LOWKEY_TURN", value_name = "USER:SECRET@HOST[:PORT]", hide_env_values = true)]
    pub turn: Vec<TurnServer>,
    /// Talk through a TURN server and no other way: who talks to you never learns your address
    #[arg(long, env = "LOWKEY_RELAY_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub relay_only: bool,
    /// Use no STUN or TURN server that the signaling server offers. Those that are used learn who talks to whom by their
    /// addresses, and no more
    #[arg(long, env = "LOWKEY_NO_SERVER_RELAYS", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_server_relays: bool,
    /// A file with what a private server wants to know; or give it in LOWKEY_ACCESS_TOKEN, since others on this machine can see
    /// your command line
    #[arg(long, env = "LOWKEY_ACCESS_TOKEN_FILE", value_name = "FILE")]
    pub access_token_file: Option<PathBuf>,
    /// Refuse peers that cannot prove who they are, as old apps, and such as change their key in mid-chat
    #[arg(long, env = "LOWKEY_STRICT", value_parser = clap::builder::FalseyValueParser::new())]
    pub strict: bool,
    /// How texts are written at first to apps that say nothing of themselves
    #[arg(long, env = "LOWKEY_TEXT_FORMAT", value_enum, default_value_t = TextFormatOption::V1)]
    pub text_format: TextFormatOption,
}

impl PeerOptions {
    /// The settings of a peer of this name with these options. The secret that names are held with, and the identity, are
    /// the profile's; where there is no place for them, they are this program's alone.
    ///
    /// # Errors
    /// A file cannot be read or understood, or the options contradict each other.
    pub fn settings(&self, name: &str) -> Result<Settings, String> {
        if self.relay_only && self.no_server_relays && self.turn.is_empty() {
            return Err("--relay-only with --no-server-relays needs a TURN server: name one with --turn".to_owned());
        }
        let (token, identity) = match Profile::from_env(|name| std::env::var(name).ok()) {
            // Where they cannot be kept, as with a service's user, they last as long as the program.
            Ok(profile) => {
                let identity = match profile.identity(name) {
                    Err(error) if profile.has_identity(name) => return Err(error),
                    identity => identity.inspect_err(|error| warn_of_no_identity(name, error)).ok(),
                };
                (profile.token().inspect_err(|error| log::warn!("{error}")).ok(), identity)
            }
            Err(error) => {
                warn_of_no_identity(name, &error);
                (None, None)
            }
        };
        let stun = self.stun.iter().map(|server| server.0.clone());
        let turn = self.turn.iter().map(|server| server.0.clone());
        Ok(Settings {
            token,
            identity,
            is_strict: self.strict,
            access_token: self.access_token()?,
            ice_servers: stun.chain(turn).collect(),
            uses_offered_relays: !self.no_server_relays,
            is_relay_only: self.relay_only,
            text_format: match self.text_format {
                TextFormatOption::V1 => TextFormat::V1,
                TextFormatOption::V2 => TextFormat::V2,
            },
            ..Settings::default()
        })
    }

    fn access_token(&self) -> Result<Option<String>, String> {
        let token = match (&self.access_token_file, std::env::var("LOWKEY_ACCESS_TOKEN")) {
            (Some(path), _) => std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
            (None, Ok(token)) => token,
            (None, Err(_)) => return Ok(None),
        };
        let token = token.trim();
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(token.to_owned()).filter(|token| !token.is_empty())),
            false => Err("the access token has spaces or other characters that no token has".to_owned()),
        }
    }
}

fn warn_of_no_identity(name: &str, error: &str) {
    eprintln!("* {error}; so nobody will know {name} again after this start");
}

/// A STUN server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer(IceServer);

impl FromStr for StunServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = match text.strip_prefix("stun:") {
            Some(_) => text.to_owned(),
            None => format!("stun:{text}"),
        };
        IceUrl::parse(&url)?;
        Ok(Self(IceServer { url, username: String::new(), credential: String::new() }))
    }
}

/// A TURN server's address with the user and the secret for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnServer(IceServer);

impl FromStr for TurnServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = TURN_SYNTAX;
        let is_tls = text.starts_with("turns:");
        let rest = text.strip_prefix("turn:").or(text.strip_prefix("turns:")).unwrap_or(text);
        let (user, address) = rest.rsplit_once('@').ok_or(expected)?;
        let (username, credential) = user.split_once(':').ok_or(expected)?;
        if username.is_empty() || credential.is_empty() {
            return Err(expected);
        }
        let url = format!("{}:{address}", if is_tls { "turns" } else { "turn" });
        let IceUrl { address, is_tcp, .. } = IceUrl::parse(&url)?;
        if is_tcp {
            return Err("a TURN server is reached over UDP here, not over TCP or TLS");
        }
        let url = format!("turn:{address}");
        Ok(Self(IceServer { url, username: username.to_owned(), credential: credential.to_owned() }))
    }
}

/// [`TextFormat`], as it is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormatOption {
    /// Base64 of nonce and box, which every app reads
    V1,
    /// JSON with the sender's key, as the newest app writes it
    V2,
}

/// Reads the command line of `program`. Help and version are printed, and a mistake is said in one line.
///
/// # Errors
/// The code to exit with.
pub fn parse<T: Parser>(program: &str) -> Result<T, ExitCode> {
    parse_from(program, std::env::args_os())
}

fn parse_from<T: Parser>(program: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<T, ExitCode> {
    T::try_parse_from(arguments).map_err(|error| {
        if !error.use_stderr() {
            // Help or version; if nobody reads it, nobody misses it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        eprintln!("{program}: {}; see {program} --help", explain(&error));
        ExitCode::from(2)
    })
}

/// What is wrong, in one line: the first paragraph of clap's words. A secret is not repeated.
fn explain(error: &clap::Error) -> String {
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && argument.starts_with("--turn")
    {
        let reason = std::error::Error::source(error).map_or(TURN_SYNTAX.to_owned(), ToString::to_string);
        return format!("invalid value (not shown) for '{argument}': {reason}");
    }
    let words = error.render().to_string();
    let paragraph: Vec<&str> = words.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ").trim_start_matches("error: ").to_owned()
}

/// Logs to standard error where `RUST_LOG` asks for it. What the crates beneath say of a healthy call looks like trouble, so
/// they are only heard when they are named.
pub fn start_log() {
    let mut logger = env_logger::Builder::new();
    logger.filter_level(log::LevelFilter::Off);
    for noisy in ["rtc", "webrtc", "mio", "rustls", "tungstenite"] {
        logger.filter_module(noisy, log::LevelFilter::Off);
    }
    logger.parse_default_env().init();
}

const TURN_SYNTAX: &str = "a TURN server is given as USER:SECRET@HOST[:PORT]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_for_nats_are_read_with_or_without_their_scheme() {
        let stun = |text: &str| text.parse::<StunServer>().map(|server| server.0.url);
        assert_eq!(stun("stun.example").as_deref(), Ok("stun:stun.example"));
        assert_eq!(stun("stun:[2001:db8::1]:3478").as_deref(), Ok("stun:[2001:db8::1]:3478"));
        for bad in ["", "stuns:x", "x:0", "x:99999", "2001:db8::1", "x?transport=tcp", "a b", ":1"] {
            assert!(stun(bad).is_err(), "{bad}");
        }
        let turn: TurnServer = "turn:bob:p:w@d@turn.example:3478".parse().unwrap();
        let expected = IceServer {
            url: "turn:turn.example:3478".to_owned(),
            username: "bob".to_owned(),
            credential: "p:w@d".to_owned(),
        };
        assert_eq!(turn.0, expected);
        let with_transport: TurnServer = "turn:bob:x@turn.example?transport=udp".parse().unwrap();
        assert_eq!(with_transport.0.url, "turn:turn.example");
        for unsupported in ["turns:bob:x@turn.example", "turn:bob:x@turn.example?transport=tcp"] {
            let error = unsupported.parse::<TurnServer>().unwrap_err();
            assert_eq!(error, "a TURN server is reached over UDP here, not over TCP or TLS");
        }
        for bad in ["turn.example", "bob@turn.example", "bob:@turn.example", "bob:x@"] {
            assert!(bad.parse::<TurnServer>().is_err(), "{bad}");
        }
        assert!(!format!("{turn:?}").contains("p:w@d"), "secrets stay out of debug texts");
    }
}
