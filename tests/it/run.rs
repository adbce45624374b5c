//! Runs the program in a folder of its own.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder to run the program in; caches and runs stay inside.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a run of the program gave.
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes away what a run wrote last, as if it had been cut off.
    pub(crate) fn cut(&self, run: &str) {
        for name in ["summary.json", "model.safetensors", "model.json", "checkpoints/last.safetensors"] {
            std::fs::remove_file(self.path(run).join(name)).expect(name);
        }
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).expect(name)
    }

    /// A grey image of one level.
    pub(crate) fn image(&self, name: &str, level: u8) -> &Self {
        let mut png = std::io::Cursor::new(Vec::new());
        let image = image::GrayImage::from_pixel(16, 16, image::Luma([level]));
        image.write_to(&mut png, image::ImageFormat::Png).expect("encoded");
        self.write(name, png.into_inner())
    }

    /// Images of two classes in folders.
    pub(crate) fn folders(&self, n: u8) -> &Self {
        for i in 0..n {
            self.image(&format!("images/dark/{i}.png"), i).image(&format!("images/light/{i}.png"), 255 - i);
        }
        self
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cn-train"));
        command.args(args).current_dir(self.folder.path()).env("XDG_CACHE_HOME", self.path("cache"));
        for name in ["CN_ISA", "RUST_LOG", "COLUMNS", "CN_DATA", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program with these words.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args))
    }

    /// Runs a line without quotes.
    pub(crate) fn line(&self, line: &str) -> Ended {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The result of a command that must succeed, with `--json`.
    pub(crate) fn result(&self, line: &str) -> Value {
        self.line(&format!("{line} --json")).result()
    }
}

impl Ended {
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().unwrap_or(-1);
        Self { stdout: text(output.stdout), stderr: text(output.stderr), code }
    }

    /// The three, as one text.
    pub(crate) fn snapshot(&self) -> String {
        let Self { stdout, stderr, code } = self;
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            _ => format!("--- {name}\n{}\n", text.trim_end()),
        };
        format!("{}{}--- exit {code}\n", part("stdout", stdout), part("stderr", stderr))
    }

    /// The last line of a command that must have succeeded.
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.snapshot());
        let lines: Vec<Value> =
            self.stdout.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
        lines.last().expect("at least one line").clone()
    }
}

/// The real data.
pub(crate) struct RealData {
    folder: PathBuf,
    /// Where they were unpacked, if they were.
    _unpacked: Option<TempDir>,
}

impl RealData {
    /// The unpacked data, else those of the archive beside the repository; `None` with a line that says so.
    #[allow(clippy::print_stdout, reason = "a test says what it skips")]
    pub(crate) fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let places = [std::env::var_os("CN_DATA").map(PathBuf::from), Some(root.join("data/chinese-mnist"))];
        let found = places.into_iter().flatten().find(|folder| folder.join("chinese_mnist.csv").is_file());
        if let Some(folder) = found {
            return Some(Self { folder: folder.canonicalize().expect("it is there"), _unpacked: None });
        }
        let archive = root.join("../shared/data/chinese-mnist.zip");
        if !archive.is_file() {
            println!("skipped: no real data in $CN_DATA or data/chinese-mnist");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = std::fs::File::open(archive).expect("readable");
        zip::ZipArchive::new(file).and_then(|mut zip| zip.extract(folder.path())).expect("an archive");
        Some(Self { folder: folder.path().to_owned(), _unpacked: Some(folder) })
    }

    pub(crate) fn folder(&self) -> &str {
        self.folder.to_str().expect("a path in UTF-8")
    }
}
