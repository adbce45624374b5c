//! What a build without GPUs says where one is asked for.

use crate::run::{Ended, Place};

fn ended(args: &[&str]) -> Ended {
    Ended::of(Place::new().command(args))
}

#[test]
fn a_check_of_gpus_does_not_point_to_the_cpu() {
    let without = ended(&["gpu-check"]);
    assert_eq!(without.code, 1, "{}", without.stderr);
    assert!(without.stderr.contains("this build has no CUDA support"), "{}", without.stderr);
    assert!(without.stderr.contains("`cargo xtask cuda-build`") && !without.stderr.contains("--device cpu"));
    let cpu = ended(&["gpu-check", "--device", "cpu"]);
    assert_eq!(cpu.code, 2, "{}", cpu.stderr);
    assert!(cpu.stderr.contains("`cpu` is no GPU"), "{}", cpu.stderr);
}

#[test]
fn sizes_that_no_step_has_are_refused() {
    for (flag, value) in [("--image-size", "7"), ("--image-size", "99999999"), ("--batch-size", "0")] {
        let refused = ended(&["gpu-check", "--layers", flag, value]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("invalid value '{value}' for '{flag}")), "{}", refused.stderr);
    }
}
