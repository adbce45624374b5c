use super::scale::short_exponent;
use super::{LineChart, Mark, Picture, Scale, Series};

/// The curve of a learning-rate finder, with its suggestions.
///
/// - `curve`: (learning rate, smoothed loss) of each step; which ends to leave out is the caller's choice.
/// - `suggestions`: (name, learning rate); a dot sits on the curve at that rate, between steps in a straight line on the
///   logarithmic axis.
#[must_use]
pub fn finder_curve(curve: &[(f64, f64)], suggestions: &[(&str, f64)]) -> Picture {
    let marks = suggestions.iter().map(|&(name, rate)| Mark {
        name: format!("{name} {}", short_exponent(rate, 2)),
        x: rate,
        y: loss_at(curve, rate),
    });
    let chart = LineChart {
        title: "Learning rate finder".into(),
        x_label: "learning rate".into(),
        y_label: "smoothed training loss".into(),
        x_scale: Scale::Log,
        y_scale: Scale::Linear,
        series: vec![Series { name: String::new(), points: curve.to_vec() }],
        marks: marks.collect(),
    };
    chart.draw()
}

fn loss_at(curve: &[(f64, f64)], rate: f64) -> Option<f64> {
    let sound = |value: f64| value.is_finite().then_some(value);
    curve.windows(2).find_map(|pair| {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let along = (rate.ln() - x0.ln()) / (x1.ln() - x0.ln());
        // Rates are powers: both ends may be off by a rounding.
        (-1e-6..=1.0 + 1e-6).contains(&along).then(|| sound(y0 + (y1 - y0) * along))?
    })
}
