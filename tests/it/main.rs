//! The program as people use it: what it prints, what it leaves behind, how it ends.

mod audit;
mod bench;
mod cli;
mod cross_validation;
mod drawings;
mod ema;
mod end_to_end;
mod glyphs;
mod gpu;
mod grey;
mod ground;
mod ink_square;
mod locks;
mod memory;
mod not_finite;
mod notebook;
mod pipes;
mod precision;
mod results;
mod resume;
mod rollback;
mod run;
mod scans;
mod seen;
mod verify;
mod weights;
