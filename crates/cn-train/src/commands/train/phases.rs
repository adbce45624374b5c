//! What a run is about to do, in words.

use crate::config::Config;
use crate::output::counted;
use cn_learn::{Curve, Phase, Rates};

/// The layers that a phase trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layers {
    All,
    Head,
}

/// A line a phase, and one where the phases are not those of the recipe. The learner begins with `layers`.
pub(super) fn lines(config: &Config, mut layers: Layers) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, phase) in config.phase.iter().enumerate() {
        layers = match phase.frozen {
            Some(true) => Layers::Head,
            Some(false) => Layers::All,
            None => layers,
        };
        lines.push(format!("phase {}: {}", i + 1, line(phase, layers)));
    }
    if config.has_own_phases() {
        let recipe = &config.recipe;
        let own = name(&config.phase).map_or(String::new(), |name| format!(": they are {name}"));
        lines.push(format!("the phases are not those of the recipe `{recipe}`{own}"));
    }
    lines
}

pub(super) fn epochs(n: usize) -> String {
    counted(n, "epoch", "epochs")
}

fn line(phase: &Phase, layers: Layers) -> String {
    let epochs = epochs(phase.epochs);
    let layers = match layers {
        Layers::Head => "the head alone",
        Layers::All => "all layers",
    };
    let rates = match phase.lr {
        Rates::Uniform(lr) => format!("learning rate {:e}", short(lr)),
        Rates::Slice(first, last) => {
            format!("learning rates {:e} for the first layers to {:e} for the head", short(first), short(last))
        }
        // The layers below are frozen but for their norms.
        Rates::Last { last } => {
            format!("learning rates {:e} for the head, {:e} below it", short(last), short(last / 10.0))
        }
    };
    let curve = match phase.curve {
        Curve::OneCycle => "one cycle",
        Curve::Flat => "flat",
        Curve::Cosine => "cosine",
    };
    format!("{epochs}, {layers}, {rates}, {curve}")
}

/// Without what rounding leaves behind the digits that were meant: 3e-4, not 3.0000000000000003e-4.
fn short(rate: f64) -> f64 {
    format!("{rate:.5e}").parse().unwrap_or(rate)
}

/// The call of fastai that makes these phases, if one does.
fn name(phases: &[Phase]) -> Option<String> {
    let first = phases.first()?;
    match (first.lr, phases) {
        (Rates::Last { last }, [head, rest @ ..]) => {
            let epochs = rest.first().map_or(0, |all| all.epochs);
            let same = Phase::fine_tune(epochs, last, head.epochs) == phases;
            same.then(|| format!("fine_tune({epochs}, {last:e}, freeze_epochs={})", head.epochs))
        }
        (Rates::Uniform(lr), [phase]) => {
            let cycle = Phase { frozen: phase.frozen, ..Phase::one_cycle(phase.epochs, phase.lr) };
            (cycle == *phase).then(|| format!("fit_one_cycle({}, {lr:e})", phase.epochs))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(recipe: &str, phase: Vec<Phase>, layers: Layers) -> String {
        let config = Config { recipe: recipe.into(), phase, ..Config::default() };
        lines(&config, layers).join("\n")
    }

    #[test]
    fn phases_are_told_with_their_rates() {
        expect_test::expect![[r#"
            phase 1: 1 epoch, the head alone, learning rates 2e-3 for the head, 2e-4 below it, one cycle
            phase 2: 6 epochs, all layers, learning rates 1e-5 for the first layers to 1e-3 for the head, one cycle"#]]
        .assert_eq(&lines_of("notebook", Phase::fine_tune(6, 2e-3, 1), Layers::All));
    }

    #[test]
    fn phases_that_replace_those_of_a_recipe_are_told() {
        expect_test::expect![[r#"
            phase 1: 1 epoch, the head alone, learning rates 4e-3 for the head, 4e-4 below it, one cycle
            phase 2: 6 epochs, all layers, learning rates 2e-5 for the first layers to 2e-3 for the head, one cycle
            the phases are not those of the recipe `notebook-tuned`: they are fine_tune(6, 4e-3, freeze_epochs=1)"#]]
        .assert_eq(&lines_of("notebook-tuned", Phase::fine_tune(6, 4e-3, 1), Layers::Head));
        assert!(
            lines_of("quick", Phase::fine_tune(1, 3e-3, 1), Layers::Head).contains("3e-3 for the head, 3e-4 below it,")
        );
        // What a phase does not say stays as the learner begins.
        let cycle = Phase::one_cycle(3, Rates::Uniform(1e-2));
        let text = lines_of("notebook-tuned", vec![cycle], Layers::Head);
        assert!(text.starts_with("phase 1: 3 epochs, the head alone, learning rate 1e-2"), "{text}");
        assert!(text.ends_with("they are fit_one_cycle(3, 1e-2)"), "{text}");
    }
}
