//! The feature pyramid and the sine encoding of its grids against `image_encoder.py: FpnNeck`: with the published
//! choice of fused levels, and with all of them.

use burn::prelude::*;
use burn_love::sam2::{fpn_neck::FpnNeckConfig, position_encoding::grid_sine, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

#[test]
fn every_level_agrees() {
    check::<Cpu>(2, &Default::default(), MODULE);
}

/// Compares the first `count` maps of every level, and their position encodings.
pub fn check<B: Backend>(count: usize, device: &B::Device, bound: f64) {
    let fixture = Fixture::load("neck");
    let mut errors = Vec::new();
    for (part, levels) in [("fused", vec![2, 3]), ("everywhere", vec![0, 1, 2, 3])] {
        let config = FpnNeckConfig::new().with_top_down_levels(levels);
        let neck = fixture.load_into(config.init::<B>(&[4, 8, 16, 32], 32, device), to_checkpoint);
        let first = |name: &str| fixture.tensor::<B, 4>(name, device).narrow(0, 0, count);
        let maps = (0..4).map(|i| first(&format!("map.{i}")));
        for (i, fused) in neck.forward(maps.collect()).into_iter().enumerate() {
            let name = format!("{part}.{i}");
            errors.push(assert_close(&name, fused, first(&name), bound));
        }
    }
    for i in 0..4 {
        let name = format!("position.{i}");
        let expected: Tensor<B, 4> = fixture.tensor(&name, device);
        let [_, c, h, w] = expected.dims();
        let expected = expected.reshape([1, c, h * w]).swap_dims(1, 2);
        errors.push(assert_close(&name, grid_sine(c, [h, w], device), expected, bound));
    }
    report("neck", &errors);
}
