//! ResNets built from cn-ops: parameter names, groups, heads and weight files.
//!
//! A trained network lives longer than the program that trained it, so its tensors need names that other programs know,
//! and files from elsewhere must be read without trusting them. This crate builds the networks, says what each tensor
//! is called and which group it belongs to, and moves weights in and out of files.
//!
//! - [`ResNetConfig`] builds a [`cn_ops::Network`] from an [`Arch`] and a [`Head`];
//! - [`WeightFile`] reads safetensors and PyTorch's `.pth` (executing nothing) under one set of names, whether
//!   torchvision, timm, candle-transformers or fastai wrote them; [`load`] puts it into a network, [`save`] writes one;
//! - [`HubCache`] finds files that a client of the Hugging Face hub fetched, by path, without a network.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use cn_ops::{Mode, Model};
//! use cn_zoo::{Arch, Fit, Head, ResNetConfig, WeightFile};
//!
//! let config = ResNetConfig { arch: Arch::ResNet18, in_channels: 1, n_classes: 15, head: Head::fastai() };
//! let mut network = config.build(42, DType::F32, &Device::Cpu)?;
//! let images = Tensor::zeros((2, 64, 64, 1), DType::F32, &Device::Cpu)?; // (B, H, W, C)
//! let logits = network.forward(&images, Mode::Eval)?.to_tensor()?;
//! assert_eq!(logits.dims(), [2, 15]);
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! cn_zoo::save(&path, &network.named_tensors()?, &config)?;
//!
//! let file = WeightFile::open(&path)?;
//! assert_eq!(ResNetConfig::of_file(&file)?, config);
//! let mut again = config.build(7, DType::F32, &Device::Cpu)?;
//! cn_zoo::load(&mut again, &file, Fit::Exact)?;
//! assert_eq!(again.forward(&images, Mode::Eval)?.to_vec2::<f32>()?, logits.to_vec2::<f32>()?);
//!
//! // Another class count takes the body and keeps its own head.
//! let mut other = ResNetConfig { n_classes: 10, ..config }.build(7, DType::F32, &Device::Cpu)?;
//! assert!(cn_zoo::load(&mut other, &file, Fit::Transfer)?.head_replaced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The feature `glyphs` adds weights that read handwritten Chinese numerals, trained on drawn handwriting alone.
//!
//! The feature `candle-transformers` (off by default: it takes a minute and a half to compile) adds `CandleResNet`, that
//! crate's ResNet from the same files, for inference on any device of candle's.
#![forbid(unsafe_code)]

mod arch;
#[cfg(feature = "candle-transformers")]
mod candle;
mod config;
mod error;
#[cfg(feature = "glyphs")]
pub mod glyphs;
mod groups;
mod init;
mod resnet;
mod weights;

pub use arch::Arch;
#[cfg(feature = "candle-transformers")]
pub use candle::CandleResNet;
pub use config::{Head, ResNetConfig};
pub use error::{Error, Result};
pub use groups::group_of;
pub use weights::{
    FileFormat, Fit, HubCache, HubFile, Loaded, WeightFile, canonical_name, fastai_name, load, save, save_packed,
    weights_sha256,
};
