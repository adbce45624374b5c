//! `cargo xtask fetch-data`: Chinese MNIST from Kaggle, an address, an archive or a folder, checked to the last byte.

mod chinese_mnist;
mod content;
#[cfg(test)]
mod tests;

use crate::args::Args;
use crate::download::{self, Options, download, without_secrets};
use crate::hint::Hinted;
use crate::progress::{Progress, Unit};
use crate::unpack::{self, Limits, unpack};
use crate::workspace;
use anyhow::{Context, Result, bail};
use cn_lock::{AfterUse, Lock};
use content::{Expected, Whole};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) const USAGE: &str = "fetch-data [--from FILE.zip|DIR|URL] [--to data/chinese-mnist]";

/// Runs the task.
pub(crate) fn run(mut args: Args) -> Result<()> {
    let from = args.value("--from")?;
    let to = args.value("--to")?;
    args.finish()?;
    let to = to.map_or_else(|| workspace::root().join("data/chinese-mnist"), PathBuf::from);
    let source = match from {
        None => Source::Url(chinese_mnist::KAGGLE_URL.into()),
        Some(from) => Source::parse(&from)?,
    };
    let job = Job {
        source,
        to,
        expected: chinese_mnist::expected(),
        options: Options::default(),
        limits: Limits::default(),
        progress: Progress::new,
    };
    let (outcome, whole) = job.run()?;
    report(&job.to, outcome, &whole);
    Ok(())
}

fn report(to: &Path, outcome: Outcome, whole: &Whole) {
    let to = to.display();
    match outcome {
        Outcome::AlreadyThere => say!("{to} is there and whole; to fetch it anew, delete it first"),
        Outcome::Installed => say!("{to} is ready"),
    }
    let (images, writers, classes) = (thousands(whole.images), whole.writers, whole.classes);
    say!("{images} images, {writers} writers, {classes} classes");
    say!("content SHA-256 {}, as published", whole.images_sha256);
    if whole.reordered {
        say!("note: the table has its rows in another order than published, so a split by seed is another one");
    }
}

fn thousands(n: usize) -> String {
    match (n / 1000, n % 1000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}

/// Where the data come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Url(String),
    Archive(PathBuf),
    Folder(PathBuf),
}

impl Source {
    fn parse(from: &str) -> Result<Self> {
        let lower = from.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Self::Url(from.to_owned()));
        }
        if from.contains("://") {
            bail!("`{from}`: only http:// and https:// are fetched; give a file by its path");
        }
        let path = PathBuf::from(from);
        let about = fs::metadata(&path)
            .map_err(|source| with_content_hint(content::Error::Unreadable { path: path.clone(), source }))?;
        if !about.is_dir() && !about.is_file() {
            bail!("`{from}` is a pipe or a device: name a zip archive or a folder");
        }
        Ok(if about.is_dir() { Self::Folder(path) } else { Self::Archive(path) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    AlreadyThere,
    Installed,
}

/// One fetch; tests make their own.
struct Job {
    source: Source,
    to: PathBuf,
    expected: Expected,
    options: Options,
    limits: Limits,
    progress: fn(&'static str, Unit) -> Progress,
}

impl Job {
    /// Fetches unless the target is whole already; one process at a time for each target.
    fn run(&self) -> Result<(Outcome, Whole)> {
        // A link is followed, so that the work is done beside the folder that is meant.
        let to = fs::canonicalize(&self.to).unwrap_or_else(|_| self.to.clone());
        let (parent, name) = match (to.parent(), to.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) if parent == Path::new("") => (Path::new("."), name),
            (Some(parent), Some(name)) => (parent, name),
            _ => bail!("`{}` cannot be the folder of a data set", to.display()),
        };
        fs::create_dir_all(parent)
            .map_err(with_target_hint)
            .with_context(|| format!("cannot make `{}`", parent.display()))?;
        let lock_path = parent.join(format!(".{name}.lock"));
        let _lock = Lock::acquire(&lock_path, AfterUse::Removed, || {
            (self.progress)("wait", Unit::Files).note("another process fetches to this folder; waiting for it");
        })
        .map_err(with_target_hint)
        .with_context(|| format!("cannot lock `{}`", lock_path.display()))?;
        if let Some(whole) = self.look_at_target(&to)? {
            return Ok((Outcome::AlreadyThere, whole));
        }
        let work = Work { folder: parent.join(format!(".{name}.fetch")) };
        work.begin()?;
        let result = self.install(&work, &to);
        if result.is_ok() || !self.is_worth_keeping(&result) {
            work.end();
        } else {
            work.end_but_for_downloads();
        }
        Ok((Outcome::Installed, result?))
    }

    /// Bytes that came over the network are kept when something else than they failed.
    fn is_worth_keeping(&self, result: &Result<Whole>) -> bool {
        let Err(error) = result else { return false };
        let refused = error.chain().any(|cause| {
            let cause = cause.downcast_ref().map_or(cause, Hinted::inner);
            cause.is::<content::Error>()
                || matches!(cause.downcast_ref(), Some(download::Error::TooLarge { .. }))
                || cause.downcast_ref::<unpack::Error>().is_some_and(|e| !matches!(e, unpack::Error::Disk { .. }))
        });
        matches!(self.source, Source::Url(_)) && !refused
    }

    /// What is at the target: nothing, a whole data set, or something that must not be touched.
    fn look_at_target(&self, to: &Path) -> Result<Option<Whole>> {
        let is_empty = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", to.display()));
            }
        };
        if is_empty {
            return Ok(None);
        }
        let whole = self.check(to).map_err(|error| {
            let text = "move the folder away, or name another one with `--to DIR`; nothing in it was changed";
            Hinted::wrap(error, text)
        })?;
        if !to.join("dataset.toml").exists() {
            write_description(to)?;
        }
        Ok(Some(whole))
    }

    fn check(&self, root: &Path) -> Result<Whole, content::Error> {
        let mut progress = (self.progress)("check", Unit::Files);
        content::check(root, &self.expected, &mut progress)
    }

    /// Brings the files beside the target, checks them, and renames.
    fn install(&self, work: &Work, to: &Path) -> Result<Whole> {
        match &self.source {
            Source::Url(url) => self.fetch_archive(url, work)?,
            Source::Archive(path) => self.unpack(path, work).map_err(with_archive_hint)?,
            Source::Folder(path) => self.copy_folder(path, work)?,
        }
        let root = content::find_root(&work.unpacked()).map_err(with_content_hint)?;
        let whole = self.check(&root).map_err(with_content_hint)?;
        write_description(&root)?;
        // Windows renames over nothing, not even over an empty folder.
        let _ = fs::remove_dir(to);
        fs::rename(&root, to).with_context(|| format!("cannot rename `{}` to `{}`", root.display(), to.display()))?;
        Ok(whole)
    }

    /// Downloads and unpacks; once anew if the archive turns out damaged, since a resumed file without a checksum
    /// may be made of two.
    fn fetch_archive(&self, url: &str, work: &Work) -> Result<()> {
        let archive = work.archive(url);
        for last in [false, true] {
            if !archive.exists() {
                let mut progress = (self.progress)("download", Unit::Bytes);
                progress.note(&format!("fetching {}", without_secrets(url)));
                let done = download(url, &archive, &self.options, &mut progress).map_err(with_download_hint)?;
                if done.resumed {
                    progress.note("(went on where an earlier run had stopped)");
                }
            }
            match self.unpack(&archive, work) {
                Err(error) if error.is_damage() && !last => {
                    let mut progress = (self.progress)("download", Unit::Bytes);
                    progress.note(&format!("{error}; fetching it anew"));
                    work.forget(&archive)?;
                }
                result => return result.map_err(with_archive_hint),
            }
        }
        unreachable!("the second round returns")
    }

    fn unpack(&self, archive: &Path, work: &Work) -> Result<(), unpack::Error> {
        let mut progress = (self.progress)("unpack", Unit::Files);
        let keep = |name: &str| {
            let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
            file == content::CSV || (folder.ends_with(content::IMAGES) && content::is_image(file))
        };
        unpack(archive, &work.unpacked(), &self.limits, &keep, &mut progress)?;
        Ok(())
    }

    /// Copies the files of a data set that passed the check; the originals are only read.
    fn copy_folder(&self, folder: &Path, work: &Work) -> Result<()> {
        let root = content::find_root(folder).map_err(with_content_hint)?;
        self.check(&root).map_err(with_content_hint)?;
        let mut progress = (self.progress)("copy", Unit::Files);
        progress.set_total(Some(self.expected.sums.len() as u64 + 1));
        let to = work.unpacked();
        fs::create_dir_all(to.join(content::IMAGES)).with_context(|| format!("cannot make `{}`", to.display()))?;
        let names = std::iter::once(content::CSV.to_owned()).chain(self.expected.names());
        for (done, name) in names.enumerate() {
            copy(&root.join(&name), &to.join(&name))?;
            progress.at(done as u64 + 1);
        }
        progress.finish();
        Ok(())
    }
}

/// Copies bytes, not permissions: a read-only original must not make a copy that cannot be removed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    fs::File::create_new(to)
        .and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {} bytes to `{}`", bytes.len(), to.display()))
}

fn write_description(root: &Path) -> Result<()> {
    let path = root.join("dataset.toml");
    let bytes = chinese_mnist::DATASET_TOML;
    fs::write(&path, bytes).with_context(|| format!("cannot write {} bytes to `{}`", bytes.len(), path.display()))
}

fn with_download_hint(error: download::Error) -> anyhow::Error {
    let page = chinese_mnist::KAGGLE_PAGE;
    let hint = match &error {
        download::Error::Unreachable { .. } => format!(
            "1. with a browser, anywhere: get the archive from {page}\n\
             2. here: cargo xtask fetch-data --from ARCHIVE.zip (or the folder that it unpacks to)\n\
             3. or without any data: `cargo run -p cn-train` trains on handwriting that it draws itself"
        ),
        download::Error::Refused { .. } => format!(
            "the address may have changed or want a login: get the archive from {page} with a browser,\n\
             then run `cargo xtask fetch-data --from ARCHIVE.zip`"
        ),
        download::Error::GaveUp { .. } | download::Error::TooSlow { .. } => {
            "run the same command again: it goes on where it stopped".into()
        }
        _ => return error.into(),
    };
    Hinted::wrap(error, hint)
}

fn with_archive_hint(error: unpack::Error) -> anyhow::Error {
    let hint = match &error {
        unpack::Error::NotZip { .. } => {
            "only zip archives are read: unpack others yourself and give the folder to `--from`"
        }
        error if error.is_damage() => "the archive did not arrive whole: get it again",
        unpack::Error::Disk { .. } => return error.into(),
        _ => {
            "nothing was unpacked, since an archive of images needs nothing of the kind: use another copy, or pack its \
             images anew"
        }
    };
    Hinted::wrap(error, hint)
}

fn with_content_hint(error: content::Error) -> anyhow::Error {
    let page = chinese_mnist::KAGGLE_PAGE;
    let hint = match &error {
        content::Error::Other { .. } => format!(
            "this gets Chinese MNIST alone: name its archive, or the folder that it unpacks to ({page});\n\
             images of your own need no fetching: `cargo run -p cn-train -- train --data DIR`"
        ),
        content::Error::Images { .. } | content::Error::Table { .. } => {
            format!("files were lost or changed on the way here: get the archive again from {page}")
        }
        content::Error::Unreadable { .. } => {
            "`--from` takes the path of a zip archive or of a folder that you can read; without it, the archive is \
             downloaded"
                .to_owned()
        }
    };
    Hinted::wrap(error, hint)
}

fn with_target_hint(error: std::io::Error) -> anyhow::Error {
    Hinted::wrap(error, "name a folder with `--to DIR` in a place where you can write; files are prepared beside it")
}

/// The folder beside the target where everything happens.
struct Work {
    folder: PathBuf,
}

impl Work {
    fn unpacked(&self) -> PathBuf {
        self.folder.join("unpacked")
    }

    /// One name for each address, so that what is left of one is not taken for another.
    fn archive(&self, url: &str) -> PathBuf {
        use sha2::{Digest, Sha256};
        let key = content::hex(&Sha256::digest(url)[..6]);
        self.folder.join(format!("{key}.zip"))
    }

    /// Makes the folder and removes what a killed run left, except downloads, which go on.
    fn begin(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make `{}`", self.folder.display()))?;
        self.clear_unpacked()
    }

    fn clear_unpacked(&self) -> Result<()> {
        let unpacked = self.unpacked();
        match fs::remove_dir_all(&unpacked) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove `{}`", unpacked.display()))
            }
            _ => Ok(()),
        }
    }

    fn forget(&self, archive: &Path) -> Result<()> {
        self.clear_unpacked()?;
        fs::remove_file(archive).with_context(|| format!("cannot remove `{}`", archive.display()))
    }

    /// Removes everything. What cannot be removed now is removed by the next run.
    fn end(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Removes everything but downloads.
    fn end_but_for_downloads(&self) {
        let _ = self.clear_unpacked();
        let _ = fs::remove_dir(&self.folder); // Only if it is empty.
    }
}
