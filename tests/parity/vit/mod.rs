//! ViT and its image processor against Hugging Face's.

use burn::prelude::*;
use burn_love::{
    encoders::{VisionConfig, VisionKind},
    preprocess::vision_pixels,
};
use burn_love_tests::Fixture;

use crate::{
    Cpu, MODULE,
    encoders::{beside, check_images, check_pixels, load_vision},
    report,
};

/// The sizes of the small model, with the epsilon of `VisionConfig::base_16`.
pub fn config() -> VisionConfig {
    VisionConfig {
        kind: VisionKind::Vit,
        image_size: 48,
        patch_size: 8,
        width: 32,
        layers: 3,
        heads: 4,
        mlp_width: 48,
        ..VisionConfig::base_16()
    }
}

#[test]
fn both_kinds_of_files_agree() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares the hidden states of the weights in both kinds of files.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("vit");
    // The classifier's head; the pooler.
    for (name, ignored) in [("weights.safetensors", 2), ("weights.pt", 2)] {
        let model = load_vision::<B>(&config(), &beside("vit", name), ignored, device);
        let errors = check_images(&fixture, "hidden", &model, device, bound);
        report(&format!("vit, {name}"), &errors);
    }
}

#[test]
fn pixels_are_those_of_the_processor() {
    check_pixels(&Fixture::load("vit"), |picture| vision_pixels(picture, &config()));
}
