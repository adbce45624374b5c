//! As much of Rust's grammar as it takes to tell code from comments and literals.

/// `text` with comments and the insides of literals blanked; every line and byte stays where it is.
pub(super) fn blank(text: &str) -> String {
    keep(text, |kind| kind == Kind::Code)
}

/// `text` with everything but comments blanked.
pub(super) fn comments_only(text: &str) -> String {
    keep(text, |kind| kind == Kind::Comment)
}

/// Identifiers, keywords and numbers, each with its place in bytes.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    code.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

fn keep(text: &str, wanted: fn(Kind) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while !rest.is_empty() {
        let (kind, length) = token(rest, before);
        let (taken, after) = rest.split_at(length);
        for c in taken.chars() {
            if wanted(kind) || c == '\n' {
                out.push(c);
            } else {
                out.extend(std::iter::repeat_n(' ', c.len_utf8()));
            }
        }
        before = taken.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    out
}

/// Kind and length of what `rest` begins with; `before` is the character before it.
fn token(rest: &str, before: char) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if rest.starts_with('"') {
        return (Kind::Literal, quoted(rest));
    }
    let in_word = before == '_' || before.is_alphanumeric();
    if !in_word && let Some(length) = raw_string(rest) {
        return (Kind::Literal, length);
    }
    if rest.starts_with('\'')
        && let Some(length) = character(rest)
    {
        return (Kind::Literal, length);
    }
    (Kind::Code, rest.chars().next().map_or(1, char::len_utf8))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"..."`, `br#"..."#`, `cr##"..."##`.
fn raw_string(rest: &str) -> Option<usize> {
    let after_r = ["r", "br", "cr"].iter().find_map(|p| rest.strip_prefix(p))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// `'x'` or `'\n'`, but not the lifetime `'x`.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?; // What is escaped may itself be a quote.
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_literals_vanish() {
        let text = "let a = \"ä\\\"b\"; // c\nlet d = '\\''; let e: &'a u8 = r#\"\"x\"#;";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), 2);
        let found: Vec<_> = words(&code).map(|(_, word)| word).collect();
        assert_eq!(found, ["let", "a", "let", "d", "let", "e", "a", "u8"]);
        for (at, word) in words(&code) {
            assert_eq!(&text[at..at + word.len()], word);
        }
    }

    #[test]
    fn comments_can_be_had_alone() {
        let text = comments_only("let a = \"// no\"; // yes\n/* and\nthis */ not");
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["//", "yes", "/*", "and", "this", "*/"]);
    }

    #[test]
    fn a_raw_identifier_is_no_raw_string() {
        assert_eq!(blank("r#type var\"x\""), "r#type var   ");
    }
}
