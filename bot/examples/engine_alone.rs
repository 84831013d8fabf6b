//! Two engines and the server's hub, and nothing else: no socket, no thread, no WebRTC. From a call to a text that was
//! sealed on one side and opened on the other, all in memory. It is where to begin for who brings a network, a runtime
//! or a WebRTC of their own, and shows what the loop in `src/peer.rs` has to do for an engine.
//!
//! ```sh
//! cargo run --example engine_alone
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lowkey::peer::Event;
use lowkey::peer::engine::{Engine, Input, Output, PeerConnectionId, Setup};
use lowkey::server::hub::{self, ConnId, Hub};
use lowkey::server::limits::Limits;
use uuid::Uuid;

const NAMES: [&str; 2] = ["alice", "bob"];

fn main() {
    let mut world = World::new();
    world.give(0, Input::Call { peer: "bob".to_owned() });
    world.run();
}

/// Alice is number 0, Bob is number 1.
struct World {
    engines: [Engine; 2],
    hub: Hub,
    /// What has happened and was not told yet, and to whom. With a network these are what its sockets bring.
    inputs: VecDeque<(usize, Input)>,
    /// The end of the data channel of each.
    ends: [Option<PeerConnectionId>; 2],
}

impl World {
    fn new() -> Self {
        let mut hub = Hub::new(Duration::from_secs(600), Limits::default(), Uuid::new_v4);
        let mut inputs = VecDeque::new();
        for (user, name) in NAMES.iter().enumerate() {
            hub.connect(ConnId(user), name, None, Instant::now()).expect("the name is free");
            inputs.push_back((user, Input::Online));
        }
        let engines = NAMES.map(|name| Engine::new(name, Setup::default()));
        Self { engines, hub, inputs, ends: [None; 2] }
    }

    fn give(&mut self, user: usize, input: Input) {
        self.inputs.push_back((user, input));
    }

    /// The loop: one thing that has happened, and all that the engine wants done about it. One that lasts looks at
    /// `Engine::next_deadline` too, and gives an `Input::Tick` then.
    fn run(&mut self) {
        while let Some((user, input)) = self.inputs.pop_front() {
            for output in self.engines[user].handle(input, Instant::now()) {
                self.carry_out(user, output);
            }
        }
    }

    fn carry_out(&mut self, user: usize, output: Output) {
        let other = 1 - user;
        match output {
            Output::Signal(text) => {
                println!("{} to the server: {}", NAMES[user], shortened(&text));
                self.serve(user, &text);
            }
            // WebRTC would make descriptions, with its certificate's fingerprint; they go sealed.
            Output::Offer { id } | Output::Answer { id, .. } => {
                self.ends[user] = Some(id);
                let fingerprint = vec![format!("{user:02X}"); 32].join(":");
                let section =
                    "v=0\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:0\na=ice-ufrag:u\na=ice-pwd:p";
                self.give(
                    user,
                    Input::Described { id, sdp: format!("{section}\na=fingerprint:sha-256 {fingerprint}") },
                );
            }
            // The answer has come, so the data channel opens at both ends.
            Output::Finish { .. } => {
                for (user, end) in self.ends.into_iter().enumerate() {
                    self.give(user, Input::Opened { id: end.expect("both have described it") });
                }
            }
            Output::Transmit { text, .. } => {
                println!("{} to {}: {}", NAMES[user], NAMES[other], shortened(&text));
                self.give(other, Input::Received { id: self.ends[other].expect("it is open"), text: Some(text) });
            }
            Output::Message { peer, text, .. } => {
                println!("{} is told: Message {{ peer: {peer:?}, text: {text:?} }}", NAMES[user]);
            }
            Output::Event(event) => {
                println!("{} is told: {event:?}", NAMES[user]);
                self.answer(user, event);
            }
            // Only a real WebRTC has any use for servers and candidates, or connections that need closing.
            _ => {}
        }
    }

    /// What the users do.
    fn answer(&mut self, user: usize, event: Event) {
        match event {
            Event::Request { peer, .. } => self.give(user, Input::Accept { peer }),
            Event::Open { peer } if user == 0 => {
                self.give(user, Input::Send { peer, id: 1, text: "hello, all in memory".to_owned() });
            }
            _ => {}
        }
    }

    /// What the server does with a message.
    fn serve(&mut self, user: usize, text: &str) {
        for output in self.hub.receive(ConnId(user), text, Instant::now()) {
            let (to, text) = match output {
                hub::Output::Send { to, text } => (to, text),
                hub::Output::Forward { to, message, .. } => {
                    let mut text = Vec::new();
                    message.write(&mut text);
                    (to, String::from_utf8(text).expect("messages are UTF-8"))
                }
                // A close; all else is for a hub that is one of several.
                _ => continue,
            };
            self.give(to.0, Input::Signal(text));
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 100 { format!("{}…", text.chars().take(100).collect::<String>()) } else { text.to_owned() }
}
