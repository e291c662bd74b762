//! The mask decoder against `mask_decoder.py`, in all three ways of choosing masks.

use burn::tensor::Tensor;
use burn_love::sam2::{
    HighResFeatures, MaskSelection,
    mask_decoder::{MaskDecoderConfig, MaskDecoderInput},
    to_checkpoint,
};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

/// The decoder of all cases.
pub fn config() -> MaskDecoderConfig {
    MaskDecoderConfig::new()
        .with_mlp_width(48)
        .with_iou_head_width(24)
}

#[test]
fn every_selection_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("mask_decoder");
    let threshold = fixture
        .tensor::<Cpu, 1>("stability_threshold", &device)
        .into_scalar();
    let decoder = config()
        .with_stability_threshold(f64::from(threshold))
        .init::<Cpu>(32, &device);
    let decoder = fixture.load_into(decoder, to_checkpoint);

    let rows = |name| {
        let map: Tensor<Cpu, 4> = fixture.tensor(name, &device);
        map.flatten::<3>(2, 3).swap_dims(1, 2) // BCHW → BLC
    };
    let input = MaskDecoderInput {
        image: rows("image") + rows("dense"),
        image_position: rows("image_position"),
        sparse: Some(fixture.tensor("sparse", &device)),
        high_res: HighResFeatures {
            stride4: fixture.tensor("stride4", &device),
            stride8: fixture.tensor("stride8", &device),
        },
    };
    let mut errors = Vec::new();
    for (name, selection) in [
        ("single", MaskSelection::Single),
        ("candidates", MaskSelection::Candidates),
        ("stable", MaskSelection::StableSingle),
    ] {
        let output = decoder.forward(input.clone(), selection);
        let name = |part: &str| format!("{name}.{part}");
        let (masks, iou) = (name("masks"), name("iou"));
        let (tokens, score) = (name("tokens"), name("score"));
        errors.extend([
            assert_close(&masks, output.masks, fixture.tensor(&masks, &device), MODULE),
            assert_close(&iou, output.iou, fixture.tensor(&iou, &device), MODULE),
            assert_close(&tokens, output.tokens, fixture.tensor(&tokens, &device), MODULE),
            assert_close(
                &score,
                output.object_score,
                fixture.tensor(&score, &device),
                MODULE,
            ),
        ]);
    }
    report("mask_decoder", &errors);
}
