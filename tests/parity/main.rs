//! Parity with the originals: same weights, same inputs, bounded error. A case is a folder with its generator,
//! its fixture and its test. What it compares is a function over backends: [`gpu`] runs the same on GPUs.

mod automatic_masks;
mod clip;
mod encoders;
mod gpu;
mod hiera;
mod hiera_square;
mod hugging_face;
mod image_gradients;
mod image_path;
mod image_predictor;
mod mask_decoder;
mod memory_attention;
mod memory_encoder;
mod neck;
mod other_geometry;
mod pictures;
mod presets;
mod prompt_encoder;
mod roads;
mod roberta;
mod schedule;
mod session;
mod ten_steps;
mod timm_vit;
mod torch_file;
mod track;
mod track_points;
mod track_token;
mod two_way_transformer;
mod vggish;
mod video_options;
mod video_postprocess;
mod video_session;
mod vit;

use burn::{prelude::*, tensor::activation::sigmoid};
use burn_love_train::training::{bce_with_logits, dice};

/// The backend of the exact cases.
type Cpu = burn_flex::Flex;

/// Largest error of a single module.
const MODULE: f64 = 1e-5;

/// Largest error of a whole model on an image.
const IMAGE_MODEL: f64 = 1e-4;

/// Largest error of a gradient.
const GRADIENT: f64 = 1e-4;

/// Divisor of sums inside DICE, as SAM2-LOVE trains.
const DICE_SCALE: f64 = 1000.0;

/// Largest error of a frame that was reached by propagation, while memories are kept in f32.
const UNROUNDED: f64 = 1e-4;

/// The same with memories rounded to bf16, as the reference keeps them: an f32 that lies between two bf16 values may be
/// rounded to either.
const TRACKED: f64 = 1e-3;

/// The bounds above, for the numbers of a backend.
#[derive(Clone, Copy)]
struct Bounds {
    module: f64,
    image_model: f64,
    gradient: f64,
    unrounded: f64,
    tracked: f64,
    /// Of VGGish's quantised embeddings, of 255 steps.
    quantised: f64,
}

impl Bounds {
    /// f32 throughout.
    const F32: Self = Self {
        module: MODULE,
        image_model: IMAGE_MODEL,
        gradient: GRADIENT,
        unrounded: UNROUNDED,
        tracked: TRACKED,
        quantised: 0.0,
    };

    /// Products in TF32 or f16, whose numbers have 10 bits behind the first.
    const TF32: Self = Self {
        module: 5e-3,
        image_model: 1e-2,
        gradient: 2e-2,
        unrounded: 2e-2,
        tracked: 2e-2,
        quantised: 1e-2,
    };

    /// Products in bf16, which has three bits less.
    #[cfg(feature = "cuda")]
    const BF16: Self = Self {
        module: 8.0 * Self::TF32.module,
        image_model: 8.0 * Self::TF32.image_model,
        gradient: 8.0 * Self::TF32.gradient,
        unrounded: 8.0 * Self::TF32.unrounded,
        tracked: 8.0 * Self::TF32.tracked,
        quantised: 8.0 * Self::TF32.quantised,
    };
}

/// BCE + DICE of masks.
///
/// # Shapes
/// - `logits`, `target`: `[N, P]`
fn mask_loss<B: Backend>(logits: Tensor<B, 2>, target: Tensor<B, 2>) -> Tensor<B, 1> {
    bce_with_logits(logits.clone(), target.clone()) + dice(sigmoid(logits), target, DICE_SCALE)
}

/// Shows a case's largest error under `--nocapture`.
fn report(case: &str, errors: &[f64]) {
    use std::io::Write;
    let worst = errors.iter().copied().fold(0.0, f64::max);
    // Lost output is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{case}: largest relative error {worst:.1e}");
}
