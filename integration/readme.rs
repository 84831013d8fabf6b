//! What the papers say is true: each file, test, link, flag and variable that they name is there, pieces of Rust stand
//! in examples that are tried, and so is what code cites of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::path as program;

/// All papers.
pub const PAPERS: [&str; 8] = [
    "README.md",
    "bot/README.md",
    "deploy/README.md",
    "integration/README.md",
    "integration/bench/README.md",
    "src/README.md",
    "src/chat/README.md",
    "src/protocol/README.md",
];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(paper: &str) -> String {
    fs::read_to_string(root().join(paper)).unwrap_or_else(|error| panic!("{paper}: {error}"))
}

/// All files of Rust in these folders and below.
pub fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let help = read("integration/golden/lowkey-help.txt").split_whitespace().collect::<Vec<_>>().join(" ");
    let paper = read("src/chat/README.md");
    let table = paper.split("| exit code | |\n|---|---|\n").nth(1).expect("there is a table of exit codes");
    let rows: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let told = help.split("Exit codes: ").nth(1).expect("the help ends with them");
    let written: Vec<_> =
        rows.iter().map(|row| row.trim_matches(['|', ' ']).replace(" | ", " ").replace('`', "")).collect();
    assert_eq!(told, written.join(" "));
}

/// A paper's prose: without its blocks of code.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect()
}

/// What stands in backticks.
fn spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn the_first_paper_is_read_in_one_sitting() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}

#[test]
fn every_test_that_a_paper_names_is_there() {
    let files = rust_files(&["integration", "src/peer"]);
    let text = prose(&read("integration/README.md")) + &prose(&read("src/protocol/README.md")) + &worked_round();
    let mut named = 0;
    // A name stands in backticks: `module::test`, or `module::` for all of them, or a test's name alone.
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let is_sentence = |code: &&str| {
        code.matches('_').count() > 2 && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    for test in spans(&text).filter(is_sentence) {
        assert!(all.contains(&format!("fn {test}(")), "there is no test {test}");
        named += 1;
    }
    let names = spans(&text).filter_map(|code| code.split_once("::"));
    for (module, test) in names.filter(|(module, _)| module.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
        let is_named = |file: &&PathBuf| {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            stem == module || test.split("::").any(|part| part == stem)
        };
        let files = files.iter().filter(is_named);
        let source: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        // A test may stand in a module of the file, and have further attributes.
        let test = test.rsplit("::").next().unwrap();
        let start = if test.is_empty() { "fn ".to_owned() } else { format!("fn {test}(") };
        let mut after = source.split("#[test]").skip(1);
        let is_there = after.any(|after| {
            after.lines().map(str::trim).find(|line| line.starts_with("fn ")).unwrap_or_default().starts_with(&start)
        });
        assert!(is_there, "there is no test {module}::{test}");
        named += 1;
    }
    assert!(named > 40, "only {named} tests are named");
}

/// The list of what is worked round in another crate, which names tests too.
fn worked_round() -> String {
    read("src/peer/rtc.rs").lines().filter_map(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_target_that_a_paper_names_is_there() {
    let makefile = read("Makefile");
    let papers: String = PAPERS.iter().map(|paper| prose(&read(paper))).collect();
    let (text, mut named) = (papers + &worked_round(), 0);
    for target in spans(&text).filter_map(|code| code.split("make ").nth(1)?.split_whitespace().next()) {
        assert!(makefile.contains(&format!("\n{target}:")), "there is no make {target}");
        named += 1;
    }
    assert!(named > 30, "only {named} targets are named");
}

#[test]
fn every_file_that_a_paper_names_is_there() {
    let mut named = 0;
    for paper in PAPERS {
        let folder = root().join(paper).parent().unwrap().to_owned();
        let text = prose(&read(paper));
        for span in spans(&text) {
            let is_path = span.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
            let has_kind = [".rs", ".md", ".sh", ".py", ".js", ".json", ".yml", ".service"];
            // In the paper of the house, `chat/screen` is src/chat/screen.rs, or what a folder of that name holds.
            let is_room = paper == "src/README.md" && span.contains('/') && !span.starts_with(['/', '.']);
            if is_path && (has_kind.iter().any(|kind| span.ends_with(kind)) || is_room) {
                let places = [root().to_owned(), folder.clone(), root().join("src"), root().join("integration")];
                let is_there =
                    places.iter().any(|place| place.join(span).exists() || place.join(format!("{span}.rs")).exists());
                assert!(is_there, "{paper} names {span}, which is not there");
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} files are named");
}

/// What a heading is called in a link, as code forges make it.
fn anchor(heading: &str) -> String {
    let letters = heading.to_lowercase();
    letters
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_of_a_paper_leads_somewhere() {
    let mut led = 0;
    for paper in PAPERS {
        let text = prose(&read(paper));
        for link in text.split("](").skip(1).map(|after| after.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { root().join(paper) } else { root().join(paper).parent().unwrap().join(file) };
            assert!(target.exists(), "{paper} links to {link}, which is not there");
            if !part.is_empty() {
                let there = fs::read_to_string(target).unwrap();
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == part);
                assert!(is_there, "{paper} links to {link}, where there is no such heading");
            }
            led += 1;
        }
    }
    assert!(led > 30, "only {led} links");
}

#[test]
fn every_flag_and_variable_that_a_paper_names_is_there() {
    let help = |name: &str, arguments: &[&str]| {
        String::from_utf8(Command::new(program(name)).args(arguments).output().unwrap().stdout).unwrap()
    };
    let all = [
        help("lowkey", &["--help"]),
        help("lowkey", &["send", "--help"]),
        help("lowkey", &["listen", "--help"]),
        help("lowkey-server", &["--help"]),
    ]
    .concat();
    let known: Vec<&str> = all.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).collect();
    let mut named = 0;
    for paper in ["README.md", "src/chat/README.md", "deploy/README.md"] {
        for span in spans(&prose(&read(paper))) {
            let word = span.split([' ', '=', '[']).next().unwrap();
            let is_flag = word.starts_with("--") && word.len() > 2;
            let is_variable = word.starts_with("LOWKEY_");
            if is_flag || is_variable {
                assert!(known.contains(&word), "{paper} names {word}, which is none");
                named += 1;
            }
        }
    }
    assert!(named > 30, "only {named} are named");
}

#[test]
fn every_piece_of_rust_in_a_paper_stands_in_an_example_which_is_tried() {
    let examples: HashMap<String, String> = rust_files(&["bot/examples"])
        .into_iter()
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(file).unwrap()))
        .collect();
    let tests = read("integration/examples.rs") + &read("integration/file_commands.rs");
    let mut pieces = 0;
    for paper in PAPERS {
        let text = read(paper);
        for block in text.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()) {
            let code: String = block.lines().map(|line| format!("    {line}\n")).collect();
            let example = examples.iter().find(|(_, example)| example.contains(&code));
            let (name, _) = example.unwrap_or_else(|| panic!("{paper}: in no example:\n{code}"));
            assert!(tests.contains(&format!("example(\"{name}\"")), "{name} is not tried");
            pieces += 1;
        }
    }
    assert_eq!(pieces, 3);
}

#[test]
fn what_comments_cite_of_the_protocol_stands_there() {
    let protocol = read("src/protocol/README.md");
    let mut cited = 0;
    for file in rust_files(&["src", "bot", "integration"]) {
        let text = fs::read_to_string(&file).unwrap();
        // "protocol 1.3", and the numbers that follow it: "protocol 1.3, 2.1 and 2.3".
        for citation in text.split("protocol ").skip(1) {
            let words =
                citation.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').filter(|word| !word.is_empty());
            let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
            for number in words.take_while(|word| *word == "and" || is_number(word)).filter(is_number) {
                let number = number.trim_end_matches('.');
                let is_there = protocol.contains(&format!("\n### {number} "));
                assert!(is_there, "{} cites protocol {number}, which is not there", file.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 20, "only {cited} places cite it");
}

#[test]
fn the_packages_take_the_papers_along() {
    let manifest = read("Cargo.toml");
    let assets = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split("\", \"").next());
    // What lies below target is made before.
    let assets: Vec<&str> = assets.filter(|asset| !asset.starts_with("target/")).collect();
    for asset in &assets {
        let place = root().join(asset.trim_end_matches('*'));
        assert!(place.exists(), "{asset} is not there");
    }
    for paper in PAPERS {
        assert!(assets.contains(&paper), "no package has {paper}");
    }
}
