//! A Rust file as tokens, without comments and test code, and the paths that it names.
//!
//! `proc-macro2` lexes: the language's own lexer as a crate. Paths are read from tokens and not from a syntax tree,
//! so that they are seen inside macros too.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A file of the crate.
pub struct Source {
    /// Its path from the crate's folder.
    pub path: PathBuf,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ident,
    Literal,
    Punctuation,
}

/// A path such as `crate::plan::Step`, as written, with what `use` groups stand for written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    /// The inline modules that it stands in.
    pub inside: Vec<String>,
}

/// A word of code that is not a path: a macro's name with `!`, or a keyword.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub line: usize,
}

impl Source {
    /// The file's module: `["plan", "facts"]` for `src/plan/facts.rs`; empty for the roots `lib.rs` and `main.rs`.
    pub fn module(&self) -> Vec<String> {
        let inside = self.path.strip_prefix("src").unwrap_or(&self.path).with_extension("");
        let mut module: Vec<String> =
            inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        module
    }

    /// Whether the whole file is a module of tests.
    fn is_of_tests(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem == "tests")
    }

    /// Every path in code that is not for tests.
    pub fn paths(&self) -> Vec<Named> {
        if self.is_of_tests() {
            return Vec::new();
        }
        let tokens = without_tests(self.tokens());
        let mut paths = Vec::new();
        let mut blocks: Vec<Option<String>> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => {
                    let is_module = at >= 2 && tokens[at - 2].text == "mod";
                    blocks.push(is_module.then(|| tokens[at - 1].text.clone()));
                }
                "}" => {
                    blocks.pop();
                }
                _ => {}
            }
            let starts = tokens[at].kind == Kind::Ident
                && (at == 0 || tokens[at - 1].text != "::" || !continues(&tokens, at - 1));
            if starts {
                let inside: Vec<String> = blocks.iter().flatten().cloned().collect();
                let mut found = Vec::new();
                let after = read_path(&tokens, at, &[], &mut found);
                let line = tokens[at].line;
                let long = found.into_iter().filter(|segments| segments.len() > 1);
                paths.extend(long.map(|segments| Named { segments, line, inside: inside.clone() }));
                at = after.max(at + 1);
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Macros called (`todo!`) and keywords in code that is not for tests.
    pub fn words(&self) -> Vec<Word> {
        if self.is_of_tests() { Vec::new() } else { words_of(&without_tests(self.tokens())) }
    }

    /// Macros called and keywords in all code, tests included.
    pub fn words_with_tests(&self) -> Vec<Word> {
        words_of(&self.tokens())
    }

    /// The modules that the file declares with `mod name;`.
    pub fn declared_modules(&self) -> Vec<String> {
        let tokens = self.tokens();
        let declared = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
        declared.map(|three| three[1].text.clone()).collect()
    }

    /// Whether the comment that ends right above `line`, or stands on it, holds `words`.
    pub fn comment_above_says(&self, line: usize, words: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let above = lines[..line - 1]
            .iter()
            .rev()
            .take_while(|text| ["//", "#["].iter().any(|start| text.trim_start().starts_with(start)));
        above.chain([&lines[line - 1]]).any(|text| text.contains(words))
    }

    fn tokens(&self) -> Vec<Token> {
        let stream: TokenStream = self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        tokens
    }
}

/// All `.rs` files below a folder of the crate, in order of their paths.
pub fn files(folder: &str) -> Vec<Source> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root).unwrap().to_owned(), text });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(root, &root.join(folder), &mut found);
    found
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut after_colon = false;
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: &str, line, kind| tokens.push(Token { text: text.to_owned(), line, kind });
        match tree {
            TokenTree::Ident(ident) => push(&ident.to_string(), line, Kind::Ident),
            TokenTree::Literal(literal) => push(&literal.to_string(), line, Kind::Literal),
            TokenTree::Punct(punct) if punct.as_char() == ':' && after_colon => {
                // The second colon of `::` joins the first.
                tokens.last_mut().expect("there is a first").text = "::".to_owned();
                after_colon = false;
                continue;
            }
            TokenTree::Punct(punct) => {
                push(&punct.to_string(), line, Kind::Punctuation);
                after_colon = punct.as_char() == ':' && punct.spacing() == Spacing::Joint;
                continue;
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open, line, Kind::Punctuation);
                flatten(group.stream(), tokens);
                let end = group.span_close().start().line;
                tokens.push(Token { text: close.to_owned(), line: end, kind: Kind::Punctuation });
            }
        }
        after_colon = false;
    }
}

/// The tokens without items behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "#" && tokens.get(at + 1).is_some_and(|next| next.text == "[") {
            let end = closing(&tokens, at + 1);
            let inside: Vec<&str> = tokens[at + 2..end].iter().map(|token| token.text.as_str()).collect();
            let for_tests = inside.first() == Some(&"cfg") && inside.contains(&"test") && !inside.contains(&"not");
            if for_tests {
                at = end_of_item(&tokens, end + 1);
                continue;
            }
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// The position behind the item that begins at `at`: behind its block, or its semicolon.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => return closing(tokens, at) + 1,
            ";" => return at + 1,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// The position of the delimiter that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (position, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" if token.kind == Kind::Punctuation => depth += 1,
            ")" | "]" | "}" if token.kind == Kind::Punctuation => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return position;
        }
    }
    tokens.len()
}

/// Whether the `::` at `colons` continues a path, and does not begin one from the root.
fn continues(tokens: &[Token], colons: usize) -> bool {
    colons > 0 && (tokens[colons - 1].kind == Kind::Ident || tokens[colons - 1].text == ">")
}

/// Reads the path at `at` behind `before`, groups included; gives the position behind it.
fn read_path(tokens: &[Token], at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut segments = before.to_vec();
    let mut at = at;
    loop {
        match tokens.get(at).map(|token| (token.kind, token.text.as_str())) {
            Some((Kind::Ident, name)) => {
                segments.push(name.to_owned());
                at += 1;
            }
            Some((_, "*")) => {
                segments.push("*".to_owned());
                at += 1;
            }
            Some((_, "{")) => {
                let end = closing(tokens, at);
                let mut member = at + 1;
                while member < end {
                    member = match tokens[member].text.as_str() {
                        "," => member + 1,
                        _ => read_path(tokens, member, &segments, found).max(member + 1),
                    };
                }
                return end + 1;
            }
            _ => break,
        }
        match tokens.get(at) {
            Some(next) if next.text == "::" => at += 1,
            _ => break,
        }
    }
    if segments.len() > before.len() {
        found.push(segments);
    }
    // `a as b` inside a group: the new name is no path.
    if !before.is_empty() && tokens.get(at).is_some_and(|next| next.text == "as") { at + 2 } else { at }
}

fn words_of(tokens: &[Token]) -> Vec<Word> {
    let mut words = Vec::new();
    for (position, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Ident) {
        let next = |offset: usize| tokens.get(position + offset).map_or("", |token| token.text.as_str());
        let is_call = next(1) == "!" && ["(", "[", "{"].contains(&next(2));
        let text = if is_call { format!("{}!", token.text) } else { token.text.clone() };
        words.push(Word { text, line: token.line });
    }
    words
}
