//! `src/` as the tests of its floors read it: every file with its paths, resolved to the files that they lead to, and
//! the length of its functions. Rust is taken apart by the lexer of `proc_macro2`; what is compiled for tests alone is
//! left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One file of Rust below `src/`.
pub struct File {
    /// Its path without `.rs`, as the map has it: `server/hub`.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Its code without what stands behind `//` and without its tests.
    pub code: String,
    /// The functions that are not for tests, each with how many lines it has.
    pub functions: Vec<(String, usize)>,
    /// The types and traits that it shows to other files.
    pub types: Vec<String>,
    /// The methods that it gives to types, by the type.
    pub methods: BTreeMap<String, BTreeSet<String>>,
    /// What those call of the same value or type, by the type.
    pub own_calls: BTreeMap<String, BTreeSet<String>>,
    /// What `use` calls by one name here.
    aliases: HashMap<String, Vec<String>>,
    /// The modules that it declares.
    children: Vec<String>,
    /// All paths that are named.
    paths: Vec<Vec<String>>,
}

impl File {
    /// Takes a file apart.
    pub fn new(name: &str, text: &str) -> Self {
        let is_tests = |line: &str| line.ends_with("mod tests {") && !line.starts_with("    ");
        let tests = text
            .match_indices("#[cfg(test)]\n")
            .find(|(at, mark)| text[at + mark.len()..].lines().next().is_some_and(is_tests));
        let code = tests.map_or(text, |(at, _)| &text[..at]);
        let mut file = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            code: code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect(),
            functions: Vec::new(),
            types: Vec::new(),
            methods: BTreeMap::new(),
            own_calls: BTreeMap::new(),
            aliases: HashMap::new(),
            children: Vec::new(),
            paths: Vec::new(),
        };
        // All of it may be compiled for tests alone.
        match text.contains("\n#![cfg(test)]\n") {
            true => file.code.clear(),
            false => {
                let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
                file.take_impls(&stream.clone().into_iter().collect::<Vec<_>>());
                file.scan(stream);
            }
        }
        file
    }

    /// The path of its module in the crate. The programs are crates of their own.
    fn module(&self) -> Vec<String> {
        if self.name == "lib" { Vec::new() } else { self.name.split('/').map(str::to_owned).collect() }
    }

    fn scan(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                // `pub(super)` imports nothing.
                TokenTree::Ident(word) if *word == "pub" && is_visibility(tokens.get(at + 1)) => at += 2,
                TokenTree::Group(group) => {
                    if group.stream().to_string() == "cfg (test)" {
                        at = end_of_item(&tokens, at + 1);
                        continue;
                    }
                    self.scan(group.stream());
                    at += 1;
                }
                TokenTree::Ident(word) if *word == "use" => {
                    let end = end_of_item(&tokens, at);
                    self.take_use(&tokens[at + 1..end - 1], &[]);
                    at = end;
                }
                TokenTree::Ident(word) if *word == "mod" && is_semicolon(tokens.get(at + 2)) => {
                    self.children.push(tokens[at + 1].to_string());
                    at += 3;
                }
                TokenTree::Ident(word) => {
                    if *word == "fn"
                        && let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
                        && let Some(TokenTree::Group(body)) = tokens.get(end_of_item(&tokens, at) - 1)
                    {
                        let lines = body.span_close().end().line - word.span().start().line + 1;
                        self.functions.push((name.to_string(), lines));
                    }
                    if ["enum", "struct", "trait", "type", "union"].contains(&word.to_string().as_str())
                        && is_shown(&tokens[..at])
                        && let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
                    {
                        self.types.push(name.to_string());
                    }
                    let (path, end) = path(&tokens, at);
                    self.paths.push(path);
                    at = end;
                }
                _ => at += 1,
            }
        }
    }

    /// Takes the methods of all `impl` at the top of the file.
    fn take_impls(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            let end = end_of_item(tokens, at);
            if let TokenTree::Group(group) = &tokens[at]
                && group.stream().to_string() == "cfg (test)"
            {
                at = end_of_item(tokens, at + 1);
            } else if matches!(&tokens[at], TokenTree::Ident(word) if *word == "impl")
                && let TokenTree::Group(body) = &tokens[end - 1]
            {
                let of = implemented(&tokens[at + 1..end - 1]);
                let body: Vec<TokenTree> = body.stream().into_iter().collect();
                let names = body.windows(2).filter(|pair| pair[0].to_string() == "fn").map(|pair| pair[1].to_string());
                self.methods.entry(of.clone()).or_default().extend(names);
                take_own_calls(&body, self.own_calls.entry(of).or_default());
                at = end;
            } else {
                at += 1;
            }
        }
    }

    /// Takes what follows `use`.
    fn take_use(&mut self, tokens: &[TokenTree], before: &[String]) {
        for tree in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
            let mut whole = before.to_vec();
            let mut renamed = None;
            let mut at = 0;
            while at < tree.len() {
                match &tree[at] {
                    TokenTree::Ident(word) if *word == "as" => {
                        renamed = Some(tree[at + 1].to_string());
                        at += 1;
                    }
                    // `keys::{self, KeyPair}`
                    TokenTree::Ident(word) if *word == "self" && !whole.is_empty() => {}
                    TokenTree::Ident(word) => whole.push(word.to_string()),
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.take_use(&inner, &whole);
                        whole.clear();
                    }
                    _ => {}
                }
                at += 1;
            }
            if let Some(last) = whole.last() {
                self.aliases.insert(renamed.unwrap_or_else(|| last.clone()), whole.clone());
                self.paths.push(whole);
            }
        }
    }
}

/// The type that stands between `impl` and the braces.
fn implemented(head: &[TokenTree]) -> String {
    let words: Vec<String> = head.iter().map(TokenTree::to_string).collect();
    let last_for = words.iter().rposition(|word| word == "for").map_or(0, |at| at + 1);
    let (mut depth, mut name) = (0, String::new());
    for word in &words[last_for..] {
        match word.as_str() {
            "<" => depth += 1,
            ">" => depth -= 1,
            "where" => break,
            word if depth == 0 && word.starts_with(|first: char| first.is_ascii_alphabetic()) => name = word.to_owned(),
            _ => {}
        }
    }
    name
}

/// Takes what is called as `self.name(…)` or `Self::name(…)`.
fn take_own_calls(tokens: &[TokenTree], calls: &mut BTreeSet<String>) {
    let word = |token: &TokenTree| match token {
        TokenTree::Group(_) => "()".to_owned(),
        token => token.to_string(),
    };
    let words: Vec<String> = tokens.iter().map(word).collect();
    for at in 0..words.len() {
        match &words[at..] {
            [own, dot, name, call, ..] if own == "self" && dot == "." && call == "()" => _ = calls.insert(name.clone()),
            [own, colon, _, name, call, ..] if own == "Self" && colon == ":" && call == "()" => {
                _ = calls.insert(name.clone());
            }
            _ => {}
        }
        if let TokenTree::Group(group) = &tokens[at] {
            take_own_calls(&group.stream().into_iter().collect::<Vec<_>>(), calls);
        }
    }
}

/// Where an item ends: behind its braces or its semicolon.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let is_end = |token: &TokenTree| {
        is_semicolon(Some(token)) || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    // The braces of a `use` are not its end.
    let is_use = matches!(&tokens[from], TokenTree::Ident(word) if *word == "use");
    let end = tokens[from..].iter().position(|token| if is_use { is_semicolon(Some(token)) } else { is_end(token) });
    end.map_or(tokens.len(), |end| from + end + 1)
}

/// Whether what follows these tokens is shown to other files.
fn is_shown(before: &[TokenTree]) -> bool {
    let is_pub = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if *word == "pub");
    match before {
        [.., last] if is_pub(last) => true,
        [.., first, last] => is_pub(first) && is_visibility(Some(last)),
        _ => false,
    }
}

fn is_visibility(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let first = group.stream().into_iter().next();
    first.is_some_and(|first| ["crate", "in", "self", "super"].contains(&first.to_string().as_str()))
}

fn is_semicolon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ';')
}

/// The path that begins at a word, and where it ends.
fn path(tokens: &[TokenTree], from: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[from].to_string()];
    let mut at = from + 1;
    while let [TokenTree::Punct(first), TokenTree::Punct(second), TokenTree::Ident(word), ..] = &tokens[at..]
        && first.as_char() == ':'
        && first.spacing() == Spacing::Joint
        && second.as_char() == ':'
    {
        path.push(word.to_string());
        at += 3;
    }
    (path, at)
}

/// All files, by their names.
pub struct Source(pub BTreeMap<String, File>);

/// What a file imports: the names of files, each with the path that leads there.
pub type Imports = BTreeMap<String, String>;

impl Source {
    /// Reads `src/`.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&root).unwrap().with_extension("").to_str().unwrap().to_owned();
                    files.insert(name.clone(), File::new(&name, &fs::read_to_string(&path).unwrap()));
                }
            }
        }
        Self(files)
    }

    /// The same with this file, or with this one in its place.
    pub fn with(mut self, name: &str, text: &str) -> Self {
        self.0.insert(name.to_owned(), File::new(name, text));
        self
    }

    /// What a file imports of ours.
    pub fn imports(&self, name: &str) -> Imports {
        let file = &self.0[name];
        let mut imports = Imports::new();
        for path in &file.paths {
            if let Some(target) = self.absolute(file, path, 0).and_then(|path| self.target(path, 0))
                && target != file.name
            {
                imports.entry(target).or_insert_with(|| path.join("::"));
            }
        }
        imports
    }

    /// A path as it is named in a file, from the top of the crate; `None` where it leads elsewhere.
    fn absolute(&self, file: &File, path: &[String], depth: usize) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut module = file.module();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            // The programs are crates of their own, which have this one by its name.
            "lowkey" if !rest.is_empty() => Some(rest.to_vec()),
            "self" => Some([&module[..], rest].concat()),
            "super" => {
                module.pop()?;
                let mut rest = rest;
                while let Some((word, further)) = rest.split_first().filter(|(word, _)| *word == "super") {
                    debug_assert_eq!(word, "super");
                    module.pop()?;
                    rest = further;
                }
                Some([&module[..], rest].concat())
            }
            first if file.children.iter().any(|child| child == first) => Some([&module[..], path].concat()),
            first if depth < 8 => {
                let meant = file.aliases.get(first).filter(|meant| meant[0] != first)?;
                self.absolute(file, &[&meant[..], rest].concat(), depth + 1)
            }
            _ => None,
        }
    }

    /// The file that has what stands at this path: its module, or where that has it from.
    fn target(&self, path: Vec<String>, depth: usize) -> Option<String> {
        let name = |length: usize| if length == 0 { "lib".to_owned() } else { path[..length].join("/") };
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&name(*length)))?;
        let file = &self.0[&name(length)];
        let item = path.get(length);
        let from = item.and_then(|item| file.aliases.get(item)).filter(|_| depth < 8);
        let elsewhere = from.and_then(|from| self.absolute(file, from, 0));
        match elsewhere {
            Some(elsewhere) => self.target([&elsewhere[..], &path[length + 1..]].concat(), depth + 1),
            // What it only passes on from another crate is not its own.
            None if from.is_some() => None,
            None => Some(name(length)),
        }
    }
}
