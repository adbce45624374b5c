//! Where results go: found out before the work, not after it.

use crate::config::DataConfig;
use crate::problem::Problem;
use anyhow::Result;
use cn_data::Spec;
use cn_report::RunFolder;
use std::path::Path;

/// Finds out whether something can be written to `folder`, which need not be there yet; leaves nothing behind.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let refused = |e| refused(folder, e);
    let folder = std::path::absolute(folder).map_err(refused)?;
    if let Some(existing) = folder.ancestors().find(|folder| folder.exists()) {
        let probe = existing.join(format!(".cn-train-{}", std::process::id()));
        std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).map_err(refused)?;
    }
    Ok(())
}

/// Refuses a place among images that are found by looking through their folder: pictures of results would be the next
/// images of it.
pub(crate) fn check_outside(out: &Path, data: &DataConfig) -> Result<()> {
    let Some(dir) = data.dir.as_ref().filter(|dir| data.csv.is_none() && dir.is_dir()) else { return Ok(()) };
    if Spec::of_folder(dir)?.is_some_and(|spec| spec.csv.is_some()) {
        return Ok(());
    }
    let (Ok(dir), Ok(place)) = (dir.canonicalize(), std::path::absolute(out)) else { return Ok(()) };
    let real = place.ancestors().find_map(|folder| folder.canonicalize().ok());
    if !real.is_some_and(|real| real.starts_with(&dir)) {
        return Ok(());
    }
    let problem = format!(
        "`{}` is in the folder of the images, `{}`, and what is written there would be taken for some of them",
        out.display(),
        dir.display()
    );
    Err(Problem::failure(problem).hint("choose an `--out` elsewhere").into())
}

/// The same, for results that would take the place of a run's own.
pub(crate) fn check_apart(folder: &Path) -> Result<()> {
    if RunFolder::new(folder).holds_run() {
        let problem = format!("the folder `{}` holds a run, whose files would be overwritten", folder.display());
        return Err(Problem::failure(problem).hint("choose another `--out`, such as a folder in it").into());
    }
    check(folder)
}

/// Refuses a file that is to be of a kind, such as `html`, and is not named so: it may be something else's.
pub(crate) fn check_kind(path: &Path, what: &str, kind: &str) -> Result<(), Problem> {
    if path.extension().is_some_and(|found| found.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    Err(Problem::usage(format!("the {what}, and `{}` is not named so", path.display()))
        .hint(format!("give it a name that ends in `.{kind}`")))
}

/// Makes `folder` where it is not there.
pub(crate) fn make(folder: &Path) -> Result<()> {
    Ok(std::fs::create_dir_all(folder).map_err(|e| refused(folder, e))?)
}

fn refused(folder: &Path, error: std::io::Error) -> Problem {
    Problem::failure(format!("cannot write to the folder `{}`", folder.display()))
        .caused_by(error)
        .hint("choose another `--out`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_to_come_is_checked_and_not_made() {
        let parent = tempfile::tempdir().unwrap();
        check(&parent.path().join("a/b")).unwrap();
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left");
        make(&parent.path().join("a/b")).unwrap();
        check(&parent.path().join("a/b")).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        for folder in [file.clone(), file.join("below")] {
            let text = check(&folder).unwrap_err().to_string();
            assert_eq!(text, format!("cannot write to the folder `{}`", folder.display()));
        }
    }
}
