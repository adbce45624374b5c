//! Reference numbers for tests, from `tests/golden` of the workspace.

use serde_json::Value;

pub(crate) fn golden(name: &str) -> Value {
    let path = format!("{}/../../tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

pub(crate) fn floats(list: &Value) -> Vec<f32> {
    numbers(list).into_iter().map(|v| v as f32).collect()
}
