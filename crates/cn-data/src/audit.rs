//! What is odd about decoded images: copies, near copies, and images unlike the rest.

mod copies;
mod files;
mod odd;

pub use copies::Copies;
pub use odd::{Odd, OddReason};
