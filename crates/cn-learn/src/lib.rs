//! The training loop: schedules, learning-rate finder, freezing, metrics, events, checkpoints.
