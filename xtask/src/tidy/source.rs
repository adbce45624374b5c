//! Rust sources: where unsafe code may be, how long files and functions are, what tests may not do.

mod lexer;
mod params;

use super::Finding;
use super::tree::Tree;
use lexer::{blank, comments_only, words};

/// Crates whose root must say `#![forbid(unsafe_code)]`.
const FORBID: [&str; 8] = [
    "crates/cn-random/src/lib.rs",
    "crates/cn-data/src/lib.rs",
    "crates/cn-synth/src/lib.rs",
    "crates/cn-zoo/src/lib.rs",
    "crates/cn-learn/src/lib.rs",
    "crates/cn-report/src/lib.rs",
    "crates/cn-train/src/main.rs",
    "xtask/src/main.rs",
];
const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 60;

/// Checks every `.rs` file.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, text) in tree.texts().filter(|(name, _)| name.ends_with(".rs")) {
        let code = blank(text);
        check_unsafe(file, &code, findings);
        params::check(file, &code, findings);
        check_tests(file, &code, findings);
        check_notes(file, text, findings);
        if file.ends_with("/src/lib.rs") && !text.starts_with("//!") {
            let text = "the crate has no opening `//!` page, write one with an example";
            findings.push(Finding::error(file, 1, text));
        }
        if !is_test_file(file) {
            check_sizes(file, &code, findings);
        }
    }
    for file in FORBID {
        let code = tree.text(file).map(blank).unwrap_or_default();
        if !code.contains("#![forbid(unsafe_code)]") {
            let text = "the crate does not forbid unsafe code, add `#![forbid(unsafe_code)]`";
            findings.push(Finding::error(file, 1, text));
        }
    }
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs")
        || ["/tests/", "/benches/", "/examples/"].iter().any(|part| file.contains(part))
        || file.starts_with("tests/")
}

/// Unsafe code has three homes: a crate's `simd`, its `cuda.rs`, and cn-cuda.
fn may_be_unsafe(file: &str) -> bool {
    let kernels = file.starts_with("crates/cn-kernels/src/simd/") || file == "crates/cn-kernels/src/simd.rs";
    let in_place = file.contains("/src/simd/") || file.ends_with("/src/cuda.rs") || file.contains("/src/cuda/");
    kernels || in_place || file.starts_with("crates/cn-cuda/")
}

fn check_unsafe(file: &str, code: &str, findings: &mut Vec<Finding>) {
    if may_be_unsafe(file) {
        return;
    }
    for (at, _) in words(code).filter(|(_, word)| *word == "unsafe") {
        let text = "unsafe code outside `simd/` and `cuda.rs`, move it there behind a safe function";
        findings.push(Finding::error(file, line_of(code, at), text));
    }
}

fn check_tests(file: &str, code: &str, findings: &mut Vec<Finding>) {
    for (what, instead) in
        [("#[ignore", "print a line `skipped: ...` and return"), ("#[should_panic", "return an error and check it")]
    {
        for (at, _) in code.match_indices(what) {
            let text = format!("a test with `{what}]`, {instead}");
            findings.push(Finding::error(file, line_of(code, at), text));
        }
    }
}

/// Notes to oneself need an issue, so that someone finds them again.
fn check_notes(file: &str, text: &str, findings: &mut Vec<Finding>) {
    for (i, line) in comments_only(text).lines().enumerate() {
        let note = ["TODO", "FIXME", "XXX"].iter().find(|note| words(line).any(|(_, w)| w == **note));
        let has_issue = line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(note) = note.filter(|_| !has_issue) {
            let text = format!("`{note}` without the number of an issue, add it (#12) or do it");
            findings.push(Finding::error(file, i + 1, text));
        }
    }
}

fn check_sizes(file: &str, code: &str, findings: &mut Vec<Finding>) {
    let lines = lines_before_tests(code);
    if lines > MAX_FILE {
        let text = format!("{lines} lines without tests, split the file below {MAX_FILE}");
        findings.push(Finding::warning(file, 1, text));
    }
    let tests_begin = lines;
    for function in functions(code).into_iter().filter(|f| f.line <= tests_begin && f.lines > MAX_FUNCTION) {
        let Function { name, line, lines } = function;
        let text = format!("`{name}` has {lines} lines, split it below {MAX_FUNCTION} or comment its phases");
        findings.push(Finding::warning(file, line, text));
    }
}

/// Lines up to the inline `mod tests { .. }` that ends a file.
fn lines_before_tests(code: &str) -> usize {
    let lines: Vec<_> = code.lines().collect();
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(begins).unwrap_or(lines.len())
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Functions with a body, nested ones included.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut words = words(code).peekable();
    while let Some((at, word)) = words.next() {
        // A name follows in a definition, a parenthesis in the type `fn(..)`.
        let Some(&(name_at, name)) = words.peek().filter(|_| word == "fn") else {
            continue;
        };
        if !code[at + 2..name_at].trim().is_empty() {
            continue;
        }
        if let Some(end) = body_end(&code[name_at..]) {
            let lines = code[at..name_at + end].lines().count();
            let line = line_of(code, at);
            let name = name.to_owned();
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Where the body that begins in `code` ends; `None` for a declaration.
fn body_end(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && brackets == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Tree::of(&[(file, text)]), &mut findings);
        let here = findings.into_iter().filter(|f| f.file == file);
        here.map(|f| f.to_string()).collect()
    }

    #[test]
    fn unsafe_code_is_found_outside_its_places_only() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        assert!(run("crates/cn-ops/src/a.rs", code)[0].starts_with("crates/cn-ops/src/a.rs:2: unsafe code"));
        for place in ["crates/cn-kernels/src/simd/avx2.rs", "crates/cn-ops/src/cuda.rs", "crates/cn-cuda/src/a.rs"] {
            assert_eq!(run(place, code), [""; 0], "{place}");
        }
    }

    #[test]
    fn words_in_comments_and_strings_do_not_count() {
        let code = "// unsafe\n/* unsafe /* unsafe */ */\nconst A: &str = \"unsafe\";\nconst B: &str = r#\"unsafe \" unsafe\"#;\nconst C: char = '\"'; const D: &str = \"\\\"unsafe\"; fn f<'a>(_: &'a str) {}\n";
        assert_eq!(run("crates/cn-ops/src/a.rs", code), [""; 0]);
    }

    #[test]
    fn long_functions_and_files_are_listed() {
        let body = "    let _ = 1;\n".repeat(60);
        let found = run("crates/cn-ops/src/a.rs", &format!("fn long(a: [u8; 3]) {{\n{body}}}\n"));
        assert!(found[0].contains("warning: `long` has 62 lines"), "{found:?}");
        let found = run("crates/cn-ops/src/a.rs", &"use a;\n".repeat(501));
        assert!(found[0].contains("501 lines"), "{found:?}");
        let found = run("crates/cn-ops/src/a.rs", &format!("#[cfg(test)]\nmod golden;\nfn long() {{\n{body}}}\n"));
        assert_eq!(found.len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n");
        assert_eq!(run("crates/cn-ops/src/a.rs", &tests), [""; 0]);
    }

    #[test]
    fn declarations_and_types_are_no_functions() {
        assert_eq!(functions("trait T { fn a(&self); } type F = fn(u8) -> u8; struct S { f: fn() }"), []);
    }

    #[test]
    fn notes_need_an_issue() {
        let found = run("crates/cn-ops/src/a.rs", "// TODO later\n// TODO(#12) later\nlet x = \"TODO\";\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(":1: `TODO`"), "{found:?}");
    }

    #[test]
    fn ignored_tests_and_missing_pages_are_found() {
        assert_eq!(run("crates/cn-ops/src/a.rs", "#[ignore]\nfn t() {}\n").len(), 1);
        assert_eq!(run("crates/cn-ops/src/lib.rs", "mod a;\n").len(), 1);
        assert_eq!(run("crates/cn-data/src/lib.rs", "//! page\n").len(), 1); // forbid
    }
}
