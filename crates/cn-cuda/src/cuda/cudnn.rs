//! Convolutions by cuDNN, channels last: one fixed, deterministic algorithm for each product, never timed at run time.

use crate::backend::{ConvAddresses, ConvJob, ConvKind, Products};
use crate::{Activation, Element, Error, Result};
use cudarc::cudnn::{CudnnError, result, sys};
use cudarc::driver::result as driver;
use cudarc::driver::sys::CUstream;
use std::collections::HashMap;
use std::ffi::c_void;

// Of the algorithms that cuDNN documents as deterministic, these know channels-last images.
const FORWARD: sys::cudnnConvolutionFwdAlgo_t =
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
const DATA_GRAD: sys::cudnnConvolutionBwdDataAlgo_t =
    sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
const WEIGHT_GRAD: sys::cudnnConvolutionBwdFilterAlgo_t =
    sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

/// Names the call of a failure.
trait Call<T> {
    fn call(self, call: &'static str) -> Result<T>;
}

impl<T> Call<T> for Result<T, CudnnError> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|error| Error::Cudnn { call, text: format!("{:?}", error.0) })
    }
}

/// What cuDNN knows of one convolution.
#[derive(Debug)]
struct Plan {
    image: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    /// Of a fused product alone.
    bias: sys::cudnnTensorDescriptor_t,
    activation: sys::cudnnActivationDescriptor_t,
    workspace: usize,
}

/// cuDNN, its plans, and the memory that all of them use in turn.
#[derive(Debug)]
pub(super) struct Convolutions {
    handle: Option<sys::cudnnHandle_t>,
    /// `None` for what cuDNN does not do.
    plans: HashMap<ConvJob, Option<Plan>>,
    /// Address and bytes; the last one is in use. Earlier ones stay, since recorded launches may refer to them.
    workspaces: Vec<(u64, usize)>,
}

impl Convolutions {
    /// cuDNN on this stream; where the library is not on the machine, nothing is done by it.
    pub(super) fn new(stream: CUstream) -> Result<Self> {
        let mut new = Self { handle: None, plans: HashMap::new(), workspaces: Vec::new() };
        // SAFETY: only asks the loader for a library.
        if unsafe { sys::is_culib_present() } {
            let handle = result::create_handle().call("cudnnCreate")?;
            new.handle = Some(handle);
            // SAFETY: both handles are valid; cuDNN's stream is the driver's under another name.
            unsafe { result::set_stream(handle, stream.cast()) }.call("cudnnSetStream")?;
        }
        Ok(new)
    }

    /// Whether cuDNN does this; asks it once for each job.
    pub(super) fn plan(&mut self, job: &ConvJob) -> Result<bool> {
        let Some(handle) = self.handle else { return Ok(false) };
        if let Some(plan) = self.plans.get(job) {
            return Ok(plan.is_some());
        }
        let plan = Plan::new(handle, job)?;
        let workspace = plan.as_ref().map_or(0, |plan| plan.workspace);
        self.grow(workspace)?;
        let does = plan.is_some();
        self.plans.insert(*job, plan);
        Ok(does)
    }

    fn grow(&mut self, bytes: usize) -> Result<()> {
        if self.workspaces.last().map_or(0, |w| w.1) >= bytes {
            return Ok(());
        }
        // SAFETY: memory that only cuDNN uses, uninitialised as it may be.
        let address = unsafe { driver::malloc_sync(bytes) }.map_err(|_| {
            let free = driver::mem_get_info().map_or(0, |(free, _)| free);
            Error::OutOfMemory { what: "the work space of convolutions".into(), bytes, free }
        })?;
        self.workspaces.push((address, bytes));
        Ok(())
    }

    /// Runs a job, which should be planned: a plan made here may ask for memory.
    pub(super) fn run(&mut self, job: &ConvJob, at: ConvAddresses) -> Result<bool> {
        if !self.plan(job)? {
            return Ok(false);
        }
        let (Some(handle), Some(Some(plan))) = (self.handle, self.plans.get(job)) else { return Ok(false) };
        let space = self.workspaces.last().copied().unwrap_or((0, 0));
        // SAFETY: descriptors and handle live as long as `self`; the caller has checked that the buffers hold what the
        // shape says, which is what the descriptors were made of; the work space holds what the plan asks for.
        let status = unsafe { plan.launch(handle, job.kind, at, space) };
        match status {
            // Some versions say so only now; the answer is the same every time.
            Err(CudnnError(status)) if is_unsupported(status) => {
                if let Some(plan) = self.plans.insert(*job, None).flatten() {
                    plan.destroy();
                }
                Ok(false)
            }
            other => other.call("a convolution").map(|()| true),
        }
    }

    /// Frees everything; the context is current.
    pub(super) fn close(&mut self) {
        for plan in std::mem::take(&mut self.plans).into_values().flatten() {
            plan.destroy();
        }
        // SAFETY: nobody uses handle or memory any more: the device is being dropped.
        unsafe {
            for (address, _) in self.workspaces.drain(..) {
                let _ = driver::free_sync(address);
            }
            if let Some(handle) = self.handle.take() {
                let _ = result::destroy_handle(handle);
            }
        }
    }
}

impl Plan {
    /// The plan of a job; `None` if cuDNN says that it does not support it.
    fn new(handle: sys::cudnnHandle_t, job: &ConvJob) -> Result<Option<Self>> {
        let mut plan = Self {
            image: result::create_tensor_descriptor().call("cudnnCreateTensorDescriptor")?,
            weight: result::create_filter_descriptor().call("cudnnCreateFilterDescriptor")?,
            output: result::create_tensor_descriptor().call("cudnnCreateTensorDescriptor")?,
            convolution: result::create_convolution_descriptor().call("cudnnCreateConvolutionDescriptor")?,
            bias: result::create_tensor_descriptor().call("cudnnCreateTensorDescriptor")?,
            activation: result::create_activation_descriptor().call("cudnnCreateActivationDescriptor")?,
            workspace: 0,
        };
        match plan.describe(job).and_then(|()| plan.workspace_of(handle, job)) {
            Ok(bytes) => {
                plan.workspace = bytes;
                Ok(Some(plan))
            }
            Err(CudnnError(status)) if is_unsupported(status) => {
                plan.destroy();
                Ok(None)
            }
            Err(error) => {
                plan.destroy();
                Err(error).call("the plan of a convolution")
            }
        }
    }

    /// Launches the plan's job on the handle's stream.
    ///
    /// # Safety
    ///
    /// The addresses are those of buffers that hold what the plan's job says, `space` that of as many free bytes as it
    /// asks for, until the work is done.
    unsafe fn launch(
        &self,
        handle: sys::cudnnHandle_t,
        kind: ConvKind,
        at: ConvAddresses,
        space: (u64, usize),
    ) -> Result<(), CudnnError> {
        let (space, bytes) = (space.0 as *mut c_void, space.1);
        let (alpha, beta) = (1f32, if at.adds { 1f32 } else { 0f32 });
        let (alpha, beta) = ((&raw const alpha).cast::<c_void>(), (&raw const beta).cast::<c_void>());
        let [a, b] = at.inputs.map(|address| address as *const c_void);
        let out = at.output as *mut c_void;
        let Plan { image: x, weight: w, output: y, convolution: conv, .. } = *self;
        // SAFETY: addresses and work space are as the caller promises; the descriptors live as long as `self`.
        unsafe {
            match kind {
                ConvKind::Forward => {
                    result::convolution_forward(handle, alpha, x, a, w, b, conv, FORWARD, space, bytes, beta, y, out)
                }
                ConvKind::Fused(_) => self.launch_fused(handle, at, (space, bytes)),
                ConvKind::DataGrad => result::convolution_backward_data(
                    handle, alpha, w, b, y, a, conv, DATA_GRAD, space, bytes, beta, x, out,
                ),
                ConvKind::WeightGrad => result::convolution_backward_filter(
                    handle,
                    alpha,
                    x,
                    a,
                    y,
                    b,
                    conv,
                    WEIGHT_GRAD,
                    space,
                    bytes,
                    beta,
                    w,
                    out,
                ),
            }
        }
    }

    /// Launches a convolution with bias, residual and activation in one.
    ///
    /// # Safety
    ///
    /// As [`Plan::launch`].
    unsafe fn launch_fused(
        &self,
        handle: sys::cudnnHandle_t,
        at: ConvAddresses,
        (space, bytes): (*mut c_void, usize),
    ) -> Result<(), CudnnError> {
        let (one, zero) = (1f32, 0f32);
        let [one, zero] = [&raw const one, &raw const zero].map(<*const f32>::cast::<c_void>);
        let [x, w] = at.inputs.map(|address| address as *const c_void);
        let (bias, y) = (at.bias as *const c_void, at.output as *mut c_void);
        // Without a residual, one that counts nothing.
        let (share, residual) =
            if at.residual == 0 { (zero, y.cast_const()) } else { (one, at.residual as *const c_void) };
        // SAFETY: addresses and work space are as the caller promises; the descriptors live as long as `self`.
        unsafe {
            result::convolution_bias_activation_forward(
                handle,
                one,
                self.image,
                x,
                self.weight,
                w,
                self.convolution,
                FORWARD,
                space,
                bytes,
                share,
                self.output,
                residual,
                self.bias,
                bias,
                self.activation,
                self.output,
                y,
            )
        }
    }

    fn describe(&self, job: &ConvJob) -> Result<(), CudnnError> {
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC as FORMAT;
        let (s, int) = (&job.shape, |n: usize| i32::try_from(n).unwrap_or(i32::MAX));
        let [b, h, w, c, o] = [s.batch, s.height, s.width, s.in_channels, s.out_channels].map(int);
        let ([kh, kw], [sy, sx], [py, px]) = (s.kernel.map(int), s.stride.map(int), s.padding.map(int));
        let [ho, wo] = [s.out_height(), s.out_width()].map(int);
        let element = match job.element {
            Element::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            Element::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        };
        let math = match (job.element, job.products) {
            (Element::F32, Products::Exact) => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            // Of `f32`, the default rounds operands to TF32.
            (Element::F32, Products::Tf32) => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            (Element::Bf16, _) => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptors were made by `new` and are destroyed with the plan. Sizes are given in the order batch,
        // channels, height, width whatever the format.
        unsafe {
            result::set_tensor4d_descriptor(self.image, FORMAT, element, [b, c, h, w])?;
            result::set_filter4d_descriptor(self.weight, element, FORMAT, [o, c, kh, kw])?;
            result::set_tensor4d_descriptor(self.output, FORMAT, element, [b, o, ho, wo])?;
            result::set_convolution2d_descriptor(self.convolution, py, px, sy, sx, 1, 1, mode, sums)?;
            result::set_convolution_math_type(self.convolution, math)?;
            if let ConvKind::Fused(activation) = job.kind {
                let mode = match activation {
                    Activation::Identity => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
                    Activation::Relu => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
                };
                let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
                result::set_tensor4d_descriptor(self.bias, FORMAT, element, [1, o, 1, 1])?;
                result::set_activation_descriptor(self.activation, mode, nan, 0.0)?;
            }
            Ok(())
        }
    }

    fn workspace_of(&self, handle: sys::cudnnHandle_t, job: &ConvJob) -> Result<usize, CudnnError> {
        let Self { image: x, weight: w, output: y, convolution: conv, .. } = *self;
        // SAFETY: handle and descriptors are valid and described.
        unsafe {
            match job.kind {
                ConvKind::Forward | ConvKind::Fused(_) => {
                    result::get_convolution_forward_workspace_size(handle, x, w, conv, y, FORWARD)
                }
                ConvKind::DataGrad => {
                    result::get_convolution_backward_data_workspace_size(handle, w, y, conv, x, DATA_GRAD)
                }
                ConvKind::WeightGrad => {
                    result::get_convolution_backward_filter_workspace_size(handle, x, y, conv, w, WEIGHT_GRAD)
                }
            }
        }
    }

    fn destroy(self) {
        // SAFETY: made by `new`, and nobody else has them. A failure leaves a few bytes until the process ends.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.image);
            let _ = result::destroy_filter_descriptor(self.weight);
            let _ = result::destroy_tensor_descriptor(self.output);
            let _ = result::destroy_convolution_descriptor(self.convolution);
            let _ = result::destroy_tensor_descriptor(self.bias);
            let _ = sys::cudnnDestroyActivationDescriptor(self.activation);
        }
    }
}

/// Whether a failure means that cuDNN has no such kernel.
fn is_unsupported(status: sys::cudnnStatus_t) -> bool {
    let name = format!("{status:?}");
    name.starts_with("CUDNN_STATUS_NOT_SUPPORTED") || name.starts_with("CUDNN_STATUS_ARCH_MISMATCH")
}
