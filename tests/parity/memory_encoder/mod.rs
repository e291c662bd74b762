//! The memory encoder and its position encoding against `memory_encoder.py`.

use burn::tensor::Tensor;
use burn_love::sam2::{memory_encoder::MemoryEncoderConfig, position_encoding::grid_sine, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

#[test]
fn the_memory_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("memory_encoder");
    let encoder = fixture.load_into(
        MemoryEncoderConfig::new().init::<Cpu>(32, 16, &device),
        to_checkpoint,
    );
    let memory = encoder.forward(
        fixture.tensor("embedding", &device),
        fixture.tensor("mask", &device),
    );
    let position: Tensor<Cpu, 4> = fixture.tensor("position", &device);
    let position = position.flatten::<3>(2, 3).swap_dims(1, 2); // BCHW → BLC
    let errors = [
        assert_close("output", memory, fixture.tensor("output", &device), MODULE),
        assert_close("position", grid_sine(16, [4, 6], &device), position, MODULE),
    ];
    report("memory_encoder", &errors);
}
