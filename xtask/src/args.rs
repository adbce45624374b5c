//! Flags of a task: few enough to read by hand.

use anyhow::{Result, anyhow};

/// Wrong usage of the command line; the program then exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What follows the name of a task.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn new(args: Vec<String>) -> Self {
        Self(args)
    }

    /// Takes `--flag VALUE` or `--flag=VALUE` out, if it is there.
    ///
    /// # Errors
    ///
    /// If the value is missing or the flag comes twice.
    pub(crate) fn value(&mut self, flag: &str) -> Result<Option<String>> {
        let mut found = None;
        let mut i = 0;
        while i < self.0.len() {
            let value = if self.0[i] == flag {
                self.0.remove(i);
                if i == self.0.len() || self.0[i].starts_with("--") {
                    return Err(usage(format!("`{flag}` wants a value")));
                }
                self.0.remove(i)
            } else if let Some(value) = self.0[i].strip_prefix(flag).and_then(|r| r.strip_prefix('=')) {
                let value = value.to_owned();
                self.0.remove(i);
                value
            } else {
                i += 1;
                continue;
            };
            if found.replace(value).is_some() {
                return Err(usage(format!("`{flag}` is there twice")));
            }
        }
        Ok(found)
    }

    /// Takes `--flag` out, and says whether it was there.
    pub(crate) fn flag(&mut self, flag: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| arg != flag);
        self.0.len() < before
    }

    /// Takes the first word that is no flag out, if there is one.
    ///
    /// # Errors
    ///
    /// If a flag comes first.
    pub(crate) fn positional(&mut self) -> Result<Option<String>> {
        match self.0.first() {
            Some(arg) if arg.starts_with('-') => Err(usage(format!("unexpected argument `{arg}`"))),
            Some(_) => Ok(Some(self.0.remove(0))),
            None => Ok(None),
        }
    }

    /// Everything, untouched.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }

    /// Refuses what is left.
    ///
    /// # Errors
    ///
    /// If anything is left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            Some(arg) => Err(usage(format!("unexpected argument `{arg}`"))),
            None => Ok(()),
        }
    }
}

fn usage(text: String) -> anyhow::Error {
    anyhow!(Usage(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn values_are_taken_in_both_forms() {
        let mut args = args("--from a.zip --to=b");
        assert_eq!(args.value("--to").unwrap().as_deref(), Some("b"));
        assert_eq!(args.value("--from").unwrap().as_deref(), Some("a.zip"));
        assert_eq!(args.value("--from").unwrap(), None);
        args.finish().unwrap();
        let mut args = self::args("--from a.zip name");
        args.value("--from").unwrap();
        assert_eq!(args.positional().unwrap().as_deref(), Some("name"));
        assert_eq!(args.positional().unwrap(), None);
        assert!(self::args("--fro name").positional().unwrap_err().is::<Usage>());
    }

    #[test]
    fn wrong_usage_is_told_apart_from_failure() {
        for text in ["--from", "--from --to", "--from a --from b"] {
            let error = args(text).value("--from").unwrap_err();
            assert!(error.is::<Usage>(), "{text}");
        }
        assert!(args("stray").finish().unwrap_err().is::<Usage>());
    }
}
