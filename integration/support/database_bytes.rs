//! A server of a cluster that takes whatever bytes from its database: it panics at none, and makes the same of them in
//! whatever pieces they come. For `make fuzz` and `make cargo-fuzz TARGET=cluster`.

use std::time::{Duration, Instant};

use lowkey::server::cluster::url::ClusterUrl;
use lowkey::server::cluster::{Cluster, ClusterSettings, Event};
use lowkey::server::hub::{ConnId, Departure, Hub};
use lowkey::server::limits::Limits;
use uuid::Uuid;

use crate::model_database::ModelDatabase;

/// A server that has greeted its database, has two users, and has asked for several things that are not answered yet.
fn server(now: Instant) -> (Hub, Cluster) {
    let settings = ClusterSettings {
        url: ClusterUrl::parse("redis://127.0.0.1").expect("a URL"),
        secret: "secret".to_owned(),
        lease: Duration::from_secs(15),
        session_ttl: Duration::from_secs(600),
        reservation: Duration::from_secs(60),
    };
    let ids = || Uuid::from_u128(42);
    let mut hub = Hub::new(Duration::from_secs(600), Limits::default().without_rates(), ids).in_cluster();
    let (mut cluster, mut database) = (Cluster::new(settings, *b"fuzz01", now), ModelDatabase::new(true));
    let link = database.open();
    cluster.connect(now);
    for name in ["", "alice", "bob"] {
        if !name.is_empty() {
            // The first names of a cluster are given out after some seconds.
            database.now += 5000;
            hub.claim(ConnId(database.now as usize % 2), name, None, now);
        }
        take(&mut hub, &mut cluster, now);
        database.hear(link, cluster.output());
        cluster.sent(cluster.output().len());
        cluster.receive(&database.say(link, usize::MAX), now).expect("the database is well");
        take(&mut hub, &mut cluster, now);
    }
    for text in [
        r#"{"type":"signal:ice","target":"carol"}"#,
        r#"{"type":"session:connect","target":"dave"}"#,
        r#"{"type":"session:create"}"#,
        r#"{"type":"session:join","sessionId":"00000000-0000-0000-0000-00000000002a"}"#,
    ] {
        hub.receive(ConnId(0), text, now);
    }
    hub.claim(ConnId(7), "erin", Some("token"), now);
    hub.disconnect(ConnId(1), Departure::Lost, now);
    ask(&mut hub, &mut cluster, now);
    take(&mut hub, &mut cluster, now);
    (hub, cluster)
}

/// Asks the database what the hub wants to know.
fn ask(hub: &mut Hub, cluster: &mut Cluster, now: Instant) {
    while let Some((ask, texts)) = hub.next_ask() {
        cluster.ask(ask, texts, now);
    }
}

/// All that has come of it so far. What the hub wants to know because of it is asked later: whether an answer comes
/// before or after its question would else hang on the pieces.
fn take(hub: &mut Hub, cluster: &mut Cluster, now: Instant) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(event) = cluster.next_event() {
        said.push(format!("{event:?}"));
        match event {
            Event::Answer(answer) => said.push(format!("{:?}", hub.answered(answer, now))),
            Event::Bundle(bytes) => {
                for dispatch in cluster.dispatches(&bytes) {
                    said.push(format!("{:?}", hub.arrived(dispatch, now)));
                }
            }
            Event::Up(process) => hub.database_is_back(process),
            Event::Down => hub.database_is_away(now),
            Event::Sweep | Event::Alive(_) => {}
        }
    }
    said
}

/// All that a server makes of these pieces.
fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let now = Instant::now();
    let (mut hub, mut cluster) = server(now);
    let mut said = Vec::new();
    for piece in pieces {
        let received = cluster.receive(piece, now);
        said.extend(take(&mut hub, &mut cluster, now));
        if let Err(loss) = received {
            cluster.lose(now);
            said.push(format!("{loss:?}"));
            said.extend(take(&mut hub, &mut cluster, now));
            break;
        }
    }
    ask(&mut hub, &mut cluster, now);
    said.extend(take(&mut hub, &mut cluster, now));
    said
}

/// Has a server take these bytes, as what its database says, and as what another server says.
pub fn play(bytes: &[u8]) {
    assert_eq!(outcome(bytes.chunks(usize::MAX)), outcome(bytes.chunks(1)));
    let now = Instant::now();
    let (mut hub, mut cluster) = server(now);
    for dispatch in cluster.dispatches(bytes) {
        hub.arrived(dispatch, now);
    }
}
