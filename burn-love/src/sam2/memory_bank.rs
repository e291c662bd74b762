//! What a video remembers of one object: the prompted frame, the most recent frames, and object pointers.
//!
//! SAM 2, `sam2_base.py: _prepare_memory_conditioned_features`, for forward tracking from frame 0. Bounded by
//! construction: older frames fall out.

use std::collections::VecDeque;

use burn::prelude::*;

use super::{memory_attention::Memories, mlp::linear, model::Sam2, position_encoding::line_sine};

/// What is kept of one frame.
#[derive(Clone, Debug)]
pub struct FrameMemory<B: Backend> {
    /// Spatial memory, `[B, H·W, C]`.
    pub spatial: Tensor<B, 3>,
    /// Object pointer, `[B, D]`.
    pub pointer: Tensor<B, 2>,
}

/// The memories of one object. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct MemoryBank<B: Backend> {
    /// Frame 0.
    prompted: FrameMemory<B>,
    /// Spatial memories of the last tracked frames, oldest first.
    recent: VecDeque<Tensor<B, 3>>,
    /// Pointers of the last tracked frames, oldest first.
    pointers: VecDeque<Tensor<B, 2>>,
    /// Frames with spatial memories, the prompted one among them.
    max_frames: usize,
    /// Object pointers, the prompted frame's among them.
    max_pointers: usize,
    /// Index of the next frame.
    next: usize,
}

impl<B: Backend> MemoryBank<B> {
    /// Starts with the prompted frame. `frames` is the video's length, if known: pointers of a video that is
    /// shorter than the memory are dated on the video's scale.
    pub fn new(model: &Sam2<B>, prompted: FrameMemory<B>, frames: Option<usize>) -> Self {
        let memory = &model.config.memory;
        Self {
            prompted,
            recent: VecDeque::new(),
            pointers: VecDeque::new(),
            max_frames: memory.frames,
            max_pointers: frames
                .unwrap_or(usize::MAX)
                .clamp(2, memory.max_object_pointers.max(2)),
            next: 1,
        }
    }

    /// Index of the next frame; the prompted one has index 0.
    pub fn next_frame(&self) -> usize {
        self.next
    }

    /// Adds the next frame and forgets what is too old.
    pub fn push(&mut self, memory: FrameMemory<B>) {
        self.recent.push_back(memory.spatial);
        self.pointers.push_back(memory.pointer);
        while self.recent.len() + 1 > self.max_frames {
            self.recent.pop_front();
        }
        while self.pointers.len() + 1 > self.max_pointers {
            self.pointers.pop_front();
        }
        self.next += 1;
    }

    /// All memories as the next frame sees them: the prompted frame, the recent ones from old to new, then the
    /// pointers, the prompted frame's first and the others from new to old.
    pub fn memories(&self, model: &Sam2<B>) -> Memories<B> {
        let position = &model.tables.memory_position;
        let age = model.maskmem_tpos_enc.val();
        let [frames, _, _, width] = age.dims();
        let dated = |row: usize| {
            let age = age.clone().narrow(0, row, 1).reshape([1, 1, width]);
            position.clone() + age
        };

        let mut rows = vec![self.prompted.spatial.clone()];
        let mut positions = vec![dated(frames - 1)];
        let count = self.recent.len();
        for (i, spatial) in self.recent.iter().enumerate() {
            rows.push(spatial.clone());
            positions.push(dated(count - i - 1));
        }
        let spatial_rows = rows.iter().map(|x| x.dims()[1]).sum();

        let pointers = self.pointer_rows(model);
        rows.push(pointers.rows);
        positions.push(pointers.position);
        Memories {
            rows: Tensor::cat(rows, 1),
            position: Tensor::cat(positions, 1),
            spatial_rows,
        }
    }

    /// The pointers, each cut into rows of a memory's width, and the encoding of their distance in frames.
    fn pointer_rows(&self, model: &Sam2<B>) -> Memories<B> {
        let config = &model.config;
        let device = self.prompted.pointer.device();
        let [b, width] = self.prompted.pointer.dims();
        let memory_width = config.memory_width;
        let parts = width / memory_width;

        let mut pointers = vec![self.prompted.pointer.clone()];
        pointers.extend(self.pointers.iter().rev().cloned());
        let count = pointers.len();
        let rows = pointers
            .into_iter()
            .map(|pointer| pointer.reshape([b, parts, memory_width]))
            .collect();

        let position = if config.memory.pointer_time_encoding {
            let distances = std::iter::once(self.next).chain(1..count);
            let scale = (self.max_pointers - 1) as f32;
            let times: Vec<f32> = distances.map(|distance| distance as f32 / scale).collect();
            match &model.obj_ptr_tpos_proj {
                Some(proj) => linear(proj, line_sine(&times, width, &device)),
                None => line_sine(&times, memory_width, &device),
            }
        } else {
            Tensor::zeros([count, memory_width], &device)
        };
        let position = position
            .reshape([count, 1, memory_width])
            .expand([count, parts, memory_width])
            .reshape([1, count * parts, memory_width]);
        Memories {
            rows: Tensor::cat(rows, 1),
            position,
            spatial_rows: 0,
        }
    }
}
