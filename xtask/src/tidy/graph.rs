//! Who may depend on whom.

use super::tree::Tree;
use super::{Finding, licence};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Arrows that are allowed in the code that ships; tests and examples may use more.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("cn-random", &[]),
    ("cn-lock", &[]),
    ("cn-kernels", &[]),
    ("cn-cuda", &["cn-kernels"]),
    ("cn-report", &["cn-lock", "cn-random"]),
    ("cn-data", &["cn-random"]),
    ("cn-synth", &["cn-random"]),
    ("cn-augment", &["cn-kernels", "cn-cuda", "cn-random"]),
    ("cn-ops", &["cn-kernels", "cn-cuda", "cn-random"]),
    ("cn-zoo", &["cn-ops", "cn-random"]),
    ("cn-learn", &["cn-data", "cn-augment", "cn-cuda", "cn-ops", "cn-random"]),
    (
        "cn-train",
        &["cn-augment", "cn-cuda", "cn-data", "cn-learn", "cn-ops", "cn-random", "cn-report", "cn-synth", "cn-zoo"],
    ),
    ("xtask", &["cn-lock"]),
];

/// A family of crates that only some of ours may use.
struct Reserved {
    what: &'static str,
    /// Names, or beginnings of names that end in `*`.
    crates: &'static [&'static str],
    reach: Reach,
    may: fn(&str) -> bool,
}

enum Reach {
    /// Named in the crate's own `Cargo.toml`.
    Direct,
    /// Anywhere below it.
    Below,
}

const RESERVED: [Reserved; 3] = [
    Reserved {
        what: "the command line and errors for people belong to the programs",
        crates: &["clap", "clap_*", "anyhow", "console", "ratatui"],
        reach: Reach::Direct,
        may: |name| matches!(name, "cn-train" | "xtask"),
    },
    Reserved {
        what: "the crate works without candle",
        crates: &["candle-*"],
        reach: Reach::Below,
        may: |name| !matches!(name, "cn-kernels" | "cn-random" | "cn-data" | "cn-synth" | "cn-report" | "xtask"),
    },
    Reserved {
        what: "the network lives in xtask",
        crates: &[
            "ureq*",
            "reqwest",
            "hyper*",
            "rustls*",
            "native-tls",
            "openssl*",
            "curl*",
            "tokio*",
            "async-std",
            "smol",
            "hf-hub",
            "isahc",
            "attohttpc",
            "minreq",
        ],
        reach: Reach::Below,
        may: |name| name == "xtask",
    },
];

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// Where it comes from; `None` for a folder on this machine.
    source: Option<String>,
    /// From the workspace's root; only for members.
    manifest: Option<String>,
    /// Ids that the shipped code uses: not those for tests.
    uses: Vec<String>,
    /// What the code calls the crates that it names in its `Cargo.toml`, those for tests too.
    extern_names: BTreeSet<String>,
}

/// The packages of `cargo metadata`.
pub(super) struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    pub(super) fn new(metadata: &Value) -> Result<Self> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let root = metadata["workspace_root"].as_str().context("metadata without a root")?;
        let members: BTreeSet<_> = list(&metadata["workspace_members"]).iter().filter_map(text).collect();
        let mut packages = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let id = text(&package["id"]).context("a package without an id")?;
            let manifest = text(&package["manifest_path"])
                .filter(|_| members.contains(&id))
                .and_then(|path| path.strip_prefix(root).map(|p| p.replace('\\', "/")))
                .map(|path| path.trim_start_matches('/').to_owned());
            let package = Package {
                name: text(&package["name"]).context("a package without a name")?,
                version: text(&package["version"]).unwrap_or_default(),
                licence: text(&package["license"]),
                source: text(&package["source"]),
                manifest,
                uses: Vec::new(),
                extern_names: BTreeSet::new(),
            };
            packages.insert(id, package);
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(package) = node["id"].as_str().and_then(|id| packages.get_mut(id)) else {
                continue;
            };
            package.extern_names = list(&node["deps"]).iter().filter_map(|dep| text(&dep["name"])).collect();
            package.uses = list(&node["deps"])
                .iter()
                .filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev"))
                .filter_map(|dep| text(&dep["pkg"]))
                .collect();
        }
        Ok(Self { packages })
    }

    fn members(&self) -> impl Iterator<Item = (&Package, &str)> {
        self.packages.values().filter_map(|package| Some((package, package.manifest.as_deref()?)))
    }

    fn is_member(&self, id: &str) -> bool {
        self.packages.get(id).is_some_and(|p| p.manifest.is_some())
    }

    /// Crates of the workspace and, for each, the crates of the workspace that it ships with.
    pub(super) fn own_edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        self.members()
            .map(|(package, _)| {
                let own = package.uses.iter().filter(|id| self.is_member(id));
                let names = own.map(|id| self.packages[id].name.as_str()).collect();
                (package.name.as_str(), names)
            })
            .collect()
    }

    pub(super) fn check_layers(&self, findings: &mut Vec<Finding>) {
        let edges = self.own_edges();
        for (package, manifest) in self.members() {
            let name = package.name.as_str();
            let Some((_, allowed)) = ALLOWED.iter().find(|(n, _)| *n == name) else {
                let text = format!("`{name}` has no line in the table of layers, add one in xtask/src/tidy/graph.rs");
                findings.push(Finding::error(manifest, 1, text));
                continue;
            };
            for other in edges[name].iter().filter(|other| !allowed.contains(other)) {
                let text = format!("`{name}` must not know `{other}`, move what needs it up or pass it in");
                findings.push(Finding::error(manifest, 1, text));
            }
            for reserved in RESERVED.iter().filter(|r| !(r.may)(name)) {
                self.check_reserved(package, manifest, reserved, findings);
            }
        }
    }

    fn check_reserved(&self, package: &Package, manifest: &str, reserved: &Reserved, findings: &mut Vec<Finding>) {
        let paths = match reserved.reach {
            Reach::Direct => {
                let direct = package.uses.iter().filter_map(|id| self.packages.get(id));
                direct.map(|p| vec![p.name.as_str()]).collect()
            }
            Reach::Below => self.paths_below(package),
        };
        for path in paths {
            let Some(last) = path.last().filter(|n| reserved.crates.iter().any(|p| matches(p, n))) else {
                continue;
            };
            let way = path.join(" -> ");
            let text = format!("`{}` uses `{last}` ({way}): {}, take it out", package.name, reserved.what);
            findings.push(Finding::error(manifest, 1, text));
        }
    }

    /// For each package below, a shortest way to it.
    fn paths_below(&self, package: &Package) -> Vec<Vec<&str>> {
        let mut seen = BTreeSet::new();
        let mut paths: Vec<Vec<&str>> = Vec::new();
        let mut queue: Vec<(&Package, Vec<&str>)> = vec![(package, Vec::new())];
        while !queue.is_empty() {
            let mut next = Vec::new();
            for (package, path) in queue {
                for id in &package.uses {
                    let Some(below) = self.packages.get(id).filter(|_| seen.insert(id)) else {
                        continue;
                    };
                    let mut path = path.clone();
                    path.push(below.name.as_str());
                    paths.push(path.clone());
                    next.push((below, path));
                }
            }
            queue = next;
        }
        paths
    }

    pub(super) fn check_licences(&self, findings: &mut Vec<Finding>) {
        for package in self.packages.values() {
            let Package { name, version, .. } = package;
            let text = match &package.licence {
                Some(licence) if licence::is_allowed(licence) => continue,
                Some(licence) => format!("`{name}` {version} has the licence `{licence}`"),
                None => format!("`{name}` {version} names no licence"),
            };
            let text = format!("{text}, do without it or judge the licence in xtask/src/tidy/licence.rs");
            findings.push(Finding::error("Cargo.lock", 1, text));
        }
    }

    /// Whatever is not ours comes from one registry, where a version never changes.
    pub(super) fn check_sources(&self, findings: &mut Vec<Finding>) {
        let foreign = || self.packages.values().filter(|package| package.manifest.is_none());
        let registries: BTreeSet<&str> =
            foreign().filter_map(|package| package.source.as_deref()).filter(|source| is_registry(source)).collect();
        for Package { name, version, source, .. } in foreign() {
            let place = match source.as_deref() {
                Some(source) if is_registry(source) => continue,
                Some(source) => format!("from `{source}`"),
                None => "from a folder outside of the workspace".to_owned(),
            };
            let text = format!("`{name}` {version} comes {place}, take a version of the registry");
            findings.push(Finding::error("Cargo.lock", 1, text));
        }
        if registries.len() > 1 {
            let all: Vec<_> = registries.into_iter().collect();
            let text = format!("crates come from several registries, {}, keep to one", all.join(" and "));
            findings.push(Finding::error("Cargo.lock", 1, text));
        }
    }

    /// Crates that a `Cargo.toml` of ours names and no code of it does.
    pub(super) fn check_unused(&self, tree: &Tree, findings: &mut Vec<Finding>) {
        for (package, manifest) in self.members() {
            let folder = manifest.trim_end_matches("Cargo.toml");
            // The tests of the program lie at the top.
            let belongs =
                |file: &str| file.starts_with(folder) || (package.name == "cn-train" && file.starts_with("tests/it/"));
            let code = tree.texts().filter(|(file, _)| file.ends_with(".rs") && belongs(file));
            let code: Vec<&str> = code.map(|(_, text)| text).collect();
            for name in package.extern_names.iter().filter(|name| !code.iter().any(|text| has_word(text, name))) {
                let text = format!("`{}` names `{name}` and never uses it, take it out", package.name);
                findings.push(Finding::error(manifest, 1, text));
            }
        }
    }

    /// Crates that are built in more than one version.
    pub(super) fn list_duplicates(&self, tree: &Tree, findings: &mut Vec<Finding>) {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for package in self.packages.values() {
            versions.entry(&package.name).or_default().insert(&package.version);
        }
        let lock = tree.text("Cargo.lock").unwrap_or_default();
        for (name, versions) in versions.into_iter().filter(|(_, v)| v.len() > 1) {
            let header = format!("name = \"{name}\"");
            let line = lock.lines().position(|line| line == header).map_or(1, |i| i + 1);
            let all: Vec<_> = versions.into_iter().collect();
            let text = format!("`{name}` is built as {}, see `cargo tree --duplicates`", all.join(" and "));
            findings.push(Finding::warning("Cargo.lock", line, text));
        }
    }
}

fn is_registry(source: &str) -> bool {
    source.starts_with("registry+") || source.starts_with("sparse+")
}

/// Whether `text` holds `word` by itself.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Packages `name -> what it uses`; those that begin with `cn-` or are `xtask` are ours.
    fn graph(packages: &[(&str, &[&str])]) -> Graph {
        let ours = |name: &str| name.starts_with("cn-") || name == "xtask";
        let list: Vec<_> = packages
            .iter()
            .map(|(name, _)| {
                json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT",
                       "manifest_path": format!("/ws/crates/{name}/Cargo.toml")})
            })
            .collect();
        let nodes: Vec<_> = packages
            .iter()
            .map(|(name, uses)| {
                let deps: Vec<_> = uses
                    .iter()
                    .map(|used| match used.strip_prefix("dev:") {
                        Some(used) => json!({"pkg": used, "dep_kinds": [{"kind": "dev"}]}),
                        None => json!({"pkg": used, "dep_kinds": [{"kind": null}]}),
                    })
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<_> = packages.iter().map(|p| p.0).filter(|name| ours(name)).collect();
        let metadata = json!({"workspace_root": "/ws", "workspace_members": members,
                              "packages": list, "resolve": {"nodes": nodes}});
        Graph::new(&metadata).unwrap()
    }

    fn layers(packages: &[(&str, &[&str])]) -> Vec<String> {
        let mut findings = Vec::new();
        graph(packages).check_layers(&mut findings);
        findings.into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn arrows_of_the_design_pass() {
        let found = layers(&[
            ("cn-random", &[]),
            ("cn-data", &["cn-random", "csv"]),
            ("cn-train", &["cn-data", "clap"]),
            ("csv", &[]),
            ("clap", &[]),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn an_arrow_against_the_layers_is_found() {
        let found = layers(&[("cn-data", &["cn-synth"]), ("cn-synth", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/cn-data/Cargo.toml:1: `cn-data` must not know `cn-synth`"));
    }

    #[test]
    fn tests_may_use_more() {
        let found = layers(&[("cn-ops", &["dev:cn-zoo", "dev:anyhow"]), ("cn-zoo", &[]), ("anyhow", &[])]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_network_deep_below_is_found_with_its_way() {
        let found = layers(&[("cn-zoo", &["a"]), ("a", &["b"]), ("b", &["tokio"]), ("tokio", &[])]);
        assert!(found[0].contains("a -> b -> tokio"), "{found:?}");
    }

    #[test]
    fn candle_below_the_kernels_and_clap_in_a_library_are_found() {
        let found =
            layers(&[("cn-kernels", &["candle-core"]), ("candle-core", &[]), ("cn-learn", &["clap"]), ("clap", &[])]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn what_comes_from_elsewhere_than_the_registry_is_found() {
        let package =
            |name: &str, source: Value| json!({"id": name, "name": name, "version": "1.0.0", "source": source});
        let registry = json!("registry+https://registry.example/index");
        let found = |packages: &[Value]| {
            let metadata = json!({"workspace_root": "/w", "workspace_members": [], "packages": packages});
            let mut findings = Vec::new();
            Graph::new(&metadata).unwrap().check_sources(&mut findings);
            findings.into_iter().map(|f| f.to_string()).collect::<Vec<_>>()
        };
        let good = [package("a", registry.clone()), package("b", registry.clone())];
        assert!(found(&good).is_empty());
        let git = found(&[package("a", registry.clone()), package("c", json!("git+https://example.org/c?rev=1#1"))]);
        assert!(git.len() == 1 && git[0].contains("`c` 1.0.0 comes from `git+"), "{git:?}");
        assert!(found(&[package("d", Value::Null)])[0].contains("from a folder"));
        let two = found(&[package("a", registry), package("b", json!("sparse+https://other.example/"))]);
        assert!(two.len() == 1 && two[0].contains("several registries"), "{two:?}");
    }

    #[test]
    fn a_crate_that_is_named_and_not_used_is_found() {
        let metadata = json!({
            "workspace_root": "/w", "workspace_members": ["cn-a"],
            "packages": [{"id": "cn-a", "name": "cn-a", "manifest_path": "/w/crates/cn-a/Cargo.toml"}],
            "resolve": {"nodes": [{"id": "cn-a", "deps": [
                {"name": "serde_json", "pkg": "x", "dep_kinds": [{"kind": null}]},
                {"name": "csv", "pkg": "y", "dep_kinds": [{"kind": "dev"}]},
            ]}]},
        });
        let graph = Graph::new(&metadata).unwrap();
        let unused = |code: &str| {
            let manifest = "[dependencies]\nserde_json = \"1\"\ncsv = \"1\"\n";
            let tree = Tree::of(&[("crates/cn-a/Cargo.toml", manifest), ("crates/cn-a/src/lib.rs", code)]);
            let mut findings = Vec::new();
            graph.check_unused(&tree, &mut findings);
            findings.into_iter().map(|f| f.to_string()).collect::<Vec<_>>()
        };
        assert!(unused("use serde_json::Value;\nfn f() { csv::Reader::new() }").is_empty());
        let found = unused("use serde_json::Value; // my_csv");
        assert!(found.len() == 1 && found[0].contains("`cn-a` names `csv`"), "{found:?}");
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert!(layers(&[("cn-new", &[])])[0].contains("no line in the table"));
    }
}
