//! What the program says, mistakes first.

mod files;
mod usage;
mod words;

use crate::run::Place;
use expect_test::Expect;

/// Runs a line in `place`.
pub(crate) fn check(place: &Place, line: &str, expected: Expect) {
    expected.assert_eq(&place.line(line).snapshot());
}
