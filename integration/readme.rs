//! What the papers say of tests and examples is true: each that they name is there; and so is what code cites of them.

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

/// All files of Rust in these folders and below.
fn rust_files(folders: &[&str]) -> Vec<String> {
    let mut folders: Vec<_> = folders.iter().map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).collect();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

#[test]
fn what_comments_cite_of_the_protocol_stands_there() {
    let protocol = include_str!("../src/protocol/README.md");
    let mut cited = 0;
    for text in rust_files(&["src", "bot", "integration"]) {
        // "protocol 1.3", and the numbers that follow it: "protocol 1.3, 2.1 and 2.3".
        for citation in text.split("protocol ").skip(1) {
            let words =
                citation.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').filter(|word| !word.is_empty());
            let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
            for number in words.take_while(|word| *word == "and" || is_number(word)).filter(is_number) {
                let number = number.trim_end_matches('.');
                assert!(protocol.contains(&format!("\n### {number} ")), "the protocol has no {number}");
                cited += 1;
            }
        }
    }
    assert!(cited > 20, "only {cited} places cite it");
}
