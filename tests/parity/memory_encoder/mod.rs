//! The memory encoder and its position encoding against `memory_encoder.py`.

use burn::prelude::*;
use burn_love::sam2::{memory_encoder::MemoryEncoderConfig, position_encoding::grid_sine, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

#[test]
fn the_memory_agrees() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares the memory and its position encoding.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("memory_encoder");
    let encoder = MemoryEncoderConfig::new().init::<B>(32, 16, device);
    let encoder = fixture.load_into(encoder, to_checkpoint);
    let memory = encoder.forward(
        fixture.tensor("embedding", device),
        fixture.tensor("mask", device),
    );
    let position: Tensor<B, 4> = fixture.tensor("position", device);
    let position = position.flatten::<3>(2, 3).swap_dims(1, 2); // BCHW → BLC
    let errors = [
        assert_close("output", memory, fixture.tensor("output", device), bound),
        assert_close("position", grid_sine(16, [4, 6], device), position, bound),
    ];
    report("memory_encoder", &errors);
}
