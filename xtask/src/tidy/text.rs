//! All text: no path of anyone's machine, and golden numbers that say where they come from.

use super::Finding;
use super::tree::Tree;
use serde_json::Value;

/// Where people's own folders lie. In pieces, so that this file does not find itself.
const HOMES: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("\\Us", "ers\\")];
/// Keys of which a golden file has at least one, at its top.
const ORIGINS: [&str; 4] = ["versions", "made_by", "source", "generator"];

/// Checks every text file.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, text) in tree.texts() {
        check_paths(file, text, &tree.root, findings);
        // The fuzz targets are a workspace of their own.
        if file.ends_with("/Cargo.toml") && !file.starts_with("tests/") {
            check_manifest(file, text, findings);
        }
        if file.starts_with("tests/golden/") && file.ends_with(".json") {
            check_origin(file, text, findings);
        }
    }
}

fn check_paths(file: &str, text: &str, root: &str, findings: &mut Vec<Finding>) {
    for (i, line) in text.lines().enumerate() {
        let home = HOMES.iter().copied().find(|home| has_path(line, home));
        // A root as short as `/cn` could stand for something else.
        let own = (root.len() > 6 && has_path(line, root)).then_some(root);
        if let Some(path) = home.or(own) {
            let text = format!("a path of one machine, `{path}`, make it relative");
            findings.push(Finding::error(file, i + 1, text));
        }
    }
}

/// Whether `path` begins a word of the line, rather than standing inside an address or another path.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| c == ':' || !(c.is_alphanumeric() || "._-/}$".contains(c)))
    })
}

/// Versions, lints and the licence stand once, in the workspace.
fn check_manifest(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let has_lints = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    if !has_lints {
        let text = "the crate does not take the workspace's lints, add `[lints]` with `workspace = true`";
        findings.push(Finding::error(file, 1, text));
    }
    for key in ["version", "edition", "rust-version", "license"] {
        if !lines.contains(&format!("{key}.workspace = true").as_str()) {
            let text = format!("the crate does not take the workspace's `{key}`, write `{key}.workspace = true`");
            findings.push(Finding::error(file, 1, text));
        }
    }
}

fn check_origin(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let origin = match serde_json::from_str::<Value>(text) {
        Ok(value) => ORIGINS.iter().any(|key| value.get(key).is_some_and(|v| !v.is_null())),
        Err(error) => {
            let text = format!("not JSON ({error}), make it anew");
            findings.push(Finding::error(file, error.line(), text));
            return;
        }
    };
    if !origin {
        let text = "golden numbers that do not say what made them, add `versions` or `made_by`";
        findings.push(Finding::error(file, 1, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check(&Tree::of(&[(file, text)]), &mut findings);
        findings.len()
    }

    #[test]
    fn paths_of_machines_are_found_and_addresses_are_not() {
        for home in HOMES {
            assert_eq!(run("a.md", &format!("see `{home}me/x`\n")), 1, "{home}");
        }
        assert_eq!(run("a.md", "built in /somewhere/else/target\n"), 1);
        assert_eq!(run("a.md", &format!("https://example.org{}me\n", HOMES[0])), 0);
    }

    #[test]
    fn manifests_take_what_stands_in_the_workspace() {
        let keys = ["version", "edition", "rust-version", "license"].map(|key| format!("{key}.workspace = true\n"));
        let whole = format!("[package]\n{}\n[lints]\nworkspace = true\n", keys.concat());
        assert_eq!(run("crates/cn-a/Cargo.toml", &whole), 0);
        assert_eq!(run("crates/cn-a/Cargo.toml", "[package]\nversion = \"1.0.0\"\n"), 5);
    }

    #[test]
    fn golden_files_name_their_origin() {
        assert_eq!(run("tests/golden/a.json", r#"{"versions": {"torch": "2"}}"#), 0);
        assert_eq!(run("tests/golden/a.json", r#"{"numbers": [1]}"#), 1);
        assert_eq!(run("tests/golden/a.json", "{"), 1);
    }
}
