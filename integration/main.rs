//! The real programs and the real library, through real sockets and data channels. One test binary; each file is one
//! subject. Tests wait for a condition with a deadline, never for a duration, and use no network but loopback.

// The library's own ways to look over the shoulder of WebRTC, which an attacker uses as well, and what its tests write
// by hand.
#[path = "../src/peer/rtc/aead.rs"]
mod aead;
#[path = "../src/peer/rtc/layer.rs"]
mod layer;
#[path = "../src/server/connection/masked.rs"]
mod masked;

/// Somebody who means harm: what they are after stands above each test.
mod attacks {
    mod by_broken_client;
    mod by_client;
    mod by_packet;
    mod by_peer;
    mod by_sender;
    mod by_server;
    mod by_stranger;
    mod by_third_user;
    pub mod in_memory;
    mod in_the_middle;
    mod of_first_words;
    mod of_two_calls;
}

/// What the tests stand on. No tests are in here.
mod support {
    pub mod attacked_server;
    pub mod attacker;
    pub mod client_bytes;
    pub mod database_bytes;
    pub mod databases;
    pub mod engine_pair;
    pub mod evil_server;
    pub mod file_users;
    pub mod hop;
    pub mod linearizability;
    pub mod link;
    pub mod mallory;
    pub mod model_database;
    pub mod model_nodes;
    pub mod model_world;
    pub mod old_app;
    pub mod peers_in_memory;
    pub mod sctp;
    pub mod socks_proxy;
    pub mod source;
    pub mod tls_terminator;
    pub mod websocket;
    pub mod window;
    pub mod wire_ends;
    pub mod world;
}

use attacks::in_memory;
use support::{
    attacked_server, attacker, client_bytes, database_bytes, databases, engine_pair, evil_server, file_users, hop,
    linearizability, link, mallory, model_database, model_nodes, old_app, peers_in_memory, sctp, socks_proxy, source,
    tls_terminator, websocket, window, wire_ends, world,
};

mod access;
mod apps;
mod chat;
mod clients;
mod cluster;
mod cluster_alike;
mod cluster_database;
mod cluster_faults;
mod cluster_links;
mod cluster_model;
mod cluster_race;
mod cluster_soak;
mod config_file;
mod descriptions;
mod dialects;
mod echo;
mod endings;
mod engine;
mod examples;
mod file_bot;
mod file_commands;
mod file_disks;
mod file_folders;
mod file_kills;
mod file_prompts;
mod file_trials;
mod files;
mod floors;
mod fuzz;
mod habits;
mod links;
mod losses;
mod manners;
mod manuals;
mod networks;
mod options;
mod ordinary;
mod outcomes;
mod output;
mod pacing;
mod pastes;
mod people;
mod pipe;
mod prompt;
mod properties;
mod proxy;
mod public;
mod readme;
mod relay;
mod requests;
mod resume;
mod resume_at_random;
mod resume_in_memory;
mod script;
mod secrets;
mod server_settings;
mod settings;
mod soak;
mod terminal;
mod tls;
mod transfers;
mod trials;
mod trust;
mod turn;
mod waits;
mod wire;
mod words;
