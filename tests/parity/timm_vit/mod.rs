//! ViT against timm's.

use burn_love::encoders::VisionConfig;
use burn_love_tests::Fixture;

use crate::{
    encoders::{beside, check_images, load_vision},
    report, vit,
};

#[test]
fn timm_s_file_agrees() {
    let config = VisionConfig {
        epsilon: VisionConfig::TIMM_EPSILON,
        ..vit::config()
    };
    let model = load_vision(&config, &beside("timm_vit", "weights.safetensors"), 2);
    let errors = check_images(&Fixture::load("timm_vit"), "hidden", &model);
    report("timm_vit", &errors);
}
