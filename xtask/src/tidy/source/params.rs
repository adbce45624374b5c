//! Parameters of functions: a `bool` says nothing where it is passed.

use super::super::{Finding, Level};
use super::{line_of, words};

/// Functions that others have declared, and who.
const GIVEN: [(&str, &str); 1] = [("forward_t", "candle's `ModuleT`")];

/// Reports each parameter of type `bool`, in tests too.
pub(super) fn check(file: &str, code: &str, findings: &mut Vec<Finding>) {
    for (at, _) in words(code).filter(|(_, word)| *word == "fn") {
        let Some((name, params)) = signature(&code[at + 2..]) else {
            continue;
        };
        if GIVEN.iter().any(|(given, _)| *given == name) {
            continue;
        }
        for param in split(params).into_iter().filter_map(|param| flag(param)) {
            let text = format!("`{name}` takes the bool `{param}`, make it two functions or an enum");
            findings.push(Finding::new(Level::Error, file, line_of(code, at), text));
        }
    }
}

/// Name and parameters of a function, from what stands behind its `fn`; `None` for a type `fn(..)`.
fn signature(code: &str) -> Option<(&str, &str)> {
    let (at, name) = words(code).next()?;
    if !code[..at].trim().is_empty() {
        return None;
    }
    let behind = &code[at + name.len()..];
    // Generics may hold parentheses of their own, as in `F: Fn(u8) -> u8`.
    let open = Depths::of(behind).find(|&(_, c, depth)| c == '(' && depth == 1)?.0;
    let close = Depths::of(&behind[open..]).find(|&(_, _, depth)| depth == 0)?.0;
    Some((name, &behind[open + 1..open + close]))
}

/// The parameters between the commas that stand in no bracket.
fn split(params: &str) -> Vec<&str> {
    let mut begin = 0;
    let mut found = Vec::new();
    for (at, c, depth) in Depths::of(params) {
        if c == ',' && depth == 0 {
            found.push(&params[begin..at]);
            begin = at + 1;
        }
    }
    found.push(&params[begin..]);
    found
}

/// The pattern of a parameter whose type is `bool`.
fn flag(param: &str) -> Option<&str> {
    let (pattern, kind) = param.rsplit_once(':')?;
    (kind.trim().trim_start_matches('&').trim() == "bool").then(|| pattern.trim())
}

/// Each character with its place and the depth of brackets around it; a bracket that opens counts itself, one that
/// closes does not.
struct Depths<'a> {
    chars: std::str::CharIndices<'a>,
    before: char,
    depth: i32,
}

impl<'a> Depths<'a> {
    fn of(code: &'a str) -> Self {
        Self { chars: code.char_indices(), before: ' ', depth: 0 }
    }
}

impl Iterator for Depths<'_> {
    type Item = (usize, char, i32);

    fn next(&mut self) -> Option<Self::Item> {
        let (at, c) = self.chars.next()?;
        match c {
            '(' | '[' | '{' | '<' => self.depth += 1,
            '>' if self.before == '-' => {} // An arrow.
            ')' | ']' | '}' | '>' => self.depth -= 1,
            _ => {}
        }
        self.before = c;
        Some((at, c, self.depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, code: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(file, code, &mut findings);
        findings.into_iter().map(|f| f.to_string()).collect()
    }

    fn names(code: &str) -> Vec<String> {
        let name = |text: String| text.split('`').nth(3).unwrap_or_default().to_owned();
        found("crates/cn-ops/src/a.rs", code).into_iter().map(name).collect()
    }

    #[test]
    fn a_bool_is_an_error_with_its_place() {
        assert_eq!(
            found("crates/cn-ops/src/a.rs", "\npub fn f(a: u8, last: bool) {}\n"),
            ["crates/cn-ops/src/a.rs:2: `f` takes the bool `last`, make it two functions or an enum"]
        );
    }

    #[test]
    fn all_ways_to_write_one_are_found() {
        assert_eq!(names("fn f(\n    mut a: bool,\n    b: &bool,\n) {}"), ["mut a", "b"]);
        assert_eq!(names("unsafe fn f<'a, L: Fn(u8) -> Vec<u8>>(a: &'a [u8; 3], b: bool) {}"), ["b"]);
        assert_eq!(names("trait T { fn f(&self, a: bool); }"), ["a"]);
        assert_eq!(names("fn f(_: Vec<(u8, u8)>, a: bool) { fn g(b:bool) {} }"), ["a", "b"]);
    }

    #[test]
    fn other_places_for_a_bool_are_free() {
        let code =
            "struct S { a: bool } fn f(a: &mut bool, b: Option<bool>, c: fn(bool) -> bool, d: [bool; 2]) -> bool {}";
        assert_eq!(names(code), [""; 0]);
        assert_eq!(names("fn f<F: Fn(bool) -> bool>(f: F) { let a: bool = f(true); }"), [""; 0]);
    }

    #[test]
    fn what_others_declare_is_free() {
        assert_eq!(names("fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {}"), [""; 0]);
    }

    #[test]
    fn the_program_is_no_exception() {
        assert!(found("crates/cn-train/src/a.rs", "fn f(a: bool) {}")[0].contains("takes the bool `a`"));
    }
}
