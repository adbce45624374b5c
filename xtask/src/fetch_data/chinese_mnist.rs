//! What is known of Chinese MNIST.

use super::content::Expected;

/// Kaggle's public download, as its interface documents it. No checksum of this archive is known, and it may change
/// with Kaggle's packing: what is checked is the content.
pub(super) const KAGGLE_URL: &str = "https://www.kaggle.com/api/v1/datasets/download/gpreda/chinese-mnist";
/// The page of that download, for a person.
pub(super) const KAGGLE_PAGE: &str = "https://www.kaggle.com/datasets/gpreda/chinese-mnist";

/// SHA-256 of one line `<sha256>  data/data/<name>` for each image, in byte order of the path.
const IMAGES_SHA256: &str = "4f052728b2d9ccae1fd6e5f8ae98e0edf5ca1c23962df0899bd4f06d9a53bfaf";
/// SHA-256 of `chinese_mnist.csv`, whose lines end in CR LF.
const CSV_SHA256: &str = "89abb517ed65c619eab60b4a2b714782591db554abfc086dbaa435972b65112b";
const SUMS: &str = include_str!("chinese_mnist.sums");

/// The description that goes beside the files.
pub(super) const DATASET_TOML: &str = r#"# Chinese MNIST in the layout of its Kaggle publication (gpreda/chinese-mnist).
name = "chinese-mnist"
csv = "chinese_mnist.csv"
image = "data/data/input_{suite_id}_{sample_id}_{code}.jpg"
label = "value"
label_separator = " "
display = "character"
group = "suite_id"
licence = "CC BY 4.0"
citation = "K. Nazarpour, M. Chen (2017), Handwritten Chinese Numbers, Newcastle University, doi 10.17634/137930-3"
"#;

/// The published data set: 100 writers, 10 samples of each of 15 characters.
pub(super) fn expected() -> Expected {
    let sums = SUMS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| (0..line.len() / 4).map(|i| u16::from_str_radix(&line[4 * i..4 * i + 4], 16)))
        .collect::<Result<_, _>>()
        .expect("the file holds hexadecimal digits only; a test reads it");
    Expected { writers: 100, samples: 10, images_sha256: IMAGES_SHA256.into(), csv_sha256: CSV_SHA256.into(), sums }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sum_for_each_image() {
        let expected = expected();
        assert_eq!(expected.sums.len(), 15_000);
        assert_eq!(expected.names().count(), 15_000);
    }
}
