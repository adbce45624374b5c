//! The hub: where it is, what it says about a file, and how its clients keep files on this machine.
//!
//! hf-hub names the repositories and reads and writes the references of its cache. Bodies, hashes and locks are ours.

use crate::download::{Token, without_secrets};
use hf_hub::{Cache, CacheRepo, Repo};
use std::path::{Path, PathBuf};
use ureq::http::HeaderMap;

const ENDPOINT: &str = "https://huggingface.co";

/// What the hub said or holds is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The variable forbids the network.
    #[error("`HF_HUB_OFFLINE` is set, and `{repo}` is not in the hub's cache `{}`", cache.display())]
    Offline { repo: String, cache: PathBuf },
    /// The variable forbids the network, and the file in the cache is not what its name says.
    #[error("`HF_HUB_OFFLINE` is set, and `{}` is damaged", path.display())]
    Damaged { path: PathBuf },
    /// The variable forbids the network, and an address is to be fetched.
    #[error("`HF_HUB_OFFLINE` is set, and `{}` lies on the network", without_secrets(url))]
    OfflineUrl { url: String },
    /// No variable names a cache, and there is no home folder.
    #[error("there is no folder for the hub's cache: neither a home folder nor `HF_HOME`")]
    NoHome,
    /// The server answered, but not as a hub.
    #[error("`{}` answered without the header `{header}`, which every hub of models sends", without_secrets(url))]
    NotAHub { url: String, header: &'static str },
    /// A header that would become a path, and is none that should.
    #[error("`{}` answered with `{header}: {value}`, expected {expected}", without_secrets(url))]
    BadHeader { url: String, header: &'static str, value: String, expected: &'static str },
    /// Another length than announced.
    #[error("`{}` gave {found} bytes, and its hub says {expected}", without_secrets(url))]
    WrongLength { url: String, expected: u64, found: u64 },
    /// Other contents than announced.
    #[error("`{}` gave a file with the SHA-256 {found}, and its hub says {expected}", without_secrets(url))]
    WrongHash { url: String, expected: String, found: String },
}

/// Where the hub and its cache are, and whether they may be used.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    /// The folder that Python's and Rust's clients share.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    pub(super) network: Network,
}

/// Whether `HF_HUB_OFFLINE` allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Allowed,
    Forbidden,
}

impl Settings {
    /// What the hub's variables say, as its own clients read them.
    pub(super) fn from_env() -> Result<Self, Error> {
        Self::new(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn new(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self, Error> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let home = home.filter(|home| !home.as_os_str().is_empty());
        let cache = None
            .or_else(|| var("HF_HUB_CACHE").map(PathBuf::from))
            .or_else(|| var("HUGGINGFACE_HUB_CACHE").map(PathBuf::from))
            .or_else(|| var("HF_HOME").map(|home| Path::new(&home).join("hub")))
            .or_else(|| var("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("huggingface/hub")))
            .or_else(|| home.map(|home| home.join(".cache/huggingface/hub")))
            .ok_or(Error::NoHome)?;
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let is_on = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: var("HF_TOKEN").map(Token),
            network: if var("HF_HUB_OFFLINE").is_some_and(is_on) { Network::Forbidden } else { Network::Allowed },
        })
    }

    /// The token, but never in clear over a network.
    pub(super) fn token_for_endpoint(&self) -> Option<Token> {
        let after = |scheme: &str| self.endpoint.strip_prefix(scheme).map(|rest| rest.split([':', '/']).next());
        let is_safe = after("https://").is_some() || matches!(after("http://"), Some(Some("127.0.0.1" | "localhost")));
        self.token.clone().filter(|_| is_safe)
    }

    /// The page where a person gets the files of a repository.
    pub(super) fn page(repo: &str) -> String {
        format!("{ENDPOINT}/{repo}/tree/main")
    }
}

/// The cache's part for one repository.
pub(super) struct Shelf {
    cache: CacheRepo,
    root: PathBuf,
    locks: PathBuf,
}

impl Shelf {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let repo = Repo::model(repo.to_owned());
        let (root, locks) = (cache.join(repo.folder_name()), cache.join(".locks").join(repo.folder_name()));
        Self { cache: Cache::new(cache.to_owned()).repo(repo), root, locks }
    }

    /// The file of the main branch, if it is there.
    pub(super) fn get(&self, file: &str) -> Option<PathBuf> {
        self.cache.get(file)
    }

    /// Where contents lie, by what the hub calls them.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// The file that the hub's own clients lock while they write a blob.
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// Puts a blob into a commit under its name; returns where.
    pub(super) fn link(&self, about: &About, file: &str) -> std::io::Result<PathBuf> {
        let snapshot = self.cache.pointer_path(&about.commit);
        std::fs::create_dir_all(&snapshot)?;
        let path = snapshot.join(file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Relative, so that the cache can be moved; the folders are blobs/ and snapshots/COMMIT/.
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&about.etag), &path)?;
        #[cfg(not(unix))]
        std::fs::copy(self.blob(&about.etag), &path)?;
        Ok(path)
    }

    /// Makes a commit the one of the main branch.
    pub(super) fn set_main(&self, commit: &str) -> std::io::Result<()> {
        self.cache.create_ref(commit)
    }
}

/// What the hub says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) commit: String,
    /// For large files their SHA-256, else the id that git gives them.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

impl About {
    /// Reads the answer to a HEAD request for `url`.
    pub(super) fn new(url: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let missing = |header| Error::NotAHub { url: url.into(), header };
        let commit = text("x-repo-commit").ok_or_else(|| missing("x-repo-commit"))?;
        let (tag_header, size_header) = match text("x-linked-etag") {
            Some(_) => ("x-linked-etag", "x-linked-size"),
            None => ("etag", "content-length"),
        };
        let etag = text(tag_header).ok_or_else(|| missing("etag"))?.trim_start_matches("W/").trim_matches('"');
        let bad = |header, value: &str, expected| {
            Err(Error::BadHeader { url: url.into(), header, value: value.into(), expected })
        };
        if !is_hex(commit) {
            return bad("x-repo-commit", commit, "hexadecimal digits");
        }
        if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return bad(tag_header, etag, "letters and digits");
        }
        // A hash in capitals is the same hash.
        let etag = if is_hex(&etag.to_ascii_lowercase()) { etag.to_ascii_lowercase() } else { etag.into() };
        let size = text(size_header).and_then(|size| size.parse().ok());
        Ok(Self { commit: commit.into(), etag, size })
    }

    /// The SHA-256 that the hub names.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && is_hex(&self.etag)).then_some(&self.etag)
    }

    /// Compares what arrived with what was announced.
    pub(super) fn check(&self, url: &str, bytes: u64, sha256: &str) -> Result<(), Error> {
        let url = || url.to_owned();
        if let Some(expected) = self.size.filter(|&size| size != bytes) {
            return Err(Error::WrongLength { url: url(), expected, found: bytes });
        }
        match self.sha256() {
            Some(expected) if expected != sha256 => {
                Err(Error::WrongHash { url: url(), expected: expected.into(), found: sha256.into() })
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)], home: Option<&str>) -> Result<Settings, Error> {
        let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::new(var, home.map(PathBuf::from))
    }

    #[test]
    fn variables_mean_what_they_mean_to_the_hubs_own_clients() {
        let cache = |vars: &[(&str, &str)]| settings(vars, Some("/h")).unwrap().cache;
        assert_eq!(cache(&[]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")]), Path::new("/f/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HOME", "")]), Path::new("/h/.cache/huggingface/hub"));
        assert!(matches!(settings(&[], None), Err(Error::NoHome)));
        for (value, network) in [("1", Network::Forbidden), ("true", Network::Forbidden), ("0", Network::Allowed)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)], Some("/h")).unwrap().network, network);
        }
        let mirror = settings(&[("HF_ENDPOINT", "https://mirror.example/")], Some("/h")).unwrap();
        assert_eq!(mirror.endpoint, "https://mirror.example");
    }

    #[test]
    fn a_token_does_not_travel_in_clear() {
        let sent = |endpoint| {
            let vars = [("HF_ENDPOINT", endpoint), ("HF_TOKEN", "t")];
            settings(&vars, Some("/h")).unwrap().token_for_endpoint().is_some()
        };
        assert!(sent("https://hub.example") && sent("http://127.0.0.1:80") && sent("http://localhost/x"));
        assert!(!sent("http://hub.example") && !sent("http://127.0.0.1.example"));
    }

    fn about(headers: &[(&'static str, &str)]) -> Result<About, Error> {
        let headers = headers.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        About::new("u", &headers.collect())
    }

    #[test]
    fn headers_of_large_and_small_files_are_read() {
        let (sha, commit) = ("AB".repeat(32), "0123abcd");
        let linked = [("x-repo-commit", commit), ("x-linked-etag", &format!("\"{sha}\"")), ("x-linked-size", "7")];
        let found = about(&linked).unwrap();
        assert_eq!((found.sha256(), found.size), (Some("ab".repeat(32).as_str()), Some(7)));
        let small = about(&[("x-repo-commit", commit), ("etag", "W/\"0123abcd\""), ("content-length", "5")]).unwrap();
        assert_eq!((small.etag.as_str(), small.sha256(), small.size), ("0123abcd", None, Some(5)));
    }

    #[test]
    fn headers_that_would_leave_the_cache_are_refused() {
        let tag = ("etag", "\"abc\"");
        assert!(matches!(about(&[tag]), Err(Error::NotAHub { header: "x-repo-commit", .. })));
        assert!(matches!(about(&[("x-repo-commit", "ab")]), Err(Error::NotAHub { header: "etag", .. })));
        for commit in ["../../x", "", "main"] {
            assert!(matches!(about(&[("x-repo-commit", commit), tag]), Err(Error::BadHeader { .. })), "{commit}");
        }
        for etag in ["\"../x\"", "\"\"", "a/b"] {
            assert!(
                matches!(about(&[("x-repo-commit", "ab"), ("etag", etag)]), Err(Error::BadHeader { .. })),
                "{etag}"
            );
        }
    }
}
