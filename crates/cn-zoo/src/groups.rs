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
