//! What `lowkey` and `lowkey-bot` take: each setting is defined here once, and may be given by a flag, by an
//! environment variable, or in the profile's `config.toml`, in this order. Beneath: `start` reads them all,
//! [`config`] the file, `definitions` has all of them together, `manual` what is made of these, `servers` the
//! values that have a syntax of their own, as `amount` is, `access` says to which server an access token goes,
//! `nearest` finds what a wrong name was to be, and [`quota`] and [`space`] say how much is taken of files without
//! asking.

pub(crate) mod access;
pub mod advice;
pub(crate) mod amount;
pub(crate) mod chat;
pub mod config;
mod definitions;
pub(crate) mod manual;
pub(crate) mod nearest;
pub(crate) mod peer;
pub mod quota;
mod servers;
pub mod space;
mod start;
pub(crate) mod switch;

pub(crate) use chat::ChatOptions;
pub use definitions::{every_setting, settings};
pub use peer::{PeerOptions, TextFormatOption};
pub use start::{Start, parse, start_log};
pub(crate) use switch::{ON_OR_OFF, is_on};
