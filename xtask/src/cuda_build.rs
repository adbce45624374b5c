//! `cargo xtask cuda-build`: `cn-train` for NVIDIA GPUs, on a machine with or without a CUDA toolkit.

use crate::args::Args;
use crate::hint::Hinted;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const USAGE: &str = "cuda-build [--check]";

/// The parts of the compiler that the kernels need, as packages for Python. They share one tree. Of a later version than
/// 13.0, PTX would be too new for the drivers that this version asks for.
const PACKAGES: [&str; 4] =
    ["nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-crt==13.0.88", "nvidia-nvvm==13.0.88", "nvidia-cuda-runtime==13.0.96"];

/// A driver without a GPU: what the program asks for first, answered with `CUDA_ERROR_NO_DEVICE`.
const STUB: &str = "int cuInit(unsigned flags) { return 100; }\nint cuDriverGetVersion(int *version) { return 100; }\n";

#[derive(Debug, thiserror::Error)]
#[error("no CUDA compiler could be had: {0}")]
struct NoCompiler(String);

/// Runs the task; the last line is the path of the program.
pub(crate) fn run(args: Args) -> Result<()> {
    let mut rest = args.rest();
    let check = rest.iter().position(|arg| arg == "--check").map(|at| rest.remove(at)).is_some();
    Args::new(rest).finish()?;
    let program = program()?;
    if check {
        check_start(&program)?;
    }
    say!("{}", program.display());
    Ok(())
}

/// Builds the program for GPUs; its path.
pub(crate) fn program() -> Result<PathBuf> {
    build(&compiler()?)
}

/// For `ci`: builds and starts the program; says why it cannot where there is no compiler to be had.
pub(crate) fn run_for_ci() -> Result<Option<String>> {
    let nvcc = match compiler() {
        Ok(nvcc) => nvcc,
        Err(error) if error.downcast_ref::<Hinted>().is_some() => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    };
    check_start(&build(&nvcc)?)?;
    Ok(None)
}

/// Where this task keeps what it makes.
fn folder() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from);
    let folder = workspace::root().join(target).join("cuda");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    Ok(folder)
}

/// nvcc: the one that the environment names, one of version 13.0 that is installed, or one from packages.
fn compiler() -> Result<PathBuf> {
    if let Some(nvcc) = env::var_os("NVCC") {
        return Ok(nvcc.into());
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let installed = homes.chain(["/usr/local/cuda-13.0", "/usr/local/cuda"].map(PathBuf::from));
    let installed = installed.map(|home| home.join("bin").join("nvcc"));
    let toolchain = folder()?.join("toolchain");
    let packaged = toolchain.join("nvidia/cu13/bin/nvcc");
    if let Some(nvcc) = installed.chain([packaged.clone()]).find(|nvcc| is_of_13_0(nvcc)) {
        return Ok(nvcc);
    }
    say!("fetching the CUDA 13.0 compiler (packages for Python, about 100 MB, NVIDIA's licence)");
    install(&toolchain)?;
    ensure!(is_of_13_0(&packaged), "`{}` does not run", packaged.display());
    Ok(packaged)
}

fn is_of_13_0(nvcc: &Path) -> bool {
    let output = Command::new(nvcc).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("release 13.0"))
}

fn install(folder: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]);
    command.args(["--root-user-action=ignore", "--upgrade", "--target"]).arg(folder).args(PACKAGES);
    let hint = "install CUDA 13.0 and set CUDA_HOME, or python3 with pip and a network";
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Hinted::wrap(NoCompiler(format!("pip ended with {status}")), hint)),
        Err(error) => Err(Hinted::wrap(NoCompiler(format!("python3 does not start ({error})")), hint)),
    }
}

/// Builds the program; what does not depend on CUDA is shared with the build for the CPU.
fn build(nvcc: &Path) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args([
        "build",
        "--package",
        "cn-train",
        "--features",
        "cudnn",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = command.env("NVCC", nvcc).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run `{}`", workspace::show(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", workspace::show(&command), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let built = messages.lines().rev().find_map(executable).context("cargo names no program")?;
    let program = folder()?.join("cn-train");
    // A copy beside the one for the CPU, whose place the next build takes.
    let copy = program.with_extension("new");
    fs::copy(&built, &copy).with_context(|| format!("cannot copy `{}`", built.display()))?;
    // Without `strip` the program is larger, nothing else.
    let _ = Command::new("strip").arg(&copy).stderr(Stdio::null()).status();
    fs::rename(&copy, &program).with_context(|| format!("cannot write `{}`", program.display()))?;
    Ok(program)
}

/// The program of `cn-train` in one of cargo's messages.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_ours = message["target"]["name"] == "cn-train" && message["target"]["kind"][0] == "bin";
    message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
}

/// Starts the program on a driver that knows no GPU, and without a driver where there is none; it must say so in words.
fn check_start(program: &Path) -> Result<()> {
    let stub = folder()?.join("stub");
    fs::create_dir_all(&stub)?;
    let source = stub.join("stub.c");
    fs::write(&source, STUB)?;
    let library = stub.join("libcuda.so.1");
    let mut command = Command::new("cc");
    workspace::run(command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source))?;
    expect(program, Some(&stub), "the NVIDIA driver finds no GPU")?;
    say!("started on a driver without a GPU: it says so");
    if has_driver() {
        say!("skipped: a start without a driver (this machine has one)");
        return Ok(());
    }
    expect(program, None, "there is no NVIDIA driver")?;
    say!("started without a driver: it says so");
    Ok(())
}

fn has_driver() -> bool {
    Command::new("nvidia-smi").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Asks for a GPU, and fails unless the program answers with these words and ends with 1.
fn expect(program: &Path, libraries: Option<&Path>, words: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("gpu-check");
    if let Some(libraries) = libraries {
        // In front of others; their order says which one is loaded.
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command.output().with_context(|| format!("cannot start `{}`", program.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(1) || !text.contains(words) {
        bail!(
            "`{} gpu-check` should say `{words}`, it ended with {} and said: {text}",
            program.display(),
            output.status
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let library = r#"{"reason":"compiler-artifact","target":{"name":"cn-ops","kind":["lib"]},"executable":null}"#;
        let other = r#"{"target":{"name":"cn-train","kind":["custom-build"]},"executable":"build"}"#;
        let ours = r#"{"target":{"name":"cn-train","kind":["bin"]},"executable":"target/debug/cn-train"}"#;
        assert_eq!([library, other, "no JSON"].map(executable), [None, None, None]);
        assert_eq!(executable(ours), Some("target/debug/cn-train".into()));
    }

    #[test]
    fn what_is_no_compiler_is_none() {
        assert!(!is_of_13_0(Path::new("no-such-compiler")));
    }
}
