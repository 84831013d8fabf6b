//! The real programs and the real library, through real sockets and data channels. One test binary; each file is one
//! subject. Tests wait for a condition with a deadline, never for a duration, and use no network but loopback.

mod chat;
mod descriptions;
mod echo;
mod engine;
mod evil;
mod evil_server;
mod examples;
mod floors;
mod fuzz;
mod hostile;
mod hostile_peers;
mod middle;
mod networks;
mod old_app;
mod options;
mod output;
mod pipe;
mod prompt;
mod properties;
mod proxy;
mod readme;
mod relay;
mod requests;
mod resume;
mod script;
mod settings;
mod soak;
mod terminal;
mod tls;
mod tricks;
mod trust;
mod window;
mod wire;
mod world;
