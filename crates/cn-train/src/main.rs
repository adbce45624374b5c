//! The command line of `cn`.
fn main() {}
