//! From tables of predictions to honest numbers, plots and pages.
