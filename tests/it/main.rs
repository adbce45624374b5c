//! The program as people use it.
