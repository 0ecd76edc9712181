//! Reads and writes activation dumps.
