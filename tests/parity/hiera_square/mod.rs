//! Hiera against `hieradet.py` on a square image that all windows divide, with two heads and two global blocks.

use burn_love::sam2::hiera::HieraConfig;

use crate::{Cpu, MODULE, hiera};

#[test]
fn every_stage_agrees() {
    hiera::check::<Cpu>("hiera_square", config(), 1, &Default::default(), MODULE);
}

/// The trunk of this case.
pub fn config() -> HieraConfig {
    HieraConfig::new()
        .with_width(12)
        .with_heads(2)
        .with_stages([2, 1, 2, 1])
        .with_windows([4, 4, 2, 2])
        .with_global_blocks(vec![1, 4])
        .with_position_background([4, 4])
}
