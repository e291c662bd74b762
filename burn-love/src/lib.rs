//! SAM2-LOVE and SAM 2 as generic Burn modules.

pub mod encoders;
pub mod fusion;
pub mod love;
pub mod ops;
pub mod preprocess;
pub mod sam2;
pub mod weights;
