//! A machine with nothing but loopback, as a network namespace of its own is one.

use std::process::Command;

/// Run by `make test-loopback`, since not every machine has `unshare` and `ip`, or allows what they do.
#[test]
#[ignore = "needs a network namespace: make test-loopback"]
fn chats_work_with_no_interface_but_loopback() {
    let this = std::env::current_exe().unwrap();
    let script = r#"ip link set lo up && test "$(ip -o link | wc -l)" = 1 && exec "$0" "$@""#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .arg(this)
        .args(["--test-threads=1", "echo::", "chat::a_call_tells", "old_app::", "pipe::two_programs"])
        .output()
        .expect("unshare is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(" 0 failed"), "{said}\n{error}");
    let passed = said.matches("... ok").count();
    assert!(passed >= 10, "only {passed} tests were run:\n{said}");
}
