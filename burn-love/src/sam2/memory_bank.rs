//! What a video remembers of one object: prompted (conditioning) frames, tracked frames, and object pointers.
//!
//! SAM 2, `sam2_base.py: _prepare_memory_conditioned_features` and `sam2_utils.py: select_closest_cond_frames`. What
//! no later frame would look at can be forgotten, which bounds the bank: see [`MemoryBank::forget_far_from`].

use std::collections::BTreeMap;

use burn::prelude::*;

use super::{config::MemoryConfig, memory_attention::Memories, model::Sam2, position_encoding::line_sine};
use crate::ops::linear;

/// What is kept of one frame.
#[derive(Clone, Debug)]
pub struct FrameMemory<B: Backend> {
    /// Spatial memory, `[B, H·W, C]`.
    pub spatial: Tensor<B, 3>,
    /// Object pointer, `[B, D]`.
    pub pointer: Tensor<B, 2>,
}

/// Which way a video is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From earlier frames to later ones.
    Forward,
    /// From later frames to earlier ones.
    Backward,
}

impl Direction {
    /// The frame `distance` frames before `frame` in this direction, if there is one.
    fn before(self, frame: usize, distance: usize) -> Option<usize> {
        match self {
            Self::Forward => frame.checked_sub(distance),
            Self::Backward => frame.checked_add(distance),
        }
    }

    /// Whether `other` is not after `frame` in this direction.
    fn reached(self, frame: usize, other: usize) -> bool {
        match self {
            Self::Forward => other <= frame,
            Self::Backward => other >= frame,
        }
    }
}

/// The frame that looks at the bank.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// Its index.
    pub frame: usize,
    /// Which way the video is being tracked.
    pub direction: Direction,
    /// Length of the video, if known: in a video that is shorter than the memory, pointers are dated on the video's
    /// scale.
    pub frames: Option<usize>,
}

/// The memories of one object. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct MemoryBank<B: Backend> {
    conditioning: BTreeMap<usize, FrameMemory<B>>,
    tracked: BTreeMap<usize, FrameMemory<B>>,
}

impl<B: Backend> Default for MemoryBank<B> {
    fn default() -> Self {
        Self {
            conditioning: BTreeMap::new(),
            tracked: BTreeMap::new(),
        }
    }
}

impl<B: Backend> MemoryBank<B> {
    /// Remembers a prompted frame, which every frame looks at.
    pub fn condition(&mut self, frame: usize, memory: FrameMemory<B>) {
        self.tracked.remove(&frame);
        self.conditioning.insert(frame, memory);
    }

    /// Remembers a tracked frame, which the frames near it look at. A prompted frame stays as it is.
    pub fn track(&mut self, frame: usize, memory: FrameMemory<B>) {
        if !self.conditioning.contains_key(&frame) {
            self.tracked.insert(frame, memory);
        }
    }

    /// Turns a prompted frame into a tracked one.
    pub fn release(&mut self, frame: usize) {
        if let Some(memory) = self.conditioning.remove(&frame) {
            self.tracked.insert(frame, memory);
        }
    }

    /// Whether the frame is a prompted one.
    pub fn is_conditioning(&self, frame: usize) -> bool {
        self.conditioning.contains_key(&frame)
    }

    /// Whether anything is remembered of the frame.
    pub fn remembers(&self, frame: usize) -> bool {
        self.is_conditioning(frame) || self.tracked.contains_key(&frame)
    }

    /// Indices of the prompted frames, in ascending order.
    pub fn conditioning_frames(&self) -> impl Iterator<Item = usize> + '_ {
        self.conditioning.keys().copied()
    }

    /// Forgets tracked frames that lie further than the memory reaches from every one of `frames` and from every
    /// prompted frame: no frame that is tracked onwards from these looks at them.
    pub fn forget_far_from(&mut self, frames: &[usize], config: &MemoryConfig) {
        let reach = config.reach();
        let anchors: Vec<usize> = self.conditioning_frames().chain(frames.iter().copied()).collect();
        self.tracked
            .retain(|tracked, _| anchors.iter().any(|anchor| anchor.abs_diff(*tracked) <= reach));
    }

    /// All memories as a frame sees them: the prompted frames, the recent ones from old to new, then the pointers,
    /// those of prompted frames first and the others from new to old.
    ///
    /// # Panics
    /// If no frame was prompted.
    pub fn memories(&self, model: &Sam2<B>, at: Viewpoint) -> Memories<B> {
        let config = &model.config.memory;
        let (selected, others) = self.select(at.frame, config.max_conditioning_frames);
        assert!(!selected.is_empty(), "tracking needs a prompted frame");
        // A prompted frame that was not selected counts as a tracked one.
        let recalled = |frame: usize| {
            let other = || {
                others
                    .iter()
                    .find(|(index, _)| *index == frame)
                    .map(|(_, memory)| *memory)
            };
            self.tracked.get(&frame).or_else(other)
        };

        let age = model.maskmem_tpos_enc.val();
        let [_, _, _, width] = age.dims();
        let dated = |row: usize| {
            let age = age.clone().narrow(0, row, 1).reshape([1, 1, width]);
            model.tables.memory_position.clone() + age
        };
        let mut rows = Vec::new();
        let mut positions = Vec::new();
        for (_, memory) in &selected {
            rows.push(memory.spatial.clone());
            positions.push(dated(config.frames - 1));
        }
        for distance in (1..config.frames).rev() {
            let frame = config.strided(at, distance);
            if let Some(memory) = frame.and_then(recalled) {
                rows.push(memory.spatial.clone());
                positions.push(dated(distance - 1));
            }
        }
        let spatial_rows = rows.iter().map(|x| x.dims()[1]).sum();

        let max_pointers = at
            .frames
            .unwrap_or(usize::MAX)
            .clamp(2, config.max_object_pointers.max(2));
        let past = selected
            .iter()
            .filter(|(index, _)| at.direction.reached(at.frame, *index));
        let mut pointers: Vec<(usize, &FrameMemory<B>)> = past
            .map(|(index, memory)| (at.frame.abs_diff(*index), *memory))
            .collect();
        for distance in 1..max_pointers {
            let Some(frame) = at.direction.before(at.frame, distance) else {
                break;
            };
            pointers.extend(recalled(frame).map(|memory| (distance, memory)));
        }
        if !pointers.is_empty() {
            let pointers = pointer_rows(model, &pointers, max_pointers);
            rows.push(pointers.rows);
            positions.push(pointers.position);
        }
        Memories {
            rows: Tensor::cat(rows, 1),
            position: Tensor::cat(positions, 1),
            spatial_rows,
        }
    }

    /// The prompted frames that `frame` looks at, and the others: the nearest on each side, then the nearest of the
    /// rest.
    #[allow(clippy::type_complexity, reason = "two lists of the same pairs")]
    fn select(
        &self,
        frame: usize,
        limit: usize,
    ) -> (Vec<(usize, &FrameMemory<B>)>, Vec<(usize, &FrameMemory<B>)>) {
        let all: Vec<(usize, &FrameMemory<B>)> = self
            .conditioning
            .iter()
            .map(|(index, memory)| (*index, memory))
            .collect();
        if limit == 0 || all.len() <= limit {
            return (all, Vec::new());
        }
        let mut order = Vec::with_capacity(all.len());
        order.extend(
            self.conditioning
                .range(..frame)
                .next_back()
                .map(|(index, _)| *index),
        );
        order.extend(self.conditioning.range(frame..).next().map(|(index, _)| *index));
        let mut rest: Vec<usize> = all
            .iter()
            .map(|(index, _)| *index)
            .filter(|index| !order.contains(index))
            .collect();
        rest.sort_by_key(|index| frame.abs_diff(*index));
        order.extend(rest);
        order.truncate(limit.max(2));
        all.into_iter().partition(|(index, _)| order.contains(index))
    }
}

impl MemoryConfig {
    /// Frames on either side that a frame may look at.
    pub fn reach(&self) -> usize {
        let spatial = 1 + self.frames.saturating_sub(2) * self.temporal_stride + self.temporal_stride;
        spatial.max(self.max_object_pointers)
    }

    /// The frame in the `distance`-th place before the viewpoint: the frame next to it, then every
    /// `temporal_stride`-th one.
    fn strided(&self, at: Viewpoint, distance: usize) -> Option<usize> {
        if distance == 1 {
            return at.direction.before(at.frame, 1);
        }
        let stride = self.temporal_stride;
        let nearest = match at.direction {
            Direction::Forward => at.frame.checked_sub(2)? / stride * stride,
            Direction::Backward => (at.frame + 2).div_ceil(stride) * stride,
        };
        at.direction.before(nearest, (distance - 2) * stride)
    }
}

/// Pointers, each cut into rows of a memory's width, and the encoding of their distance in frames.
fn pointer_rows<B: Backend>(
    model: &Sam2<B>,
    pointers: &[(usize, &FrameMemory<B>)],
    max_pointers: usize,
) -> Memories<B> {
    let config = &model.config;
    let (_, first) = pointers[0];
    let device = first.pointer.device();
    let [b, width] = first.pointer.dims();
    let memory_width = config.memory_width;
    let parts = width / memory_width;
    let count = pointers.len();

    let rows = pointers
        .iter()
        .map(|(_, memory)| memory.pointer.clone().reshape([b, parts, memory_width]))
        .collect();
    let position = if config.memory.pointer_time_encoding {
        let scale = (max_pointers - 1) as f32;
        // Only pointers of the past are looked at, so the sign of 2.1 (`pointer_time_signed`) is always positive.
        let times: Vec<f32> = pointers
            .iter()
            .map(|(distance, _)| *distance as f32 / scale)
            .collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sam2::Sam2Config;
    use burn_flex::Flex;

    fn memory(value: f32) -> FrameMemory<Flex> {
        let device = Default::default();
        FrameMemory {
            spatial: Tensor::full([1, 16, 32], value, &device),
            pointer: Tensor::full([1, 128], value, &device),
        }
    }

    /// Values of the spatial memories that a frame sees, in order.
    fn seen(bank: &MemoryBank<Flex>, model: &Sam2<Flex>, frame: usize, direction: Direction) -> Vec<f32> {
        let at = Viewpoint {
            frame,
            direction,
            frames: Some(100),
        };
        let memories = bank.memories(model, at);
        let count = memories.spatial_rows / 16;
        let firsts = memories
            .rows
            .narrow(1, 0, memories.spatial_rows)
            .reshape([count, 16 * 32]);
        firsts.narrow(1, 0, 1).into_data().to_vec().unwrap()
    }

    fn model(memory: MemoryConfig) -> Sam2<Flex> {
        let config = Sam2Config::nano().with_image_size(64).with_memory(memory);
        config.init(&Default::default())
    }

    #[test]
    fn both_directions_look_at_their_own_past() {
        let model = model(MemoryConfig::new().with_frames(4));
        let mut bank = MemoryBank::default();
        bank.condition(10, memory(10.0));
        for frame in 0..20 {
            bank.track(frame, memory(frame as f32));
        }
        assert_eq!(seen(&bank, &model, 5, Direction::Forward), [10.0, 2.0, 3.0, 4.0]);
        assert_eq!(seen(&bank, &model, 5, Direction::Backward), [10.0, 8.0, 7.0, 6.0]);
        assert_eq!(seen(&bank, &model, 1, Direction::Forward), [10.0, 0.0]);
        assert_eq!(seen(&bank, &model, 12, Direction::Forward), [10.0, 9.0, 11.0]);
    }

    /// Frames as the formulas of `sam2_base.py` give them for a stride of 3.
    #[test]
    fn a_stride_skips_frames() {
        let model = model(MemoryConfig::new().with_frames(4).with_temporal_stride(3));
        let mut bank = MemoryBank::default();
        bank.condition(40, memory(40.0));
        for frame in 0..40 {
            bank.track(frame, memory(frame as f32));
        }
        assert_eq!(
            seen(&bank, &model, 20, Direction::Forward),
            [40.0, 15.0, 18.0, 19.0]
        );
        assert_eq!(
            seen(&bank, &model, 20, Direction::Backward),
            [40.0, 27.0, 24.0, 21.0]
        );
    }

    #[test]
    fn of_many_prompted_frames_the_nearest_are_chosen_and_the_others_count_as_tracked() {
        let model = model(MemoryConfig::new().with_frames(4).with_max_conditioning_frames(3));
        let mut bank = MemoryBank::default();
        for frame in [0, 5, 8, 9, 30] {
            bank.condition(frame, memory(frame as f32));
        }
        // 9 before, 30 after, then 8; 5 is no neighbour.
        assert_eq!(seen(&bank, &model, 10, Direction::Forward), [8.0, 9.0, 30.0]);
        // 9 before, 30 after, then 5 or 8: 8; nothing else is near.
        assert_eq!(seen(&bank, &model, 6, Direction::Forward), [5.0, 8.0, 9.0]);
        assert_eq!(seen(&bank, &model, 11, Direction::Forward), [8.0, 9.0, 30.0]);
        let mut near = MemoryBank::default();
        for frame in [6, 7, 8, 9, 30] {
            near.condition(frame, memory(frame as f32));
        }
        assert_eq!(seen(&near, &model, 10, Direction::Forward), [8.0, 9.0, 30.0, 7.0]);
    }

    #[test]
    fn forgetting_changes_nothing_that_a_later_frame_sees() {
        let model = model(MemoryConfig::new());
        let mut bank = MemoryBank::default();
        bank.condition(50, memory(50.0));
        for frame in 0..200 {
            bank.track(frame, memory(frame as f32));
        }
        let mut short = bank.clone();
        short.forget_far_from(&[199], &model.config.memory);
        assert!(short.tracked.len() < 60, "{} frames kept", short.tracked.len());
        for (frame, direction) in [
            (200, Direction::Forward),
            (49, Direction::Backward),
            (51, Direction::Forward),
        ] {
            let at = Viewpoint {
                frame,
                direction,
                frames: None,
            };
            let (long, short) = (bank.memories(&model, at), short.memories(&model, at));
            short.rows.into_data().assert_eq(&long.rows.into_data(), true);
            short
                .position
                .into_data()
                .assert_eq(&long.position.into_data(), true);
        }
    }
}
