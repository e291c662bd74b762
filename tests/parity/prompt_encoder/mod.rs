//! The prompt encoder against `prompt_encoder.py`: points of every label, also outside the image, boxes, masks,
//! points with a mask, and nothing.

use burn::prelude::*;
use burn_love::sam2::{prompt_encoder::PromptEncoderConfig, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, image_path::points, report};

/// Side of the model's input, in pixels.
const SIDE: usize = 80;

#[test]
fn every_prompt_agrees() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares tokens and dense maps.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("prompt_encoder");
    let encoder = fixture.load_into(PromptEncoderConfig::new().init::<B>(32, device), to_checkpoint);
    let mut errors = Vec::new();
    for name in ["points", "boxes"] {
        let points = points(&fixture, &format!("{name}."), device);
        let name = format!("{name}.sparse");
        let sparse = encoder.points(points, SIDE);
        errors.push(assert_close(&name, sparse, fixture.tensor(&name, device), bound));
    }

    let rows = |name: &str| {
        let map: Tensor<B, 4> = fixture.tensor(name, device);
        map.flatten::<3>(2, 3).swap_dims(1, 2) // BCHW → BLC
    };
    let mask = || Some(fixture.tensor("mask", device));
    let both = encoder.forward(Some(points(&fixture, "points.", device)), mask(), SIDE);
    let sparse = both.sparse.expect("there are points");
    let expected = fixture.tensor("masked.sparse", device);
    errors.push(assert_close("masked.sparse", sparse, expected, bound));
    errors.push(assert_close(
        "masked.dense",
        both.dense,
        rows("masked.dense"),
        bound,
    ));

    let alone = encoder.forward(None, mask(), SIDE);
    assert!(alone.sparse.is_none(), "a mask alone has no tokens");
    errors.push(assert_close(
        "alone.dense",
        alone.dense,
        rows("alone.dense"),
        bound,
    ));

    let empty = encoder.forward(None, None, SIDE);
    assert!(empty.sparse.is_none(), "nothing has no tokens");
    let expected = rows("empty.dense");
    let dense = empty.dense.expand(expected.dims());
    errors.push(assert_close("empty.dense", dense, expected, bound));

    let grid = encoder.dense_position([SIDE / 16; 2]);
    errors.push(assert_close("grid", grid, rows("grid"), bound));
    report("prompt_encoder", &errors);
}
