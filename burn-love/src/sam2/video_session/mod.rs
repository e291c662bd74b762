//! Interactive tracking of several objects through a video: prompts on any frame, refinements, both directions.
//!
//! SAM 2, `sam2_video_predictor.py`. Frames come one by one, in any order, as image features; a session never holds
//! the video. Each object has its own memory, and is followed apart from the others.
//!
//! ```
//! use burn::tensor::Tensor;
//! use burn_flex::Flex;
//! use burn_love::sam2::{Direction, PointLabel, PointPrompt, Sam2, Sam2Config, VideoConfig, VideoSession};
//!
//! let device = Default::default();
//! let model: Sam2<Flex> = Sam2Config::nano().with_image_size(64).init(&device);
//! let frames: Vec<_> = (0..3).map(|_| Tensor::random([1, 3, 64, 64], Default::default(), &device)).collect();
//!
//! let mut session = VideoSession::new(&model, VideoConfig::new([48, 80]).with_frames(Some(3)));
//! let features = model.forward_image(frames[0].clone());
//! let click = PointPrompt::new().point([30.0, 20.0], PointLabel::Positive);
//! let first = session.add_points(0, &features, 1, click)?;
//! assert_eq!(first.video_logits().dims(), [1, 1, 48, 80]);
//! for masks in session.propagate(frames.into_iter().enumerate(), Direction::Forward) {
//!     assert_eq!(masks?.objects.len(), 1);
//! }
//! # Ok::<(), burn_love::sam2::VideoError>(())
//! ```

mod error;
mod masks;
mod object;
mod prompt;

fn check_features<B: Backend>(features: &ImageFeatures<B>) -> Result<(), VideoError> {
    let [found, ..] = features.neck.stride16.dims();
    if found == 1 {
        Ok(())
    } else {
        Err(VideoError::Features { found })
    }
}

#[cfg(test)]
mod tests;

use burn::prelude::*;

use super::{
    mask_decoder::MaskSelection,
    memory_bank::{Direction, Viewpoint},
    model::{ImageFeatures, Sam2},
};
use crate::ops::resize_bilinear_antialias;
use object::{ObjectTrack, Pending};

pub use error::VideoError;
pub use masks::{FrameMasks, ObjectMask};
pub use prompt::PointPrompt;

/// Name of an object, chosen by the caller.
pub type ObjectId = u32;

/// More points than this are unambiguous: the single mask is taken.
const MULTIMASK_MAX_POINTS: usize = 1;

/// What a session keeps of tracked frames.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum History {
    /// What tracking onwards from the last frame, and either way from a prompted one, looks at. A refinement of a
    /// frame that lies far from these sees the prompted frames only; and where tracking begins anew at a late prompt of
    /// one object, the others are found there from their own prompts, without what was tracked just before.
    Recent,
    /// Everything, as the reference does: memory grows with the video.
    Full,
}

/// Choices of a [`VideoSession`]. The defaults are those of `build_sam2_video_predictor`.
#[derive(Config, Debug, PartialEq)]
pub struct VideoConfig {
    /// Height and width of the video, in pixels.
    pub size: [usize; 2],
    /// Length of the video in frames, if known beforehand.
    pub frames: Option<usize>,
    /// Where a single mask is unstable, take the best candidate instead.
    #[config(default = true)]
    pub stability: bool,
    /// Whether memories of prompted frames are made from the binarised mask.
    #[config(default = true)]
    pub binarize_prompted: bool,
    /// Holes of at most so many cells of the low-resolution mask are filled; 0 for none. The reference does it on CUDA
    /// only.
    #[config(default = 8)]
    pub fill_hole_area: usize,
    /// Whether every pixel of [`FrameMasks::video_logits`] belongs to one object at most.
    #[config(default = false)]
    pub non_overlapping: bool,
    /// Whether a frame that is refined after it was tracked becomes a conditioning frame. If not, tracking over it
    /// again forgets the refinement, as in the reference.
    #[config(default = false)]
    pub refined_as_conditioning: bool,
    /// Whether stored spatial memories are rounded to bf16, as the reference stores them; see
    /// [`round_to_bf16`](crate::ops::round_to_bf16).
    #[config(default = true)]
    pub round_memory: bool,
    /// What is kept of tracked frames.
    #[config(default = "History::Recent")]
    pub history: History,
}

impl VideoConfig {
    /// No post-processing: `build_sam2_video_predictor(…, apply_postprocessing=False)`.
    pub fn without_postprocessing(self) -> Self {
        self.with_stability(false)
            .with_binarize_prompted(false)
            .with_fill_hole_area(0)
    }
}

/// The objects of one video and what is remembered of them. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct VideoSession<'a, B: Backend> {
    model: &'a Sam2<B>,
    config: VideoConfig,
    objects: Vec<ObjectTrack<B>>,
}

impl<'a, B: Backend> VideoSession<'a, B> {
    /// A session without objects.
    ///
    /// # Panics
    /// If the video has no pixels.
    pub fn new(model: &'a Sam2<B>, config: VideoConfig) -> Self {
        assert!(
            !config.size.contains(&0),
            "expected a video with pixels, found {:?}",
            config.size
        );
        Self {
            model,
            config,
            objects: Vec::new(),
        }
    }

    /// The objects, in the order of their first prompts.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.objects.iter().map(|object| object.id)
    }

    /// The first frame with a prompt, from which tracking forward begins.
    pub fn first_prompted_frame(&self) -> Option<usize> {
        self.objects
            .iter()
            .filter_map(ObjectTrack::first_prompted_frame)
            .min()
    }

    /// Points or a box on a frame, for a new object or one that is known. On a frame that has been tracked they refine
    /// its mask, which is looked at together with the memories; on any other frame they name the object anew.
    ///
    /// Points outside the frame are encoded as they are, as in the reference: they mean little to the model.
    ///
    /// # Shapes
    /// - `features`: of one image
    ///
    /// # Errors
    /// If the frame does not exist, the prompt is empty or not finite, or it refines a mask that was tracked from prompts
    /// which were all taken back.
    pub fn add_points(
        &mut self,
        frame: usize,
        features: &ImageFeatures<B>,
        object: ObjectId,
        prompt: PointPrompt,
    ) -> Result<FrameMasks<B>, VideoError> {
        self.check_frame(frame)?;
        check_features(features)?;
        prompt.check()?;
        if let Ok(known) = self.index(object) {
            let track = &self.objects[known];
            if track.was_tracked(frame).is_some() && track.bank.conditioning_frames().next().is_none() {
                return Err(VideoError::NoPrompt { object });
            }
        }
        let index = self.index_or_new(object);
        let (model, config) = (self.model, &self.config);
        let track = &mut self.objects[index];
        let points = track.merge_points(frame, prompt);
        let encoded = points.encode(
            config.size,
            model.config.image_size,
            &features.neck.stride16.device(),
        );

        let refines = track.was_tracked(frame);
        let embedding = match refines {
            None => model.unconditioned(features),
            Some(direction) => {
                let at = Viewpoint {
                    frame,
                    direction,
                    frames: config.frames,
                };
                model.conditioned(features, track.bank.memories(model, at))
            }
        };
        let multimask = points.len() <= MULTIMASK_MAX_POINTS
            && (refines.is_none() || model.config.memory.multimask_tracking);
        let encoder = &model.sam_prompt_encoder;
        // Clamped as upstream, against rare overflows.
        let previous = track.latest_logits(frame).map(|logits| logits.clamp(-32.0, 32.0));
        let prompt = encoder.forward(Some(encoded), previous, model.config.image_size);
        let heads = model.decode(embedding, features, prompt, selection(config, multimask));

        let present = heads.present();
        let pending = Pending {
            embedding: features.neck.stride16.clone(),
            mask: ObjectMask {
                object,
                low_res_logits: masks::fill_holes(heads.gated_logits(), config.fill_hole_area),
                object_score: heads.object_score,
                iou: heads.iou,
            },
            pointer: model.object_pointer(heads.mask_token, present),
            conditioning: refines.is_none() || config.refined_as_conditioning,
        };
        track.pending.insert(frame, pending);
        Ok(self.masks_at(frame))
    }

    /// The object's mask on a frame, taken as it is: the mask decoder has no say.
    ///
    /// # Shapes
    /// - `features`: of one image
    /// - `mask`: `[1, 1, H, W]` of any size, 1 inside and 0 outside
    ///
    /// # Errors
    /// If the frame does not exist, or the mask is not one channel of one image.
    pub fn add_mask(
        &mut self,
        frame: usize,
        features: &ImageFeatures<B>,
        object: ObjectId,
        mask: Tensor<B, 4>,
    ) -> Result<FrameMasks<B>, VideoError> {
        self.check_frame(frame)?;
        check_features(features)?;
        let [images, channels, h, w] = mask.dims();
        if [images, channels] != [1, 1] || h == 0 || w == 0 {
            return Err(VideoError::MaskShape { found: mask.dims() });
        }
        let index = self.index_or_new(object);
        let (model, config) = (self.model, &self.config);
        let track = &mut self.objects[index];
        track.prompts.remove(&frame);

        let side = model.config.image_size;
        let mask = if [h, w] == [side; 2] {
            mask
        } else {
            resize_bilinear_antialias(mask, [side; 2])
        };
        let mask = mask.greater_equal_elem(0.5).float();
        let output = model.mask_as_output(features, mask);
        let refines = track.was_tracked(frame);
        let pending = Pending {
            embedding: features.neck.stride16.clone(),
            mask: ObjectMask {
                object,
                low_res_logits: masks::fill_holes(output.low_res_logits, config.fill_hole_area),
                iou: output.object_score.ones_like(),
                object_score: output.object_score,
            },
            pointer: output.pointer,
            conditioning: refines.is_none() || config.refined_as_conditioning,
        };
        track.pending.insert(frame, pending);
        Ok(self.masks_at(frame))
    }

    /// Finds all objects on a frame and remembers them. On a frame where an object was prompted, its mask is the one
    /// that followed from the prompt.
    ///
    /// # Shapes
    /// - `features`: of one image
    ///
    /// # Errors
    /// If the frame does not exist, there is no object, or an object has no prompt left.
    pub fn track(
        &mut self,
        frame: usize,
        features: &ImageFeatures<B>,
        direction: Direction,
    ) -> Result<FrameMasks<B>, VideoError> {
        self.check_frame(frame)?;
        check_features(features)?;
        self.settle()?;
        let (model, config) = (self.model, &self.config);
        let at = Viewpoint {
            frame,
            direction,
            frames: config.frames,
        };
        // Tracking may go on from here, or begin anew at a prompt of any object.
        let prompted = self.objects.iter().flat_map(ObjectTrack::prompted_frames);
        let onwards: Vec<usize> = prompted.chain([frame]).collect();
        for track in &mut self.objects {
            if !track.bank.is_conditioning(frame) {
                let embedding = model.conditioned(features, track.bank.memories(model, at));
                let encoder = &model.sam_prompt_encoder;
                let prompt = encoder.tokens(encoder.no_points(1));
                let selection = selection(config, model.config.memory.multimask_tracking);
                let heads = model.decode(embedding, features, prompt, selection);
                track.remember(model, config, frame, features, heads);
            }
            track.tracked.insert(frame, direction);
            if config.history == History::Recent {
                track.forget_far_from(&onwards, &model.config.memory);
            }
        }
        Ok(self.masks_at(frame))
    }

    /// [`track`](Self::track)s frames as they come: each with its index, in the order of `direction`.
    ///
    /// # Shapes
    /// - `frames`: pixels `[1, 3, S, S]` as [`Sam2::forward_image`] takes them
    pub fn propagate<I>(
        &mut self,
        frames: I,
        direction: Direction,
    ) -> impl Iterator<Item = Result<FrameMasks<B>, VideoError>>
    where
        I: IntoIterator<Item = (usize, Tensor<B, 4>)>,
    {
        let frames = frames.into_iter();
        frames.map(move |(index, pixels)| {
            self.check_frame(index)?;
            let (side, found) = (self.model.config.image_size, pixels.dims());
            if found != [1, 3, side, side] {
                return Err(VideoError::FrameShape { side, found });
            }
            let features = self.model.forward_image(pixels);
            self.track(index, &features, direction)
        })
    }

    /// Takes an object's prompts on a frame back. What was found there stays, as if it had been tracked.
    ///
    /// # Errors
    /// If there is no such object.
    pub fn clear_prompts(&mut self, frame: usize, object: ObjectId) -> Result<(), VideoError> {
        let index = self.index(object)?;
        self.objects[index].clear_prompts(frame);
        Ok(())
    }

    /// Forgets an object.
    ///
    /// # Errors
    /// If there is no such object.
    pub fn remove_object(&mut self, object: ObjectId) -> Result<(), VideoError> {
        let index = self.index(object)?;
        self.objects.remove(index);
        Ok(())
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.objects.clear();
    }

    /// Encodes the memories of frames that were prompted since the last tracking.
    fn settle(&mut self) -> Result<(), VideoError> {
        if self.objects.is_empty() {
            return Err(VideoError::NoObject);
        }
        // All are looked at before any is changed.
        let unprompted = self
            .objects
            .iter()
            .find(|track| track.first_prompted_frame().is_none());
        if let Some(track) = unprompted {
            return Err(VideoError::NoPrompt { object: track.id });
        }
        for track in &mut self.objects {
            track.settle(self.model, &self.config);
        }
        Ok(())
    }

    fn masks_at(&self, frame: usize) -> FrameMasks<B> {
        FrameMasks {
            frame,
            size: self.config.size,
            non_overlapping: self.config.non_overlapping,
            objects: self
                .objects
                .iter()
                .filter_map(|track| track.latest(frame).cloned())
                .collect(),
        }
    }

    fn check_frame(&self, frame: usize) -> Result<(), VideoError> {
        match self.config.frames {
            Some(frames) if frame >= frames => Err(VideoError::Frame { frame, frames }),
            _ => Ok(()),
        }
    }

    fn index(&self, object: ObjectId) -> Result<usize, VideoError> {
        let position = self.objects().position(|id| id == object);
        position.ok_or_else(|| VideoError::Object {
            object,
            known: self.objects().collect(),
        })
    }

    fn index_or_new(&mut self, object: ObjectId) -> usize {
        self.index(object).unwrap_or_else(|_| {
            self.objects.push(ObjectTrack::new(object));
            self.objects.len() - 1
        })
    }
}

fn selection(config: &VideoConfig, multimask: bool) -> MaskSelection {
    match (multimask, config.stability) {
        (true, _) => MaskSelection::Candidates,
        (false, true) => MaskSelection::StableSingle,
        (false, false) => MaskSelection::Single,
    }
}
