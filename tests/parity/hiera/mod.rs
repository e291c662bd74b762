//! Hiera against `hieradet.py` on an oblong image with padded windows.

use burn::prelude::*;
use burn_love::sam2::{hiera::HieraConfig, to_checkpoint};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

/// The trunk of all cases.
pub fn config() -> HieraConfig {
    HieraConfig::new()
        .with_width(4)
        .with_heads(1)
        .with_stages([1, 2, 2, 1])
        .with_windows([8, 5, 6, 3])
        .with_global_blocks(vec![4])
        .with_position_background([3, 4])
}

#[test]
fn every_stage_agrees() {
    check::<Cpu>("hiera", config(), 2, &Default::default(), MODULE);
}

/// Compares every stage's map of the first `count` images, without and with the cached position embedding.
pub fn check<B: Backend>(case: &str, config: HieraConfig, count: usize, device: &B::Device, bound: f64) {
    let fixture = Fixture::load(case);
    let mut model = fixture.load_into(config.init::<B>(device), to_checkpoint);
    let images = fixture.images("pixels", device).narrow(0, 0, count);
    let compare = |maps: Vec<_>| -> Vec<f64> {
        assert_eq!(maps.len(), 4, "one map per stage");
        let maps = maps.into_iter().enumerate();
        maps.map(|(i, map)| {
            let name = format!("map.{i}");
            let expected = fixture.tensor::<B, 4>(&name, device).narrow(0, 0, count);
            assert_close(&name, map, expected, bound)
        })
        .collect()
    };
    let errors = compare(model.forward(images.clone()));
    let [_, _, h, w] = images.dims();
    model.cache_position([h / 4, w / 4]);
    compare(model.forward(images));
    report(case, &errors);
}
