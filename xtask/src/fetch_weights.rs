//! `cargo xtask fetch-weights`: ImageNet weights from the hub, an address or a file, checked before they have a name.

mod given;
mod hub;
#[cfg(test)]
mod tests;

use crate::args::{Args, Usage};
use crate::download::{self, Options, download, head, without_secrets};
use crate::hint::Hinted;
use crate::progress::{Progress, Unit};
use crate::workspace;
use anyhow::{Context, Result, anyhow};
use cn_lock::{AfterUse, Lock};
use given::Given;
use hub::{About, Network, Settings, Shelf};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use ureq::http::StatusCode;

pub(crate) const USAGE: &str = "fetch-weights [resnet18|resnet34|resnet50] [--from FILE|URL]";

/// Names, repositories on the hub (torchvision's V1 weights, as timm publishes them), and torchvision's own files, whose
/// names hold the first digits of their SHA-256.
const MODELS: [Model; 3] = [
    Model { name: "resnet18", repo: "timm/resnet18.tv_in1k", torchvision: "resnet18-f37072fd.pth" },
    Model { name: "resnet34", repo: "timm/resnet34.tv_in1k", torchvision: "resnet34-b627a593.pth" },
    Model { name: "resnet50", repo: "timm/resnet50.tv_in1k", torchvision: "resnet50-0676ba61.pth" },
];
/// What a repository may call its weights, the better first.
const FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// The repository's page, which names the licence.
const PAGE: &str = "README.md";
const TORCHVISION: &str = "https://download.pytorch.org/models";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    name: &'static str,
    repo: &'static str,
    torchvision: &'static str,
}

/// Runs the task.
pub(crate) fn run(mut args: Args) -> Result<()> {
    let from = args.value("--from")?;
    let name = args.positional()?;
    args.finish()?;
    let job = Job {
        model: model(name.as_deref().unwrap_or(MODELS[0].name))?,
        settings: Settings::from_env()?,
        weights: workspace::root().join("data/weights"),
        options: Options::default(),
        progress: Progress::new,
        check: given::check_with_cn_train,
    };
    let fetched = match from {
        None => job.fetch_from_hub()?,
        Some(from) => job.take_given(&Given::parse(&from)?)?,
    };
    say!("{}", fetched.text().trim_end());
    say!("`cargo run -p cn-train -- train --arch {} --weights imagenet` starts from them", job.model.name);
    Ok(())
}

fn model(name: &str) -> Result<Model> {
    MODELS.into_iter().find(|model| model.name == name).ok_or_else(|| {
        let known = MODELS.map(|model| model.name).join(", ");
        anyhow!(Usage(format!("there are no weights called `{name}`; known are {known}")))
    })
}

/// What is there at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetched {
    outcome: Outcome,
    path: PathBuf,
    /// Where it came from, for people.
    source: String,
    sha256: String,
    bytes: u64,
    /// Who vouches for the contents.
    checked: Checked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    AlreadyThere,
    Installed,
}

/// What the SHA-256 was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// The one that the hub names.
    Hub,
    /// The beginning that torchvision writes into the name of the file.
    Name,
    /// None is known.
    Nothing,
}

impl Fetched {
    fn text(&self) -> String {
        let state = match self.outcome {
            Outcome::AlreadyThere => "there already, and whole",
            Outcome::Installed => "ready",
        };
        let vouched = match self.checked {
            Checked::Hub => "as the hub names it",
            Checked::Name => "which begins as the file's name says",
            Checked::Nothing => "which nobody vouches for here: compare it with its publisher's",
        };
        let Self { path, source, sha256, bytes, .. } = self;
        format!("{source}: {state}\n{}\n{bytes} bytes, SHA-256 {sha256}, {vouched}\n", path.display())
    }
}

/// Contents in the hub's cache, without a name yet.
struct Brought {
    blob: PathBuf,
    sha256: String,
    bytes: u64,
    /// Others wait until they have their name, or are gone.
    _lock: Lock,
}

impl Brought {
    /// Gives them the name that they are looked for by: where that is, their SHA-256 and their length.
    fn named(self, shelf: &Shelf, about: &About, file: &str) -> Result<(PathBuf, String, u64)> {
        let path = shelf.link(about, file).context("cannot write into the hub's cache")?;
        Ok((path, self.sha256, self.bytes))
    }
}

/// One fetch; tests make their own.
struct Job {
    model: Model,
    settings: Settings,
    /// The folder for files that come from elsewhere than the hub.
    weights: PathBuf,
    options: Options,
    progress: fn(&'static str, Unit) -> Progress,
    /// Whether a file holds the model of this name.
    check: fn(&Path, &str) -> Result<()>,
}

impl Job {
    /// From the hub into its cache, unless it is there.
    fn fetch_from_hub(&self) -> Result<Fetched> {
        let shelf = Shelf::new(&self.settings.cache, self.model.repo);
        if let Some(there) = self.look_at_cache(&shelf)? {
            return Ok(there);
        }
        if self.settings.network == Network::Forbidden {
            let error = hub::Error::Offline { repo: self.model.repo.into(), cache: self.settings.cache.clone() };
            return Err(Hinted::wrap(error, self.advice_without_network()));
        }
        let options = Options { token: self.settings.token_for_endpoint(), ..self.options.clone() };
        let (file, about) = self.ask(&options).map_err(|error| self.with_hint(error))?;
        let brought = self.bring(&shelf, file, &about, &options).map_err(|error| self.with_hint(error))?;
        // Nobody has vouched for them yet, and what has a name is taken for good.
        if about.sha256().is_none()
            && let Err(error) = (self.check)(&brought.blob, self.model.name)
        {
            let _ = fs::remove_file(&brought.blob);
            return Err(error);
        }
        let (path, sha256, bytes) = brought.named(&shelf, &about, file)?;
        self.bring_page(&shelf, &about, &options);
        shelf.set_main(&about.commit).context("cannot write the main branch into the hub's cache")?;
        Ok(Fetched {
            outcome: Outcome::Installed,
            source: self.source(&about.commit),
            checked: if about.sha256().is_some() { Checked::Hub } else { Checked::Nothing },
            path,
            sha256,
            bytes,
        })
    }

    fn source(&self, commit: &str) -> String {
        format!("{} of {}, revision {commit}", self.model.name, self.model.repo)
    }

    /// What an earlier fetch, ours or another client's, has left; a damaged file is removed.
    fn look_at_cache(&self, shelf: &Shelf) -> Result<Option<Fetched>> {
        let Some(path) = FILES.iter().find_map(|file| shelf.get(file)) else { return Ok(None) };
        let blob = fs::canonicalize(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let (sha256, bytes) = hash(&blob)?;
        let named =
            blob.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 64 && hub::is_hex(name));
        if named.is_some_and(|named| named != sha256) {
            if self.settings.network == Network::Forbidden {
                let error = hub::Error::Damaged { path };
                return Err(Hinted::wrap(error, "unset `HF_HUB_OFFLINE` to fetch it anew, or restore it"));
            }
            (self.progress)("check", Unit::Bytes).note(&format!("`{}` is damaged: fetching it anew", path.display()));
            fs::remove_file(&blob).with_context(|| format!("cannot remove `{}`", blob.display()))?;
            return Ok(None);
        }
        let commit = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Some(Fetched {
            outcome: Outcome::AlreadyThere,
            source: self.source(commit),
            checked: if named.is_some() { Checked::Hub } else { Checked::Nothing },
            path,
            sha256,
            bytes,
        }))
    }

    /// Which file there is, and what the hub says about it.
    fn ask(&self, options: &Options) -> Result<(&'static str, About)> {
        let mut progress = (self.progress)("ask", Unit::Files);
        let mut first = None;
        for file in FILES {
            let url = self.address("main", file);
            progress.note(&format!("asking {}", without_secrets(&url)));
            match head(&url, options, &mut progress) {
                Ok(headers) => return Ok((file, About::new(&url, &headers)?)),
                Err(error @ download::Error::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(first.expect("no file was found, so the first was not").into())
    }

    fn address(&self, revision: &str, file: &str) -> String {
        format!("{}/{}/resolve/{revision}/{file}", self.settings.endpoint, self.model.repo)
    }

    /// Brings the contents of a file of a commit into the cache.
    fn bring(&self, shelf: &Shelf, file: &str, about: &About, options: &Options) -> Result<Brought> {
        let (blob, lock) = (shelf.blob(&about.etag), shelf.lock(&about.etag));
        for folder in [&blob, &lock].into_iter().filter_map(|path| path.parent()) {
            fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let lock = Lock::acquire(&lock, AfterUse::Kept, || {
            (self.progress)("wait", Unit::Files).note("another process fetches this file; waiting for it");
        })
        .with_context(|| format!("cannot lock `{}`", lock.display()))?;
        let url = self.address(&about.commit, file);
        // Whoever held the lock may have brought it.
        let there = if blob.is_file() { Some(hash(&blob)?) } else { None };
        let (sha256, bytes) = match there.filter(|(sha256, bytes)| about.check(&url, *bytes, sha256).is_ok()) {
            Some(whole) => whole,
            None => self.download_checked(&url, about, &blob, options)?,
        };
        Ok(Brought { blob, sha256, bytes, _lock: lock })
    }

    /// Downloads to `blob`, once anew if the contents are wrong: a resumed file may be made of two.
    fn download_checked(&self, url: &str, about: &About, blob: &Path, options: &Options) -> Result<(String, u64)> {
        let unchecked = blob.with_file_name(format!("{}.fetched", about.etag));
        for last in [false, true] {
            let mut progress = (self.progress)("download", Unit::Bytes);
            let done = download(url, &unchecked, options, &mut progress)?;
            if done.resumed {
                progress.note("(went on where an earlier run had stopped)");
            }
            let (sha256, bytes) = hash(&unchecked)?;
            match about.check(url, bytes, &sha256) {
                Ok(()) => {
                    fs::rename(&unchecked, blob).with_context(|| format!("cannot rename `{}`", unchecked.display()))?;
                    return Ok((sha256, bytes));
                }
                Err(error) => {
                    let _ = fs::remove_file(&unchecked);
                    if last {
                        return Err(error.into());
                    }
                    progress.note(&format!("{error}; fetching it anew"));
                }
            }
        }
        unreachable!("the second round returns")
    }

    /// The page tells people and `inspect` the licence; weights without it are as good.
    fn bring_page(&self, shelf: &Shelf, weights: &About, options: &Options) {
        let mut progress = (self.progress)("page", Unit::Bytes);
        let url = self.address(&weights.commit, PAGE);
        let about = head(&url, options, &mut progress)
            .map_err(anyhow::Error::from)
            .and_then(|headers| Ok(About::new(&url, &headers)?));
        let named = about.and_then(|about| self.bring(shelf, PAGE, &about, options)?.named(shelf, &about, PAGE));
        if let Err(error) = named {
            progress.note(&format!("the page with the licence was not fetched: {error}"));
        }
    }

    fn with_hint(&self, error: anyhow::Error) -> anyhow::Error {
        let name = self.model.name;
        let hint = match error.downcast_ref::<download::Error>() {
            Some(download::Error::Unreachable { .. }) => self.advice_without_network(),
            Some(download::Error::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) => format!(
                "a hub says so of repositories that it does not have or does not show to everyone: see `HF_ENDPOINT`,\n\
                 set `HF_TOKEN` to a token of yours, or give a file: `cargo xtask fetch-weights {name} --from FILE`"
            ),
            Some(download::Error::Refused { .. }) => {
                format!("see `HF_ENDPOINT`, or give a file: `cargo xtask fetch-weights {name} --from FILE`")
            }
            Some(download::Error::GaveUp { .. } | download::Error::TooSlow { .. }) => {
                "run the same command again: it goes on where it stopped".into()
            }
            Some(_) => return error,
            None => match error.downcast_ref::<hub::Error>() {
                Some(hub::Error::NotAHub { .. } | hub::Error::BadHeader { .. }) => {
                    "a proxy or a login page may stand in between: see `HF_ENDPOINT` and `HTTPS_PROXY`".into()
                }
                Some(hub::Error::WrongHash { .. } | hub::Error::WrongLength { .. }) => {
                    "nothing was kept; something between here and the hub changes files: try another network".into()
                }
                _ => return error,
            },
        };
        match error.downcast::<download::Error>() {
            Ok(error) => Hinted::wrap(error, hint),
            Err(error) => match error.downcast::<hub::Error>() {
                Ok(error) => Hinted::wrap(error, hint),
                Err(error) => error,
            },
        }
    }

    fn advice_without_network(&self) -> String {
        let Model { name, repo, torchvision } = self.model;
        format!(
            "1. with a browser, anywhere: get {} from {} (or {TORCHVISION}/{torchvision})\n\
             2. here: cargo xtask fetch-weights {name} --from FILE\n\
             3. or without ImageNet's weights: `cargo run -p cn-train -- train --weights none`",
            FILES[0],
            Settings::page(repo)
        )
    }
}

/// SHA-256 in lower-case hex, and the length.
fn hash(path: &Path) -> Result<(String, u64)> {
    let read = || -> std::io::Result<(String, u64)> {
        let (mut file, mut sha, mut bytes) = (File::open(path)?, Sha256::new(), 0);
        let mut chunk = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            sha.update(&chunk[..n]);
            bytes += n as u64;
        }
        Ok((sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes))
    };
    read().with_context(|| format!("cannot read `{}`", path.display()))
}
