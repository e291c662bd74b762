//! Does it learn, and does it resume? Real files, the real loop, at the smallest scale that still means something.

mod accumulation;
mod data;
mod divergence;
mod features;
mod freezing;
mod overfit;
mod pretraining;
mod resume;

// As in the program: the system allocator maps and unmaps large tensors on every operation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
