//! The real programs and the real library, through real sockets and data channels. One test binary; each file is one
//! subject. Tests wait for a condition with a deadline, never for a duration, and use no network but loopback.

// The library's own ways to look over the shoulder of WebRTC, which an attacker uses as well.
#[path = "../src/peer/rtc/aead.rs"]
mod aead;
#[path = "../src/peer/rtc/layer.rs"]
mod layer;

mod access;
mod attack;
mod attacker;
mod chat;
mod clients;
mod descriptions;
mod echo;
mod engine;
mod evil;
mod evil_server;
mod examples;
mod floors;
mod fuzz;
mod hop;
mod hostile;
mod hostile_peers;
mod losses;
mod middle;
mod networks;
mod old_app;
mod options;
mod ordinary;
mod output;
mod pacing;
mod people;
mod pipe;
mod prompt;
mod properties;
mod proxy;
mod readme;
mod relay;
mod requests;
mod resume;
mod script;
mod sctp;
mod secrets;
mod server_settings;
mod settings;
mod soak;
mod source;
mod strangers;
mod terminal;
mod tls;
mod trials;
mod tricks;
mod trust;
mod turn;
mod window;
mod wire;
mod world;
