use super::*;
use crate::golden::{floats, golden, numbers};
use serde_json::Value;

/// Neighbouring rates are 20 % apart; f32 leaves 1e-7.
const TOLERANCE: f64 = 1e-5;

fn check_suggestions(name: &str, curve: &LrCurve, want: &Value) {
    let got = curve.suggestions();
    for (rule, got) in [("valley", got.valley), ("slide", got.slide), ("minimum", got.minimum), ("steep", got.steep)] {
        let got = got.unwrap_or_else(|| panic!("{name}: no {rule}"));
        let number = |key: &str| want[rule][key].as_f64().expect("a number");
        assert!((got.lr / number("lr") - 1.0).abs() < TOLERANCE, "{name}: {rule} {got:?} against {}", want[rule]);
        assert!((curve.lrs[got.index] / number("point_lr") - 1.0).abs() < TOLERANCE, "{name}: {rule} {got:?}");
        let loss = f64::from(curve.losses[got.index]);
        assert!((loss - number("point_loss")).abs() < 1e-6, "{name}: {rule} {loss} against {}", want[rule]);
    }
}

#[test]
fn rates_are_fastais() {
    let config = LrFindConfig::default();
    let want = numbers(&golden("lr_find")["lrs"]);
    assert_eq!(want.len(), config.n_steps);
    for (step, want) in want.into_iter().enumerate() {
        assert!((config.lr(step) / want - 1.0).abs() < 1e-12, "step {step}");
    }
}

#[test]
fn runs_are_fastais() {
    for (name, want) in golden("lr_find")["scripted_runs"].as_object().expect("runs") {
        let mut tracer = Tracer::new(LrFindConfig::default());
        let _ = floats(&want["raw_losses"]).into_iter().take_while(|&loss| tracer.add(loss)).count();
        let curve = tracer.finish();
        assert_eq!(Some(curve.losses.len() as u64), want["n_iterations_run"].as_u64(), "{name}");
        for (got, want) in curve.losses.iter().zip(floats(&want["smoothed_losses"])) {
            assert!((got / want - 1.0).abs() < 2e-6, "{name}: {got} against {want}");
        }
        check_suggestions(name, &curve, &want["suggestions"]);
    }
}

#[test]
fn suggestions_are_fastais() {
    let all = golden("lr_find");
    for (name, want) in all["direct_curves"].as_object().expect("curves") {
        let mut losses = floats(&want["losses"]);
        losses.resize(100, f32::NAN);
        let curve = LrCurve { lrs: numbers(&all["lrs"]), losses, n_steps: 100 };
        check_suggestions(name, &curve, &want["suggestions"]);
    }
}

#[test]
fn short_curves_have_no_suggestions() {
    let curve = |n: usize| LrCurve { lrs: vec![0.1; n], losses: vec![1.0; n], n_steps: 100 };
    assert_eq!(curve(0).suggestions(), Suggestions::default());
    assert_eq!(curve(12).suggestions(), Suggestions::default());
    let few = curve(20).suggestions();
    assert_eq!((few.slide, few.minimum.map(|s| s.index)), (None, Some(10)));
}

#[test]
fn nan_ends_the_run_and_leaves_the_points_before_it() {
    let mut tracer = Tracer::new(LrFindConfig::default());
    let losses = (0..).map(|i| if i < 80 { 1.0 - 0.001 * i as f32 } else { f32::NAN });
    let steps = losses.take_while(|&loss| tracer.next_lr().is_some() && tracer.add(loss)).count();
    let curve = tracer.finish();
    assert_eq!((steps, curve.losses.len()), (81, 100));
    assert_eq!(curve.suggestions().minimum.map(|s| s.index), Some(79));
}

#[test]
fn settings_out_of_range_are_named() {
    let text = |config: LrFindConfig| config.check().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text(LrFindConfig { start_lr: 0.0, ..Default::default() }).contains("`start_lr` is 0"));
    assert!(text(LrFindConfig { end_lr: 1e-9, ..Default::default() }).contains("`end_lr`"));
    assert!(text(LrFindConfig { n_steps: 0, ..Default::default() }).contains("`n_steps`"));
}
