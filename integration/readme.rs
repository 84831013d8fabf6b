//! What the README says of the tests is true: each that it names is there.

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
        let name = test.rsplit("::").next().unwrap_or(test);
        let start = if name.is_empty() { "fn ".to_owned() } else { format!("fn {name}(") };
        let mut after = source.split("#[test]").skip(1);
        // Behind its attributes.
        let lines = |after: &str| after.lines().map(str::trim).find(|line| line.starts_with("fn ")).map(str::to_owned);
        let is_there = after.any(|after| lines(after).is_some_and(|line| line.starts_with(&start)));
        assert!(is_there, "integration/{module}.rs has no test {test}");
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}
