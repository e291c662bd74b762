//! The mask decoder against `mask_decoder.py`, in all three ways of choosing masks; and its gradients.

use burn::{backend::Autodiff, prelude::*, tensor::backend::AutodiffBackend};
use burn_love::sam2::{
    HighResFeatures, MaskSelection,
    mask_decoder::{MaskDecoder, MaskDecoderConfig, MaskDecoderInput},
    to_checkpoint,
};
use burn_love_tests::{Fixture, assert_close, assert_gradients, assert_input_gradient};

use crate::{Cpu, GRADIENT, MODULE, mask_loss, report};

/// The decoder of all cases.
pub fn config() -> MaskDecoderConfig {
    MaskDecoderConfig::new()
        .with_mlp_width(48)
        .with_iou_head_width(24)
}

#[test]
fn every_selection_agrees() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares all outputs of all selections.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("mask_decoder");
    let decoder = decoder::<B>(&fixture, device);
    let input = inputs(&fixture, device).decoder_input(&fixture);
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
            assert_close(&masks, output.masks, fixture.tensor(&masks, device), bound),
            assert_close(&iou, output.iou, fixture.tensor(&iou, device), bound),
            assert_close(&tokens, output.tokens, fixture.tensor(&tokens, device), bound),
            assert_close(&score, output.object_score, fixture.tensor(&score, device), bound),
        ]);
    }
    report("mask_decoder", &errors);
}

#[test]
fn gradients_agree() {
    check_gradients::<Autodiff<Cpu>>(&Default::default(), MODULE, GRADIENT);
}

/// Compares the loss of the candidates, and its gradients to all parameters and inputs.
pub fn check_gradients<B: AutodiffBackend>(device: &B::Device, bound: f64, gradient: f64) {
    let fixture = Fixture::load("mask_decoder");
    let decoder = decoder::<B>(&fixture, device);
    let inputs = inputs(&fixture, device);
    let inputs = Inputs {
        image: inputs.image.require_grad(),
        sparse: inputs.sparse.require_grad(),
        stride4: inputs.stride4.require_grad(),
        stride8: inputs.stride8.require_grad(),
    };
    let masks = decoder
        .forward(inputs.decoder_input(&fixture), MaskSelection::Candidates)
        .masks;
    let rows = |x: Tensor<B, 4>| x.flatten::<3>(0, 1).flatten::<2>(1, 2); // [B·M, h·w]
    let loss = mask_loss(rows(masks), rows(fixture.tensor("target", device)));
    let mut errors = vec![assert_close(
        "loss",
        loss.clone(),
        fixture.tensor("loss", device),
        bound,
    )];
    let gradients = loss.backward();
    errors.extend(assert_gradients(
        &fixture,
        &decoder,
        &gradients,
        to_checkpoint,
        gradient,
    ));
    errors.extend([
        assert_input_gradient(&fixture, "image", &inputs.image, &gradients, gradient),
        assert_input_gradient(&fixture, "sparse", &inputs.sparse, &gradients, gradient),
        assert_input_gradient(&fixture, "stride4", &inputs.stride4, &gradients, gradient),
        assert_input_gradient(&fixture, "stride8", &inputs.stride8, &gradients, gradient),
    ]);
    report("mask_decoder gradients", &errors);
}

/// The inputs that gradients reach.
struct Inputs<B: Backend> {
    image: Tensor<B, 4>,
    sparse: Tensor<B, 3>,
    stride4: Tensor<B, 4>,
    stride8: Tensor<B, 4>,
}

fn inputs<B: Backend>(fixture: &Fixture, device: &B::Device) -> Inputs<B> {
    Inputs {
        image: fixture.tensor("image", device),
        sparse: fixture.tensor("sparse", device),
        stride4: fixture.tensor("stride4", device),
        stride8: fixture.tensor("stride8", device),
    }
}

impl<B: Backend> Inputs<B> {
    fn decoder_input(&self, fixture: &Fixture) -> MaskDecoderInput<B> {
        let device = self.image.device();
        let rows = |map: Tensor<B, 4>| map.flatten::<3>(2, 3).swap_dims(1, 2); // BCHW → BLC
        MaskDecoderInput {
            image: rows(self.image.clone()) + rows(fixture.tensor("dense", &device)),
            image_position: rows(fixture.tensor("image_position", &device)),
            sparse: Some(self.sparse.clone()),
            high_res: HighResFeatures {
                stride4: self.stride4.clone(),
                stride8: self.stride8.clone(),
            },
        }
    }
}

fn decoder<B: Backend>(fixture: &Fixture, device: &B::Device) -> MaskDecoder<B> {
    let threshold = fixture.data("stability_threshold");
    let threshold = threshold.iter::<f64>().next().expect("one value");
    let decoder = config().with_stability_threshold(threshold).init(32, device);
    fixture.load_into(decoder, to_checkpoint)
}
