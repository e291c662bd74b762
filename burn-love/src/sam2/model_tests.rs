//! Shapes, gradients and constants of the whole model.

use burn::{module::AutodiffModule, tensor::Distribution};
use burn_autodiff::Autodiff;
use burn_flex::Flex;

use super::*;

fn small() -> Sam2Config {
    Sam2Config::nano().with_image_size(64)
}

#[test]
fn gradients_reach_token_decoder_and_no_mask_embedding_past_a_frozen_encoder() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    let model: Sam2<B> = small().init(&device);
    let images = Tensor::random([2, 3, 64, 64], Distribution::Default, &device);
    let neck = model
        .image_encoder
        .valid()
        .forward(images)
        .map(Tensor::<B, 4>::from_inner);
    let features = model.project_features(neck);

    let token = Tensor::<B, 3>::random([2, 1, 128], Distribution::Default, &device).require_grad();
    let output = model.forward_sam_heads(&features, token.clone(), false);
    let grads = output.low_res_logits.powf_scalar(2.0).mean().backward();

    let largest = |x: Tensor<Flex, 3>| x.abs().max().into_scalar();
    assert!(largest(token.grad(&grads).unwrap()) > 0.0);
    assert!(
        model
            .sam_prompt_encoder
            .no_mask_embed
            .weight
            .grad(&grads)
            .is_some()
    );
    assert!(model.sam_mask_decoder.conv_s0.weight.grad(&grads).is_some());
    assert!(
        model
            .image_encoder
            .trunk
            .patch_embed
            .proj
            .weight
            .grad(&grads)
            .is_none()
    );
}

#[test]
fn the_whole_image_path_is_trainable() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    let model: Sam2<B> = small().init(&device);
    let images = Tensor::random([1, 3, 64, 64], Distribution::Default, &device);
    let token = Tensor::zeros([1, 1, 128], &device);
    let output = model.forward_sam_heads(&model.forward_image(images), token, true);
    let grads = output.low_res_logits.mean().backward();
    let trunk = &model.image_encoder.trunk;
    assert!(trunk.pos_embed.grad(&grads).is_some());
    assert!(trunk.patch_embed.proj.weight.grad(&grads).is_some());
}

#[test]
fn one_image_serves_many_prompts() {
    let device = Default::default();
    let model: Sam2<Flex> = small().init(&device);
    let image = Tensor::random([1, 3, 64, 64], Distribution::Default, &device);
    let tokens = Tensor::random([3, 2, 128], Distribution::Default, &device);
    let shared = model.forward_sam_heads(&model.forward_image(image.clone()), tokens.clone(), true);
    let repeated = model.forward_image(image.repeat(&[3, 1, 1, 1]));
    let repeated = model.forward_sam_heads(&repeated, tokens, true);
    let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-5);
    let expected = repeated.low_res_logits.into_data();
    shared
        .low_res_logits
        .into_data()
        .assert_approx_eq(&expected, tolerance);
}

#[test]
fn an_absent_object_empties_its_mask_only() {
    let device = Default::default();
    let output = SamHeadsOutput::<Flex>::new(MaskDecoderOutput {
        masks: Tensor::ones([2, 1, 1, 1], &device),
        iou: Tensor::ones([2, 1], &device),
        tokens: Tensor::ones([2, 1, 4], &device),
        object_score: Tensor::from_data([[0.0], [0.1]], &device),
    });
    let logits = output.gated_logits().into_data().to_vec::<f32>().unwrap();
    assert_eq!(logits, [-1024.0, 1.0]);
}
