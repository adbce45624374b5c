//! Losses of training steps, left on the device until somebody asks.

use crate::{Result, SmoothLoss};
use candle_core::{DType, Tensor};

/// Losses that wait unread at most: bounds the memory of an epoch without readers.
const MAX_UNREAD: usize = 1024;

/// The losses of a phase: those not read yet are scalars on the device, the others are in the smoothed loss.
#[derive(Debug, Default)]
pub(crate) struct TrainLoss {
    unread: Vec<Tensor>,
    smooth: SmoothLoss,
    last: Option<f32>,
}

impl TrainLoss {
    pub(crate) fn resumed(smooth: SmoothLoss) -> Self {
        Self { smooth, ..Self::default() }
    }

    /// Takes in the loss of a step, one number; copies nothing to the host.
    pub(crate) fn add(&mut self, loss: Tensor) -> Result<()> {
        self.unread.push(loss);
        if self.unread.len() >= MAX_UNREAD { self.read() } else { Ok(()) }
    }

    /// Copies what is unread to the host, in one piece.
    fn read(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let unread: Vec<Tensor> = self.unread.drain(..).map(|t| t.reshape(1)).collect::<candle_core::Result<_>>()?;
        for loss in Tensor::cat(&unread, 0)?.to_dtype(DType::F32)?.to_vec1::<f32>()? {
            self.smooth.add(loss);
            self.last = Some(loss);
        }
        Ok(())
    }

    /// The smoothed losses, all of them read.
    pub(crate) fn smooth(&mut self) -> Result<SmoothLoss> {
        self.read()?;
        Ok(self.smooth)
    }

    /// The loss of the last step; NaN before the first one.
    pub(crate) fn last(&mut self) -> Result<f32> {
        self.read()?;
        Ok(self.last.unwrap_or(f32::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn reading_late_gives_the_same() -> Result<()> {
        let (mut early, mut late) = (TrainLoss::default(), TrainLoss::default());
        for i in 0..MAX_UNREAD + 10 {
            let loss = Tensor::new(1.0f32 / (i + 1) as f32, &Device::Cpu)?;
            early.add(loss.clone())?;
            late.add(loss)?;
            early.last()?;
        }
        assert_eq!(early.smooth()?, late.smooth()?);
        assert_eq!(early.last()?, late.last()?);
        Ok(())
    }
}
