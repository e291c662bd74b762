//! Memory attention against `memory_attention.py`, over two spatial memories and four rows of pointers.

use burn_love::sam2::{
    memory_attention::{Memories, MemoryAttentionConfig},
    to_checkpoint,
};
use burn_love_tests::{Fixture, assert_close};

use crate::{Cpu, MODULE, report};

/// The memory attention of all cases.
pub fn config() -> MemoryAttentionConfig {
    MemoryAttentionConfig::new().with_layers(2).with_feedforward(48)
}

#[test]
fn the_conditioned_frame_agrees() {
    let device = Default::default();
    let fixture = Fixture::load("memory_attention");
    let module = fixture.load_into(config().init::<Cpu>(32, 16, &device), to_checkpoint);
    let rotary = config().rotary_table(32, [5, 5], &device);
    let memories = Memories {
        rows: fixture.tensor("rows", &device),
        position: fixture.tensor("memory_position", &device),
        spatial_rows: 50,
    };
    let output = module.forward(
        fixture.tensor("frame", &device),
        fixture.tensor("position", &device),
        memories,
        &rotary,
    );
    let error = assert_close("output", output, fixture.tensor("output", &device), MODULE);
    report("memory_attention", &[error]);
}
