//! A whole small model on images against `SAM2Base`: features, prompts, masks, gate and object pointer.

use burn::prelude::*;
use burn_love::sam2::{MaskSelection, MemoryConfig, Points, Sam2, Sam2Config, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, IMAGE_MODEL, hiera, mask_decoder, memory_attention, report};

/// The whole model of all cases, with the flags of 2.1.
pub fn config() -> Sam2Config {
    Sam2Config::new()
        .with_image_size(96)
        .with_model_width(32)
        .with_memory_width(16)
        .with_hiera(hiera::config())
        .with_mask_decoder(mask_decoder::config())
        .with_memory_attention(memory_attention::config())
        .with_memory(MemoryConfig::new().with_frames(4).with_max_object_pointers(5))
}

/// The same model with the flags of 2.0.
pub fn config_2_0() -> Sam2Config {
    let memory = config().memory;
    config().with_memory(
        memory
            .with_no_object_embedding(false)
            .with_pointer_time_encoding(false)
            .with_pointer_time_projection(false)
            .with_pointer_time_signed(false),
    )
}

/// Points of a fixture.
pub fn points<B: Backend>(fixture: &Fixture, prefix: &str, device: &B::Device) -> Points<B> {
    let labels: Tensor<B, 2> = fixture.tensor(&format!("{prefix}labels"), device);
    Points {
        coordinates: fixture.tensor(&format!("{prefix}coordinates"), device),
        labels: labels.int(),
    }
}

#[test]
fn features_and_masks_agree() {
    check::<Cpu>(&Default::default(), IMAGE_MODEL);
}

/// Compares features, masks and pointers, with and without cached constants.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("image_path");
    let model: Sam2<B> = fixture.load_into(config().init(device), to_checkpoint);
    check_model(&fixture, &model, device, bound);
    let errors = check_model(&fixture, &model.cache_constants(), device, bound);
    report("image_path", &errors);
}

fn check_model<B: Backend>(fixture: &Fixture, model: &Sam2<B>, device: &B::Device, bound: f64) -> Vec<f64> {
    let mut errors = Vec::new();
    let mut close = |name: &str, actual: Tensor<B, 4>| {
        errors.push(assert_close(name, actual, fixture.tensor(name, device), bound));
    };
    let features = model.forward_image(fixture.images("pixels", device));
    close("feature.0", features.high_res.stride4.clone());
    close("feature.1", features.high_res.stride8.clone());
    close("feature.2", features.neck.stride16.clone());

    for (name, multimask) in [("points", true), ("box", true), ("token", false)] {
        let sparse = if multimask {
            let points = points(fixture, &format!("{name}."), device);
            let sparse = model.sam_prompt_encoder.points(points, 96);
            let expected = fixture.tensor(&format!("{name}.sparse"), device);
            assert_close("sparse", sparse.clone(), expected, bound);
            sparse
        } else {
            fixture.tensor(name, device)
        };
        let output = model.forward_sam_heads(&features, sparse, multimask);
        close(&format!("{name}.masks"), output.multimask_logits);
        for (part, actual) in [("iou", output.multimask_iou), ("score", output.object_score)] {
            let name = format!("{name}.{part}");
            assert_close(&name, actual, fixture.tensor(&name, device), bound);
        }
    }

    let prompt = model
        .sam_prompt_encoder
        .forward(Some(points(fixture, "points.", device)), None, 96);
    let embedding = model.unconditioned(&features);
    let output = model.decode(embedding, &features, prompt, MaskSelection::Candidates);
    let expected: Tensor<B, 4> = fixture.tensor("gated.mask", device);
    for image in 0..2 {
        // One by one: an emptied mask's −1024 would hide the other's error.
        let pick = |x: Tensor<B, 4>| x.narrow(0, image, 1);
        assert_close(
            "gated.mask",
            pick(output.gated_logits()),
            pick(expected.clone()),
            bound,
        );
    }
    let pointer = model.object_pointer(output.mask_token.clone(), output.present());
    assert_close(
        "gated.pointer",
        pointer,
        fixture.tensor("gated.pointer", device),
        bound,
    );
    errors
}
