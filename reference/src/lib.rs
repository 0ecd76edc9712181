//! Runs the model.
