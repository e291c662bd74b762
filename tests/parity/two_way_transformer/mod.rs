//! The two-way transformer against `transformer.py`, deeper and with fewer heads than the decoder's.

use burn::prelude::*;
use burn_love::sam2::{
    to_checkpoint,
    two_way_transformer::{TokensAndImage, TwoWayTransformerConfig},
};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

#[test]
fn tokens_and_image_agree() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares both outputs.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("two_way_transformer");
    let config = TwoWayTransformerConfig::new(24)
        .with_depth(3)
        .with_heads(4)
        .with_mlp_width(40);
    let transformer = fixture.load_into(config.init::<B>(device), to_checkpoint);
    let rows = |name| {
        let map: Tensor<B, 4> = fixture.tensor(name, device);
        map.flatten::<3>(2, 3).swap_dims(1, 2) // BCHW → BLC
    };
    let input = TokensAndImage {
        tokens: fixture.tensor("tokens", device),
        image: rows("image"),
    };
    let output = transformer.forward(input, rows("image_position"));
    let close = |name, actual| assert_close::<B, 3>(name, actual, fixture.tensor(name, device), bound);
    let errors = [
        close("output.tokens", output.tokens),
        close("output.image", output.image),
    ];
    report("two_way_transformer", &errors);
}
