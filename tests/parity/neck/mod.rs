//! The feature pyramid and the sine encoding of its grids against `image_encoder.py: FpnNeck`.

use burn::tensor::Tensor;
use burn_love::sam2::{fpn_neck::FpnNeckConfig, position_encoding::grid_sine, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

#[test]
fn every_level_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("neck");
    let neck = FpnNeckConfig::new().init::<Cpu>(&[8, 16, 32, 64], 32, &device);
    let neck = fixture.load_into(neck, to_checkpoint);
    let maps = (0..4)
        .map(|i| fixture.tensor(&format!("map.{i}"), &device))
        .collect();
    let mut errors = Vec::new();
    for (i, fused) in neck.forward(maps).into_iter().enumerate() {
        let [_, c, h, w] = fused.dims();
        let name = format!("fused.{i}");
        errors.push(assert_close(&name, fused, fixture.tensor(&name, &device), MODULE));

        let name = format!("position.{i}");
        let expected: Tensor<Cpu, 4> = fixture.tensor(&name, &device);
        let expected = expected.reshape([1, c, h * w]).swap_dims(1, 2);
        errors.push(assert_close(
            &name,
            grid_sine(c, [h, w], &device),
            expected,
            MODULE,
        ));
    }
    report("neck", &errors);
}
