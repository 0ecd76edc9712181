//! `nvl-convert`.
fn main() {}
