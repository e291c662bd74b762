//! Predictions of a row as a safetensors file, for comparison with other implementations.

use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};

use super::EvalError;
use crate::metrics::LABEL_SIDE;

/// Writes `probability` `[T, 256, 256]` and `presence` `[T]` to `{uid}.safetensors` in `folder`.
pub(super) fn dump(folder: &Path, uid: &str, probability: &[f32], presence: &[f32]) -> Result<(), EvalError> {
    // A uid is a table's text; it must not lead out of the folder.
    let path = folder.join(format!("{}.safetensors", uid.replace(['/', '\\'], "_")));
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (probability, frames, presence) = (bytes(probability), presence.len(), bytes(presence));
    let view = |shape: Vec<usize>, bytes| {
        TensorView::new(Dtype::F32, shape, bytes).expect("as many values as the shape says")
    };
    let tensors = [
        (
            "probability",
            view(vec![frames, LABEL_SIDE, LABEL_SIDE], &probability),
        ),
        ("presence", view(vec![frames], &presence)),
    ];
    let content = safetensors::serialize(tensors, None)
        .map_err(|error| EvalError::io(&path)(std::io::Error::other(error)))?;
    std::fs::write(&path, content).map_err(EvalError::io(&path))
}
