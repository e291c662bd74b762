//! Parity with the originals: same weights, same inputs, bounded error. A case is a folder with its generator,
//! its fixture and its test.

mod hiera;
mod hugging_face;
mod image_path;
mod mask_decoder;
mod memory_attention;
mod memory_encoder;
mod neck;
mod presets;
mod torch_file;
mod track;
mod track_points;
mod track_token;

/// The backend of the exact cases.
type Cpu = burn_flex::Flex;

/// Largest error of a single module.
const MODULE: f64 = 1e-5;

/// Largest error of a whole model on an image.
const IMAGE_MODEL: f64 = 1e-4;

/// Largest error of a frame that was reached by propagation.
const TRACKED: f64 = 1e-3;

/// Shows a case's largest error under `--nocapture`.
fn report(case: &str, errors: &[f64]) {
    use std::io::Write;
    let worst = errors.iter().copied().fold(0.0, f64::max);
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{case}: largest relative error {worst:.1e}");
}
