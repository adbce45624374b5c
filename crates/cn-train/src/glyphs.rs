//! The built-in weights, and what of their head another data set can use.

use anyhow::{Context, Result};
use cn_data::Dataset;
use cn_report::ModelCard;
use cn_zoo::{WeightFile, glyphs};

/// Their name on the command line.
pub(crate) const NAME: &str = "glyphs";
/// The only architecture that they are of.
pub(crate) const ARCH: &str = "resnet18";

/// The weights and their card.
pub(crate) fn open() -> Result<(WeightFile, ModelCard)> {
    let card: ModelCard = serde_json::from_str(glyphs::CARD).context("the card of the built-in weights is damaged")?;
    card.validate()?;
    Ok((WeightFile::from_bytes(glyphs::WEIGHTS)?, card))
}

/// The weights with the head for the classes of `dataset`, by what people are shown or else by the label; without a head
/// if they do not know all of them, or if it is not a plain one and they know them in another order.
pub(crate) fn fitted(file: &WeightFile, card: &ModelCard, dataset: &Dataset) -> Result<WeightFile> {
    let output = |label: &String| card.output_of(label, dataset.index().display(label)).map(|output| output as u32);
    let Some(outputs) = dataset.vocabulary().labels().iter().map(output).collect::<Option<Vec<u32>>>() else {
        return Ok(file.without_head());
    };
    if outputs.iter().copied().eq(0..card.classes.len() as u32) {
        return Ok(file.clone());
    }
    Ok(if file.get("fc.weight").is_some() { file.with_outputs(&outputs)? } else { file.without_head() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cn_data::{Index, Pixels, Record, Split, SplitConfig};

    /// Images of these labels, shown as they are.
    fn dataset(labels: &[&str]) -> Dataset {
        let record =
            |i: usize| Record { path: i.to_string(), labels: vec![labels[i % labels.len()].into()], group: None };
        let n = 10 * labels.len();
        let index = Index::from_records("toy", "", (0..n).map(record).collect()).expect("an index");
        let split = Split::new(&index, &SplitConfig::default()).expect("a split");
        Dataset::new(index, Pixels::uniform(vec![0; n], [1, 1, 1]).expect("pixels"), split).expect("a data set")
    }

    #[test]
    fn outputs_follow_the_vocabulary() {
        let (file, card) = open().expect("built in");
        let bias = |file: &WeightFile| file.get("fc.bias").map(|b| b.to_vec1::<f32>().expect("floats"));
        let all = bias(&file).expect("a head");
        let of = |display: &str| all[card.classes.iter().position(|c| c.display == display).expect("known")];
        // By what is shown, and by the label.
        let found = bias(&fitted(&file, &card, &dataset(&["三", "一", "10"])).expect("fitted"));
        assert_eq!(found, Some(vec![of("十"), of("一"), of("三")]), "sorted as strings");
        assert_eq!(bias(&fitted(&file, &card, &dataset(&["一", "cat"])).expect("fitted")), None);
        // The same classes in the same order are the same head.
        let labels: Vec<&str> = card.labels().collect();
        assert_eq!(bias(&fitted(&file, &card, &dataset(&labels)).expect("fitted")), Some(all));
    }

    #[test]
    fn the_file_is_small_enough_to_publish() {
        assert!(glyphs::WEIGHTS.len() <= 9_000_000, "{} bytes", glyphs::WEIGHTS.len());
    }
}
