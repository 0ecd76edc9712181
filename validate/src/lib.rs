//! Compares two dumps.
