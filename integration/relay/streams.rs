//! TURN over TCP and TLS, for homes whose network lets no UDP out.

use std::fs;
use std::net::TcpListener;

use super::*;

const STATIC: &str = "lt-cred-mech\nuser=both:s3cret\nrealm=turn.example\nno-cli\nlog-file=stdout";
const TCP: [&str; 2] = ["--turn", "both:s3cret@203.0.113.1?transport=tcp"];
const TLS: [&str; 2] = ["--turn", "turns:both:s3cret@203.0.113.1:443"];

impl Network {
    /// The NAT of a home drops what matches this, without a word.
    pub fn shut(&self, home: usize, what: &str) {
        self.nats[home].run(|| {
            shell(&format!(
                "nft -f - <<NFT
                table ip firewall {{ chain through {{ type filter hook forward priority 1; {what} drop; }}; }}
NFT"
            ))
        });
    }

    /// No UDP gets through, at neither home.
    fn without_udp(name: &str) -> Self {
        let network = Self::new(name, true);
        for home in [ALICE, BOB] {
            network.shut(home, "meta l4proto udp");
        }
        network
    }

    /// A coturn over TLS on port 443, whose certificate is for `host`, and the file by which that is trusted.
    pub fn coturn_over_tls(&self, settings: &str, host: &str) -> (Program, String) {
        let certified = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let path = |name| format!("{}/{name}.pem", self.folder.path());
        fs::write(path("cert"), certified.cert.pem()).unwrap();
        fs::write(path("key"), certified.signing_key.serialize_pem()).unwrap();
        let tls = format!("tls-listening-port=443\ncert={}\npkey={}", path("cert"), path("key"));
        (self.coturn(&format!("{settings}\n{tls}")), path("cert"))
    }
}

/// Long texts both ways, more than any queue holds.
fn long_chat([alice, _bob]: &mut [Program; 2]) {
    let text = "0123456789".repeat(4_000);
    for _ in 0..30 {
        alice.write(&text);
    }
    for _ in 0..30 {
        assert_eq!(alice.stdout.next(), format!("robot: {text}"));
    }
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_chat_goes_over_tcp_where_no_udp_gets_out() {
    let network = Network::without_udp("tcp");
    let _coturn = network.coturn(STATIC);
    let server = network.server(&[]);
    let mut programs = network.programs(&server.url(), &TCP, &TCP);
    long_chat(&mut programs);
    chat(&mut programs);
    assert_eq!(network.direct_packets(), 0);
    // Nor where the machine itself says that it may not.
    for home in &network.homes {
        home.run(|| {
            shell(
                "nft -f - <<NFT
                table ip firewall { chain out { type filter hook output priority 0; meta l4proto udp reject; }; }
NFT",
            )
        });
    }
    chat(&mut network.programs(&server.url(), &TCP, &TCP));
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_chat_goes_over_tls_where_nothing_else_gets_out() {
    let network = Network::without_udp("tls");
    let (_coturn, trusted) = network.coturn_over_tls(STATIC, PUBLIC);
    let server = network.server(&[]);
    let ports = format!("tcp dport != {{ 443, {} }}", server.address.rsplit_once(':').unwrap().1);
    for home in [ALICE, BOB] {
        network.shut(home, &format!("iifname lan {ports}"));
    }
    let (alice, bob) = ([&TLS[..], &["--relay-only"]].concat(), TLS);
    let trust = [("SSL_CERT_FILE", &*trusted)];
    let mut programs = network.programs_with(&server.url(), &alice, &bob, &trust);
    long_chat(&mut programs);
    chat(&mut programs);
}

#[test]
#[ignore = "run by relays_and_nats"]
fn of_what_the_server_names_that_is_used_which_works() {
    let network = Network::new("named-streams", false);
    let (mut coturn, trusted) = network.coturn_over_tls(&(deployed("n0rth") + "\nverbose"), PUBLIC);
    let urls = "turn:203.0.113.1,turn:203.0.113.1?transport=tcp,turns:203.0.113.1:443";
    let server = network.server(&[("TURN_URLS", urls), ("TURN_SECRET", "n0rth")]);
    let trust = [("SSL_CERT_FILE", &*trusted)];
    // All ways are open, then no UDP for one side, then nothing but TLS for the other.
    let shut: [&[(usize, &str)]; 3] =
        [&[], &[(ALICE, "meta l4proto udp")], &[(BOB, "meta l4proto udp"), (BOB, "tcp dport 3478")]];
    for ways in shut {
        ways.iter().for_each(|(home, what)| network.shut(*home, what));
        for options in [&[][..], &["--relay-only"]] {
            chat(&mut network.programs_with(&server.url(), options, options, &trust));
        }
    }
    coturn.signal("TERM");
    let log = coturn.stdout.rest().join("\n");
    assert!(log.contains("TLS/TCP"), "{log}");
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_relay_over_udp_leaves_streams_alone() {
    let network = Network::new("udp-first", false);
    let _coturn = network.coturn(STATIC);
    let server = network.server(&[]);
    let both = [&TCP[..], &TLS[..], &["--turn", "both:s3cret@203.0.113.1"]].concat();
    network.internet.run(|| {
        shell(
            "nft -f - <<NFT
        table ip turn { chain in { type filter hook input priority 0; tcp dport { 443, 3478 } counter; }; }
NFT",
        )
    });
    chat(&mut network.programs(&server.url(), &both, &both));
    let rules = network.internet.run(|| shell("nft list chain ip turn in"));
    assert!(rules.contains("counter packets 0 "), "{rules}");
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_certificate_that_is_not_trusted_or_for_another_is_told_as_such() {
    let network = Network::without_udp("certificate");
    let only = [&TLS[..], &["--relay-only"]].concat();
    let server = network.server(&[]);
    for (host, is_trusted) in [(PUBLIC, false), ("turn.example", true)] {
        let (_coturn, trusted) = network.coturn_over_tls(STATIC, host);
        let trust = [("SSL_CERT_FILE", &*trusted)];
        let trust = if is_trusted { &trust[..] } else { &[] };
        let [mut alice, _bob] = network.programs_with(&server.url(), &only, &[], trust);
        alice
            .stderr
            .find("the TURN server has a certificate that is not trusted, or not for its name; look at what --turn");
    }
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_stream_that_does_not_come_about_is_told_as_such() {
    let network = Network::without_udp("no-stream");
    let server = network.server(&[]);
    let told = |turn: &str, what: &str| {
        let [mut alice, _bob] = network.programs(&server.url(), &["--relay-only", "--turn", turn], &[]);
        alice.stderr.find(what);
    };
    told(
        "both:s3cret@203.0.113.1?transport=tcp",
        "the TURN server cannot be reached over TCP; look at what --turn says",
    );
    told("turns:both:s3cret@nowhere.invalid", "the TURN server cannot be found by its name");
    // Others than TURN servers: one that never says a word, and one that wants to hear none.
    let listener = network.internet.run(|| TcpListener::bind((PUBLIC, 0)).unwrap());
    let mute = listener.local_addr().unwrap();
    told(&format!("both:s3cret@{mute}?transport=tcp"), "the TURN server does not answer over TCP");
    told(&format!("turns:both:s3cret@{mute}"), "the TURN server does not answer over TCP");
    let listener = network.internet.run(|| TcpListener::bind((PUBLIC, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    network.internet.run(|| thread::spawn(move || listener.incoming().for_each(drop)));
    told(&format!("both:s3cret@{address}?transport=tcp"), "the TURN server breaks off the connection");
    told(&format!("turns:both:s3cret@{address}"), "the TURN server does not speak TLS");
    let _coturn = network.coturn(STATIC);
    told("both:wr0ng@203.0.113.1?transport=tcp", "the TURN server does not take the user or the secret");
    network.shut(ALICE, "tcp dport 3478");
    told("both:s3cret@203.0.113.1?transport=tcp", "the TURN server cannot be reached over TCP");
}

#[test]
#[ignore = "run by relays_and_nats"]
fn a_stream_that_breaks_interrupts_a_chat_which_goes_on_by_the_next() {
    let network = Network::without_udp("killed");
    let coturn = network.coturn(STATIC);
    let server = network.server(&[]);
    let mut programs = network.programs(&server.url(), &TCP, &TCP);
    let alice = &mut programs[0];
    alice.write("hello");
    assert_eq!(alice.stdout.next(), "robot: hello");
    coturn.signal("KILL");
    drop(coturn);
    let begin = Instant::now();
    alice.stderr.find("was lost; it is sought again");
    // It is the end of the stream that says so, and not a silence of 15 s.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    alice.write("are you there?");
    let _coturn = network.coturn(STATIC);
    alice.stderr.find("is back; the chat goes on");
    assert_eq!(alice.stdout.next(), "robot: are you there?");
    chat(&mut programs);
}
