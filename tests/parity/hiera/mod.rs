//! Hiera against `hieradet.py` on an oblong image with padded windows.

use burn_love::sam2::{hiera::HieraConfig, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

/// The trunk of all cases.
pub fn config() -> HieraConfig {
    HieraConfig::new()
        .with_width(8)
        .with_heads(1)
        .with_stages([1, 2, 2, 1])
        .with_windows([8, 5, 6, 3])
        .with_global_blocks(vec![4])
        .with_position_background([3, 4])
}

#[test]
fn every_stage_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("hiera");
    let mut model = fixture.load_into(config().init::<Cpu>(&device), to_checkpoint);
    let images = fixture.images("pixels", &device);
    let check = |maps: Vec<_>| -> Vec<f64> {
        let maps = maps.into_iter().enumerate();
        maps.map(|(i, map)| {
            let name = format!("map.{i}");
            assert_close::<Cpu, 4>(&name, map, fixture.tensor(&name, &device), MODULE)
        })
        .collect()
    };
    report("hiera", &check(model.forward(images.clone())));
    model.cache_position([16, 24]);
    check(model.forward(images));
}
