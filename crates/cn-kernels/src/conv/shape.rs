//! The sizes of a convolution.

/// The sizes of a convolution; groups and dilation are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// B, images.
    pub batch: usize,
    /// H of the input, before padding.
    pub height: usize,
    /// W of the input, before padding.
    pub width: usize,
    /// I, channels of the input.
    pub in_channels: usize,
    /// O, channels of the output.
    pub out_channels: usize,
    /// Kh and Kw.
    pub kernel: [usize; 2],
    /// Steps between windows, down and right.
    pub stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub padding: [usize; 2],
}

/// A convolution that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A size of zero.
    #[error("a convolution needs every size to be at least 1, got {0:?}")]
    Zero(ConvShape),
    /// Sizes whose products no memory holds.
    #[error("a convolution of {0:?} has more elements than any memory")]
    TooLarge(ConvShape),
    /// A window larger than the padded image.
    #[error("a window of {kernel:?} does not fit into an image of {image:?} with padding {padding:?}")]
    WindowTooLarge {
        /// Kh and Kw.
        kernel: [usize; 2],
        /// H and W.
        image: [usize; 2],
        /// Padding of both.
        padding: [usize; 2],
    },
}

/// Elements above which the lengths of working memory, some tens of times as large, would wrap.
const MOST: usize = usize::MAX >> 8;

impl ConvShape {
    /// Ho, rows of the output.
    #[must_use]
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding[0] - self.kernel[0]) / self.stride[0] + 1
    }

    /// Wo, columns of the output.
    #[must_use]
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding[1] - self.kernel[1]) / self.stride[1] + 1
    }

    /// Elements of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }

    /// Elements of the weight.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.window_len()
    }

    /// Elements of the output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.out_channels
    }

    /// Multiplications and additions of the direct algorithm, two for each product.
    #[must_use]
    pub fn flops(&self) -> f64 {
        2.0 * self.output_len() as f64 * self.window_len() as f64
    }

    /// Elements under one window: `Kh * Kw * I`.
    pub(crate) fn window_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.in_channels
    }

    /// Says whether such a convolution can be computed.
    ///
    /// # Errors
    ///
    /// If a size is zero, their products are larger than any memory, or the window does not fit into the padded image.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let sizes = [self.batch, self.height, self.width, self.in_channels, self.out_channels];
        if sizes.iter().chain(&self.kernel).chain(&self.stride).any(|&n| n == 0) {
            return Err(ShapeError::Zero(*self));
        }
        if !self.fits_memory() {
            return Err(ShapeError::TooLarge(*self));
        }
        let image = [self.height, self.width];
        if (0..2).any(|i| image[i] + 2 * self.padding[i] < self.kernel[i]) {
            return Err(ShapeError::WindowTooLarge { kernel: self.kernel, image, padding: self.padding });
        }
        Ok(())
    }

    /// Whether no product of sizes wraps, here or in a kernel.
    fn fits_memory(&self) -> bool {
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let padded =
            |size: usize, i: usize| self.padding[i].checked_mul(2).and_then(|padding| size.checked_add(padding));
        let Some((height, width)) = padded(self.height, 0).zip(padded(self.width, 1)) else { return false };
        let (b, i, o) = (self.batch, self.in_channels, self.out_channels);
        let lens = [[b, height, width, i.max(o)], [o, self.kernel[0], self.kernel[1], i]];
        lens.iter().all(|sizes| product(sizes).is_some_and(|len| len <= MOST))
    }

    pub(crate) fn check<T>(&self, x: &[T], w: &[T], y: &[T]) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        assert_eq!(x.len(), self.input_len(), "length of the input of {self:?}");
        assert_eq!(w.len(), self.weight_len(), "length of the weight of {self:?}");
        assert_eq!(y.len(), self.output_len(), "length of the output of {self:?}");
    }
}
