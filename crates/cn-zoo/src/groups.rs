//! fastai's parameter groups.

/// The parameter group of a tensor of ours: 0 for the stem, `layer1` and `layer2`; 1 for `layer3` and `layer4`; 2 for the
/// head. These are fastai's, which get one learning rate each and are frozen from the left.
#[must_use]
pub fn group_of(name: &str) -> usize {
    match name.split('.').next() {
        Some("head" | "fc") => 2,
        Some("layer3" | "layer4") => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_head_are_the_last_group() {
        for (group, names) in [
            (0, &["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.1.bn2.weight"][..]),
            (1, &["layer3.0.downsample.0.weight", "layer4.1.conv2.weight"]),
            (2, &["head.2.weight", "head.8.weight", "fc.weight", "fc.bias"]),
        ] {
            assert!(names.iter().all(|name| group_of(name) == group), "{group}: {names:?}");
        }
    }
}
