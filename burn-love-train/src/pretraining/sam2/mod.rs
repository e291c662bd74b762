//! SAM 2 on class-agnostic prompts: images first, then short clips through the memory.
//!
//! SAM 2's Hiera comes from a pre-training on ImageNet, so its maps tell what things are, not only where. Here a head that
//! is thrown away names what covers each cell of the image embedding: alone at first, then beside the prompts.
//!
//! These are SAM 2's own (Ravi et al., 2024, section 5): clicks, boxes and masks point at objects of single images; then
//! three quarters of the batches are clips, prompted in their first frame and tracked. A fifth of the targets is absent.

mod gates;
mod loss;
mod prompts;

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use burn_love::{
    sam2::{
        FrameOutput, MaskSelection, NeckFeatures, Points, Prompt, Sam2, SamHeadsOutput, Tracker,
        TrackerConfig, to_checkpoint,
    },
    weights::{State, WeightsError, state_of},
};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::{
    loss::{MaskLoss, Predicted, mask_loss},
    prompts::{Owners, PointRows, Pointer, Target},
};
use super::{
    patches::{Grid, PATCH_VALUES, PatchLabels, View, patch_loss},
    scenes::{Scene, Scenes},
    task::{Draw, Gate, Scored, Task, read, upload},
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::SECONDS,
    training::{RunError, Values},
};

/// Prompts on each image.
const PROMPTS: usize = 4;
/// Share of the training that names cells alone, and images a step of it for one that is prompted.
const NAMES_FIRST: f64 = 0.4;
const NAMED: usize = 4;
/// Share of the training that sees no clips.
const IMAGES_FIRST: f64 = 0.75;
/// Share of clips among the batches behind it, and at validations.
const CLIPS: f64 = 0.75;
const VALIDATION_CLIPS: f64 = 0.5;
/// Share of single clicks that are answered with candidates.
const AMBIGUOUS: f64 = 0.5;
/// Weight of the names of cells.
const NAMES: f64 = 0.5;

/// SAM 2 and a head.
#[derive(Module, Debug)]
pub struct Sam2Learner<B: Backend> {
    /// What the stage is for.
    pub sam2: Sam2<B>,
    /// Shape, surface and colour of what covers a cell of the image embedding.
    cell: Linear<B>,
}

/// A frame of a scene, and how it is looked at.
type Looked<'a> = (&'a Scene, u32, View);

/// The stage.
#[derive(Debug)]
pub struct Sam2Task<'a> {
    config: &'a Config,
    preparer: Preparer,
    scenes: Scenes,
}

/// Images or clips with prompts and labels.
#[derive(Debug)]
pub struct Sam2Batch {
    pointer: Pointer,
    /// Images, or clips.
    count: usize,
    /// Frames of each: 1 of images.
    frames: usize,
    /// Prompts on each; none where cells are only named.
    prompts: usize,
    /// `[count · frames, 3, S, S]`
    pixels: Vec<f32>,
    /// What covers the cells of each frame.
    cells: Vec<PatchLabels>,
    points: PointRows,
    /// Of mask prompts: logits on the decoder's grid for images, 0 and 1 at full size for clips.
    masks: Vec<f32>,
    /// For each prompt the mask in each frame, `[count · prompts, frames, S · S]`.
    labels: Vec<f32>,
    candidates: bool,
}

impl<'a> Sam2Task<'a> {
    /// The stage on the scenes of a data set.
    ///
    /// # Errors
    /// If the tokenizer that the config names cannot be used.
    pub fn new(config: &'a Config, scenes: Scenes) -> Result<Self, RunError> {
        Ok(Self {
            config,
            preparer: Preparer::new(config)?,
            scenes,
        })
    }

    fn side(&self) -> usize {
        self.config.model.sam2.model.image_size
    }

    /// Pixels of some frames, each as it is looked at.
    fn pixels(&self, frames: &[Looked<'_>]) -> Result<Vec<f32>, RunError> {
        let one = |(scene, t, view): &Looked<'_>| {
            let frame = view.of(self.scenes.frame(scene, *t as usize)?);
            Ok(self.preparer.sam2_pixels(&frame))
        };
        let frames: Vec<_> = frames.par_iter().map(one).collect::<Result<_, RunError>>()?;
        Ok(frames.concat())
    }

    /// A target in a frame, with the labels of `frames` frames from it on.
    fn target(
        &self,
        scenes: &[Scene],
        (scene, t): (&Scene, u32),
        frames: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<(Target, Vec<f32>)> {
        let side = self.side();
        let owners = Owners::new(&scene.graph, t, side);
        let other = |rng: &mut ChaCha8Rng| {
            let scene = scenes.choose(rng).unwrap_or(scene);
            Owners::new(&scene.graph, rng.random_range(0..SECONDS), side)
        };
        let target = Target::draw(&owners, other, rng)?;
        let mut labels: Vec<f32> = target.label.values().collect();
        for later in t + 1..t + frames as u32 {
            match target.object {
                Some(object) => labels.extend(Owners::new(&scene.graph, later, side).mask(object).values()),
                None => labels.extend(target.label.values()),
            }
        }
        Some((target, labels))
    }

    /// The cells of the image embedding.
    fn grid(&self) -> Grid {
        let [side, _] = self.config.model.sam2.model.embedding_size();
        Grid { side, middle: false }
    }

    /// What covers the cells of some frames.
    fn cells(&self, frames: &[Looked<'_>]) -> Vec<PatchLabels> {
        let (frames, grid) = (frames.par_iter(), self.grid());
        frames
            .map(|(scene, t, view)| PatchLabels::new(&scene.graph, *t, view, grid))
            .collect()
    }

    /// Images, each as it is looked at, whose cells are only named.
    fn named(&self, split: Split, rng: &mut ChaCha8Rng) -> Result<Sam2Batch, RunError> {
        let scenes = self.scenes.of(split);
        let shown = || {
            let (scene, t) = (scenes.choose(rng)?, rng.random_range(0..SECONDS));
            Some((scene, t, View::draw(rng)))
        };
        let shown: Vec<_> = std::iter::repeat_with(shown)
            .take(NAMED * self.config.train.batch_size)
            .flatten()
            .collect();
        if shown.is_empty() {
            let path = self.scenes.root().into();
            return Err(RunError::NoRows { path, split });
        }
        Ok(Sam2Batch {
            pointer: Pointer::Click,
            count: shown.len(),
            frames: 1,
            prompts: 0,
            pixels: self.pixels(&shown)?,
            cells: self.cells(&shown),
            points: PointRows::default(),
            masks: Vec::new(),
            labels: Vec::new(),
            candidates: false,
        })
    }

    /// The maps of a batch's frames.
    fn maps<B: Backend>(&self, sam2: &Sam2<B>, batch: &Sam2Batch, device: &B::Device) -> NeckFeatures<B> {
        let side = self.side();
        let pixels = upload(
            batch.pixels.clone(),
            [batch.count * batch.frames, 3, side, side],
            device,
        );
        sam2.image_encoder.forward(pixels)
    }

    /// The model's answer to a batch, and its loss for each frame that has one.
    fn losses<B: Backend>(
        &self,
        sam2: &Sam2<B>,
        neck: NeckFeatures<B>,
        batch: &Sam2Batch,
        device: &B::Device,
    ) -> Vec<MaskLoss<B>> {
        let (side, n) = (self.side(), batch.count * batch.prompts);
        let labels = upload::<B, 3>(batch.labels.clone(), [n, batch.frames, side * side], device);
        let judge = |predicted: Predicted<B>, frame: usize| {
            let labels = labels.clone().narrow(1, frame, 1).squeeze_dim(1);
            mask_loss(predicted, labels, side, &self.config.train)
        };
        let points = (batch.points.count > 0).then(|| points(&batch.points, n, device));
        if batch.frames == 1 {
            let features = sam2.project_features(neck).repeat(batch.prompts);
            let grid = sam2.config.mask_size();
            let mask = (batch.pointer == Pointer::Mask)
                .then(|| upload(batch.masks.clone(), [n, 1, grid, grid], device));
            let selection = if batch.candidates {
                MaskSelection::Candidates
            } else {
                MaskSelection::Single
            };
            let prompt = sam2.sam_prompt_encoder.forward(points, mask, side);
            let heads = sam2.decode(sam2.unconditioned(&features), &features, prompt, selection);
            return vec![judge(of_heads(heads), 0)];
        }
        let prompt = match points {
            Some(points) => Prompt::Points(points),
            None => Prompt::Mask(upload(batch.masks.clone(), [n, 1, side, side], device)),
        };
        // Gates have no gradient.
        let config = TrackerConfig::new()
            .with_prompted_object_gate(false)
            .with_tracked_object_gate(false)
            .with_frames(Some(SECONDS as usize));
        let tracker = Tracker::new(sam2, config);
        let frame = |i| {
            sam2.project_features(neck.frame(batch.count, batch.frames, i))
                .repeat(batch.prompts)
        };
        let (mut session, first) = tracker.start(&frame(0), prompt);
        let mut losses = Vec::new();
        // A mask is its own answer.
        if batch.pointer != Pointer::Mask {
            losses.push(judge(of_frame(first), 0));
        }
        losses.extend((1..batch.frames).map(|i| judge(of_frame(session.step(&frame(i))), i)));
        losses
    }

    /// A batch of images, or of clips of `frames` frames.
    fn draw(
        &self,
        split: Split,
        pointer: Pointer,
        frames: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Sam2Batch, RunError> {
        let scenes = self.scenes.of(split);
        let clips = frames > 1;
        // About as many frames are encoded either way.
        let count = self.config.train.batch_size.div_ceil(frames);
        let prompts = if clips { 1 } else { PROMPTS };
        let (mut shown, mut targets, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        // In few scenes nothing can be pointed at; others take their places.
        for _ in 0..100 * count {
            if targets.len() == count * prompts {
                break;
            }
            let Some(scene) = scenes.choose(rng) else { break };
            let t = rng.random_range(0..=SECONDS - frames as u32);
            let drawn: Option<Vec<_>> = (0..prompts)
                .map(|_| self.target(scenes, (scene, t), frames, rng))
                .collect();
            for (target, label) in drawn.into_iter().flatten() {
                targets.push(target);
                labels.extend(label);
            }
            if targets.len() > shown.len() / frames * prompts {
                shown.extend((t..t + frames as u32).map(|t| (scene, t, View::default())));
            }
        }
        if targets.is_empty() {
            let path = self.scenes.root().into();
            return Err(RunError::NoRows { path, split });
        }
        let points = PointRows::new(pointer, targets.iter().map(|target| &target.prompt), rng);
        let grid = self.config.model.sam2.model.mask_size();
        let masks = targets.iter().filter(|_| pointer == Pointer::Mask);
        let masks = masks.flat_map(|target| match clips {
            true => target.prompt.values().collect::<Vec<_>>(),
            false => target.prompt.rough_logits(grid, rng),
        });
        Ok(Sam2Batch {
            masks: masks.collect(),
            candidates: points.count == 1 && rng.random_bool(AMBIGUOUS),
            pointer,
            count: shown.len() / frames,
            frames,
            prompts,
            pixels: self.pixels(&shown)?,
            cells: self.cells(&shown),
            points,
            labels,
        })
    }
}

impl Task for Sam2Task<'_> {
    type Module<B: Backend> = Sam2Learner<B>;
    type Batch = Sam2Batch;

    fn samples(&self) -> [usize; 2] {
        [Split::Train, Split::Val].map(|split| self.scenes.of(split).len())
    }

    fn init<B: Backend>(&self, device: &B::Device, begins: bool) -> Result<Sam2Learner<B>, WeightsError> {
        let config = &self.config.model.sam2.model;
        let mut sam2 = config.init(device);
        if begins {
            sam2 = crate::training::load_sam2(sam2, &self.config.weights.sam2)?;
        }
        Ok(Sam2Learner {
            sam2,
            cell: LinearConfig::new(config.model_width, PATCH_VALUES).init(device),
        })
    }

    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<Sam2Batch, RunError> {
        if draw.split == Split::Train && draw.progress < NAMES_FIRST {
            return self.named(draw.split, rng);
        }
        let tracked = self.config.train.tracked_frames.min(SECONDS as usize - 1);
        let clips = tracked > 0
            && match draw.split {
                Split::Train => draw.progress >= IMAGES_FIRST && rng.random_bool(CLIPS),
                _ => rng.random_bool(VALIDATION_CLIPS),
            };
        // Masks begin half of the clips, as in SAM 2's training, and a fifth of the images.
        let masks = if clips { 0.5 } else { 0.2 };
        let pointer = match rng.random_range(0.0..1.0) {
            share if share < masks => Pointer::Mask,
            share if share < masks + (1.0 - masks) / 2.0 => Pointer::Click,
            _ => Pointer::Box,
        };
        self.draw(draw.split, pointer, if clips { 1 + tracked } else { 1 }, rng)
    }

    fn score<B: Backend>(&self, module: &Sam2Learner<B>, batch: Sam2Batch, device: &B::Device) -> Scored<B> {
        let mut values = Values::default();
        let neck = self.maps(&module.sam2, &batch, device);
        let [n, width, h, w] = neck.stride16.dims();
        let cells = neck
            .stride16
            .clone()
            .permute([0, 2, 3, 1])
            .reshape([n * h * w, width]);
        let names = patch_loss(&mut values, module.cell.forward(cells), &batch.cells);
        if batch.prompts == 0 {
            let [total] = read([names.clone()]);
            for name in ["loss", "names"] {
                values.put(name, total, 1.0);
            }
            return Scored { loss: names, values };
        }
        let losses = self.losses(&module.sam2, neck, &batch, device);
        let frames = losses.len() as f64;
        let mean = |part: fn(&MaskLoss<B>) -> &Tensor<B, 1>| {
            let sum = losses.iter().map(part).cloned().reduce(|a, b| a + b);
            sum.expect("a batch has a frame to judge") / frames
        };
        let loss = mean(|loss| &loss.total) + names.clone() * NAMES;
        let [total, names, mask, iou, object] = read([
            loss.clone(),
            names,
            mean(|loss| &loss.mask),
            mean(|loss| &loss.iou),
            mean(|loss| &loss.object),
        ]);
        let parts = [
            ("loss", total),
            ("names", names),
            ("mask", mask),
            ("iou", iou),
            ("object", object),
        ];
        for (name, value) in parts {
            values.put(name, value, 1.0);
        }
        for loss in &losses {
            put_rows(&mut values, batch.pointer, loss);
        }
        if batch.frames > 1
            && let Some(loss) = losses.last()
        {
            let mut last = Values::default();
            put_rows(&mut last, batch.pointer, loss);
            let j = last.means().find(|(name, _)| name.starts_with('J'));
            if let Some((_, j)) = j {
                values.put("J tracked", j, 1.0);
            }
        }
        Scored { loss, values }
    }

    fn gates<B: Backend>(&self, module: &Sam2Learner<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let sam2 = module.sam2.clone().cache_constants();
        gates::measure(self, &sam2, device)
    }

    fn state<B: Backend>(&self, module: &Sam2Learner<B>) -> State {
        state_of(&module.sam2, to_checkpoint)
    }
}

fn of_heads<B: Backend>(heads: SamHeadsOutput<B>) -> Predicted<B> {
    Predicted {
        logits: heads.multimask_logits,
        iou: heads.multimask_iou,
        object_score: heads.object_score,
    }
}

fn of_frame<B: Backend>(output: FrameOutput<B>) -> Predicted<B> {
    Predicted {
        logits: output.low_res_logits,
        iou: output.iou,
        object_score: output.object_score,
    }
}

/// Points on a device.
fn points<B: Backend>(rows: &PointRows, n: usize, device: &B::Device) -> Points<B> {
    Points {
        coordinates: upload(rows.coordinates.clone(), [n, rows.count, 2], device),
        labels: Tensor::from_data(TensorData::new(rows.labels.clone(), [n, rows.count]), device),
    }
}

/// Adds the IoUs of objects that are there, and how often the object score is right.
fn put_rows<B: Backend>(values: &mut Values, pointer: Pointer, loss: &MaskLoss<B>) {
    let [j, present, right] = read([&loss.j, &loss.present, &loss.right].map(|rows| rows.clone().mean()));
    let [n] = loss.j.dims();
    if present > 0.0 {
        values.put(&format!("J {}", pointer.name()), j / present, present * n as f64);
    }
    values.put("score", right, n as f64);
}
