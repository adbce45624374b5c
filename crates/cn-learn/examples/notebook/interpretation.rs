//! Cells 20 and 21: what the model got wrong.

use crate::{THRESHOLD, cell};
use cn_data::Dataset;
use cn_learn::{ClassCounts, Evaluation};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Shows both cells.
pub(crate) fn of(evaluation: &Evaluation, data: &Dataset) {
    cell("20", "interp.plot_top_losses(5, nrows=1)");
    top_losses(evaluation, data);
    cell("21", "interp.most_confused(5)");
    fastais_most_confused(evaluation, data);
    most_confused(evaluation, data);
}

fn top_losses(evaluation: &Evaluation, data: &Dataset) {
    let labels = data.vocabulary().labels();
    let (rows, above) = (evaluation.predictions.probabilities(), evaluation.predictions.above(0.5));
    for (i, loss) in evaluation.top_losses().into_iter().take(5) {
        let id = evaluation.predictions.ids[i];
        let of_image = i * labels.len()..(i + 1) * labels.len();
        let predicted: Vec<_> = labels.iter().zip(&above[of_image.clone()]).filter(|(_, yes)| **yes).collect();
        let predicted = predicted.into_iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(";");
        let most = rows[of_image].iter().copied().fold(0.0, f32::max);
        let record = &data.index().records()[id as usize];
        let (name, target) = (record.path.rsplit('/').next().unwrap_or_default(), record.labels.join(";"));
        println!("{name:<21} target {target:<10} predicted [{predicted}], at most {most:.3}, loss {loss:.4}");
    }
}

/// What fastai returns: all yes/no answers in one 2x2 table, under the names of the first two classes.
fn fastais_most_confused(evaluation: &Evaluation, data: &Dataset) {
    let counts = ClassCounts::of(&evaluation.predictions, &evaluation.targets, 0.5);
    let sum = |of: fn(&ClassCounts) -> usize| counts.iter().map(of).sum::<usize>();
    let [first, second] = [&data.vocabulary().labels()[0], &data.vocabulary().labels()[1]];
    println!("fastai's: ('{first}', '{second}', {}): no that became yes", sum(|c| c.false_positives));
    println!("          ('{second}', '{first}', {}): yes that became no", sum(|c| c.false_negatives));
}

/// What its name says: pairs of true class and most likely class; "none" where no class passes the threshold.
fn most_confused(evaluation: &Evaluation, data: &Dataset) {
    let (labels, top1) = (data.vocabulary().labels(), evaluation.predictions.top1());
    let above = evaluation.predictions.above(THRESHOLD);
    let mut pairs: BTreeMap<(usize, Option<usize>), usize> = BTreeMap::new();
    for (i, (&id, passed)) in evaluation.predictions.ids.iter().zip(above.chunks_exact(labels.len())).enumerate() {
        let truth = data.targets().classes(id)[0] as usize;
        let said = top1[i].filter(|_| passed.contains(&true));
        if said != Some(truth) {
            *pairs.entry((truth, said)).or_default() += 1;
        }
    }
    println!("by class, {} of {} images:", pairs.values().sum::<usize>(), evaluation.predictions.len());
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|&(_, n)| Reverse(n));
    let name = |class: usize| data.index().display(&labels[class]);
    for ((truth, said), n) in pairs.into_iter().take(5) {
        println!("  {} taken for {}: {n}", name(truth), said.map_or("none", name));
    }
}
