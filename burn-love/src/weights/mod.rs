//! Weights under their upstream names: what files hold, what a module takes from them, and a report of both.
//!
//! A module's parameters are named by its fields; [`keys`] lists where upstream names differ. Weights of
//! `nn::Linear` are transposed on the way (`[in, out]` in Burn, `[out, in]` in PyTorch); f16 and bf16 become f32.

mod error;
pub mod keys;
mod safetensors_file;
mod state;

pub use error::WeightsError;
pub use safetensors_file::{WeightsFile, read_safetensors, write_safetensors};
pub use state::{LoadReport, State, load_state, state_of};
