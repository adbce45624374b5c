use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use serde_json::Value;

use super::{atomic::write_atomic, read_bytes};
use crate::error::{Error, Result};

/// The key that every JSON file of a run opens with.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

/// Reads a JSON file, after a look at its `schema`: a newer file is not reported as a damaged one.
pub(super) fn read<T: DeserializeOwned>(path: &Path, supported: u32) -> Result<T> {
    let bytes = read_bytes(path)?;
    let schema: Schema = parse(&bytes, path, 1)?;
    if schema.schema > supported {
        return Err(Error::Schema { path: path.to_owned(), found: schema.schema, supported });
    }
    parse(&bytes, path, 1)
}

/// Values that a file holds that is read as a tree, at most: each takes up to 600 bytes.
const MAX_VALUES: usize = 40_000;

/// A JSON file of unknown content as a tree of values; `None` if it cannot be read, or holds too many.
pub fn read_json_value(path: &Path) -> Option<Value> {
    let bytes = read_bytes(path).ok()?;
    let n = bytes.iter().filter(|byte| matches!(byte, b'{' | b'[' | b',')).count();
    if n > MAX_VALUES { None } else { serde_json::from_slice(&bytes).ok() }
}

/// Writes a JSON file for people and programs: indented, closed by a line end.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_atomic(path, &bytes(value))
}

/// The same, as bytes.
pub(super) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("the files of a run have string keys");
    bytes.push(b'\n');
    bytes
}

/// Parses bytes that begin at `first_line` of the file.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path, first_line: u64) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json {
        path: path.to_owned(),
        line: first_line + (source.line() as u64).saturating_sub(1),
        column: source.column() as u64,
        source,
    })
}

/// JSON has no NaN: a number that is not finite is written as `null` and read as NaN.
pub(crate) mod nan_as_null {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
    }
}
