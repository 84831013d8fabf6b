//! Chats that go through a relay for a long time, by all ways to it, while its nonces become stale again and again.

use std::time::SystemTime;

use super::*;

const STATIC: &str = "lt-cred-mech\nuser=both:s3cret\nrealm=turn.example\nno-cli\nlog-file=stdout\ntotal-quota=0";
const WAYS: [(&str, &str, bool); 4] = [
    ("udp", "both:s3cret@203.0.113.1", false),
    ("tcp", "both:s3cret@203.0.113.1?transport=tcp", false),
    ("tls", "turns:both:s3cret@203.0.113.1:443", false),
    // To each other two programs are old apps, whose chat ends with its connection.
    ("old", "both:s3cret@203.0.113.1", true),
];

/// How often something is said in the chats of each way, in milliseconds; in the last, never.
const GAPS: [Option<u64>; 4] = [Some(700), Some(7_000), Some(31_000), None];

struct RelayedChat {
    what: String,
    program: Program,
    gap: Option<Duration>,
    next: Instant,
    sent: usize,
}

impl RelayedChat {
    fn say(&mut self, now: Instant) {
        self.program.write(&format!("text {}", self.sent));
        self.sent += 1;
        self.next = now + self.gap.unwrap_or_default();
    }

    /// Ends the chat; what went wrong.
    fn end(mut self) -> Option<String> {
        // Also where nothing was said until now.
        self.say(Instant::now());
        let last = format!("robot_{}: text {}", self.what.split(' ').next().unwrap(), self.sent - 1);
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut came = Vec::new();
        while let Some(line) = self.program.stdout.next_until(deadline) {
            let is_last = line == last;
            came.push(line);
            if is_last {
                break;
            }
        }
        self.program.stdin = None;
        let told = self.program.stderr.rest();
        let is_whole =
            came.len() == self.sent && came.iter().enumerate().all(|(n, line)| line.ends_with(&format!(": text {n}")));
        let is_calm = !told.iter().any(|line| line.contains("lost") || line.contains("ended"));
        let (came, sent) = (came.len(), self.sent);
        println!("{}: {came} of {sent} texts came back", self.what);
        (!is_whole || !is_calm).then(|| format!("{}: {came} of {sent}, {told:#?}", self.what))
    }
}

/// Four chats by each way through a coturn whose nonces live so long, for so many minutes; what went wrong.
fn chats(stale_nonce: u64, minutes: f64) -> Vec<String> {
    let network = Network::new(&format!("trial-{stale_nonce}"), false);
    let (_coturn, trusted) = network.coturn_over_tls(&format!("{STATIC}\nstale-nonce={stale_nonce}"), PUBLIC);
    let server = network.server(&[("RATE_LIMITS", "off")]);
    let tap = Wiretap::start(&network, &server);
    let mut robots = Vec::new();
    let mut chats = Vec::new();
    for (way, turn, is_old) in WAYS {
        let url = if is_old { tap.url.clone() } else { server.url() };
        let start = |home: usize, program: &str, name: &str, last: &[&str]| {
            let folder = format!("{}/{name}", network.folder.path());
            let arguments = [&["--server", &*url, "--name", name, "--turn", turn, "--relay-only"], last].concat();
            let variables = [("HOME", &*folder), ("SSL_CERT_FILE", &*trusted)];
            network.homes[home].run(|| Program::start(program, &arguments, &variables))
        };
        let robot = format!("robot_{way}");
        let mut bot = start(BOB, "lowkey-bot", &robot, &[]);
        bot.stderr.find(&format!("online as {robot}"));
        robots.push(bot);
        for (number, gap) in GAPS.into_iter().enumerate() {
            let mut program = start(ALICE, "lowkey", &format!("alice_{way}_{number}"), &["--old-apps", &robot]);
            program.stderr.find("connected with");
            let gap = gap.map(Duration::from_millis);
            let next = Instant::now() + gap.unwrap_or_default();
            let what = format!("{way} with stale-nonce={stale_nonce}, a text every {gap:?}");
            chats.push(RelayedChat { what, program, gap, next, sent: 0 });
        }
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs_f64(minutes * 60.0) {
        let now = Instant::now();
        chats.iter_mut().filter(|chat| chat.gap.is_some() && chat.next <= now).for_each(|chat| chat.say(now));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(network.direct_packets(), 0);
    chats.into_iter().filter_map(RelayedChat::end).collect()
}

#[test]
#[ignore = "run by make trials"]
fn a_relay_lasts() {
    let minutes: f64 = std::env::var("TRIAL_MINUTES").unwrap_or("40".to_owned()).parse().unwrap();
    println!("{minutes} minutes from {:?} on", SystemTime::now());
    let trials = [60, 600].map(|stale_nonce| thread::spawn(move || chats(stale_nonce, minutes)));
    let wrong: Vec<String> = trials.into_iter().flat_map(|trial| trial.join().unwrap()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
