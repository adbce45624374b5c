//! Compiles the kernels where the feature `cuda` asks for them: code for compute capability 9.0, and PTX for 8.0 that the
//! driver compiles for every newer GPU.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "CARGO_FEATURE_CUDA"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("kernels.fatbin");
    let nvcc = nvcc();
    let mut command = Command::new(&nvcc);
    command.args(["-fatbin", "-O3", "-std=c++17", "--compress-mode=size"]);
    command.args(["-gencode=arch=compute_90a,code=sm_90a", "-gencode=arch=compute_80,code=compute_80"]);
    command.arg("-o").arg(&out).arg("kernels/kernels.cu");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("`{}` could not compile the kernels: {status}", nvcc.display()),
        Err(error) => panic!(
            "cannot run `{}` ({error}): the feature `cuda` needs the CUDA 13.0 compiler; `cargo xtask cuda-build` gets it, \
             or set NVCC or CUDA_HOME",
            nvcc.display()
        ),
    }
}

/// `$NVCC`, or the one of `$CUDA_HOME` or `$CUDA_PATH`, or of the usual place, or of the search path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    homes
        .chain([Path::new("/usr/local/cuda").to_owned()])
        .map(|home| home.join("bin").join("nvcc"))
        .find(|nvcc| nvcc.is_file())
        .unwrap_or_else(|| "nvcc".into())
}
