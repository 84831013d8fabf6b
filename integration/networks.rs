//! Machines with other networks than this one has: each is a network namespace of its own, in which this very test
//! binary runs some of its tests. Run by `make test-networks`, since not every machine has `unshare` and `ip`, or
//! allows what they do.

use std::time::Duration;

use crate::link::Kind;
use crate::links;
use crate::world::{in_namespace, pass_in_namespace};

/// Runs the tests with `host` as the address of every server, where `setup` has made the network.
fn chats_work(setup: &str, host: &str) {
    let mut tests =
        vec!["--test-threads=1", "echo::", "chat::a_call_tells", "pipe::two_programs", "trust::a_link_names"];
    // How many are served at once is no question of the network.
    tests.extend(["--skip", "twenty_peers"]);
    // The tests' old app has no candidate but this one.
    tests.extend((host == "127.0.0.1").then_some("apps::"));
    pass_in_namespace(in_namespace(setup, &tests).env("TEST_HOST", host), 8);
}

/// A pair of interfaces, of which the one has the address. What is sent to that goes by way of loopback, as on any
/// machine.
fn interface(number: u32, addresses: &str) -> String {
    let mut setup = format!(
        "ip link add here{number} type veth peer name there{number}
         ip link set here{number} up
         ip link set there{number} up\n"
    );
    for address in addresses.split_whitespace() {
        // An IPv6 address is fit for use at once, and not only when it is known to be nobody else's.
        let nodad = if address.contains(':') { "nodad" } else { "" };
        setup += &format!("ip address add {address} dev here{number} {nodad}\n");
    }
    setup
}

#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_with_no_interface_but_loopback() {
    chats_work("ip link set lo up\ntest \"$(ip -o link | wc -l)\" = 1", "127.0.0.1");
}

#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_with_nothing_but_the_loopback_of_ipv6() {
    chats_work("ip link set lo up\nip address del 127.0.0.1/8 dev lo", "::1");
}

#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_without_ipv6() {
    chats_work("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6\nip link set lo up", "127.0.0.1");
}

/// No server at a loopback address, so that no candidate is one either.
#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_with_one_interface() {
    chats_work(&format!("ip link set lo up\n{}", interface(0, "192.0.2.1/24")), "192.0.2.1");
}

#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_with_one_interface_of_nothing_but_ipv6() {
    let setup = format!("ip link set lo up\nip address del 127.0.0.1/8 dev lo\n{}", interface(0, "2001:db8::1/64"));
    chats_work(&setup, "2001:db8::1");
}

#[test]
#[ignore = "needs a network namespace: make test-networks"]
fn chats_work_with_many_interfaces() {
    let interfaces: String =
        (1..=12).map(|number| interface(number, &format!("10.0.{number}.1/24 2001:db8:{number}::1/64"))).collect();
    let setup = format!("ip link set lo up\n{interfaces}");
    for host in ["127.0.0.1", "10.0.12.1", "2001:db8:1::1"] {
        chats_work(&setup, host);
    }
}

/// On a link of 10 Mbit/s whose queue holds half a second of what comes too fast, and which needs no namespace: it is
/// `make trials` that has the others, and says what they come to.
#[test]
#[ignore = "measures: make test-networks"]
fn a_text_is_not_kept_waiting_by_a_file_on_a_narrow_link() {
    let [delay, queue, warm_up, time] = [10, 500, 4000, 6000].map(Duration::from_millis);
    let measured = links::measure(Kind { rate: 1.25e6, delay, queue }, warm_up, time);
    let [alone, beside] = measured.at(0.5);
    assert!(beside <= alone + 100.0, "{beside} ms, and {alone} ms alone");
    assert!(measured.share >= 0.5, "{measured:?}");
}
