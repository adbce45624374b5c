use super::*;
use crate::golden::{golden, numbers};
use serde_json::Value;

/// Relative to the peak: the position is computed as fastai does, so only the cosine's last bits may differ.
const TOLERANCE: f64 = 1e-12;
const STEPS: usize = 187;

fn check_series(phase: &Phase, series: &Value) {
    let schedule = phase.schedule(3, STEPS);
    let peaks = phase.lr.of_groups(3);
    let lr: Vec<Vec<f64>> = (0..3).map(|g| numbers(&series[format!("lr_group{g}")])).collect();
    let mom = numbers(&series["mom"]);
    assert_eq!((mom.len(), lr[0].len()), (schedule.n_steps(), schedule.n_steps()));
    for step in 0..schedule.n_steps() {
        let got = schedule.at(step);
        for g in 0..3 {
            let error = (got.lr[g] - lr[g][step]).abs() / peaks[g];
            assert!(error < TOLERANCE, "step {step} group {g}: {} against {}", got.lr[g], lr[g][step]);
        }
        assert!((got.momentum - mom[step]).abs() < TOLERANCE, "step {step}: momentum {}", got.momentum);
    }
}

fn check_probes(phase: &Phase, probes: &Value) {
    let schedule = phase.schedule(3, STEPS);
    let peaks = phase.lr.of_groups(3);
    for probe in probes["probes"].as_array().expect("a list") {
        let step = probe["i"].as_u64().expect("a step") as usize;
        let got = schedule.at(step);
        for (g, want) in numbers(&probe["lr"]).into_iter().enumerate() {
            assert!(
                (got.lr[g] - want).abs() / peaks[g] < TOLERANCE,
                "step {step} group {g}: {} against {want}",
                got.lr[g]
            );
        }
        assert!((got.momentum - probe["mom"].as_f64().expect("a number")).abs() < TOLERANCE);
    }
}

#[test]
fn fit_one_cycle_is_fastais() {
    check_series(&Phase::one_cycle(6, Rates::Slice(1e-5, 1e-3)), &golden("schedule_fit_one_cycle_6")["series"]);
}

#[test]
fn fine_tune_is_fastais() {
    let want = golden("schedule_fine_tune_6");
    let phases = Phase::fine_tune(6, 2e-3, 1);
    assert_eq!(phases.len(), 2);
    assert_eq!((phases[0].frozen, phases[1].frozen), (Some(true), Some(false)));
    check_series(&phases[0], &want["phase1"]);
    check_series(&phases[1], &want["phase2"]);
}

#[test]
fn the_notebooks_other_calls_are_fastais() {
    let want = golden("schedule_probes");
    let tuned = Phase::fine_tune(6, 1e-2, 1);
    check_probes(&tuned[0], &want["fine_tune_6_lr1e_2_phase1"]);
    check_probes(&tuned[1], &want["fine_tune_6_lr1e_2_phase2"]);
    check_probes(&Phase::one_cycle(6, Rates::Uniform(1e-4)), &want["fit_one_cycle_6_lr1e_4"]);
    check_probes(&Phase::one_cycle(3, Rates::Uniform(1e-2)), &want["fit_one_cycle_3_lr1e_2"]);
    let custom = Phase {
        pct_start: 0.5,
        div: 10.0,
        div_final: 100.0,
        moms: [0.9, 0.8, 0.9],
        ..Phase::one_cycle(1, Rates::Uniform(1e-3))
    };
    check_probes(&custom, &want["fit_one_cycle_1_custom"]);
}

#[test]
fn rates_are_fastais() {
    let want = golden("schedule_probes");
    let close = |got: Vec<f64>, want: Vec<f64>| {
        assert_eq!(got.len(), want.len());
        got.iter().zip(&want).for_each(|(g, w)| assert!((g / w - 1.0).abs() < 1e-15, "{got:?} {want:?}"));
    };
    close(Rates::Slice(1e-5, 1e-3).of_groups(3), numbers(&want["even_mults"]["three"]));
    close(Rates::Last { last: 1e-2 }.of_groups(3), numbers(&want["even_mults"]["slice_1e_2_single"]));
    close(Rates::Slice(1e-5, 1e-3).of_groups(1), vec![1e-3]);
    close(Rates::Uniform(0.5).of_groups(2), vec![0.5; 2]);
}

#[test]
fn the_other_curves_start_at_the_peak() {
    let at = |curve, step| Phase { curve, ..Phase::one_cycle(2, Rates::Uniform(1.0)) }.schedule(1, 50).at(step);
    assert_eq!(at(Curve::Flat, 99), Hypers { lr: vec![1.0], momentum: 0.95 });
    assert_eq!(at(Curve::Cosine, 0).lr, [1.0]);
    assert!((at(Curve::Cosine, 50).lr[0] - 0.5).abs() < 1e-12);
    assert!(at(Curve::Cosine, 99).lr[0] < 1e-3);
}

#[test]
fn the_ends_of_pct_start_give_finite_rates() {
    for pct_start in [0.0, 1.0] {
        let schedule = Phase { pct_start, ..Phase::default() }.schedule(1, 10);
        let rates: Vec<f64> = (0..10).map(|step| schedule.at(step).lr[0]).collect();
        assert!(rates.iter().all(|lr| lr.is_finite() && *lr > 0.0), "{rates:?}");
        assert_eq!(rates.is_sorted(), pct_start == 1.0, "{rates:?}");
    }
}

#[test]
fn a_phase_reads_like_a_recipe() {
    let read = |text| serde_json::from_str::<Phase>(text);
    let phase = read(r#"{"frozen": false, "epochs": 6, "lr": [1e-5, 1e-3], "div": 5.0, "pct_start": 0.3}"#);
    assert_eq!(phase.ok().as_ref(), Phase::fine_tune(6, 2e-3, 1).get(1));
    let last = read(r#"{"lr": {"last": 2e-3}}"#).map(|phase| phase.lr);
    assert_eq!(last.ok(), Some(Rates::Last { last: 2e-3 }));
    assert_eq!(read(r#"{"lr": 0.5}"#).map(|phase| phase.lr).ok(), Some(Rates::Uniform(0.5)));
    assert!(read(r#"{"epoch": 6}"#).is_err());
}

#[test]
fn settings_out_of_range_are_named() {
    let text = |phase: Phase| phase.check().err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(text(Phase::default()), "");
    assert!(text(Phase { epochs: 0, ..Phase::default() }).contains("`epochs` is 0"));
    assert!(text(Phase::one_cycle(1, Rates::Uniform(f64::NAN))).contains("`lr`"));
    assert!(text(Phase { pct_start: 1.5, ..Phase::default() }).contains("`pct_start` is 1.5"));
    assert!(text(Phase { moms: [0.9, 1.0, 0.9], ..Phase::default() }).contains("`moms` is 1"));
    assert!(text(Phase { epochs: usize::MAX, ..Phase::default() }).contains("expected 1 to 1e9"));
    // Numbers that are none together.
    assert!(text(Phase::one_cycle(1, Rates::Slice(1e-300, 1e30))).contains("`lr of the last group / "));
    assert!(text(Phase { div: 1e-308, ..Phase::one_cycle(1, Rates::Uniform(1e5)) }).contains("`lr / div` is inf"));
    assert!(text(Phase { div_final: 1e-308, ..Phase::one_cycle(1, Rates::Uniform(1e5)) }).contains("`lr / div_final`"));
}

#[test]
fn momentum_moves_with_the_one_cycle_alone() {
    let moms = [0.95, 0.85, 0.9];
    let at = |curve, step| Phase { curve, moms, ..Phase::one_cycle(2, Rates::Uniform(1.0)) }.schedule(1, 50).at(step);
    for curve in [Curve::Flat, Curve::Cosine] {
        assert!((0..100).all(|step| at(curve, step).momentum == 0.95), "{curve:?}");
    }
    assert!((at(Curve::OneCycle, 25).momentum - 0.85).abs() < 1e-12);
}

#[test]
fn a_phase_without_epochs_is_left_out() {
    let frozen = |phases: Vec<Phase>| phases.iter().map(|phase| phase.frozen).collect::<Vec<_>>();
    assert_eq!(frozen(Phase::fine_tune(6, 2e-3, 0)), [Some(false)]);
    assert_eq!(frozen(Phase::fine_tune(0, 2e-3, 2)), [Some(true)]);
    assert_eq!(frozen(Phase::fine_tune(0, 2e-3, 0)), []);
}

#[test]
fn every_number_of_a_phase_is_checked() {
    let ok = Phase::default();
    let slice = |first, last| Phase { lr: Rates::Slice(first, last), ..ok.clone() };
    let bad = [
        (slice(0.0, 1e-3), "lr"),
        (slice(1e-5, -1e-3), "lr"),
        (Phase { lr: Rates::Last { last: f64::INFINITY }, ..ok.clone() }, "lr"),
        (Phase { lr: Rates::Uniform(1e39), ..ok.clone() }, "lr"),
        (Phase { lr: Rates::Uniform(f64::NAN), ..ok.clone() }, "lr"),
        (Phase { pct_start: -0.1, ..ok.clone() }, "pct_start"),
        (Phase { div: 0.0, ..ok.clone() }, "div"),
        (Phase { div_final: f64::NAN, ..ok.clone() }, "div_final"),
        (Phase { moms: [-0.1, 0.8, 0.9], ..ok.clone() }, "moms"),
        (Phase { moms: [0.9, 0.8, 1.5], ..ok.clone() }, "moms"),
    ];
    for (phase, field) in bad {
        let found = phase.check().err().map(|e| e.to_string());
        assert!(found.as_ref().is_some_and(|e| e.contains(&format!("`{field}`"))), "{field}: {found:?}");
    }
    assert!(slice(1e-5, 1e-3).check().is_ok());
}
