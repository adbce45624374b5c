//! Tables for terminals: plain text, aligned in columns of the terminal, where a Chinese character takes two.

mod epochs;
mod layout;
mod scores;

pub use epochs::{EpochTable, clock};
pub use scores::{ClassNames, class_table, confused_table, confusion_table, group_table, headline, top_losses_table};

#[cfg(test)]
mod tests;
