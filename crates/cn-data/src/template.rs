//! `images/{id}.jpg`: paths with columns in braces.

use crate::{Error, Result};

/// Bytes of a template, and of a path that comes of it, at most: systems open none that is longer.
pub(crate) const MAX_PATH: usize = 4096;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

impl Template {
    /// Parses a template; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    ///
    /// If it is too long, a brace is left open or closed twice, a column has no name, or the path could leave its folder.
    pub(crate) fn parse(template: &str) -> Result<Self> {
        let bad = |problem| Error::BadTemplate { template: template.to_owned(), problem };
        if template.trim().is_empty() {
            return Err(bad("is empty"));
        }
        if template.len() > MAX_PATH {
            let template = format!("{}…", template.chars().take(40).collect::<String>());
            return Err(Error::BadTemplate { template, problem: "has more than 4096 bytes" });
        }
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => text.extend(chars.next()),
                '}' => return Err(bad("has a `}` without its `{`")),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some(c) => name.push(c),
                            None => return Err(bad("has a `{` without its `}`")),
                        }
                    }
                    if name.trim().is_empty() {
                        return Err(bad("has braces without a column's name"));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Column(name.trim().to_owned()));
                }
                c => text.push(c),
            }
        }
        pieces.push(Piece::Text(text));
        let template = Self(pieces);
        // Any column will do here: what the rows hold is checked row by row.
        if !template.render(&mut |_| "x").is_some_and(|path| stays_inside(&path)) {
            return Err(bad("leaves the folder of the data set"));
        }
        Ok(template)
    }

    /// Names of the columns, in order of appearance.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The path with `value(i)` in place of the i-th column; `None` if it is longer than [`MAX_PATH`].
    pub(crate) fn render<'a>(&self, value: &mut impl FnMut(usize) -> &'a str) -> Option<String> {
        let (mut path, mut column) = (String::new(), 0);
        for piece in &self.0 {
            let part = match piece {
                Piece::Text(text) => text,
                Piece::Column(_) => {
                    column += 1;
                    value(column - 1)
                }
            };
            if path.len() + part.len() > MAX_PATH {
                return None;
            }
            path.push_str(part);
        }
        Some(path)
    }
}

/// Whether a relative path stays below its root on any system: not absolute, no drive, no `..`, not empty.
pub(crate) fn stays_inside(path: &str) -> bool {
    let starts_elsewhere = path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':');
    let climbs = path.split(['/', '\\']).any(|part| part == "..");
    let names_something = path.split(['/', '\\']).any(|part| !part.is_empty() && part != ".");
    !starts_elsewhere && !climbs && names_something && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, values: &[&str], expected: &str) {
        let parsed = Template::parse(template).expect(template);
        assert_eq!(parsed.render(&mut |i| values[i]).as_deref(), Some(expected));
    }

    fn refused(template: &str) -> String {
        Template::parse(template).expect_err(template).to_string()
    }

    #[test]
    fn columns_are_filled_in() {
        check("data/input_{a}_{b}.jpg", &["1", "2"], "data/input_1_2.jpg");
        check("{file}", &["x/y.png"], "x/y.png");
        check("{{{a}}}.png", &["1"], "{1}.png");
        check("fixed.png", &[], "fixed.png");
        check("{ a }", &["零"], "零");
        assert_eq!(Template::parse("{a}{b}").expect("parses").columns().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refused("").contains("is empty"));
        assert!(
            refused(&"{a}".repeat(1400))
                .contains("`{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{a}{…` has more than 4096 bytes")
        );
        assert!(refused("{a").contains("without its `}`"));
        assert!(refused("a}").contains("without its `{`"));
        assert!(refused("a{}").contains("without a column"));
    }

    #[test]
    fn nothing_leaves_the_root() {
        for template in ["../{a}", "/etc/{a}", "a/../../b", "..", "\\x", "C:/{a}", "a\\..\\b", ".", "a\0b"] {
            assert!(refused(template).contains("leaves the folder"), "{template:?}");
        }
        assert!(stays_inside("a..b/c...") && stays_inside("./a"));
    }
}
