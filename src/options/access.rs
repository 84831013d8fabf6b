//! To which server an access token goes. Pure.

use crate::peer::{ProxyUrl, ServerUrl};

/// The server that an access token belongs to: that of the file where the token stands in the file, else that which the
/// settings of this start name.
#[derive(Debug, Clone)]
pub struct TokenHome {
    /// The server that the token is told to.
    pub server: ServerUrl,
    /// Whether the user has named it, and it is not the default.
    pub is_named: bool,
}

impl TokenHome {
    /// Whether the token goes to `server`, which may be another, as by a link; and what the user is to be told of that.
    pub fn admits(&self, server: &ServerUrl, proxy: Option<&ProxyUrl>) -> (bool, Option<String>) {
        if !self.server.is_same_server(server) {
            let home = &self.server;
            return (false, Some(format!("the access token is for {home}, so it is not given to {server}")));
        }
        // What a proxy elsewhere takes for its own machine is not this one.
        let is_here = server.is_loopback() && proxy.is_none_or(ProxyUrl::is_loopback);
        if !server.is_plain() || is_here || server.is_onion() && proxy.is_some() {
            return (true, None);
        }
        if !self.is_named {
            return (
                false,
                Some(format!("the access token is not given to {server}, which nobody has named, in the clear")),
            );
        }
        let warning = format!("the access token goes to {server} in the clear, and whoever is on the way can read it");
        (true, Some(format!("{warning}; wss:// hides it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_its_server_and_in_the_clear_only_with_a_warning() {
        let goes = |home: &str, is_named, server: &str, proxy: &str| {
            let proxy = Some(proxy).filter(|proxy| !proxy.is_empty()).map(|proxy| proxy.parse().unwrap());
            let (goes, said) =
                TokenHome { server: home.parse().unwrap(), is_named }.admits(&server.parse().unwrap(), proxy.as_ref());
            (goes, said.is_some())
        };
        let (tor, afar) = ("socks5://127.0.0.1:9050", "socks5://192.0.2.1");
        for (home, server, proxy, expected) in [
            ("wss://chat.example", "wss://chat.example", "", (true, false)),
            ("wss://chat.example", "wss://CHAT.example.:443/ws", "", (true, false)),
            ("wss://chat.example", "wss://chat.example/elsewhere", "", (true, false)),
            ("wss://chat.example", "ws://chat.example", "", (false, true)),
            ("wss://chat.example", "wss://chat.example:444", "", (false, true)),
            ("wss://chat.example", "wss://evil.example", "", (false, true)),
            ("ws://chat.example", "ws://chat.example", "", (true, true)),
            ("ws://192.0.2.1:8080", "ws://192.0.2.1:8080", "", (true, true)),
            ("ws://localhost:8080", "ws://localhost:8080", "", (true, false)),
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080", tor, (true, false)),
            ("ws://[::1]:8080", "ws://[::1]:8080", "", (true, false)),
            ("ws://localhost:8080", "ws://localhost:8080", afar, (true, true)),
            ("ws://abc.onion", "ws://abc.onion", tor, (true, false)),
            ("ws://abc.onion", "ws://abc.onion", "", (true, true)),
            ("ws://onion.example", "ws://onion.example", tor, (true, true)),
        ] {
            assert_eq!(goes(home, true, server, proxy), expected, "{home} {server} {proxy}");
        }
        assert_eq!(goes("ws://localhost:8080", false, "ws://localhost:8080", ""), (true, false));
        assert_eq!(goes("ws://localhost:8080", false, "ws://localhost:8080", afar), (false, true));
    }
}
