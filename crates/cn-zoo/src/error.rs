//! What can go wrong with an architecture or a weight file.

use candle_core::{DType, Shape};
use std::path::PathBuf;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An architecture that cannot be built, or a weight file that cannot be read, written or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no architecture has.
    #[error("no architecture is called `{name}`; known are {known}")]
    UnknownArch {
        /// What came.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A number in a configuration that must be positive, or a probability outside [0, 1).
    #[error("`{name}` is {value}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What came.
        value: f64,
        /// The range.
        expected: &'static str,
    },
    /// A file that cannot be read.
    #[error("cannot read the weight file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write the weight file `{}`{}", path.display(), bytes.map_or_else(String::new, |n| format!(" of {n} bytes")))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// How large it is to be, where that is known.
        bytes: Option<u64>,
        /// Why.
        source: std::io::Error,
    },
    /// A file that was read but cannot be used.
    #[error("cannot use the weight file `{}`", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A file past the size that is read into memory.
    #[error("the weight file has more than {limit} bytes")]
    FileTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A file of another format.
    #[error("the weight file is {found}, expected safetensors or a PyTorch `.pth` of the zip format")]
    UnknownFormat {
        /// What it seems to be.
        found: &'static str,
    },
    /// A safetensors file that breaks its format.
    #[error("malformed safetensors file")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// A packed file whose header says nothing that it may say.
    #[error("malformed header of a packed weight file")]
    Packed {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A packed file whose header is longer than that of any network.
    #[error("the header of the packed weight file has {found} bytes, and at most {limit} are read")]
    PackedHeader {
        /// Bytes that it says it has.
        found: u64,
        /// Most that are read.
        limit: u64,
    },
    /// A packed file that is cut short, or longer than its header says.
    #[error("the packed weight file has {found} bytes, expected {}", expected.map_or("another number".into(), |n| n.to_string()))]
    PackedLength {
        /// Bytes by its header, where it has one that makes sense.
        expected: Option<usize>,
        /// Bytes that there are.
        found: usize,
    },
    /// A `.pth` file that is no readable zip archive.
    #[error("malformed zip archive in a PyTorch file")]
    Zip(#[from] zip::result::ZipError),
    /// A `.pth` file whose archive holds something else than one state dict.
    #[error("the PyTorch file {problem}")]
    Archive {
        /// What is wrong with it.
        problem: String,
    },
    /// A pickle that names something that a state dict does not need; it was not looked up, let alone called.
    #[error("the pickle refers to `{name}` at byte {offset}, which a state dict does not need; nothing was executed")]
    ForbiddenGlobal {
        /// `module.name`.
        name: String,
        /// Where, from the start of the pickle.
        offset: usize,
    },
    /// A pickle instruction that a state dict does not need.
    #[error("the pickle holds the instruction 0x{opcode:02x} at byte {offset}, which a state dict does not need")]
    ForbiddenOpcode {
        /// The instruction.
        opcode: u8,
        /// Where, from the start of the pickle.
        offset: usize,
    },
    /// A pickle that ends early or does not make sense.
    #[error("malformed pickle at byte {offset}: {problem}")]
    Pickle {
        /// What is wrong.
        problem: &'static str,
        /// Where, from the start of the pickle.
        offset: usize,
    },
    /// A tensor that reaches outside its memory.
    #[error("the tensor `{name}` {problem}")]
    BadTensor {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A tensor whose element type is not read.
    #[error("the tensor `{name}` holds {found}, expected f16, bf16, f32, f64, u8, u32, i16, i32 or i64")]
    ElementType {
        /// Its name in the file.
        name: String,
        /// Its element type, as the file calls it.
        found: String,
    },
    /// Two tensors of a file that mean the same one.
    #[error("`{first}` and `{second}` both mean `{name}`")]
    DuplicateName {
        /// The name that both map to.
        name: String,
        /// One name in the file.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor that a file has twice.
    #[error("`{name}` is in the file twice")]
    RepeatedName {
        /// Its name in the file.
        name: String,
    },
    /// A tensor of another shape than the model's.
    #[error("`{name}` has shape {found:?} in the file, expected {expected:?}")]
    WrongShape {
        /// The model's name for it.
        name: String,
        /// The model's shape.
        expected: Shape,
        /// The file's shape.
        found: Shape,
    },
    /// Tensors that the model needs and the file lacks.
    #[error("the weight file lacks {count} tensors that the model needs, the first is `{first}`")]
    Missing {
        /// How many.
        count: usize,
        /// The first in the model's order.
        first: String,
    },
    /// Tensors that the file has and the model does not know.
    #[error("the weight file holds {count} tensors that the model does not have, the first is `{first}`")]
    Unexpected {
        /// How many.
        count: usize,
        /// The first in the file's order.
        first: String,
    },
    /// A weight that is NaN or infinite, or became so in the model's element type.
    #[error("`{name}` holds {value} at position {position}: the weights are damaged")]
    NotFinite {
        /// The model's name for it.
        name: String,
        /// Flat, row-major.
        position: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A running variance below zero.
    #[error("`{name}` holds the variance {value} at position {position}, expected none below 0")]
    NegativeVariance {
        /// The model's name for it.
        name: String,
        /// Flat, row-major.
        position: usize,
        /// The value.
        value: f64,
    },
    /// A weight of integers.
    #[error("`{name}` holds {found:?}, expected floats")]
    NotFloat {
        /// The model's name for it.
        name: String,
        /// What the file holds.
        found: DType,
    },
    /// A set of tensors that is no network of this crate.
    #[error("the weight file holds no network of this crate: {problem}")]
    UnknownNetwork {
        /// What does not fit.
        problem: String,
    },
    /// A network that the other engine does not have.
    #[cfg(feature = "candle-transformers")]
    #[error("candle-transformers has no ResNet with a {what}")]
    NotInCandle {
        /// What it lacks.
        what: &'static str,
    },
    /// An error of cn-ops'.
    #[error(transparent)]
    Ops(#[from] cn_ops::Error),
    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// What to do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownFormat { .. }
            | Self::Archive { .. }
            | Self::BadTensor { .. }
            | Self::ElementType { .. }
            | Self::NotFloat { .. }
            | Self::FileTooLarge { .. } => {
                Some("save it again with a current PyTorch (`torch.save(model.state_dict(), PATH)`), or as safetensors")
            }
            Self::ForbiddenGlobal { .. } | Self::ForbiddenOpcode { .. } => Some(
                "save the weights alone, with `torch.save(model.state_dict(), PATH)`, not the whole model or learner",
            ),
            Self::Safetensors(_)
            | Self::Zip(_)
            | Self::Pickle { .. }
            | Self::NotFinite { .. }
            | Self::NegativeVariance { .. }
            | Self::RepeatedName { .. }
            | Self::Packed { .. }
            | Self::PackedHeader { .. }
            | Self::PackedLength { .. } => {
                Some("the file may be cut short or damaged: fetch it again and compare its checksum")
            }
            Self::WrongShape { .. } | Self::Missing { .. } | Self::Unexpected { .. } => {
                Some("the file must hold the whole body of this architecture; its head may be of other classes")
            }
            Self::DuplicateName { .. } => Some("save it again without one of the two"),
            Self::Unreadable { .. } => Some("name a weight file: safetensors, or PyTorch's .pth"),
            Self::UnknownNetwork { .. } => {
                Some("resnet18, resnet34 and resnet50 are known, with the tensor names of torchvision, timm or fastai")
            }
            #[cfg(feature = "candle-transformers")]
            Self::NotInCandle { .. } => Some("use this crate's own network, or train it with the plain head"),
            Self::Ops(inner) => inner.hint(),
            Self::InFile { source, .. } => source.hint(),
            _ => None,
        }
    }
}
