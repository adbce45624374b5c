//! What can go wrong, and what to do about it.

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A GPU that cannot be used, or a call that it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program was built without the feature `cuda`.
    #[error("this build has no CUDA support")]
    NotCompiled,
    /// There is no NVIDIA driver.
    #[error("there is no NVIDIA driver: `libcuda.so.1` is not on this machine")]
    NoDriver,
    /// The driver does not know what the kernels were compiled with.
    #[error("the NVIDIA driver knows CUDA {}.{}, and the kernels need {}.{}", found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    DriverTooOld {
        /// CUDA version of the driver, 1000 times the first number and 10 times the second.
        found: i32,
        /// The one that the kernels need.
        needed: i32,
    },
    /// The driver finds no GPU.
    #[error("the NVIDIA driver finds no GPU")]
    NoDevice,
    /// There are GPUs, but none of this number.
    #[error("there is no GPU {ordinal}: the driver finds {count}, counted from 0")]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is older than the kernels.
    #[error("`{name}` has compute capability {}.{}, and the kernels need 8.0 or newer", found.0, found.1)]
    ComputeCapability {
        /// The GPU.
        name: String,
        /// What it can do.
        found: (i32, i32),
    },
    /// The memory of the device does not suffice.
    #[error("the GPU has no {} MiB left for {what} (free: {} MiB)", bytes.div_ceil(1 << 20), free >> 20)]
    OutOfMemory {
        /// What was to be stored.
        what: String,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that were free.
        free: usize,
    },
    /// A buffer has not the size that a kernel reads or writes.
    #[error("`{name}` has {found} bytes, expected {expected}")]
    Length {
        /// The argument.
        name: &'static str,
        /// What would fit.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// A size that no kernel takes.
    #[error("`{name}` is {found}, expected {expected}")]
    Setting {
        /// The argument.
        name: &'static str,
        /// What came.
        found: String,
        /// What would fit.
        expected: &'static str,
    },
    /// The driver refused a call.
    #[error("the NVIDIA driver failed in {call}: {text} ({code})")]
    Driver {
        /// What was tried.
        call: &'static str,
        /// Its number for the failure.
        code: i32,
        /// Its name for it.
        text: String,
    },
    /// cuDNN refused a call.
    #[error("cuDNN failed in {call}: {text}")]
    Cudnn {
        /// What was tried.
        call: &'static str,
        /// Its name for the failure.
        text: String,
    },
    /// A kernel could not be launched.
    #[error("cannot launch the kernel `{kernel}`: {reason}")]
    Kernel {
        /// Its name.
        kernel: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// There is no C++ compiler for the emulation.
    #[error("cannot run the C++ compiler `{compiler}`: {reason}")]
    NoCompiler {
        /// Its name.
        compiler: String,
        /// Why not.
        reason: String,
    },
    /// The kernels could not be compiled for the emulation.
    #[error("cannot emulate the kernels: {reason}")]
    Emulation {
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotCompiled => Some("`cargo xtask cuda-build` builds the program for GPUs; or use `--device cpu`"),
            Self::NoDriver => Some("install NVIDIA's driver, 580 or newer, or use `--device cpu`"),
            Self::DriverTooOld { .. } => Some("update NVIDIA's driver to 580 or newer, or use `--device cpu`"),
            Self::NoDevice => {
                Some("look at what `nvidia-smi` lists and at CUDA_VISIBLE_DEVICES, or use `--device cpu`")
            }
            Self::NoSuchDevice { .. } => Some("`nvidia-smi` lists the GPUs; CUDA_VISIBLE_DEVICES hides some"),
            Self::ComputeCapability { .. } => Some("use a GPU of 2020 or later (A100, RTX 30), or `--device cpu`"),
            Self::OutOfMemory { .. } => Some("use a smaller batch or smaller images, or end what else uses the GPU"),
            _ => None,
        }
    }
}
