//! How long layers take.

use std::time::{Duration, Instant};

/// The time that each layer of a network takes for itself, without the layers inside it, over one pass or several.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    layers: Vec<LayerTime>,
    /// Time of the layers inside each of those that run at present, outermost first.
    inside: Vec<Duration>,
}

/// What one layer took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerTime {
    /// Full name, such as `layer4.1.conv2`; empty for the outermost layer.
    pub name: String,
    /// Time of its forward passes.
    pub forward: Duration,
    /// Time of its backward passes.
    pub backward: Duration,
    /// Shape of its last input.
    pub input: Vec<usize>,
    /// Shape of its last output.
    pub output: Vec<usize>,
}

/// Which pass a time is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    Backward,
}

impl Timings {
    /// What was measured so far, in the order of the first forward pass: layers come after those inside them.
    #[must_use]
    pub fn layers(&self) -> &[LayerTime] {
        &self.layers
    }

    pub(crate) fn enter(&mut self) -> Instant {
        self.inside.push(Duration::ZERO);
        Instant::now()
    }

    pub(crate) fn leave(&mut self, name: &str, way: Way, start: Instant) {
        let total = start.elapsed();
        let own = total.saturating_sub(self.inside.pop().unwrap_or_default());
        if let Some(outer) = self.inside.last_mut() {
            *outer += total;
        }
        let layer = self.layer(name);
        match way {
            Way::Forward => layer.forward += own,
            Way::Backward => layer.backward += own,
        }
    }

    pub(crate) fn shapes(&mut self, name: &str, input: &[usize], output: &[usize]) {
        let layer = self.layer(name);
        layer.input = input.to_vec();
        layer.output = output.to_vec();
    }

    fn layer(&mut self, name: &str) -> &mut LayerTime {
        let at = self.layers.iter().position(|layer| layer.name == name).unwrap_or_else(|| {
            let (forward, backward) = (Duration::ZERO, Duration::ZERO);
            let (input, output) = (Vec::new(), Vec::new());
            self.layers.push(LayerTime { name: name.to_owned(), forward, backward, input, output });
            self.layers.len() - 1
        });
        &mut self.layers[at]
    }
}

#[cfg(test)]
mod tests {
    use crate::{Conv2d, Conv2dConfig, MeanPool, Network, Pass, Relu, Sequential, Timings};
    use candle_core::{DType, Device, Tensor};
    use std::time::{Duration, Instant};

    #[test]
    fn times_of_layers_add_up_to_less_than_the_pass() {
        let weight = Tensor::ones((8, 4, 3, 3), DType::F32, &Device::Cpu).unwrap();
        let conv = Conv2d::new(weight, Conv2dConfig { stride: [1, 1], padding: [1, 1] }).unwrap();
        let block = Sequential::new().push("conv", conv).push("relu", Relu::new());
        let net = Sequential::new().push("block", block).push("pool", MeanPool::new());
        let mut network = Network::new(net, |_| 0).unwrap();
        let images = Tensor::ones((2, 16, 16, 4), DType::F32, &Device::Cpu).unwrap();
        let mut timings = Timings::default();
        let start = Instant::now();
        let pool = network.pool().clone();
        let y = network.forward_pass(&images, Pass::eval(&pool).saving().timed(&mut timings)).unwrap();
        network.backward_pass(&y, Pass::eval(&pool).timed(&mut timings)).unwrap();
        let whole = start.elapsed();
        let names: Vec<&str> = timings.layers().iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["block.conv", "block.relu", "block", "pool"]);
        assert_eq!(timings.layers()[0].input, [2, 16, 16, 4]);
        assert_eq!(timings.layers()[0].output, [2, 16, 16, 8]);
        assert_eq!(timings.layers()[3].output, [2, 8]);
        let sum: Duration = timings.layers().iter().map(|layer| layer.forward + layer.backward).sum();
        assert!(Duration::ZERO < sum && sum <= whole, "{sum:?} of {whole:?}");
        assert!(timings.layers()[..2].iter().all(|layer| layer.backward > Duration::ZERO), "both were timed both ways");
    }
}
