//! The real programs and the real library, through real sockets and data channels. One test binary; each file is one
//! subject. Tests wait for a condition with a deadline, never for a duration, and use no network but loopback.

mod chat;
mod echo;
mod engine;
mod evil;
mod floors;
mod fuzz;
mod hostile;
mod hostile_peers;
mod loopback;
mod old_app;
mod pipe;
mod properties;
mod resume;
mod soak;
mod terminal;
mod tls;
mod trust;
mod wire;
mod world;
