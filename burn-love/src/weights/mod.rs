//! Weights under their upstream names: what files hold, what a module takes from them, and a report of both.
//!
//! [`WeightsFile`] opens safetensors and PyTorch's `.pt`; [`Sam2File`] reads SAM 2's weights under Meta's names and
//! under Hugging Face's, [`EncoderFile`] an encoder's from whatever model it is a part of. All read names and shapes first and then one tensor at a time, so that loading takes little
//! more memory than the model itself.
//!
//! A module's parameters are named by its fields; [`keys`] lists where upstream names differ. Weights of
//! `nn::Linear` are transposed on the way (`[in, out]` in Burn, `[out, in]` in PyTorch); f64, f16 and bf16 become f32.

mod blob;
#[cfg(test)]
mod damage_tests;
mod encoder_file;
mod error;
mod family;
mod file;
mod hugging_face;
pub mod keys;
mod old_torch;
mod pickle;
mod safetensors_file;
mod sam2_file;
mod source;
mod state;
mod torch_file;
mod torch_write;
mod view;

pub use encoder_file::{EncoderFile, EncoderPart};
pub use error::WeightsError;
pub use family::Family;
pub use file::{Format, WeightsFile};
pub use safetensors::Dtype;
pub use safetensors_file::{write_safetensors, write_safetensors_f16};
pub use sam2_file::{Fit, Sam2File, preset_shapes};
pub use source::{Selection, Shapes, State, TensorInfo, TensorSource};
pub use state::{Allow, LoadReport, compare, load_state, shapes_of, state_of};
pub use torch_write::write_torch;
