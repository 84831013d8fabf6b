//! A race for names from three servers, checked by a search for an order that explains it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::cluster::Cluster;
use crate::databases::databases;
use crate::linearizability::{Done, Step, is_linearizable};
use crate::world::{Client, SOON};

/// What somebody did about a name. Each connection has a number of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// The connection asked for the name with a token, and had it or not.
    Claim { conn: usize, token: usize, is_had: bool },
    /// It gave it back, if it still had it.
    Release { conn: usize },
}

/// Who has a name: the connection, and with which token.
type Holder = Option<(usize, usize)>;

impl Step<Act> for Holder {
    fn after(&self, act: &Act) -> Option<Self> {
        match *act {
            Act::Claim { conn, token, is_had } => {
                let is_free = self.is_none_or(|(_, other)| other == token);
                (is_free == is_had).then_some(if is_had { Some((conn, token)) } else { *self })
            }
            Act::Release { conn } => Some(self.filter(|(holder, _)| *holder != conn)),
        }
    }
}

fn claim(conn: usize, token: usize, is_had: bool, [began, ended]: [u64; 2]) -> Done<Act> {
    Done { what: Act::Claim { conn, token, is_had }, began, ended }
}

fn release(conn: usize, [began, ended]: [u64; 2]) -> Done<Act> {
    Done { what: Act::Release { conn }, began, ended }
}

#[test]
fn an_order_is_found_where_there_is_one_and_a_second_holder_where_there_is_none() {
    let one = claim(1, 1, true, [0, 10]);
    for (history, is_fine) in [
        (vec![one.clone()], true),
        (vec![claim(1, 1, false, [0, 10])], false),
        // Two tokens, one after the other and at once; and one token twice.
        (vec![one.clone(), claim(2, 2, true, [11, 20])], false),
        (vec![one.clone(), claim(2, 2, true, [5, 20])], false),
        (vec![one.clone(), claim(2, 1, true, [11, 20])], true),
        (vec![one.clone(), claim(2, 2, false, [11, 20])], true),
        // The refusal may have been before it, and then it would have been for nobody; a claim that waits may be after
        // the end.
        (vec![one.clone(), claim(2, 2, false, [5, 8])], true),
        (vec![one.clone(), release(1, [12, 30]), claim(2, 2, true, [11, 20])], true),
        (vec![one.clone(), release(1, [21, 30]), claim(2, 2, true, [11, 20])], false),
        // The release of who was replaced frees nothing.
        (vec![one.clone(), claim(2, 1, true, [11, 12]), release(1, [13, 14]), claim(3, 2, true, [15, 16])], false),
        (vec![one.clone(), claim(2, 1, true, [11, 12]), release(1, [13, 14]), claim(3, 2, false, [15, 16])], true),
        // An order that is found on the second way only.
        (
            vec![claim(1, 1, true, [0, 9]), claim(2, 2, true, [0, 9]), release(2, [0, 9]), claim(3, 1, true, [10, 11])],
            true,
        ),
        (
            vec![claim(1, 1, true, [0, 9]), claim(2, 2, true, [0, 9]), release(2, [0, 9]), claim(3, 2, true, [10, 11])],
            false,
        ),
    ] {
        assert_eq!(is_linearizable(None, &history), is_fine, "{history:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What was done one after the other is found again, however much its beginnings and ends are drawn apart; and a
    /// claim with another token that comes through while the name is surely held is always seen.
    #[test]
    fn a_true_history_is_explained_and_a_planted_second_holder_is_not(
        acts in prop::collection::vec((0usize..2, any::<bool>(), 0u64..300, 0u64..300), 1..60),
        planted in any::<prop::sample::Index>(),
    ) {
        let (mut holder, mut history): (Holder, Vec<Done<Act>>) = (None, Vec::new());
        for (conn, (token, releases, before, after)) in acts.iter().enumerate() {
            let at = 1000 + 100 * conn as u64;
            let what = match holder {
                Some((conn, _)) if *releases => Act::Release { conn },
                _ => Act::Claim { conn, token: *token, is_had: holder.is_none_or(|(_, other)| other == *token) },
            };
            holder = holder.after(&what).unwrap();
            history.push(Done { what, began: at - before, ended: at + after });
        }
        prop_assert!(is_linearizable(None, &history));
        // Long after all that somebody has the name for sure, and another one gets it all the same.
        let (late, token) = (1_000_000, holder.map_or(0, |(_, token)| token));
        history.push(claim(9998, token, true, [late, late + 1]));
        prop_assert!(is_linearizable(None, &history));
        history.insert(planted.index(history.len()), claim(9999, 1 - token, true, [late + 2, late + 3]));
        prop_assert!(!is_linearizable(None, &history));
    }
}

#[test]
fn a_short_race_for_names_from_three_servers_is_linearizable() {
    races(Duration::from_secs(3));
}

#[test]
#[ignore = "half a minute long; run by make test-cluster"]
fn races_for_names_from_three_servers_over_30_seconds_are_linearizable() {
    races(Duration::from_secs(30));
}

fn races(time: Duration) {
    thread::scope(|scope| {
        for database in databases() {
            scope.spawn(move || race(&database, time));
        }
    });
}

fn race(database: &str, time: Duration) {
    const NAMES: usize = 4;
    const RACERS: usize = 8;
    let cluster = Cluster::start(database, 3);
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.address.clone()).collect();
    let histories: Mutex<BTreeMap<usize, Vec<Done<Act>>>> = Mutex::new(BTreeMap::new());
    let start = Instant::now();
    let now = || start.elapsed().as_micros() as u64;
    thread::scope(|scope| {
        for racer in 0..RACERS {
            let (addresses, histories) = (&addresses, &histories);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(racer as u64);
                let mut conn = racer;
                while start.elapsed() < time {
                    conn += RACERS;
                    let (name, token) = (random.usize(..NAMES), random.usize(..2));
                    let target = format!("/ws?username=name{name}&token=token{token}");
                    let began = now();
                    let outcome = Client::try_connect(&addresses[random.usize(..3)], &target);
                    let mut acts = Vec::new();
                    let is_had = match &outcome {
                        Ok(_) => true,
                        Err(error) if error.to_string().contains("409") => false,
                        Err(error) => panic!("{error}"),
                    };
                    acts.push(claim(conn, token, is_had, [began, now()]));
                    if let Ok(mut client) = outcome {
                        // It stays for a moment, or until another one comes with its token.
                        let pause = Some(Duration::from_millis(random.u64(1..20)));
                        client.socket.get_ref().set_read_timeout(pause).unwrap();
                        let _ = client.socket.read();
                        let began = now();
                        client.socket.get_ref().set_read_timeout(Some(SOON)).unwrap();
                        let _ = client.socket.close(None);
                        client.end();
                        acts.push(release(conn, [began, now() + GIVEN_BACK]));
                    }
                    histories.lock().unwrap().entry(name).or_default().extend(acts);
                }
            });
        }
    });
    for (name, history) in histories.into_inner().unwrap() {
        let had = history.iter().filter(|done| matches!(done.what, Act::Claim { is_had: true, .. })).count();
        let refused = history.iter().filter(|done| matches!(done.what, Act::Claim { is_had: false, .. })).count();
        println!("name{name}: had {had} times, refused {refused} times");
        assert!(had > 20 && refused > 5, "name{name} was had {had} times, and refused {refused} times");
        assert!(is_linearizable(None, &history), "name{name}: no order explains it: {history:?}");
    }
}

/// A client sees its end a moment before the database is told of it: in microseconds.
const GIVEN_BACK: u64 = 2_000_000;
