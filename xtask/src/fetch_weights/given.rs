//! Weights from a file or an address that the user names: checked, then put where `--weights imagenet` finds them.

use super::hub::{self, Network};
use super::{Checked, Fetched, Job, Outcome, hash};
use crate::download::{Options, Unproven, download, without_secrets};
use crate::hint::Hinted;
use crate::progress::Unit;
use crate::workspace;
use anyhow::{Context, Result, bail};
use cn_lock::{AfterUse, Lock};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A file that is not what it is taken for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// torchvision's files carry the beginning of their SHA-256 in their name.
    #[error("`{name}` should have a SHA-256 that begins with {expected}, as its name says, and has {found}")]
    NameSaysOther { name: String, expected: String, found: String },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// Its first bytes are those of no format that is read.
    #[error("`{}` is neither safetensors nor a file of PyTorch's", path.display())]
    NotWeights { path: PathBuf },
    /// cn-train cannot read it; it has said why.
    #[error("`{}` cannot be used as weights", path.display())]
    Unusable { path: PathBuf },
    /// It is read, but holds another network.
    #[error("`{}` holds {found}, expected {expected}", path.display())]
    OtherNetwork { path: PathBuf, expected: String, found: String },
}

/// cn-train could not be run, which says nothing about the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{0}`")]
struct NotAsked(String);

const ZIP: &[u8] = b"PK\x03\x04";

/// Where the user says that the weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Url(String),
    File(PathBuf),
}

impl Given {
    pub(super) fn parse(from: &str) -> Result<Self> {
        let lower = from.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Self::Url(from.to_owned()));
        }
        if from.contains("://") {
            bail!("`{from}`: only http:// and https:// are fetched; give a file by its path");
        }
        let path = std::path::absolute(from).with_context(|| format!("`{from}` is no path"))?;
        let about = fs::metadata(&path).map_err(|source| {
            let error = Error::Unreadable { path: from.into(), source };
            Hinted::wrap(error, "`--from` takes the path of a .safetensors or .pth file, or its address")
        })?;
        if !about.is_file() {
            bail!("`{from}` is no file: name the .safetensors or .pth file itself");
        }
        Ok(Self::File(path))
    }

    /// As it is recorded: addresses without what may be a secret in them (user, password, query), files by their name
    /// alone, since paths mean nothing elsewhere.
    fn source(&self) -> String {
        match self {
            Self::Url(url) => without_secrets(url),
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    fn file_name(&self) -> String {
        let source = self.source();
        source.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl Job {
    /// From a file or an address, into the folder of weights.
    pub(super) fn take_given(&self, given: &Given) -> Result<Fetched> {
        fs::create_dir_all(&self.weights).with_context(|| format!("cannot make `{}`", self.weights.display()))?;
        let lock = self.weights.join(format!(".{}.lock", self.model.name));
        let mut waited = false;
        let _lock = Lock::acquire(&lock, AfterUse::Removed, || {
            waited = true;
            (self.progress)("wait", Unit::Files).note("another process fetches these weights; waiting for it");
        })
        .with_context(|| format!("cannot lock `{}`", lock.display()))?;
        if waited && let Some(there) = self.just_placed(given) {
            return Ok(there);
        }
        let work = self.weights.join(format!(".{}.fetch", self.model.name));
        fs::create_dir_all(&work).with_context(|| format!("cannot make `{}`", work.display()))?;
        let result = self.bring_given(given, &work);
        match &result {
            Ok(_) => drop(fs::remove_dir_all(&work)),
            // What arrived over the network goes on in the next run; an empty folder does not stay.
            Err(_) => drop(fs::remove_dir(&work)),
        }
        result
    }

    /// What the process that was waited for has put there from the same address.
    fn just_placed(&self, given: &Given) -> Option<Fetched> {
        let Given::Url(url) = given else { return None };
        let (source, name) = (given.source(), self.model.name);
        let about: Value =
            serde_json::from_slice(&fs::read(self.weights.join(format!("{name}.source.json"))).ok()?).ok()?;
        let paths = ["safetensors", "pth"].map(|ending| self.weights.join(format!("{name}.{ending}")));
        let path = paths.into_iter().find(|path| path.is_file())?;
        let (sha256, bytes) = hash(&path).ok()?;
        // Of an address with a query only a part is noted.
        let is_it = *url == source && about["source"] == source.as_str() && about["sha256"] == sha256.as_str();
        let checked = if hash_in_name(&given.file_name()).is_some() { Checked::Name } else { Checked::Nothing };
        is_it.then_some(Fetched { outcome: Outcome::AlreadyThere, path, source, sha256, bytes, checked })
    }

    fn bring_given(&self, given: &Given, work: &Path) -> Result<Fetched> {
        let arrived = match given {
            Given::File(path) => path.clone(),
            Given::Url(_) if self.settings.network == Network::Forbidden => {
                let error = hub::Error::OfflineUrl { url: given.source() };
                return Err(Hinted::wrap(error, "unset it, or give a file by its path"));
            }
            Given::Url(url) => {
                let to = work.join("arrived");
                let mut progress = (self.progress)("download", Unit::Bytes);
                progress.note(&format!("fetching {}", given.source()));
                let unproven = match hash_in_name(&given.file_name()) {
                    Some(_) => Unproven::GoesOn,
                    None => Unproven::Anew,
                };
                let options = Options { unproven, ..self.options.clone() };
                download(url, &to, &options, &mut progress).map_err(|e| self.with_hint(e.into()))?;
                to
            }
        };
        let checked = self.check_given(given, &arrived);
        // What the file is cannot change; why cn-train could not be asked can.
        let is_judged = |error: &anyhow::Error| error.downcast_ref::<NotAsked>().is_none();
        if let (Given::Url(_), Err(error)) = (given, &checked)
            && is_judged(error)
        {
            let _ = fs::remove_file(&arrived);
        }
        let (sha256, bytes, checked) = checked?;
        let (path, outcome) = self.place(given, &arrived, work, &sha256, bytes)?;
        Ok(Fetched { outcome, path, source: given.source(), sha256, bytes, checked })
    }

    fn check_given(&self, given: &Given, arrived: &Path) -> Result<(String, u64, Checked)> {
        let (sha256, bytes) = hash(arrived)?;
        let name = given.file_name();
        let checked = match hash_in_name(&name) {
            Some(expected) if !sha256.starts_with(expected) => {
                let error = Error::NameSaysOther { expected: expected.into(), found: sha256, name };
                return Err(Hinted::wrap(error, "the file is damaged or was renamed: get it again"));
            }
            Some(_) => Checked::Name,
            None => Checked::Nothing,
        };
        (self.progress)("check", Unit::Files).note(&format!("reading it as a {} with cn-train", self.model.name));
        (self.check)(arrived, self.model.name)?;
        Ok((sha256, bytes, checked))
    }

    /// Gives the file its name and notes where it came from; another one for the same model goes.
    fn place(
        &self,
        given: &Given,
        arrived: &Path,
        work: &Path,
        sha256: &str,
        bytes: u64,
    ) -> Result<(PathBuf, Outcome)> {
        let name = self.model.name;
        let [ending, other] = if is_zip(arrived)? { ["pth", "safetensors"] } else { ["safetensors", "pth"] };
        let path = self.weights.join(format!("{name}.{ending}"));
        let other = self.weights.join(format!("{name}.{other}"));
        if path.is_file() && !other.is_file() && hash(&path)?.0 == sha256 {
            return Ok((path, Outcome::AlreadyThere));
        }
        let new = work.join("new");
        fs::copy(arrived, &new).with_context(|| format!("cannot copy `{}`", arrived.display()))?;
        let about = json!({ "source": given.source(), "sha256": sha256, "bytes": bytes });
        let about_path = self.weights.join(format!("{name}.source.json"));
        fs::write(&about_path, format!("{about:#}\n"))
            .with_context(|| format!("cannot write `{}`", about_path.display()))?;
        fs::rename(&new, &path).with_context(|| format!("cannot rename to `{}`", path.display()))?;
        match fs::remove_file(&other) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove `{}`", other.display()));
            }
            _ => {}
        }
        Ok((path, Outcome::Installed))
    }
}

/// The digits in `resnet18-f37072fd.pth`, which torch.hub compares with the SHA-256 as well.
fn hash_in_name(name: &str) -> Option<&str> {
    let digits = name.rsplit_once('.')?.0.rsplit_once('-')?.1;
    (digits.len() >= 8 && super::hub::is_hex(digits)).then_some(digits)
}

fn is_zip(path: &Path) -> Result<bool> {
    Ok(head(path)?.starts_with(ZIP))
}

/// The first bytes of a file, at most 9.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(9).read_to_end(&mut head));
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(head)
}

/// Refuses what begins as no weights do: to hear it from cn-train may take as long as building that.
fn check_head(path: &Path) -> Result<()> {
    let head = head(path)?;
    // The length of a JSON object and the object.
    if head.starts_with(ZIP) || head.get(8) == Some(&b'{') {
        return Ok(());
    }
    let hint = match head.first() {
        // What PyTorch wrote before version 1.6.
        Some(0x80) => "it looks like a `.pth` of before PyTorch 1.6: save it again with a newer one",
        _ => "give the .safetensors or .pth file itself; a web page saved in its place is none",
    };
    Err(Hinted::wrap(Error::NotWeights { path: path.into() }, hint))
}

/// Asks `cn-train inspect` what a file holds: what it reads, `--weights` reads.
pub(super) fn check_with_cn_train(path: &Path, expected: &str) -> Result<()> {
    check_head(path)?;
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--package", "cn-train", "--", "inspect", "--json"]).arg(path);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| NotAsked(workspace::show(&command)))?;
    // 1 and 2 are cn-train's own; cargo ends with 101 where it cannot build it.
    if !output.status.success() && !matches!(output.status.code(), Some(1 | 2)) {
        return Err(NotAsked(workspace::show(&command)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let Some(inspected) = last.filter(|_| output.status.success()) else {
        return Err(Error::Unusable { path: path.into() }.into());
    };
    compare(path, expected, &inspected)
}

fn compare(path: &Path, expected: &str, inspected: &Value) -> Result<()> {
    let found = inspected["network"]["arch"].as_str();
    if found == Some(expected) {
        return Ok(());
    }
    let error = Error::OtherNetwork {
        path: path.into(),
        expected: format!("a {expected}"),
        found: found.map_or("no network that is known here".into(), |found| format!("a {found}")),
    };
    Err(match found {
        Some(found) => Hinted::wrap(error, format!("`cargo xtask fetch-weights {found} --from FILE` takes it")),
        None => Hinted::wrap(error, "torchvision's and timm's files of the three ResNets are read"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_torchvision_hold_a_hash() {
        assert_eq!(hash_in_name("resnet18-f37072fd.pth"), Some("f37072fd"));
        for none in ["resnet18.pth", "model.safetensors", "a-b.pth", "resnet18-f37072f.pth", "x-F37072FD.pth"] {
            assert_eq!(hash_in_name(none), None, "{none}");
        }
        let url = Given::Url("https://me:word@a.example/m/resnet18-f37072fd.pth?sig=1/2".into());
        assert_eq!(url.file_name(), "resnet18-f37072fd.pth");
        assert_eq!(url.source(), "https://a.example/m/resnet18-f37072fd.pth");
        assert_eq!(Given::Url("http://a.example".into()).source(), "http://a.example");
    }

    #[test]
    fn what_begins_as_no_weights_do_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8]| {
            let path = dir.path().join("x");
            fs::write(&path, bytes).unwrap();
            check_head(&path)
        };
        for weights in [&b"PK\x03\x04"[..], b"\x40\0\0\0\0\0\0\0{}"] {
            check(weights).unwrap();
        }
        for other in [&b""[..], b"<!DOCTYPE html>", b"PK", b"# Read me", b"\x80\x02\x8a\x0a"] {
            assert!(check(other).unwrap_err().to_string().ends_with("is neither safetensors nor a file of PyTorch's"));
        }
    }

    #[test]
    fn another_network_is_named_with_the_command_that_takes_it() {
        let check = |inspected: Value| compare(Path::new("x"), "resnet18", &inspected);
        check(json!({ "network": { "arch": "resnet18" } })).unwrap();
        let error = check(json!({ "network": { "arch": "resnet50" } })).unwrap_err();
        assert_eq!(error.to_string(), "`x` holds a resnet50, expected a resnet18");
        assert!(error.downcast_ref::<Hinted>().unwrap().hint.contains("fetch-weights resnet50"));
        let error = check(json!({ "network": null })).unwrap_err();
        assert_eq!(error.to_string(), "`x` holds no network that is known here, expected a resnet18");
    }
}
