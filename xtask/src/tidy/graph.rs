//! Who may depend on whom.

use super::tree::Tree;
use super::{Finding, licence};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Arrows that are allowed in the code that ships; tests and examples may use more.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("cn-random", &[]),
    ("cn-kernels", &[]),
    ("cn-cuda", &[]),
    ("cn-report", &["cn-random"]),
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
    ("xtask", &[]),
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
    /// From the workspace's root; only for members.
    manifest: Option<String>,
    /// Ids that the shipped code uses: not those for tests.
    uses: Vec<String>,
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
                manifest,
                uses: Vec::new(),
            };
            packages.insert(id, package);
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            let Some(package) = node["id"].as_str().and_then(|id| packages.get_mut(id)) else {
                continue;
            };
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
    fn a_crate_without_a_layer_is_found() {
        assert!(layers(&[("cn-new", &[])])[0].contains("no line in the table"));
    }
}
