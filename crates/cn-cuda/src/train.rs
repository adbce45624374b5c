//! Losses, dropout, the optimizer's step, and what lies between layers.

use crate::device::pack_of;
use crate::launch::{Grid, Plain, args};
use crate::{Buffer, Device, Element, Error, Result};

/// Threads of the one block that computes a loss; as in the kernels.
const LOSS_THREADS: u32 = 256;
/// Elements of a tensor that a block updates.
const CHUNK: usize = 4096;

/// What changes from step to step, in the device's memory: recorded launches read it there.
#[derive(Clone, Debug)]
pub struct StepState {
    device: Device,
    /// Seed in two words, epoch, whether a number was not finite.
    words: Buffer,
}

impl StepState {
    /// A state of zeros.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self { device: device.clone(), words: device.zeros(16, "the state of a step")? })
    }

    /// What the draws of the next step are keyed by; forgets that a number was not finite.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn begin(&self, seed: u64, epoch: u32) -> Result<()> {
        self.words.write_words(&[seed as u32, (seed >> 32) as u32, epoch, 0])
    }

    /// Notes whether one of these `f32` is NaN or infinite; then [`Adam::step`] does nothing until the next
    /// [`StepState::begin`].
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn watch(&self, x: &Buffer) -> Result<()> {
        let n = x.len() / 4;
        let pack = pack_of(Element::F32, 4, &[x]);
        let args = args![x.address(), n as i64, i32::from(pack > 1), self.words.address()];
        self.device.launch("find_not_finite", Grid::over_rows(n.div_ceil(pack), 1), args)
    }

    /// Whether everything that was watched is finite; waits for the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn is_finite(&self) -> Result<bool> {
        Ok(self.words.read_words()?[3] == 0)
    }
}

/// What a dropout layer draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of the elements that are set to 0.
    pub p: f64,
    /// Identifier of the stream of draws.
    pub purpose: u32,
}

impl Dropout {
    /// Sets elements of `x (B, ..)` to 0 and scales the others, keyed by the state and `ids (B)`, 4 bytes each; applied to
    /// a gradient, it is the backward pass. `y` may be `x`.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn run(&self, e: Element, state: &StepState, ids: &Buffer, x: &Buffer, y: &Buffer) -> Result<()> {
        let (n, rows) = (x.len() / e.size(), ids.len() / 4);
        y.check("y", x.len())?;
        if rows == 0 || !n.is_multiple_of(rows) {
            let found = format!("{n} elements for {rows} images");
            return Err(Error::Setting { name: "x", found, expected: "as many elements for each image" });
        }
        let row_len = n / rows;
        let blocks = rows * row_len.div_ceil(4);
        let threshold = (self.p * 2f64.powi(32)).round() as u32;
        let scale = (1.0 / (1.0 - self.p)) as f32;
        let args = args![
            x.address(),
            ids.address(),
            state.words.address(),
            self.purpose,
            threshold,
            scale,
            row_len as i64,
            blocks as i64,
            y.address(),
        ];
        state.device.launch_for("dropout", e, Grid::over(blocks), args)
    }
}

/// `y = max(x, 0)`; `y` may be `x`.
///
/// # Errors
///
/// If the sizes differ, or the device fails.
pub fn relu(device: &Device, e: Element, x: &Buffer, y: &Buffer) -> Result<()> {
    y.check("y", x.len())?;
    let n = x.len() / e.size();
    device.launch_for("relu", e, Grid::over(n), args![x.address(), n as i64, y.address()])
}

/// The backward pass of [`relu`] from its output; `dx` may be `dy`.
///
/// # Errors
///
/// If the sizes differ, or the device fails.
pub fn relu_grad(device: &Device, e: Element, [y, dy]: [&Buffer; 2], dx: &Buffer) -> Result<()> {
    dy.check("dy", y.len())?;
    dx.check("dx", y.len())?;
    let n = y.len() / e.size();
    device.launch_for("relu_grad", e, Grid::over(n), args![y.address(), dy.address(), n as i64, dx.address()])
}

/// `sum += x`.
///
/// # Errors
///
/// If the sizes differ, or the device fails.
pub fn add(device: &Device, e: Element, x: &Buffer, sum: &Buffer) -> Result<()> {
    sum.check("sum", x.len())?;
    let n = x.len() / e.size();
    device.launch_for("add", e, Grid::over(n), args![x.address(), n as i64, sum.address()])
}

/// `y (rows, C) += bias (C)`, with `bias` in `f32`.
///
/// # Errors
///
/// If the sizes do not fit, or the device fails.
pub fn add_bias(device: &Device, e: Element, bias: &Buffer, y: &Buffer) -> Result<()> {
    let (n, channels) = (y.len() / e.size(), bias.len() / 4);
    if channels == 0 || !n.is_multiple_of(channels) {
        let found = format!("{n} elements and {channels} channels");
        return Err(Error::Setting { name: "y", found, expected: "whole rows of the bias" });
    }
    device.launch_for("add_bias", e, Grid::over(n), args![bias.address(), channels as i32, n as i64, y.address()])
}

/// What a classifier minimises, over logits and targets `(B, K)` in `f32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Mean binary cross-entropy of the sigmoids.
    Bce,
    /// Mean cross-entropy of the softmax over the rows.
    Softmax {
        /// Share of each target that is spread over all classes.
        label_smoothing: f64,
    },
}

impl Loss {
    /// Writes the loss into `loss`, one `f32`, and its gradient into `d_logits`.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn run(
        &self,
        device: &Device,
        classes: usize,
        [logits, targets]: [&Buffer; 2],
        [loss, d_logits]: [&Buffer; 2],
    ) -> Result<()> {
        let n = logits.len() / 4;
        if classes == 0 || n == 0 || !n.is_multiple_of(classes) || n >= 1 << 31 {
            let found = format!("{n} elements of {classes} classes");
            return Err(Error::Setting { name: "logits", found, expected: "whole rows of classes" });
        }
        targets.check("targets", logits.len())?;
        d_logits.check("d_logits", logits.len())?;
        loss.check("loss", 4)?;
        let grid = Grid::of_blocks([1; 3], [LOSS_THREADS, 1, 1]);
        let [x, t, l, d] = [logits, targets, loss, d_logits].map(Buffer::address);
        match *self {
            Self::Bce => device.launch("bce_loss", grid, args![x, t, n as i32, l, d]),
            Self::Softmax { label_smoothing } => {
                let (rows, classes) = ((n / classes) as i32, classes as i32);
                device.launch("softmax_loss", grid, args![x, t, rows, classes, label_smoothing, l, d])
            }
        }
    }
}

/// What one update of one tensor uses, ready to multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct AdamRates {
    /// `1 - lr * weight_decay`.
    pub keep: f32,
    /// Decays of both moments.
    pub beta: [f32; 2],
    /// One minus these.
    pub rest: [f32; 2],
    /// `lr / (1 - beta1^step)`.
    pub rate: f32,
    /// `1 / (1 - beta2^step)`.
    pub unbias: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// 0 leaves the tensor alone.
    pub trained: u32,
}
// SAFETY: nine numbers of four bytes.
unsafe impl Plain for AdamRates {}

/// A piece of a tensor, for one block.
#[derive(Clone, Copy)]
#[repr(C)]
struct Chunk {
    entry: u32,
    start: u32,
    len: u32,
    is_narrow: u32,
}
// SAFETY: four numbers of four bytes.
unsafe impl Plain for Chunk {}

/// Pieces of tensors at these (offset, length), and which of them have gradients in bf16.
fn chunks(tensors: &[(usize, usize)], is_narrow: impl Fn(usize) -> bool) -> Vec<Chunk> {
    let of = |(entry, &(offset, n)): (usize, &(usize, usize))| {
        let (entry, is_narrow) = (entry as u32, u32::from(is_narrow(entry)));
        let piece =
            move |at: usize| Chunk { entry, start: (offset + at) as u32, len: CHUNK.min(n - at) as u32, is_narrow };
        (0..n).step_by(CHUNK).map(piece)
    };
    tensors.iter().enumerate().flat_map(of).collect()
}

/// Some tensors of a flat buffer, to be widened from bf16 to `f32` in one launch.
#[derive(Clone, Debug)]
pub struct Widen {
    device: Device,
    len: usize,
    n_chunks: usize,
    chunks: Buffer,
}

impl Widen {
    /// For tensors at these (offset, length), in elements, of flat buffers of `len` elements.
    ///
    /// # Errors
    ///
    /// If a tensor does not lie in the buffer, or memory runs out.
    pub fn new(device: &Device, tensors: &[(usize, usize)], len: usize) -> Result<Self> {
        if tensors.iter().any(|(offset, n)| offset + n > len) || len >= 1 << 31 {
            let found = format!("{} tensors in {len} elements", tensors.len());
            return Err(Error::Setting { name: "gradients", found, expected: "tensors inside the flat buffer" });
        }
        let chunks = chunks(tensors, |_| true);
        let (n_chunks, chunks) = (chunks.len(), device.plain(&chunks, "the plan of gradients")?);
        Ok(Self { device: device.clone(), len, n_chunks, chunks })
    }

    /// Widens these tensors of `from` into `to`; the rest of it stays.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn run(&self, from: &Buffer, to: &Buffer) -> Result<()> {
        from.check("from", self.len * 2)?;
        to.check("to", self.len * 4)?;
        if self.n_chunks == 0 {
            return Ok(());
        }
        let grid = Grid::of_blocks([self.n_chunks, 1, 1], [256, 1, 1]);
        self.device.launch("widen_chunks", grid, args![self.chunks.address(), from.address(), to.address()])
    }
}

/// Adam over one flat buffer of `f32`; each tensor has its own [`AdamRates`].
#[derive(Clone, Debug)]
pub struct Adam {
    device: Device,
    tensors: Vec<(usize, usize)>,
    n_chunks: usize,
    chunks: Buffer,
    rates: Buffer,
    /// First moments, as long as the parameters.
    pub m: Buffer,
    /// Second moments.
    pub v: Buffer,
}

impl Adam {
    /// For tensors at these (offset, length), in elements, of a flat buffer of `len` elements; moments 0.
    ///
    /// # Errors
    ///
    /// If a tensor does not lie in the buffer, or memory runs out.
    pub fn new(device: &Device, tensors: &[(usize, usize)], len: usize) -> Result<Self> {
        let fits = tensors.iter().all(|(offset, n)| offset + n <= len);
        if !fits || len >= 1 << 31 || tensors.is_empty() {
            let found = format!("{} tensors in {len} elements", tensors.len());
            return Err(Error::Setting { name: "parameters", found, expected: "tensors inside the flat buffer" });
        }
        let chunks = chunks(tensors, |_| false);
        Ok(Self {
            device: device.clone(),
            tensors: tensors.to_vec(),
            n_chunks: chunks.len(),
            chunks: device.plain(&chunks, "the plan of the optimizer")?,
            rates: device.zeros(size_of::<AdamRates>() * tensors.len(), "rates")?,
            m: device.zeros(len * 4, "moments of the optimizer")?,
            v: device.zeros(len * 4, "moments of the optimizer")?,
        })
    }

    /// The same optimizer, with the same rates and moments, that reads the gradients of these tensors, by number, in bf16.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn with_narrow(&self, narrow: &[usize]) -> Result<Self> {
        let chunks = chunks(&self.tensors, |entry| narrow.contains(&entry));
        Ok(Self { chunks: self.device.plain(&chunks, "the plan of the optimizer")?, ..self.clone() })
    }

    fn check_grads(&self, grads: Grads<'_>) -> Result<[u64; 2]> {
        grads.wide.check("grads", self.m.len())?;
        let narrow = grads.narrow.unwrap_or(grads.wide);
        grads.narrow.map_or(Ok(()), |narrow| narrow.check("narrow grads", self.m.len() / 2))?;
        Ok([grads.wide.address(), narrow.address()])
    }

    fn grid(&self) -> Grid {
        Grid::of_blocks([self.n_chunks.max(1), 1, 1], [256, 1, 1])
    }

    /// As [`StepState::watch`], of all gradients.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn watch(&self, state: &StepState, grads: Grads<'_>) -> Result<()> {
        let [wide, narrow] = self.check_grads(grads)?;
        let args = args![self.chunks.address(), wide, narrow, state.words.address()];
        self.device.launch("find_not_finite_chunks", self.grid(), args)
    }

    /// Sets the rates of the following steps, one for each tensor.
    ///
    /// # Errors
    ///
    /// If there is not one for each tensor, or the device fails.
    pub fn set_rates(&self, rates: &[AdamRates]) -> Result<()> {
        self.rates.write_plain(rates)
    }

    /// One update of `values` by `grads`, in which what is read in bf16 must be there, unless `state` has seen a number that is none; `copy`, if given, receives the
    /// new values in bf16.
    ///
    /// # Errors
    ///
    /// If a size does not fit, or the device fails.
    pub fn step(&self, state: &StepState, values: &Buffer, grads: Grads<'_>, copy: Option<&Buffer>) -> Result<()> {
        values.check("values", self.m.len())?;
        let [grads, narrow] = self.check_grads(grads)?;
        copy.map_or(Ok(()), |copy| copy.check("copy", self.m.len() / 2))?;
        let [chunks, rates, state] = [&self.chunks, &self.rates, &state.words].map(Buffer::address);
        let [values, m, v] = [values, &self.m, &self.v].map(Buffer::address);
        let buffers = AdamBuffers { values, m, v, grads, narrow, copy: crate::device::address_of(copy) };
        self.device.launch("adam", self.grid(), args![chunks, rates, state, buffers])
    }
}

/// Flat gradients, as long as the parameters.
#[derive(Clone, Copy, Debug)]
pub struct Grads<'a> {
    /// In `f32`.
    pub wide: &'a Buffer,
    /// In bf16, of the tensors that [`Adam::with_narrow`] names.
    pub narrow: Option<&'a Buffer>,
}

/// Addresses, as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(C)]
struct AdamBuffers {
    values: u64,
    m: u64,
    v: u64,
    grads: u64,
    narrow: u64,
    copy: u64,
}
// SAFETY: six numbers of eight bytes.
unsafe impl Plain for AdamBuffers {}
