//! STUN and TURN with a real coturn: two homes behind NATs, and between them an internet that lets their packets
//! through, or does not. All of it is made of network namespaces, in which the real programs run.

mod streams;
mod trial;
mod wiretap;

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

use crate::world::{Folder, Program, Server, in_namespace, pass_in_namespace, until};
use wiretap::Wiretap;

/// Run by `make test-relay`, since not every machine has coturn, nft, `unshare` and `ip`, or allows what they do.
#[test]
#[ignore = "needs coturn and network namespaces: make test-relay"]
fn relays_and_nats() {
    let inside = ["--ignored", "relay::inside::", "relay::streams::"];
    let passed = pass_in_namespace(&mut in_namespace("", &inside), 19);
    println!("{passed} passed inside");
}

/// A network namespace, for as long as this lives or something runs in it.
struct Space(File);

impl Space {
    fn new() -> Self {
        let space = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            shell("ip link set lo up");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(space.join().unwrap())
    }

    /// Does something in here. Programs and threads that it starts stay here.
    fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            thread.join().unwrap()
        })
    }

    /// Joins an interface in here with one in `other`.
    fn join(&self, name: &str, other: &Self, other_name: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.run(|| shell(&format!("ip link add {name} type veth peer name {other_name} netns {path}")));
    }
}

fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Two homes with a NAT each, and an internet with a public address.
struct Network {
    internet: Space,
    nats: [Space; 2],
    homes: [Space; 2],
    folder: Folder,
}

const ALICE: usize = 0;
const BOB: usize = 1;

/// Where server and coturn are.
const PUBLIC: &str = "203.0.113.1";

/// What is in the addresses of homes and NATs, and in no others.
const PRIVATE: [&str; 2] = ["10.1.0.", "10.2.0."];
const OUTSIDE: &str = "198.51.100.";

impl Network {
    /// `has_direct_way`: the internet lets packets from one NAT to the other through.
    fn new(name: &str, has_direct_way: bool) -> Self {
        let internet = Space::new();
        let (nats, homes) = ([Space::new(), Space::new()], [Space::new(), Space::new()]);
        internet.run(|| {
            shell(&format!("ip address add {PUBLIC}/32 dev lo"));
            shell(&format!("echo {} >/proc/sys/net/ipv4/ip_forward", u8::from(has_direct_way)));
            shell(
                "nft -f - <<NFT
                table ip way { chain through { type filter hook forward priority 0; counter; }; }
NFT",
            );
        });
        for home in [ALICE, BOB] {
            let lan = format!("10.{}.0", home + 1);
            let (gateway, outside) = (format!("{OUTSIDE}{}", 4 * home + 1), format!("{OUTSIDE}{}", 4 * home + 2));
            internet.join(&format!("wan{home}"), &nats[home], "wan");
            nats[home].join("lan", &homes[home], "eth");
            internet.run(|| shell(&format!("ip address add {gateway}/30 dev wan{home}; ip link set wan{home} up")));
            nats[home].run(|| {
                shell(&format!(
                    "ip address add {outside}/30 dev wan; ip link set wan up
                    ip address add {lan}.1/24 dev lan; ip link set lan up
                    ip route add default via {gateway}
                    echo 1 >/proc/sys/net/ipv4/ip_forward
                    nft -f - <<NFT
                    table ip home {{
                        chain out {{ type nat hook postrouting priority 100; oifname wan masquerade; }}
                        chain in {{ type filter hook input priority 0; iifname wan ct state new drop; }}
                        chain through {{ type filter hook forward priority 0; iifname wan ct state new drop; }}
                    }}
NFT"
                ))
            });
            homes[home].run(|| {
                shell(&format!(
                    "ip address add {lan}.2/24 dev eth; ip link set eth up; ip route add default via {lan}.1"
                ))
            });
        }
        // Whatever else is sent to gets lost at a NAT, and is no error: coturn ends a relay where there is no route.
        internet.run(|| shell(&format!("ip route add default via {OUTSIDE}2")));
        Self { internet, nats, homes, folder: Folder::new(name) }
    }

    /// The chat server, on the internet.
    fn server(&self, variables: &[(&str, &str)]) -> Server {
        self.internet
            .run(|| Server::start_with(&[&[("HOST", PUBLIC), ("METRICS", "127.0.0.1:9090")], variables].concat()))
    }

    /// A coturn with these lines of settings, once it answers.
    fn coturn(&self, settings: &str) -> Program {
        let folder = self.folder.path();
        let own = format!("listening-ip={PUBLIC}\nrelay-ip={PUBLIC}\npidfile={folder}/pid\nuserdb={folder}/db\n");
        let file = format!("{folder}/turnserver.conf");
        std::fs::write(&file, format!("{settings}\n{own}")).unwrap();
        self.internet.run(|| {
            let mut command = Command::new("turnserver");
            command.args(["-c", &file]);
            let coturn = Program::spawn(command);
            let socket = UdpSocket::bind((PUBLIC, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // A binding request with a made-up id (RFC 8489, section 5).
            let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
            until("coturn answers", || {
                // Nobody listening is an error, too.
                let _ = socket.send_to(&request, (PUBLIC, 3478));
                socket.recv(&mut [0; 1500]).ok()
            });
            coturn
        })
    }

    /// A coturn with the settings in `deploy/`, but for its secret.
    fn deployed_coturn(&self, secret: &str) -> Program {
        self.coturn(&deployed(secret))
    }

    /// `lowkey` at alice's, who calls the bot at bob's; each with these options of its own.
    fn programs(&self, server: &str, alice: &[&str], bob: &[&str]) -> [Program; 2] {
        self.programs_with(server, alice, bob, &[])
    }

    /// The same, with these variables.
    fn programs_with(&self, server: &str, alice: &[&str], bob: &[&str], variables: &[(&str, &str)]) -> [Program; 2] {
        let start = |home: usize, program: &str, name: &str, options: &[&str]| {
            let folder = format!("{}/{name}", self.folder.path());
            let arguments = [&["--server", server, "--name", name], options].concat();
            let variables = [&[("HOME", &*folder)], variables].concat();
            self.homes[home].run(|| Program::start(program, &arguments, &variables))
        };
        let mut bob = start(BOB, "lowkey-bot", "robot", bob);
        bob.stderr.find("online as robot");
        [start(ALICE, "lowkey", "alice", &[alice, &["robot"]].concat()), bob]
    }

    /// Packets that went directly from one home to the other.
    fn direct_packets(&self) -> usize {
        let rules = self.internet.run(|| shell("nft list chain ip way through"));
        rules.split_once("counter packets ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
    }
}

/// The settings in `deploy/` with this secret.
fn deployed(secret: &str) -> String {
    let settings = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/turnserver.conf")).unwrap();
    assert!(settings.contains("REPLACE-THIS"));
    settings.replace("REPLACE-THIS", secret)
}

/// Alice says something, the bot answers each time at once, and both part in order.
fn chat([alice, _bob]: &mut [Program; 2]) {
    alice.write("hello");
    assert_eq!(alice.stdout.next(), "robot: hello");
    let begin = Instant::now();
    for number in 0..10 {
        alice.write(&format!("text {number}"));
        assert_eq!(alice.stdout.next(), format!("robot: text {number}"));
    }
    // A millisecond or two each; where what is relayed lies about, hundreds.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    alice.stdin = None;
    assert_eq!(alice.wait().code(), Some(0), "the bot has read all and says so: {:?}", alice.stderr.rest());
}

/// What has to be run in a network of its own.
mod inside {
    use super::*;

    const STATIC: &str = "lt-cred-mech\nuser=both:s3cret\nrealm=turn.example\nno-cli\nlog-file=stdout";
    const TURN: [&str; 2] = ["--turn", "both:s3cret@203.0.113.1"];
    const NAMED: (&str, &str) = ("TURN_URLS", "stun:203.0.113.1,turn:203.0.113.1");

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_chat_goes_through_the_relay_that_both_name() {
        let network = Network::new("both-name", false);
        let _coturn = network.coturn(STATIC);
        let server = network.server(&[]);
        chat(&mut network.programs(&server.url(), &TURN, &TURN));
        assert_eq!(network.direct_packets(), 0);
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_chat_goes_through_the_relay_that_the_server_names() {
        let network = Network::new("server-names", false);
        let mut coturn = network.deployed_coturn("n0rth");
        let mut server = network.server(&[NAMED, ("TURN_SECRET", "n0rth"), ("RUST_LOG", "debug")]);
        let mut programs = network.programs(&server.url(), &[], &[]);
        chat(&mut programs);
        let mut metrics = network.internet.run(|| {
            Program::spawn({
                let mut command = Command::new("curl");
                command.args(["--silent", "http://127.0.0.1:9090/metrics"]);
                command
            })
        });
        let metrics = metrics.stdout.rest().join("\n");
        assert!(metrics.contains("lowkey") && !metrics.contains("n0rth"), "{metrics}");
        drop(programs);
        server.program.signal("TERM");
        coturn.signal("TERM");
        let log = server.program.stderr.rest().join("\n");
        assert!(log.contains("accepted") && !log.contains("n0rth"), "{log}");
        let log = coturn.stdout.rest().join("\n");
        assert!(!log.contains("alice") && !log.contains("robot"), "coturn learns no names: {log}");
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn without_a_relay_there_is_no_chat_and_the_reason_is_told() {
        let network = Network::new("no-relay", false);
        let _coturn = network.deployed_coturn("n0rth");
        let server = network.server(&[NAMED, ("TURN_SECRET", "n0rth")]);
        let [mut alice, _bob] = network.programs(&server.url(), &["--no-server-relays"], &["--no-server-relays"]);
        alice.stderr.find("each needs a STUN server or a TURN server (--stun, --turn)");
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_wrong_secret_is_told_as_such() {
        let network = Network::new("wrong-secret", false);
        let _coturn = network.coturn(STATIC);
        let server = network.server(&[]);
        let wrong = ["--turn", "both:wr0ng@203.0.113.1", "--relay-only"];
        let [mut alice, _bob] = network.programs(&server.url(), &wrong, &TURN);
        let said = alice.stderr.find("no connection came about");
        assert!(
            said.contains("the TURN server does not take the user or the secret; look at what --turn says"),
            "{said}"
        );
        assert!(!said.contains("wr0ng"), "{said}");
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_wrong_secret_of_the_server_is_told_as_such_and_leaves_other_ways() {
        let network = Network::new("wrong-server-secret", true);
        let _coturn = network.deployed_coturn("n0rth");
        let server = network.server(&[NAMED, ("TURN_SECRET", "s0uth")]);
        chat(&mut network.programs(&server.url(), &[], &[]));
        let [mut alice, _bob] = network.programs(&server.url(), &["--relay-only"], &[]);
        alice.stderr.find("does not take the user or the secret; tell whoever runs the chat server");
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_full_relay_is_told_as_such_on_both_sides() {
        let network = Network::new("full", false);
        let _coturn = network.coturn(&format!("{STATIC}\ntotal-quota=1"));
        let server = network.server(&[]);
        let only = [&TURN[..], &["--relay-only"]].concat();
        // One of the two gets it, and either has something to tell.
        let [mut alice, _bob] = network.programs(&server.url(), &only, &only);
        let said = alice.stderr.find("no connection came about");
        let full = "the TURN server has no room for another; try again later";
        let none = "a TURN server relays for you, and none for the other side";
        assert!(said.contains(full) || said.contains(none), "{said}");
        assert!(!said.contains("each side needs"), "{said}");
    }

    /// The bot says a short text after alice, then a long one, on the way to which `first` is seen, and that once more,
    /// at once.
    fn long_texts_arrive(alice: &mut Program, first: impl FnOnce(&mut Program)) {
        alice.write("short");
        assert_eq!(alice.stdout.next(), "robot: short");
        let long = "0123456789".repeat(2_000);
        alice.write(&long);
        first(alice);
        assert!(alice.stdout.next() == format!("robot: {long}"), "all of it");
        let begin = Instant::now();
        alice.write(&long);
        assert!(alice.stdout.next() == format!("robot: {long}"), "all of it");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    /// Neither end is told that what is longer than the way is lost. The kernel splits what is sent at once, so that
    /// each is met.
    #[test]
    #[ignore = "run by relays_and_nats"]
    fn long_texts_arrive_where_the_way_passes_only_576_bytes() {
        let network = Network::new("narrow", true);
        let _coturn = network.coturn("stun-only\nno-cli\nlog-file=stdout");
        for home in [ALICE, BOB] {
            network.homes[home].run(|| shell("ip link set eth gso_max_segs 1"));
            network.shut(home, "meta l4proto udp ip length > 576");
        }
        let server = network.server(&[]);
        let stun = ["--stun", PUBLIC];
        long_texts_arrive(&mut network.programs(&server.url(), &stun, &stun)[0], |alice| {
            alice.stderr.find("was lost; it is sought again");
            alice.stderr.find("is back; the chat goes on");
            // The bot finds it out in its turn.
            alice.stderr.find("is back; the chat goes on");
        });
    }

    /// The handshake, and what tells of channels, pass only in short datagrams too.
    #[test]
    #[ignore = "run by relays_and_nats"]
    fn long_texts_arrive_through_a_relay_to_which_only_576_bytes_pass() {
        let network = Network::new("narrow-relay", false);
        let _coturn = network.coturn(STATIC);
        for home in [ALICE, BOB] {
            network.homes[home].run(|| shell("ip link set eth gso_max_segs 1"));
            network.shut(home, "meta l4proto udp ip length > 576");
        }
        let server = network.server(&[]);
        let only = [&TURN[..], &["--relay-only"]].concat();
        long_texts_arrive(&mut network.programs(&server.url(), &only, &only)[0], |_| {});
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn a_relay_that_is_not_there_is_told_as_such() {
        let network = Network::new("not-there", true);
        let server = network.server(&[]);
        let away = |turn| ["--turn", turn, "--relay-only"];
        let [mut alice, _bob] = network.programs(&server.url(), &away("both:s3cret@203.0.113.1"), &[]);
        alice.stderr.find("the TURN server does not answer over UDP; look at what --turn says");
        let [mut alice, _bob] = network.programs(&server.url(), &away("both:s3cret@nowhere.invalid"), &[]);
        alice.stderr.find("the TURN server cannot be found by its name; look at what --turn says");
        let [mut alice, _bob] = network.programs(&server.url(), &["--relay-only"], &[]);
        alice.stderr.find("no TURN server is known (--relay-only): name one with --turn");
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn who_uses_a_relay_alone_shows_no_address_where_there_is_a_direct_way() {
        let network = Network::new("relay-only", true);
        let _coturn = network.deployed_coturn("n0rth");
        let server = network.server(&[NAMED, ("TURN_SECRET", "n0rth")]);
        let tap = Wiretap::start(&network, &server);
        let only = ["--relay-only"];
        chat(&mut network.programs(&tap.url, &["--relay-only", "--old-apps"], &only));
        let signals = tap.signals();
        for address in [PRIVATE[0], PRIVATE[1], OUTSIDE] {
            assert!(!signals.contains(address), "{address} in {signals}");
        }
        assert!(signals.contains(" typ relay") && !signals.contains("typ host") && !signals.contains("typ srflx"));
        assert_eq!(network.direct_packets(), 0);
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn who_uses_a_relay_alone_talks_to_somebody_who_does_not() {
        let network = Network::new("relay-one-side", true);
        let _coturn = network.deployed_coturn("n0rth");
        let server = network.server(&[NAMED, ("TURN_SECRET", "n0rth")]);
        for (alice, bob) in [(&["--relay-only"][..], &[][..]), (&[], &["--relay-only"])] {
            chat(&mut network.programs(&server.url(), alice, bob));
            assert_eq!(network.direct_packets(), 0);
        }
    }

    #[test]
    #[ignore = "run by relays_and_nats"]
    fn two_homes_behind_nats_find_each_other_with_stun() {
        let network = Network::new("stun", true);
        let _coturn = network.coturn("stun-only\nno-cli\nlog-file=stdout");
        let server = network.server(&[]);
        let tap = Wiretap::start(&network, &server);
        let stun = ["--stun", PUBLIC];
        chat(&mut network.programs(&tap.url, &["--stun", PUBLIC, "--old-apps"], &stun));
        let signals = tap.signals();
        for outside in ["198.51.100.2", "198.51.100.6"] {
            let is_srflx = |line: &str| line.contains(outside) && line.contains("typ srflx");
            assert!(signals.lines().any(is_srflx), "no {outside} in {signals}");
        }
        assert!(network.direct_packets() > 10);
    }
}
