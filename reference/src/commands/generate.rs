//! `nvl-reference generate`.
