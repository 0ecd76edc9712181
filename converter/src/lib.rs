//! Converts a Llama-3.1-Nemotron-Nano-VL checkpoint to a normalized one that needs no Python.

pub mod normalized;
