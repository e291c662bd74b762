//! Gradients through a whole image model against autograd: from the masks of points and an earlier mask to the
//! trunk's first convolution.

use burn::{backend::Autodiff, prelude::*, tensor::backend::AutodiffBackend};
use burn_love::sam2::{MaskSelection, Sam2, to_checkpoint};
use burn_love_tests::{Fixture, assert_close, assert_gradients};

use crate::{Cpu, GRADIENT, IMAGE_MODEL, image_path, mask_loss, report};

#[test]
fn every_parameter_agrees() {
    check::<Autodiff<Cpu>>(&Default::default(), IMAGE_MODEL, GRADIENT);
}

/// Compares the masks, and the gradients of their loss to all parameters that they depend on.
pub fn check<B: AutodiffBackend>(device: &B::Device, bound: f64, gradient: f64) {
    let fixture = Fixture::load("image_gradients");
    let config = image_path::config();
    let model: Sam2<B> = fixture.load_into(config.init(device), to_checkpoint);

    let features = model.forward_image(fixture.images("pixels", device));
    let prompt = model.sam_prompt_encoder.forward(
        Some(image_path::points(&fixture, "", device)),
        Some(fixture.tensor("mask", device)),
        config.image_size,
    );
    let embedding = model.unconditioned(&features);
    let output = model.decode(embedding, &features, prompt, MaskSelection::Candidates);
    let masks = output.multimask_logits;
    let mut errors = vec![assert_close(
        "masks",
        masks.clone(),
        fixture.tensor("masks", device),
        bound,
    )];

    let rows = |x: Tensor<B, 4>| x.flatten::<3>(0, 1).flatten::<2>(1, 2); // [B·M, h·w]
    let gradients = mask_loss(rows(masks), rows(fixture.tensor("target", device))).backward();
    errors.extend(assert_gradients(
        &fixture,
        &model,
        &gradients,
        to_checkpoint,
        gradient,
    ));
    report("image_gradients", &errors);
}
