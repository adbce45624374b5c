//! Tables for terminals: plain text, aligned in columns of the terminal, where a Chinese character takes two.

mod digits;
mod epochs;
mod layout;
mod quality;
mod scores;

pub(crate) use digits::{digits, share};
pub use epochs::{EpochTable, clock};
pub use layout::printable;
pub(crate) use layout::{Align, Table, steers};
pub use quality::{Quality, TunedTemperature, Tuning, quality_lines};
pub use scores::{
    ClassNames, class_table, confused_table, confusion_table, group_table, headline, top_losses_table, two_by_two_table,
};

#[cfg(test)]
mod tests;
