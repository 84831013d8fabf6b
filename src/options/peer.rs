//! The options of every program that is a peer, and the settings of the peer that they come to.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::access::TokenHome;
use super::advice;
use super::servers::{AccessToken, StunServer, TurnServer};
use crate::peer::{Error, ProxyUrl, ServerUrl, Settings, TextFormat};
use crate::profile::{Profile, ProfileName, Username, permissions};
use crate::stderr::say;

/// The options of every program that is a peer.
#[derive(Debug, Clone, Args)]
pub struct PeerOptions {
    /// The profile to use: its own name, identity, known peers and settings, apart from all others
    #[arg(long, env = "LOWKEY_PROFILE", value_name = "NAME")]
    pub profile: Option<ProfileName>,
    /// The chat server, by its ws:// or wss:// URL; the path /ws is added where it is missing
    #[arg(long, env = "LOWKEY_SERVER", value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: ServerUrl,
    /// The username to be known by: 3 to 20 of a-z, A-Z, 0-9 and _
    #[arg(long, env = "LOWKEY_NAME")]
    pub name: Option<Username>,
    /// A STUN server, which helps to find a way through NATs but learns of your calls; may be repeated. It is asked
    /// instead of those that the server offers
    #[arg(long, env = "LOWKEY_STUN", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub stun: Vec<StunServer>,
    /// A TURN server, which relays what cannot go directly; may be repeated. It is reached over UDP; with
    /// ?transport=tcp behind it over TCP, and with turns: in front over TLS. It is used instead of those that the
    /// server offers. Others on this machine can see your command line, so give the secret elsewhere where that matters
    #[arg(
        long,
        env = "LOWKEY_TURN",
        value_name = "USER:SECRET@HOST[:PORT]",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub turn: Vec<TurnServer>,
    /// Talk through a TURN server and no other way: who talks to you never learns your address
    #[arg(long, env = "LOWKEY_RELAY_ONLY")]
    pub relay_only: bool,
    /// Use no STUN or TURN server that the chat server offers. Those that are used learn who talks to whom by
    /// their addresses, and no more
    #[arg(long, env = "LOWKEY_NO_SERVER_RELAYS")]
    pub no_server_relays: bool,
    /// The token that a private server asks for. Others on this machine can see your command line, so give it elsewhere
    /// where that matters
    #[arg(long, env = "LOWKEY_ACCESS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub access_token: Option<AccessToken>,
    /// A file with the token that a private server asks for
    #[arg(long, env = "LOWKEY_ACCESS_TOKEN_FILE", value_name = "FILE")]
    pub access_token_file: Option<PathBuf>,
    /// A SOCKS5 proxy to reach the server by, which also looks up the server's name. Nothing goes past it: peers, who
    /// are not to see your address, are reached by a TURN server over TCP or TLS, and that by the proxy too
    #[arg(long, env = "LOWKEY_PROXY", value_name = "socks5://[USER:SECRET@]HOST[:PORT]", hide_env_values = true)]
    pub proxy: Option<ProxyUrl>,
    /// Talk to peers directly although there is a proxy: they see your address, and so do the servers that --stun
    /// and --turn name
    #[arg(long, env = "LOWKEY_DIRECT")]
    pub direct: bool,
    /// Refuse peers who cannot prove who they are, such as old apps, and those who change their key in the middle of a
    /// chat
    #[arg(long, env = "LOWKEY_STRICT")]
    pub strict: bool,
    /// How texts are written at first to apps that say nothing of themselves
    #[arg(
        long,
        env = "LOWKEY_TEXT_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = TextFormatOption::V1
    )]
    pub text_format: TextFormatOption,
}

impl PeerOptions {
    /// The settings of a peer of this name at this server with these options. The secret that names are held with, and
    /// the identity, are the profile's; where there is no place for them, they are this program's alone. The access
    /// token is told to nobody but its `home`.
    ///
    /// # Errors
    /// A file cannot be read or understood, or two options contradict each other.
    pub fn settings(
        &self,
        name: &str,
        server: &ServerUrl,
        home: &TokenHome,
        profile: Result<&Profile, &str>,
    ) -> Result<Settings, String> {
        // A proxy hides the address from the server; it would be of little use to tell it to every peer.
        let is_behind_proxy = self.proxy.is_some() && !self.direct;
        if (self.relay_only || is_behind_proxy) && self.no_server_relays && self.turn.is_empty() {
            let what = if self.relay_only { "--relay-only" } else { "--proxy without --direct" };
            return Err(format!("{what} with --no-server-relays needs a TURN server: name one with --turn"));
        }
        if is_behind_proxy && self.turn.iter().any(|server| !server.0.is_stream()) {
            return Err(advice::on_start(&Error::PastProxy));
        }
        let (token, identity) = match profile {
            // Where they cannot be kept, as with a service's user, they last as long as the program.
            Ok(profile) => {
                let identity = match profile.identity(name) {
                    Err(error) if profile.has_identity(name) => return Err(error),
                    identity => identity.inspect_err(|error| warn_of_no_identity(name, error)).ok(),
                };
                let token = match profile.token() {
                    Err(error) if profile.has_token() => return Err(error),
                    token => token.inspect_err(|error| log::warn!("{error}")).ok(),
                };
                (token, identity)
            }
            Err(error) => {
                warn_of_no_identity(name, error);
                (None, None)
            }
        };
        let stun = self.stun.iter().map(|server| server.0.clone());
        let turn = self.turn.iter().map(|server| server.0.clone());
        Ok(Settings {
            token,
            identity,
            is_strict: self.strict,
            access_token: self.access_token(server, home)?,
            proxy: self.proxy.clone(),
            ice_servers: stun.chain(turn).collect(),
            uses_offered_relays: !self.no_server_relays,
            is_relay_only: self.relay_only,
            is_direct: self.direct,
            text_format: match self.text_format {
                TextFormatOption::V1 => TextFormat::V1,
                TextFormatOption::V2 => TextFormat::V2,
            },
            ..Settings::default()
        })
    }

    fn access_token(&self, server: &ServerUrl, home: &TokenHome) -> Result<Option<String>, String> {
        let token = match (&self.access_token, &self.access_token_file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err("access_token and access_token_file are both set; one of them is enough".to_owned());
            }
            (Some(token), None) => token.secret(),
            (None, Some(path)) => {
                let said = |error| format!("{}: {error}", path.display());
                let text = permissions::read_any(path, true)?.ok_or_else(|| said("there is no such file"))?;
                text.trim().parse().map(|token: AccessToken| token.secret()).map_err(said)?
            }
        };
        let (is_admitted, said) = home.admits(server, self.proxy.as_ref());
        if let Some(words) = said {
            say(format!("* {words}"));
        }
        Ok(Some(token).filter(|_| is_admitted))
    }
}

/// The server where nobody says otherwise.
pub const DEFAULT_SERVER: &str = "ws://localhost:8080";

fn warn_of_no_identity(name: &str, error: &str) {
    say(format!(
        "* this identity of {name} lasts only as long as the program runs, and nobody will know them again: {error}"
    ));
}

/// [`TextFormat`], as it is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormatOption {
    /// Base64 of nonce and box, which every app reads
    V1,
    /// JSON with the sender's key, as the newest app writes it
    V2,
}
