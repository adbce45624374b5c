//! One name for each tensor, whoever wrote the file.
//!
//! | here, on disk and in memory | torchvision, timm, candle-transformers | fastai |
//! | --- | --- | --- |
//! | `conv1.weight`, `bn1.*` | the same | `0.0.weight`, `0.1.*` |
//! | `layer1.0.conv1.weight` ... `layer4.*` | the same | `0.4.0.conv1.weight` ... `0.7.*` |
//! | `fc.weight`, `fc.bias` (plain head) | the same | - |
//! | `head.2.weight` ... `head.8.weight` (fastai head) | - | `1.2.weight` ... `1.8.weight` |

/// fastai's places of the body's children, and PyTorch's names of them.
const BODY: [(&str, &str); 6] =
    [("0.0", "conv1"), ("0.1", "bn1"), ("0.4", "layer1"), ("0.5", "layer2"), ("0.6", "layer3"), ("0.7", "layer4")];

/// Our name of a tensor that a file calls `name`.
///
/// PyTorch's names stay; fastai's lose their `0.` and `1.`; a leading `module.` (PyTorch's data parallel) is dropped.
///
/// ```
/// use cn_zoo::canonical_name;
/// assert_eq!(canonical_name("0.4.0.conv1.weight"), "layer1.0.conv1.weight");
/// assert_eq!(canonical_name("1.8.weight"), "head.8.weight");
/// assert_eq!(canonical_name("module.fc.bias"), "fc.bias");
/// ```
#[must_use]
pub fn canonical_name(name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let body = BODY.iter().map(|&(theirs, ours)| (theirs, ours)).chain([("1", "head")]);
    rename(name, body).unwrap_or_else(|| name.into())
}

/// fastai's name of a tensor that we call `name`; `None` for what fastai's network does not have (`fc`).
///
/// ```
/// use cn_zoo::fastai_name;
/// assert_eq!(fastai_name("layer1.0.conv1.weight").as_deref(), Some("0.4.0.conv1.weight"));
/// assert_eq!(fastai_name("fc.weight"), None);
/// ```
#[must_use]
pub fn fastai_name(name: &str) -> Option<String> {
    rename(name, BODY.iter().map(|&(theirs, ours)| (ours, theirs)).chain([("head", "1")]))
}

/// Replaces the prefix of `name` that is one of `from`, up to a dot.
fn rename<'a>(name: &str, mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    pairs.find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?.strip_prefix('.')?;
        Some(format!("{to}.{rest}"))
    })
}

/// Whether a tensor is a counter that PyTorch keeps and nothing here uses.
pub(crate) fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// Whether a tensor belongs to a head, which another class count replaces.
pub(crate) fn is_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("fc.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_meaning_stay() {
        for name in ["conv1.weight", "layer1.0.conv1.weight", "fc.weight", "0.2.weight", "10.2.weight", "0.40.weight"] {
            assert_eq!(canonical_name(name), name);
        }
        assert_eq!(fastai_name("conv10.weight"), None);
    }

    #[test]
    fn heads_and_counters_are_told_by_name() {
        assert!(is_head("head.8.weight") && is_head("fc.bias") && !is_head("layer4.1.conv2.weight"));
        assert!(is_counter("bn1.num_batches_tracked") && !is_counter("bn1.running_mean"));
    }
}
