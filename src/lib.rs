//! Tollgate.
pub mod kernel;
