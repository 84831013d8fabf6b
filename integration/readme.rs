//! What the README says of tests and examples is true: each that it names is there.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let section =
        readme.split("\n## ").find(|section| section.starts_with("What the server can and cannot do")).unwrap();
    let mut named = 0;
    // A name stands in backticks: `module::test`, or `module::` for all of them.
    for (module, test) in section.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")) {
        let source = fs::read_to_string(root.join(format!("integration/{module}.rs")));
        let source = source.unwrap_or_else(|error| panic!("{module}::{test}: {error}"));
        // A test may stand in a module of the file, and have further attributes.
        let test = test.rsplit("::").next().unwrap();
        let start = if test.is_empty() { "fn ".to_owned() } else { format!("fn {test}(") };
        let mut after = source.split("#[test]").skip(1);
        let is_there = after.any(|after| {
            after.lines().map(str::trim).find(|line| line.starts_with("fn ")).unwrap_or_default().starts_with(&start)
        });
        assert!(is_there, "integration/{module}.rs has no test {test}");
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}

#[test]
fn the_bot_in_the_readme_is_the_greeter_which_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let greeter = fs::read_to_string(root.join("bot/examples/greeter.rs")).unwrap();
    let bots: Vec<&str> = readme.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(bots.len(), 1, "every piece of Rust in the README is tried");
    let code: String = bots[0].lines().map(|line| format!("    {line}\n")).collect();
    assert!(greeter.contains(&code), "not in greeter.rs:\n{code}");
}
