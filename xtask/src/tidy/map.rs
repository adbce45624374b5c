//! The code map, crates/README.md, against what cargo knows.

use super::Finding;
use super::graph::Graph;
use super::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};

const FILE: &str = "crates/README.md";
const LINES: [&str; 3] = ["- Knows: ", "- Must never know: ", "- Depends on: "];

/// One crate's entry: where it begins, and what follows each of [`LINES`].
#[derive(Default)]
struct Entry<'a> {
    line: usize,
    texts: [Option<(usize, &'a str)>; 3],
}

/// Every crate has an entry with all three lines, every entry a crate, and the arrows are the real ones.
pub(super) fn check(tree: &Tree, graph: &Graph, findings: &mut Vec<Finding>) {
    let Some(text) = tree.text(FILE) else {
        findings.push(Finding::error(FILE, 1, "there is no code map, write one"));
        return;
    };
    let entries = read(text);
    let edges = graph.own_edges();
    for (name, uses) in &edges {
        let Some(entry) = entries.get(name) else {
            let text = format!("`{name}` is not in the code map, add `### {name}` with what it must never know");
            findings.push(Finding::error(FILE, 1, text));
            continue;
        };
        for (label, text) in LINES.iter().zip(&entry.texts) {
            if text.is_none_or(|(_, text)| text.trim().is_empty()) {
                let text = format!("`{name}` has no line `{}...`, write it", label);
                findings.push(Finding::error(FILE, entry.line, text));
            }
        }
        if let Some((line, text)) = entry.texts[2] {
            check_arrows(name, line, text, uses, findings);
        }
    }
    for (name, entry) in entries.iter().filter(|(name, _)| !edges.contains_key(**name)) {
        let text = format!("there is no crate `{name}`, take the entry out");
        findings.push(Finding::error(FILE, entry.line, text));
    }
}

fn check_arrows(name: &str, line: usize, text: &str, uses: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let said: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(|n| n.starts_with("cn-")).collect();
    for missing in uses.difference(&said) {
        let text = format!("`{name}` depends on `{missing}` too, add it");
        findings.push(Finding::error(FILE, line, text));
    }
    for extra in said.difference(uses) {
        let text = format!("`{name}` does not depend on `{extra}`, take it out");
        findings.push(Finding::error(FILE, line, text));
    }
}

fn read(text: &str) -> BTreeMap<&str, Entry<'_>> {
    let mut entries = BTreeMap::new();
    let mut current = None;
    for (i, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            current = line.strip_prefix("### ").map(|name| name.trim().trim_matches('`'));
            if let Some(name) = current {
                entries.insert(name, Entry { line: i + 1, ..Entry::default() });
            }
        }
        let Some(entry) = current.and_then(|name| entries.get_mut(name)) else {
            continue;
        };
        for (label, slot) in LINES.iter().zip(&mut entry.texts) {
            if let Some(text) = line.strip_prefix(label) {
                *slot = Some((i + 1, text));
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(text: &str) -> Vec<String> {
        let package =
            |name: &str| json!({"id": name, "name": name, "manifest_path": format!("/w/crates/{name}/Cargo.toml")});
        let metadata = json!({
            "workspace_root": "/w", "workspace_members": ["cn-a", "cn-b"],
            "packages": [package("cn-a"), package("cn-b")],
            "resolve": {"nodes": [{"id": "cn-a", "deps": [{"pkg": "cn-b", "dep_kinds": [{"kind": null}]}]}]},
        });
        let tree = Tree::of(&[(FILE, text)]);
        let mut findings = Vec::new();
        check(&tree, &Graph::new(&metadata).unwrap(), &mut findings);
        findings.into_iter().map(|f| f.to_string()).collect()
    }

    const A: &str = "### `cn-a`\n- Knows: a\n- Must never know: b\n- Depends on: `cn-b`\n";
    const B: &str = "### `cn-b`\n- Knows: a\n- Must never know: b\n- Depends on: nothing\n";

    #[test]
    fn a_complete_map_passes() {
        assert_eq!(run(&format!("# Map\n{A}{B}")), [""; 0]);
    }

    #[test]
    fn missing_and_stale_entries_are_found() {
        let found = run(&format!("{A}{}", B.replace("cn-b", "cn-old")));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn arrows_and_lines_are_compared() {
        let found = run(&format!("{}{B}", A.replace("`cn-b`", "`cn-c`")));
        assert_eq!(found.len(), 2, "{found:?}");
        let found = run(&format!("{}{B}", A.replace("- Must", "- May")));
        assert!(found[0].starts_with("crates/README.md:1: `cn-a` has no line"), "{found:?}");
    }
}
