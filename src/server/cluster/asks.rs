//! What the hub asks, as commands; and what it is answered in place of the database where that is away or late. Pure.

use std::time::Instant;

use super::dispatch;
use super::keys;
use super::resp;
use super::scripts::LuaScript;
use super::{
    BUNDLE_BYTES, Bundle, Cluster, ClusterState, Event, GRACE, MAX_OUTPUT, MAX_PENDING, NAME_TTL, Pending, What,
};
use crate::server::nodes::{Answer, Ask, Found, NodeId, NotCreated, NotJoined, Parcel, Passed, Route, Sender, Verdict};

impl Cluster {
    /// Asks the database, or answers at once where it is away. What goes to one node in a turn is put together until
    /// `send_bundles`. `texts` has those that `Ask::Pass` points into.
    pub fn ask(&mut self, ask: Ask, texts: &[u8], now: Instant) {
        let is_full = self.output.len() > MAX_OUTPUT || self.pending.len() > MAX_PENDING;
        if self.state != ClusterState::Up || is_full {
            return self.refuse(ask);
        }
        match ask {
            Ask::Pass { to, from, target, kind, text } => {
                let origin = Route { node: self.node, conn: from };
                let text = texts.get(text).expect("the texts are there until all was asked that points into them");
                let write =
                    |bytes: &mut Vec<u8>| dispatch::put_message(bytes, to.conn, origin, false, &target, kind, text);
                self.bundle(to.node, now, write).passed.push(Passed { from, target, kind });
            }
            Ask::Tell { to, target, reason } => {
                self.bundle(to.node, now, |bytes| dispatch::put_undelivered(bytes, to.conn, &target, reason));
            }
            ask => {
                // What was passed before has to be there before.
                self.send_bundles(now);
                self.ask_script(ask, now);
            }
        }
    }

    /// Sends what was put together for other nodes.
    pub(crate) fn send_bundles(&mut self, now: Instant) {
        if !self.bundles.is_empty() && self.pending.is_empty() {
            self.ping_first(now);
        }
        for Bundle { to, mut bytes, passed } in std::mem::take(&mut self.bundles) {
            self.command(What::Bundle(passed), &[b"PUBLISH", &keys::channel(to), &bytes], now);
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// Sends a ping before messages for other nodes where nothing else is to be answered. Redis and Valkey write to
    /// their clients in reverse order of when they got something for them. With the ping's answer queued first, this
    /// node is served last, and those first who get the messages: one that is alone is a fifth faster so.
    fn ping_first(&mut self, now: Instant) {
        self.command(What::Ping, &[b"PING"], now);
    }

    /// Adds a dispatch to what goes to a node.
    fn bundle(&mut self, to: NodeId, now: Instant, write: impl FnOnce(&mut Vec<u8>)) -> &mut Bundle {
        self.counts.dispatches[1] += 1;
        if self.bundles.iter().any(|bundle| bundle.bytes.len() >= BUNDLE_BYTES) {
            self.send_bundles(now);
        }
        let index = self.bundles.iter().position(|bundle| bundle.to == to).unwrap_or_else(|| {
            let bytes = std::mem::take(&mut self.spare);
            self.bundles.push(Bundle { to, bytes, passed: Vec::new() });
            self.bundles.len() - 1
        });
        let bundle = &mut self.bundles[index];
        write(&mut bundle.bytes);
        bundle
    }

    fn ask_script(&mut self, ask: Ask, now: Instant) {
        let numbers = [NAME_TTL.as_millis(), self.settings.reservation.as_millis(), GRACE.as_millis()];
        let [ttl, reservation, grace] = numbers.map(|number| number.to_string());
        let (ttl, reservation, grace) = (ttl.as_bytes(), reservation.as_bytes(), grace.as_bytes());
        let owner = |conn| keys::owner(self.node, self.incarnation, conn);
        match ask {
            Ask::Claim { conn, name, token } => {
                let (key, owner, token) =
                    (self.hash.name(&name), owner(conn), self.hash.token(&name, token.as_deref()));
                let arguments = [&owner[..], &token, ttl, reservation, grace];
                let keys = [&key[..], keys::NODES, keys::GRACE];
                self.run(What::Claim { conn, name }, LuaScript::Claim, &keys, &arguments, now);
            }
            Ask::Release { conn, name, is_free } => {
                let (key, owner) = (self.hash.name(&name), owner(conn));
                let reservation = if is_free { b"0" } else { reservation };
                self.run(What::Release, LuaScript::Release, &[&key], &[&owner, reservation], now);
            }
            Ask::Mark { conn, name, token, since } => {
                let (key, owner, token) =
                    (self.hash.name(&name), owner(conn), self.hash.token(&name, token.as_deref()));
                let arguments = [&owner[..], &token, &since, ttl, reservation];
                self.run(What::Mark(conn), LuaScript::Mark, &[&key, keys::NODES], &arguments, now);
                if let Some(sweep) = &mut self.sweep {
                    sweep.in_flight += 1;
                }
            }
            Ask::Seek(mut seek) => {
                let (origin, via) = match seek.from {
                    Sender::Here(conn) => (Route { node: self.node, conn }, None),
                    Sender::There(route) => (route, Some(self.node)),
                };
                let dispatch::Split { head, tail } = dispatch::parcel(origin, via, &seek.target, &seek.parcel);
                if let Parcel::Message { text, .. } = &mut seek.parcel {
                    *text = Vec::new();
                }
                self.counts.dispatches[1] += 1;
                let key = self.hash.name(&seek.target);
                self.run(What::Seek(seek), LuaScript::Seek, &[&key, keys::NODES], &[&head, &tail], now);
            }
            Ask::Create { conn, id, creator } => {
                let value = [b"W", creator.as_bytes()].concat();
                let ttl = self.settings.session_ttl.as_millis().to_string();
                let key = keys::session(id);
                self.command(What::Create { conn, id }, &[b"SET", &key, &value, b"PX", ttl.as_bytes(), b"NX"], now);
            }
            Ask::Join { conn, id, joiner } => {
                let ttl = self.settings.session_ttl.as_millis().to_string();
                let arguments = [joiner.as_bytes(), ttl.as_bytes()];
                self.run(What::Join { conn, id }, LuaScript::Join, &[&keys::session(id)], &arguments, now);
            }
            Ask::Pass { .. } | Ask::Tell { .. } => {}
        }
    }

    pub(super) fn command(&mut self, what: What, parts: &[&[u8]], now: Instant) {
        resp::command(&mut self.output, parts);
        self.pending.push_back(Pending { what, asked: now });
    }

    pub(super) fn run(&mut self, what: What, script: LuaScript, keys: &[&[u8]], arguments: &[&[u8]], now: Instant) {
        let (hash, count) = (script.hash(), keys.len().to_string());
        let mut parts: Vec<&[u8]> = vec![b"EVALSHA", hash.as_bytes(), count.as_bytes()];
        parts.extend(keys);
        parts.extend(arguments);
        self.command(what, &parts, now);
    }

    /// Answers an ask in place of the database, which is not asked.
    fn refuse(&mut self, ask: Ask) {
        match ask {
            Ask::Claim { conn, name, .. } => self.give_up(What::Claim { conn, name }),
            Ask::Release { .. } | Ask::Tell { .. } => {}
            Ask::Mark { conn, .. } => self.give_up(What::Mark(conn)),
            Ask::Seek(seek) => self.give_up(What::Seek(seek)),
            Ask::Pass { from, target, kind, .. } => self.not_passed(vec![Passed { from, target, kind }], false),
            Ask::Create { conn, id, .. } => self.give_up(What::Create { conn, id }),
            Ask::Join { conn, id, .. } => self.give_up(What::Join { conn, id }),
        }
    }

    /// Answers the hub in place of the database, which could not be asked or is late.
    pub(super) fn give_up(&mut self, what: What) {
        if let Some(kind) = what.kind() {
            self.counts.asks[kind][1] += 1;
        }
        let answer = match what {
            What::Claim { conn, name } => Answer::Claimed { conn, name, verdict: Verdict::Away },
            What::Mark(conn) => {
                if let Some(sweep) = &mut self.sweep {
                    sweep.in_flight = sweep.in_flight.saturating_sub(1);
                }
                Answer::Marked { conn, is_ours: None }
            }
            What::Seek(seek) => Answer::Sought { seek, found: Found::Away },
            What::Bundle(passed) => return self.not_passed(passed, false),
            What::Create { conn, id } => Answer::Created { conn, id, outcome: Err(NotCreated::Away) },
            What::Join { conn, id } => Answer::Joined { conn, id, outcome: Err(NotJoined::Away) },
            _ => return,
        };
        self.events.push_back(Event::Answer(answer));
    }

    /// Tells of messages to another node that they came to nothing.
    pub(super) fn not_passed(&mut self, passed: Vec<Passed>, is_certain: bool) {
        for passed in passed {
            self.events.push_back(Event::Answer(Answer::NotPassed { passed, is_certain }));
        }
    }
}

impl What {
    /// Its index in [`ClusterCounts::ASKS`](crate::server::nodes::ClusterCounts::ASKS), if it is an ask of the hub.
    pub(super) fn kind(&self) -> Option<usize> {
        match self {
            Self::Claim { .. } => Some(0),
            Self::Release => Some(1),
            Self::Mark(_) => Some(2),
            Self::Seek(_) => Some(3),
            Self::Bundle(_) => Some(4),
            Self::Create { .. } => Some(5),
            Self::Join { .. } => Some(6),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::super::url::ClusterUrl;
    use super::super::{ASK_TIME, ClusterSettings, FULL_TIME, SILENCE};
    use super::*;
    use crate::protocol::MessageType;
    use crate::server::ids::ConnId;
    use crate::server::nodes::Dispatch;

    /// A node that has greeted its database at this time.
    fn up(now: Instant) -> Cluster {
        let settings = ClusterSettings {
            url: ClusterUrl::parse("redis://:secret@h").unwrap(),
            secret: "secret".to_owned(),
            lease: Duration::from_secs(15),
            session_ttl: Duration::from_secs(600),
            reservation: Duration::from_secs(60),
        };
        let mut cluster = Cluster::new(settings, *b"own123", now);
        greet(&mut cluster, "*2\r\n:2\r\n$8\r\nown123\0\x01\r\n", now);
        assert_eq!(events(&mut cluster), [Event::Alive(vec![NodeId(*b"own123")]), Event::Up(NodeId(*b"own123"))]);
        take_output(&mut cluster);
        cluster
    }

    /// Greets the database, which answers so that its lease is renewed.
    fn greet(cluster: &mut Cluster, renewal: &str, now: Instant) {
        cluster.connect(now);
        let mut replies = b"%0\r\n".to_vec();
        for script in LuaScript::ALL {
            replies.extend(format!("$40\r\n{}\r\n", script.hash()).bytes());
        }
        replies.extend(b"_\r\n$16\r\n");
        replies.extend(cluster.hash.check("1 600000 60000"));
        replies.extend(b"\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n:1\r\n:0\r\n+PONG\r\n");
        for byte in replies.into_iter().chain(renewal.bytes()) {
            cluster.receive(&[byte], now).unwrap();
        }
        assert!(cluster.is_up());
        cluster.end_of_marks(now);
    }

    fn events(cluster: &mut Cluster) -> Vec<Event> {
        std::iter::from_fn(|| cluster.next_event()).collect()
    }

    fn take_output(cluster: &mut Cluster) -> String {
        let output = String::from_utf8_lossy(cluster.output()).into_owned();
        cluster.sent(cluster.output().len());
        output
    }

    fn claim() -> Ask {
        Ask::Claim { conn: ConnId(5), name: "alice".into(), token: None }
    }

    const YES: Verdict = Verdict::Yes { since: *b"123456", has_replaced: false };

    fn claimed(verdict: Verdict) -> Event {
        Event::Answer(Answer::Claimed { conn: ConnId(5), name: "alice".into(), verdict })
    }

    fn pass(number: usize) -> Ask {
        let to = Route { node: NodeId(*b"other1"), conn: ConnId(7) };
        let text = 5 * number..5 * number + 5;
        Ask::Pass { to, from: ConnId(number), target: "bob".into(), kind: MessageType::SignalIce, text }
    }

    const TEXTS: &[u8] = b"text0text1text2";

    fn message(number: usize) -> Passed {
        Passed { from: ConnId(number), target: "bob".into(), kind: MessageType::SignalIce }
    }

    fn not_passed(number: usize, is_certain: bool) -> Event {
        Event::Answer(Answer::NotPassed { passed: message(number), is_certain })
    }

    #[test]
    fn what_goes_to_one_node_in_a_turn_is_one_message_and_nothing_overtakes_it() {
        let now = Instant::now();
        let mut cluster = up(now);
        cluster.ask(pass(1), TEXTS, now);
        cluster.ask(pass(2), TEXTS, now);
        assert!(cluster.output().is_empty(), "the turn is not over");
        cluster.ask(claim(), TEXTS, now);
        let output = take_output(&mut cluster);
        let places = ["PING", "PUBLISH", "text1", "text2", "EVALSHA"].map(|part| output.find(part).expect(part));
        assert!(places.is_sorted() && output.matches("PUBLISH").count() == 1, "{output}");
        cluster.receive(b"+PONG\r\n:0\r\n$7\r\n123456\0\r\n", now).unwrap();
        let (one, two) = (not_passed(1, true), not_passed(2, true));
        assert_eq!(events(&mut cluster), [one, two, claimed(YES)]);
    }

    #[test]
    fn an_ask_is_given_up_after_its_time_and_only_a_claim_is_answered_late() {
        let start = Instant::now();
        let mut cluster = up(start);
        cluster.ask(pass(1), TEXTS, start);
        cluster.ask(claim(), TEXTS, start);
        let late = start + ASK_TIME;
        cluster.tick(late).unwrap();
        assert_eq!(events(&mut cluster), [not_passed(1, false), claimed(Verdict::Away)]);
        cluster.ask(pass(2), TEXTS, late);
        cluster.send_bundles(late);
        cluster.receive(b"+PONG\r\n:1\r\n$7\r\n123456\0\r\n:1\r\n", late).unwrap();
        let delivered = Event::Answer(Answer::Passed(vec![message(2)]));
        assert_eq!(events(&mut cluster), [claimed(YES), delivered]);
    }

    #[test]
    fn a_database_that_is_silent_or_says_no_is_lost_and_everybody_is_told() {
        let start = Instant::now();
        let mut cluster = up(start);
        cluster.ask(pass(1), TEXTS, start);
        cluster.send_bundles(start);
        let reason = cluster.tick(start + SILENCE).unwrap_err().reason;
        assert!(reason.contains("silent"), "{reason}");
        cluster.lose(start + SILENCE);
        assert_eq!(events(&mut cluster), [Event::Down, not_passed(1, false)]);
        cluster.ask(pass(2), TEXTS, start);
        assert_eq!(events(&mut cluster), [not_passed(2, false)], "at once");
        for (error, part) in [("NOPERM x", "right"), ("WRONGPASS x", "password"), ("X\x07y", "it says \"X\\u0007y\"")] {
            let mut cluster = up(start);
            cluster.ask(claim(), TEXTS, start);
            let loss = cluster.receive(format!("-{error}\r\n").as_bytes(), start).unwrap_err();
            assert!(loss.reason.contains(part), "{error}: {loss:?}");
        }
    }

    #[test]
    fn a_full_database_refuses_what_is_new_and_is_not_lost() {
        let start = Instant::now();
        let mut cluster = up(start);
        cluster.ask(claim(), TEXTS, start);
        cluster.receive(b"-OOM command not allowed\r\n", start).unwrap();
        assert_eq!(events(&mut cluster), [claimed(Verdict::Full)]);
        assert!(cluster.is_up() && cluster.is_full(start) && !cluster.is_full(start + FULL_TIME));
        // So does one that is slow as well.
        let (id, late) = (Uuid::from_u128(1), start + ASK_TIME);
        cluster.ask(Ask::Create { conn: ConnId(5), id, creator: "alice".into() }, TEXTS, start);
        cluster.ask(claim(), TEXTS, start);
        cluster.tick(late).unwrap();
        let not_created = |why| Event::Answer(Answer::Created { conn: ConnId(5), id, outcome: Err(why) });
        assert_eq!(events(&mut cluster), [not_created(NotCreated::Away), claimed(Verdict::Away)]);
        cluster.receive(b"-OOM command not allowed\r\n-OOM command not allowed\r\n", late).unwrap();
        assert_eq!(events(&mut cluster), [claimed(Verdict::Full)], "its claim is not made again");
        assert!(cluster.is_up() && cluster.is_full(late));
        cluster.ask(Ask::Create { conn: ConnId(5), id, creator: "alice".into() }, TEXTS, late);
        cluster.receive(b"-OOM command not allowed\r\n", late).unwrap();
        assert_eq!(events(&mut cluster), [not_created(NotCreated::Full)]);
        let counted = [0, 5].map(|kind| cluster.counts().asks[kind]);
        assert_eq!(counted, [[0, 1, 1], [0, 1, 1]], "what was given up, and what found no room, of each");
        cluster.renew(start, Duration::ZERO);
        assert!(cluster.receive(b"-OOM command not allowed\r\n", start).unwrap_err().reason.contains("full"));
    }

    #[test]
    fn the_time_to_an_answer_is_known_where_nobody_asks_or_nobody_waits_any_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cluster = up(start);
        cluster.ask(pass(1), TEXTS, start);
        cluster.send_bundles(start);
        cluster.tick(at(2)).unwrap();
        cluster.receive(b"+PONG\r\n:1\r\n", at(2)).unwrap();
        assert_eq!(cluster.counts().round_trip_micros, 2_000_000, "it was given up");
        cluster.tick(at(3)).unwrap();
        cluster.receive(b"+PONG\r\n", at(3)).unwrap();
        assert_eq!(cluster.counts().round_trip_micros, 0, "a ping, a second later");
    }

    #[test]
    fn what_came_while_this_node_slept_is_not_read() {
        let start = Instant::now();
        let mut cluster = up(start);
        let push = b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$11\r\n\0\0\0\x07R\0\0\0\0\0\x05\r\n";
        cluster.receive(push, start + Duration::from_secs(15)).unwrap();
        let [Event::Bundle(bundle)] = &events(&mut cluster)[..] else { panic!("a bundle") };
        assert_eq!(cluster.dispatches(bundle).next(), Some(Dispatch::Replaced(ConnId(5))));
        assert!(cluster.receive(push, start + Duration::from_secs(16)).is_err());
        assert_eq!(events(&mut cluster), []);
    }

    #[test]
    fn a_database_that_has_forgotten_a_node_gives_no_unknown_name_away_before_that_is_back_or_its_lease_is_over() {
        let start = Instant::now();
        let grace = |time: Instant, renewal: &str, cluster: &mut Cluster| {
            cluster.receive(b"", time).unwrap();
            cluster.tick(time).unwrap();
            let output = take_output(cluster);
            assert!(output.contains("own123"), "it is renewed: {output}");
            cluster.receive(renewal.as_bytes(), time).unwrap();
            output.contains("\r\n4500\r\n$4\r\n4500\r\n")
        };
        let (alone, both) =
            ("*2\r\n:0\r\n$8\r\nown123\0\x02\r\n", "*3\r\n:0\r\n$8\r\nown123\0\x02\r\n$8\r\nother1\0\x01\r\n");
        let [ended, forgot] = [":1", ":2"].map(|before| alone.replace(":0", before));
        let (ended, forgot) = (&*ended, &*forgot);
        // One that knows of a lease which must have been renewed is as it was long ago.
        for (first, back, is_awaited) in [(forgot, 6, true), (ended, 6, true), (alone, 6, false), (ended, 21, false)] {
            let mut cluster = up(start);
            let at = |seconds: u64| start + Duration::from_secs(back - 6 + seconds);
            grace(start + Duration::from_secs(5), both, &mut cluster);
            cluster.lose(at(6));
            greet(&mut cluster, first, at(6));
            take_output(&mut cluster);
            let pauses = if is_awaited { [7, 8, 20] } else { [11, 16, 21] };
            assert_eq!(
                pauses.map(|seconds| grace(at(seconds), alone, &mut cluster)),
                [is_awaited, is_awaited, is_awaited]
            );
            assert!(!grace(at(26), alone, &mut cluster), "its lease is over");
        }
        let mut cluster = up(start);
        grace(start + Duration::from_secs(5), both, &mut cluster);
        cluster.lose(start);
        greet(&mut cluster, &both.replace(":0", ":2"), start);
        take_output(&mut cluster);
        assert!(!grace(start + Duration::from_secs(6), both, &mut cluster), "it was back already");
        let mut cluster = up(start);
        grace(start + Duration::from_secs(5), both, &mut cluster);
        cluster.renew(start + Duration::from_secs(6), Duration::ZERO);
        assert!(cluster.receive(forgot.as_bytes(), start + Duration::from_secs(6)).is_err());
        cluster.lose(start + Duration::from_secs(6));
        greet(&mut cluster, alone, start + Duration::from_secs(6));
        take_output(&mut cluster);
        assert!(grace(start + Duration::from_secs(7), alone, &mut cluster), "it forgot while it was connected");
    }
}
