//! ViT against timm's.

use burn_love::encoders::VisionConfig;
use burn_love_tests::Fixture;

use crate::{
    Cpu, MODULE,
    encoders::{beside, check_images, load_vision},
    report, vit,
};

#[test]
fn timm_s_file_agrees() {
    let config = VisionConfig {
        epsilon: VisionConfig::TIMM_EPSILON,
        ..vit::config()
    };
    let device = Default::default();
    let path = beside("timm_vit", "weights.safetensors");
    let model = load_vision::<Cpu>(&config, &path, 2, &device);
    let errors = check_images(&Fixture::load("timm_vit"), "hidden", &model, &device, MODULE);
    report("timm_vit", &errors);
}
