//! Holds `pub` to its meaning: what is public is named by somebody outside of `src/` (the bot, the programs, the
//! examples, the tests and benches), or stands in the signature of what is. All else is `pub(crate)` at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::readme::rust_files;
use crate::source::Source;

/// What nobody names here, and why it is public all the same.
const FOR_OTHERS: &[(&str, &str)] = &[
    ("SafetyNumber", "a program that shows one to its user"),
    ("MAX_TEXTS", "what the docs of the cipher lead to"),
    ("NoFileId", "the error of reading a FileId"),
    ("new_token", "a program that keeps its name through a restart"),
    ("Joined", "what a message of the protocol holds"),
    ("Created", "what a message of the protocol holds"),
    ("ErrorPayload", "what a message of the protocol holds"),
    ("DeclinePayload", "what a message of the protocol holds"),
    ("Folder::discard", "a program that will not take a file again of which a part is there"),
    ("SafetyNumber::is", "a program whose user types one in"),
];

/// The public face of the crate.
#[derive(Default)]
struct Face {
    /// Each public item, with the names that its signatures show.
    items: BTreeMap<String, BTreeSet<String>>,
    /// The public methods and constants of these, each as `Type::method`.
    methods: BTreeSet<String>,
    /// What public files pass on from private ones: the module and the name.
    passed_on: BTreeSet<(String, String)>,
}

impl Face {
    fn of(source: &Source) -> Self {
        let mut face = Self::default();
        let mut files = vec!["lib".to_owned()];
        let mut public = BTreeSet::new();
        while let Some(file) = files.pop() {
            let folder = if file == "lib" { String::new() } else { format!("{file}/") };
            for item in items(&source.0[&file].text) {
                match item.kind() {
                    Some("mod") => files.extend(item.name().map(|name| format!("{folder}{name}"))),
                    Some("use") => face.pass_on(&item.tokens[1..], &[]),
                    _ => {}
                }
            }
            public.insert(file);
        }
        for (file, text) in &source.0 {
            let module = file.rsplit('/').next().unwrap_or_default();
            for item in items(&text.text) {
                let Some(name) = item.name().filter(|_| !matches!(item.kind(), Some("mod" | "use"))) else { continue };
                if public.contains(file) || face.passed_on.contains(&(module.to_owned(), name.clone())) {
                    face.items.entry(name).or_default().extend(item.shown());
                }
            }
        }
        for text in source.0.values() {
            face.take_methods(text.text.parse().unwrap());
        }
        face
    }

    /// Takes what a `pub use` names.
    fn pass_on(&mut self, tokens: &[TokenTree], before: &[String]) {
        for tree in tokens.split(|token| token.to_string() == ",") {
            let mut path = before.to_vec();
            for token in tree {
                match token {
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Group(group) => {
                        self.pass_on(&group.stream().into_iter().collect::<Vec<_>>(), &path);
                        path.clear();
                    }
                    _ => {}
                }
            }
            if let [.., module, name] = &path[..] {
                self.passed_on.insert((module.clone(), name.clone()));
            }
        }
    }

    /// Adds what the public methods of public types show.
    fn take_methods(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let starts = (0..tokens.len()).filter(|at| tokens[*at].to_string() == "impl");
        for at in starts {
            let head = tokens[at..].iter().take_while(|token| !is_braces(token)).collect::<Vec<_>>();
            let Some(TokenTree::Group(body)) = tokens.get(at + head.len()) else { continue };
            let words: Vec<String> = words(head.into_iter().cloned());
            for word in &words {
                if let Some(shown) = self.items.get_mut(word) {
                    let methods = items_of(body.stream());
                    shown.extend(methods.iter().flat_map(Item::shown));
                    self.methods.extend(methods.iter().filter_map(Item::name).map(|name| format!("{word}::{name}")));
                }
            }
        }
    }

    /// Public items that none of `named` is, and that nothing shows which is; and public methods that none of them is.
    fn needless(&self, named: &BTreeSet<String>) -> Vec<String> {
        let mut needed: BTreeSet<&String> = self.items.keys().filter(|name| named.contains(*name)).collect();
        let mut untold: Vec<&String> = needed.iter().copied().collect();
        while let Some(name) = untold.pop() {
            let shown = self.items[name].iter().filter_map(|name| self.items.get_key_value(name));
            untold.extend(shown.filter(|(name, _)| needed.insert(name)).map(|(name, _)| name));
        }
        let items = self.items.keys().filter(|name| !needed.contains(name));
        let methods =
            self.methods.iter().filter(|name| !name.rsplit(':').next().is_some_and(|name| named.contains(name)));
        items.chain(methods).cloned().collect()
    }
}

/// What follows a `pub` that lets everybody in, up to its end.
struct Item {
    tokens: Vec<TokenTree>,
}

impl Item {
    /// Its keyword: `fn`, `struct` …
    fn kind(&self) -> Option<&'static str> {
        let words = words(self.tokens.iter().take(4).cloned());
        let kinds = ["mod", "use", "struct", "enum", "trait", "static", "type", "fn", "const"];
        let found = |kind: &&str| words.iter().take(2).any(|word| word == *kind);
        kinds.into_iter().find(found)
    }

    fn name(&self) -> Option<String> {
        let kind = self.kind()?;
        words(self.tokens.iter().cloned()).into_iter().skip_while(|word| word != kind).nth(1)
    }

    /// The names that its users see: of a function its head, of a struct its public fields, of all else everything.
    fn shown(&self) -> Vec<String> {
        let is_struct = self.kind() == Some("struct");
        let is_function = self.kind() == Some("fn");
        let mut shown = Vec::new();
        for token in &self.tokens {
            match token {
                TokenTree::Group(group) if is_braces(token) && is_struct => {
                    shown.extend(items_of(group.stream()).iter().flat_map(|field| words(field.tokens.iter().cloned())));
                }
                TokenTree::Group(_) if is_braces(token) && is_function => {}
                token => shown.extend(words([token.clone()])),
            }
        }
        shown
    }
}

fn is_braces(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// All words in these tokens, and in the groups among them.
fn words(tokens: impl IntoIterator<Item = TokenTree>) -> Vec<String> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => found.extend(words(group.stream())),
            _ => {}
        }
    }
    found
}

/// The public items of a file.
fn items(text: &str) -> Vec<Item> {
    items_of(text.parse().unwrap())
}

/// The public items at the top of these tokens: functions, types, fields.
fn items_of(stream: TokenStream) -> Vec<Item> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut items = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].to_string() == "pub") {
        let is_for_some = matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
            if words(group.stream()).first().is_some_and(|word| ["crate", "super", "in"].contains(&word.as_str())));
        if is_for_some {
            continue;
        }
        let is_use = tokens.get(at + 1).is_some_and(|token| token.to_string() == "use");
        let rest = &tokens[at + 1..];
        let is_end = |token: &TokenTree| token.to_string() == ";" || !is_use && is_braces(token);
        let length = rest.iter().position(is_end).map_or(rest.len(), |end| end + 1);
        items.push(Item { tokens: rest[..length].to_vec() });
    }
    items
}

/// All words of the crates that take the library.
fn named_outside() -> BTreeSet<String> {
    let files = rust_files(&["bot", "integration", "src/bin"]).into_iter().filter(|file| !file.ends_with(file!()));
    files.flat_map(|file| words(fs::read_to_string(file).unwrap().parse::<TokenStream>().unwrap())).collect()
}

#[test]
fn what_is_public_is_named_by_somebody_outside() {
    let needless = Face::of(&Source::read()).needless(&named_outside());
    let excused: BTreeSet<&str> = FOR_OTHERS.iter().map(|(name, _)| *name).collect();
    let unexcused: Vec<_> = needless.iter().filter(|name| !excused.contains(name.as_str())).collect();
    assert!(unexcused.is_empty(), "public, and named by nobody outside of src: {unexcused:?}");
    let stale: Vec<_> = excused.iter().filter(|name| !needless.iter().any(|needless| needless == *name)).collect();
    assert!(stale.is_empty(), "no longer public, or named by somebody: {stale:?}");
}

#[test]
fn what_nobody_names_is_found() {
    let of = |lib: &str, inner: &str| {
        let source = Source(BTreeMap::new()).with("lib", lib).with("inner", inner);
        Face::of(&source).needless(&["Named", "get"].map(str::to_owned).into())
    };
    let nobody: [String; 0] = [];
    assert_eq!(of("pub mod inner;", "pub struct Named { pub field: Shown } pub enum Shown { A }"), nobody);
    assert_eq!(of("pub mod inner;", "pub struct Named { field: Hidden } pub enum Hidden { A }"), ["Hidden"]);
    assert_eq!(
        of("pub mod inner;", "pub struct Named; impl Named { pub fn get(&self) -> Shown {} } pub struct Shown;"),
        nobody
    );
    assert_eq!(
        of("pub mod inner;", "pub struct Named; impl Named { fn get(&self) -> Hidden {} } pub struct Hidden;"),
        ["Hidden"]
    );
    assert_eq!(
        of("pub mod inner;", "pub fn nobody(named: Named) {} pub(crate) fn ours() {} pub const LONE: u8 = 1;"),
        ["LONE", "nobody"]
    );
    assert_eq!(
        of("pub mod inner;", "pub struct Named; impl Named { pub fn lone(&self) {} pub(crate) fn ours() {} }"),
        ["Named::lone"]
    );
    assert_eq!(of("mod inner;", "pub fn nobody() {}"), nobody);
    assert_eq!(
        of("mod inner; pub use inner::{Lone, Named};", "pub struct Named; pub struct Lone; pub struct Kept;"),
        ["Lone"]
    );
}
