/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal steps are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long; values that are not above 0 are left out.
    Log,
}

/// An axis over a range that holds all values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// All values are whole numbers (epochs, steps): so are the ticks then.
    whole: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// 0 at the low end of the axis, 1 at the high end.
    pub(crate) position: f64,
    /// Empty for the small ticks between.
    pub(crate) label: String,
}

impl Scale {
    fn forward(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
        }
    }

    /// Whether the value can be drawn.
    pub(crate) fn shows(self, value: f64) -> bool {
        self.forward(value).is_finite()
    }
}

impl Axis {
    /// The axis of `values` with `margin` of its length free at both ends; `None` without a value that can be shown.
    pub(crate) fn new(scale: Scale, values: impl Iterator<Item = f64>, margin: f64) -> Option<Self> {
        let mut range: Option<(f64, f64)> = None;
        let mut whole = scale == Scale::Linear;
        for value in values.filter(|&value| scale.shows(value)) {
            let at = scale.forward(value);
            let (low, high) = range.unwrap_or((at, at));
            range = Some((low.min(at), high.max(at)));
            whole &= value.fract() == 0.0;
        }
        let (low, high) = range?;
        // Values that f64 can hardly tell apart count as one, which still needs a width around it.
        let largest = low.abs().max(high.abs());
        let pad = match high - low {
            width if width > 1e-9 * largest => width * margin,
            _ if largest > 0.0 => largest * 0.5,
            _ => 0.5,
        };
        Some(Self { scale, low: low - pad, high: high + pad, whole })
    }

    /// The linear axis from `low` to `high`.
    pub(crate) fn between(low: f64, high: f64) -> Self {
        Self { scale: Scale::Linear, low, high, whole: false }
    }

    /// 0 at the low end, 1 at the high end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        (self.scale.forward(value) - self.low) / (self.high - self.low)
    }

    pub(crate) fn ticks(&self) -> Vec<Tick> {
        match self.scale {
            Scale::Log if self.high - self.low >= 1.0 => self.decades(),
            _ => self.round_values(),
        }
    }

    /// A named tick at each power of ten (or each second, third, ... one), small ones between, of which the doubles and
    /// fives are named where there are few powers.
    fn decades(&self) -> Vec<Tick> {
        let step = ((self.high - self.low) / 10.0).ceil().max(1.0) as i32;
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let few = self.high - self.low < 2.5;
        let mut ticks = Vec::new();
        for decade in first..=last {
            let label = if decade.rem_euclid(step) == 0 { power_of_ten(decade) } else { String::new() };
            ticks.push((10_f64.powi(decade), label));
            if step == 1 {
                ticks.extend((2..10).map(|digit| {
                    let (value, named) = (f64::from(digit) * 10_f64.powi(decade), few && [2, 5].contains(&digit));
                    (value, if named { number(value, 10_f64.powi(decade)) } else { String::new() })
                }));
            }
        }
        self.inside(ticks)
    }

    /// Ticks at multiples of 1, 2, 2.5 or 5 times a power of ten, about six of them.
    fn round_values(&self) -> Vec<Tick> {
        let back = |value: f64| if self.scale == Scale::Log { 10_f64.powf(value) } else { value };
        let (low, high) = (back(self.low), back(self.high));
        let raw = (high - low) / 6.0;
        let magnitude = 10_f64.powf(raw.log10().floor());
        let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= raw).unwrap_or(10.0);
        let step = if self.whole { (factor * magnitude).ceil().max(1.0) } else { factor * magnitude };
        // An end that is a multiple itself may be off by a rounding.
        let first = (low / step - 1e-9).ceil();
        let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 20.0) as usize;
        let values = (0..=count).map(|i| (first + i as f64) * step);
        self.inside(values.map(|value| (value, number(value, step))).collect())
    }

    fn inside(&self, ticks: Vec<(f64, String)>) -> Vec<Tick> {
        let ticks = ticks.into_iter().map(|(value, label)| Tick { position: self.position(value), label });
        ticks.filter(|tick| (-1e-9..=1.0 + 1e-9).contains(&tick.position)).collect()
    }
}

fn power_of_ten(exponent: i32) -> String {
    if (-3..=4).contains(&exponent) { format!("{}", 10_f64.powi(exponent)) } else { format!("1e{exponent}") }
}

/// `value`, a multiple of `step`, with as many digits as tell it from its neighbours.
fn number(value: f64, step: f64) -> String {
    if value.abs() < step / 2.0 {
        return "0".into();
    }
    let largest = value.abs().max(step);
    if !(1e-4..1e6).contains(&largest) {
        let digits = (value.abs() / step).log10().max(0.0).ceil() as usize + 1;
        return short_exponent(value, digits);
    }
    // 2.5 needs a digit more than its power of ten.
    let places = (0..12).find(|&places| {
        let shifted = step * 10_f64.powi(places);
        (shifted - shifted.round()).abs() < 1e-6 * shifted.max(1.0) && shifted.round() >= 1.0
    });
    format!("{value:.*}", places.unwrap_or(12) as usize)
}

/// `value` with at most `digits` digits after the point and an exponent, as in `1.2e-3`.
pub(super) fn short_exponent(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => {
            format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> String {
        let axis = Axis::new(scale, values.iter().copied(), 0.0).unwrap();
        let named = axis.ticks().into_iter().map(|tick| tick.label).filter(|label| !label.is_empty());
        named.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Scale::Linear, &[0.0, 0.93]), "0 0.2 0.4 0.6 0.8");
        assert_eq!(labels(Scale::Linear, &[0.0, 1.5]), "0 0.25 0.50 0.75 1.00 1.25 1.50");
        assert_eq!(labels(Scale::Linear, &[-0.5, 0.5]), "-0.4 -0.2 0 0.2 0.4");
        assert_eq!(labels(Scale::Linear, &[0.0, 3e-6]), "0 5e-7 1e-6 1.5e-6 2e-6 2.5e-6 3e-6");
        assert_eq!(labels(Scale::Linear, &[0.0, 4e6]), "0 1e6 2e6 3e6 4e6");
    }

    #[test]
    fn whole_numbers_have_whole_ticks() {
        assert_eq!(labels(Scale::Linear, &[0.0, 1.0, 2.0]), "0 1 2");
        assert_eq!(labels(Scale::Linear, &[0.0, 1309.0]), "0 250 500 750 1000 1250");
    }

    #[test]
    fn decades_are_named() {
        assert_eq!(labels(Scale::Log, &[1e-7, 8.3]), "1e-7 1e-6 1e-5 1e-4 0.001 0.01 0.1 1");
        assert_eq!(labels(Scale::Log, &[1e-30, 1.0]), "1e-30 1e-27 1e-24 1e-21 1e-18 1e-15 1e-12 1e-9 1e-6 0.001 1");
        assert_eq!(labels(Scale::Log, &[0.04, 0.8]), "0.05 0.1 0.2 0.5");
        assert_eq!(labels(Scale::Log, &[0.2, 0.5]), "0.20 0.25 0.30 0.35 0.40 0.45 0.50");
    }

    #[test]
    fn one_value_or_none_make_an_axis_or_none() {
        for value in [0.0, 1e-12, -3.0, 1e300] {
            let axis = Axis::new(Scale::Linear, [value].into_iter(), 0.1).unwrap();
            assert!((axis.position(value) - 0.5).abs() < 1e-9);
            assert!(!axis.ticks().is_empty());
        }
        assert_eq!(Axis::new(Scale::Log, [0.0, -1.0, f64::NAN].into_iter(), 0.1), None);
        assert_eq!(Axis::new(Scale::Linear, [f64::INFINITY].into_iter(), 0.1), None);
    }
}
