//! What the command line itself complains about, and how every error ends the program.

use std::error::Error;

type Source = Box<dyn Error + Send + Sync>;

/// A complaint with advice.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    message: String,
    hint: Option<String>,
    usage: bool,
    #[source]
    source: Option<Source>,
}

impl Problem {
    /// The flags or settings are wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, usage: true, source: None }
    }

    /// Something is not as it should be: exit code 1.
    pub(crate) fn failure(message: impl Into<String>) -> Self {
        Self { usage: false, ..Self::usage(message) }
    }

    /// A folder that was named as a run, and is none.
    pub(crate) fn no_run(folder: &std::path::Path) -> Self {
        Self::failure(format!("there is no run in `{}`", folder.display()))
            .hint("name the folder that holds its config.toml")
    }

    pub(crate) fn unfinished(folder: &std::path::Path) -> Self {
        Self::failure(format!("the run `{}` was not trained to its end", folder.display()))
            .hint("go on with it: `cn-train train --resume RUN`")
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn caused_by(self, source: impl Into<Source>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

/// 2 for wrong usage, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|e| e.downcast_ref::<Problem>().is_some_and(|p| p.usage));
    if usage { 2 } else { 1 }
}

/// The advice of the outermost error that has some.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|e| {
        let own = e.downcast_ref::<Problem>().and_then(|p| p.hint.clone());
        own.or_else(|| library_hint(e).or_else(|| system_hint(e)).map(str::to_owned))
    })
}

fn system_hint<'a>(e: &'a (dyn Error + 'static)) -> Option<&'a str> {
    use std::io::ErrorKind::{
        FileTooLarge, IsADirectory, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match e.downcast_ref::<std::io::Error>()?.kind() {
        StorageFull | QuotaExceeded => Some(
            "make room on that disk and start again; a run that has a checkpoint goes on with `train --resume RUN`",
        ),
        FileTooLarge => Some(
            "raise the limit of the size of files (`ulimit -f`) and start again; a run that has a checkpoint goes on with \
             `train --resume RUN`",
        ),
        NotADirectory => Some("a file has the name that a folder should have: move it away"),
        IsADirectory => Some("a folder has the name that a file should have: move it away, or name a file"),
        PermissionDenied => Some("change who may use it (`ls -l`), or name another place"),
        ReadOnlyFilesystem => Some("name a place that can be written to"),
        _ => None,
    }
}

fn library_hint<'a>(e: &'a (dyn Error + 'static)) -> Option<&'a str> {
    None.or_else(|| e.downcast_ref::<cn_data::Error>().and_then(cn_data::Error::hint))
        .or_else(|| e.downcast_ref::<cn_learn::Error>().and_then(cn_learn::Error::hint))
        .or_else(|| e.downcast_ref::<cn_zoo::Error>().and_then(cn_zoo::Error::hint))
        .or_else(|| e.downcast_ref::<cn_report::Error>().and_then(cn_report::Error::hint))
        .or_else(|| e.downcast_ref::<cn_synth::Error>().and_then(cn_synth::Error::hint))
        .or_else(|| e.downcast_ref::<cn_augment::Error>().and_then(cn_augment::Error::hint))
        .or_else(|| e.downcast_ref::<cn_ops::Error>().and_then(cn_ops::Error::hint))
        .or_else(|| e.downcast_ref::<cn_cuda::Error>().and_then(cn_cuda::Error::hint))
}
