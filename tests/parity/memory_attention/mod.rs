//! Memory attention against `memory_attention.py`: over one and over seven spatial memories, with and without
//! pointers; and its gradients.

use burn::{backend::Autodiff, prelude::*, tensor::backend::AutodiffBackend};
use burn_love::sam2::{
    memory_attention::{Memories, MemoryAttention, MemoryAttentionConfig},
    to_checkpoint,
};
use burn_love_tests::{Fixture, assert_close, assert_gradients, assert_input_gradient};

use crate::{Cpu, GRADIENT, MODULE, mask_loss, report};

/// Cells of a frame.
const CELLS: usize = 25;

/// Rows of object pointers.
const POINTERS: usize = 6;

/// The memory attention of all cases.
pub fn config() -> MemoryAttentionConfig {
    MemoryAttentionConfig::new().with_layers(2).with_feedforward(48)
}

#[test]
fn every_number_of_memories_agrees() {
    check::<Cpu>(&Default::default(), MODULE);
}

/// Compares the conditioned frame for one and for seven memories, without and with pointers.
pub fn check<B: Backend>(device: &B::Device, bound: f64) {
    let fixture = Fixture::load("memory_attention");
    let module = fixture.load_into(config().init::<B>(32, 16, device), to_checkpoint);
    let (frame, rows) = (fixture.tensor("frame", device), fixture.tensor("rows", device));
    let errors: Vec<f64> = [(1, 0), (1, POINTERS), (7, 0), (7, POINTERS)]
        .into_iter()
        .map(|(memories, pointers)| {
            let output = run(&fixture, &module, frame.clone(), rows.clone(), memories, pointers);
            let name = format!("output.{memories}.{pointers}");
            assert_close(&name, output, fixture.tensor(&name, device), bound)
        })
        .collect();
    report("memory_attention", &errors);
}

/// Attends to the last `memories` spatial memories and the first `pointers` rows of pointers.
fn run<B: Backend>(
    fixture: &Fixture,
    module: &MemoryAttention<B>,
    frame: Tensor<B, 3>,
    rows: Tensor<B, 3>,
    memories: usize,
    pointers: usize,
) -> Tensor<B, 3> {
    let device = frame.device();
    let position: Tensor<B, 3> = fixture.tensor("memory_position", &device);
    let spatial_rows = memories * CELLS;
    let used = |x: Tensor<B, 3>| x.narrow(1, (7 - memories) * CELLS, spatial_rows + pointers);
    let memories = Memories {
        rows: used(rows),
        position: used(position),
        spatial_rows,
    };
    let rotary = config().rotary_table(32, [5, 5], &device);
    module.forward(frame, fixture.tensor("position", &device), memories, &rotary)
}

#[test]
fn gradients_agree() {
    check_gradients::<Autodiff<Cpu>>(&Default::default(), MODULE, GRADIENT);
}

/// Compares the loss over seven memories with pointers, and its gradients to all parameters and inputs.
pub fn check_gradients<B: AutodiffBackend>(device: &B::Device, bound: f64, gradient: f64) {
    let fixture = Fixture::load("memory_attention");
    let module = fixture.load_into(config().init::<B>(32, 16, device), to_checkpoint);
    let input = |name| fixture.tensor::<B, 3>(name, device).require_grad();
    let (frame, rows) = (input("frame"), input("rows"));
    let output = run(&fixture, &module, frame.clone(), rows.clone(), 7, POINTERS);
    let loss = mask_loss(
        output.flatten(1, 2),
        fixture.tensor::<B, 3>("target", device).flatten(1, 2),
    );
    let mut errors = vec![assert_close(
        "loss",
        loss.clone(),
        fixture.tensor("loss", device),
        bound,
    )];
    let gradients = loss.backward();
    errors.extend(assert_gradients(
        &fixture,
        &module,
        &gradients,
        to_checkpoint,
        gradient,
    ));
    errors.push(assert_input_gradient(
        &fixture, "frame", &frame, &gradients, gradient,
    ));
    errors.push(assert_input_gradient(
        &fixture, "rows", &rows, &gradients, gradient,
    ));
    report("memory_attention gradients", &errors);
}
