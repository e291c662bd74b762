//! Names: from a Burn module path of [`Sam2`](super::Sam2) to the key in Meta's checkpoints.
//!
//! Fields are named after the checkpoint's keys. What is left is `nn.Sequential`, whose members upstream are
//! numbers that count activations too; Rust fields cannot be numbers. Layouts: only the weights of
//! `nn::Linear` differ (`[in, out]` in Burn, `[out, in]` in PyTorch); convolutions, transposed convolutions,
//! embeddings and bare parameters are stored alike.

/// Fragments of Burn paths and what they are called in a checkpoint. A fragment matches whole names only, and
/// at most one matches a path.
pub const KEYS: &[(&str, &str)] = &[
    // sam_prompt_encoder: convolution, norm, GELU, convolution, norm, GELU, convolution
    ("mask_downscaling.conv1", "mask_downscaling.0"),
    ("mask_downscaling.norm1", "mask_downscaling.1"),
    ("mask_downscaling.conv2", "mask_downscaling.3"),
    ("mask_downscaling.norm2", "mask_downscaling.4"),
    ("mask_downscaling.conv3", "mask_downscaling.6"),
    // sam_mask_decoder: transposed convolution, norm, GELU, transposed convolution, GELU
    ("output_upscaling.conv1", "output_upscaling.0"),
    ("output_upscaling.norm", "output_upscaling.1"),
    ("output_upscaling.conv2", "output_upscaling.3"),
    // memory_encoder: (convolution, norm, GELU) for each step, then a convolution
    ("mask_downsampler.encoder.0.conv", "mask_downsampler.encoder.0"),
    ("mask_downsampler.encoder.0.norm", "mask_downsampler.encoder.1"),
    ("mask_downsampler.encoder.1.conv", "mask_downsampler.encoder.3"),
    ("mask_downsampler.encoder.1.norm", "mask_downsampler.encoder.4"),
    ("mask_downsampler.encoder.2.conv", "mask_downsampler.encoder.6"),
    ("mask_downsampler.encoder.2.norm", "mask_downsampler.encoder.7"),
    ("mask_downsampler.encoder.3.conv", "mask_downsampler.encoder.9"),
    ("mask_downsampler.encoder.3.norm", "mask_downsampler.encoder.10"),
    ("mask_downsampler.encoder.4.conv", "mask_downsampler.encoder.12"),
];

/// The checkpoint key of the parameter at `path` (names joined by dots).
///
/// ```
/// use burn_love::sam2::to_checkpoint;
///
/// let path = "sam_mask_decoder.output_upscaling.conv2.bias";
/// assert_eq!(to_checkpoint(path), "sam_mask_decoder.output_upscaling.3.bias");
/// assert_eq!(to_checkpoint("no_mem_embed"), "no_mem_embed");
/// ```
pub fn to_checkpoint(path: &str) -> String {
    for (fragment, key) in KEYS {
        if let Some(start) = path.find(fragment) {
            let end = start + fragment.len();
            let starts_a_name = start == 0 || path.as_bytes()[start - 1] == b'.';
            let ends_a_name = end == path.len() || path.as_bytes()[end] == b'.';
            if starts_a_name && ends_a_name {
                return [&path[..start], key, &path[end..]].concat();
            }
        }
    }
    path.to_owned()
}
