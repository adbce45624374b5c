//! The hub's cache on this machine, as its Python and Rust clients keep it: read by path, without a network.
//!
//! `models--ORG--NAME/refs/main` names a commit, and `snapshots/COMMIT/FILE` is a link to `blobs/SHA256`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder that the clients of the Hugging Face hub share.
///
/// ```
/// let cache = cn_zoo::HubCache::new("no/such/folder");
/// assert_eq!(cache.find("timm/resnet18.tv_in1k", &["model.safetensors"]), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubCache {
    root: PathBuf,
}

/// A file that lies in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubFile {
    /// Where it can be read.
    pub path: PathBuf,
    /// The repository, as `ORG/NAME`.
    pub repo: String,
    /// The commit.
    pub revision: String,
    /// The SHA-256 that the hub named when it was fetched, in lower-case hex, where the cache tells it. Not computed.
    pub sha256: Option<String>,
}

impl HubCache {
    /// The cache in `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache that `HF_HUB_CACHE`, `HF_HOME` or `XDG_CACHE_HOME` names, else `~/.cache/huggingface/hub`; `None`
    /// without a home folder.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        root(|name| std::env::var_os(name), home).map(Self::new)
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The first of `files` that a model's repository (`ORG/NAME`) has in the commit of its main branch.
    #[must_use]
    pub fn find(&self, repo: &str, files: &[&str]) -> Option<HubFile> {
        let folder = self.root.join(format!("models--{}", repo.replace('/', "--")));
        let revision = std::fs::read_to_string(folder.join("refs/main")).ok()?;
        let revision = revision.trim();
        // It becomes part of a path.
        if !is_hex(revision) {
            return None;
        }
        let snapshot = folder.join("snapshots").join(revision);
        let path = files.iter().map(|file| snapshot.join(file)).find(|path| path.is_file())?;
        let sha256 = blob_name(&path).filter(|name| name.len() == 64 && is_hex(name));
        Some(HubFile { path, repo: repo.into(), revision: revision.into(), sha256 })
    }
}

impl HubFile {
    /// What a path in a hub's cache, `models--ORG--NAME/snapshots/COMMIT/FILE`, says of itself.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let snapshot = path.parent()?;
        let revision = snapshot.file_name()?.to_str().filter(|name| is_hex(name))?;
        let snapshots = snapshot.parent().filter(|folder| folder.ends_with("snapshots"))?;
        let repo = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.replace("--", "/");
        let sha256 = blob_name(path).filter(|name| name.len() == 64 && is_hex(name));
        Some(Self { path: path.to_owned(), repo, revision: revision.to_owned(), sha256 })
    }

    /// The licence that the repository's page names, if the page was fetched as well.
    #[must_use]
    pub fn licence(&self) -> Option<String> {
        let page = std::fs::read_to_string(self.path.with_file_name("README.md")).ok()?;
        licence(&page).map(str::to_owned)
    }
}

/// The order of the hub's own clients.
fn root(var: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let folder = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    None.or_else(|| folder("HF_HUB_CACHE"))
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| home.map(|home| home.join(".cache/huggingface/hub")))
}

/// The name of the blob that a file of a snapshot is a link to.
fn blob_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    target.file_name()?.to_str().map(str::to_owned)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `license:` of the YAML between the first two lines `---`.
fn licence(page: &str) -> Option<&str> {
    let mut lines = page.lines();
    lines.next().filter(|first| first.trim_end() == "---")?;
    let found = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    Some(found.trim().trim_matches(['"', '\''])).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn variables_name_the_folder_in_the_order_of_the_hub() {
        let all = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/h/.cache/huggingface/hub"];
        for (skipped, expected) in expected.into_iter().enumerate() {
            let var = |name: &str| {
                let at = all.iter().position(|known| *known == name)?;
                let value = ["/a", "/b", "/c", "/d"][at];
                Some(if at < skipped { OsString::new() } else { value.into() })
            };
            assert_eq!(root(var, Some("/h".into())), Some(expected.into()));
        }
        assert_eq!(root(|_| None, None), None);
    }

    fn cache() -> (tempfile::TempDir, HubCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = HubCache::new(folder.path());
        (folder, cache)
    }

    fn fill(cache: &HubCache, revision: &str) -> PathBuf {
        let repo = cache.root().join("models--org--name");
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::create_dir_all(repo.join("snapshots").join(COMMIT)).unwrap();
        fs::write(repo.join("refs/main"), revision).unwrap();
        repo
    }

    #[test]
    fn a_file_is_found_through_the_main_branch() {
        let (_folder, cache) = cache();
        let snapshot = fill(&cache, COMMIT).join("snapshots").join(COMMIT);
        assert_eq!(cache.find("org/name", &["b", "a"]), None);
        fs::write(snapshot.join("a"), "x").unwrap();
        let found = cache.find("org/name", &["b", "a"]).unwrap();
        let expected =
            HubFile { path: snapshot.join("a"), repo: "org/name".into(), revision: COMMIT.into(), sha256: None };
        assert_eq!(found, expected);
        assert_eq!(HubFile::of_path(&found.path), Some(expected));
        fs::write(snapshot.join("b"), "x").unwrap();
        assert_eq!(cache.find("org/name", &["b", "a"]).unwrap().path, snapshot.join("b"));
    }

    #[test]
    fn a_branch_that_names_no_commit_leads_nowhere() {
        for revision in ["", "../../..", "main", "ABCDEF"] {
            let (_folder, cache) = cache();
            let repo = fill(&cache, revision);
            fs::write(repo.join("a"), "x").unwrap();
            assert_eq!(cache.find("org/name", &["a"]), None, "{revision}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_hash_is_the_name_of_the_blob() {
        let (_folder, cache) = cache();
        let snapshot = fill(&cache, COMMIT).join("snapshots").join(COMMIT);
        let sha256 = "ab".repeat(32);
        let blobs = cache.root().join("models--org--name/blobs");
        fs::create_dir_all(&blobs).unwrap();
        for (name, expected) in [(sha256.as_str(), Some(sha256.clone())), (COMMIT, None)] {
            fs::write(blobs.join(name), "x").unwrap();
            let link = snapshot.join("a");
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(format!("../../blobs/{name}"), &link).unwrap();
            assert_eq!(cache.find("org/name", &["a"]).unwrap().sha256, expected);
        }
    }

    #[test]
    fn the_licence_is_what_the_page_says() {
        assert_eq!(licence("---\ntags:\n- timm\nlicense: bsd-3-clause\n---\n# Model"), Some("bsd-3-clause"));
        assert_eq!(licence("---\r\nlicense: \"mit\"\r\n---\r\n"), Some("mit"));
        for none in ["", "license: mit\n", "---\n---\nlicense: mit\n", "---\nlicense:\n---\n"] {
            assert_eq!(licence(none), None, "{none}");
        }
    }

    #[test]
    fn other_paths_are_of_no_hub() {
        for path in ["a", "snapshots/0123/a", "models--org--name/blobs/0123/a", "models--o--n/snapshots/main/a"] {
            assert_eq!(HubFile::of_path(Path::new(path)), None, "{path}");
        }
    }
}
