//! Masks for prompts on still images: an image is encoded once and then answers any number of prompts.
//!
//! SAM 2, `sam2_image_predictor.py: SAM2ImagePredictor` and `utils/transforms.py: SAM2Transforms`.
//!
//! ```
//! use burn::tensor::Tensor;
//! use burn_flex::Flex;
//! use burn_love::sam2::{
//!     Sam2Config,
//!     image_predictor::{ImagePredictor, ImagePredictorConfig, ImagePrompt},
//! };
//! use image::RgbImage;
//!
//! let sam2 = Sam2Config::nano().with_image_size(64).init::<Flex>(&Default::default());
//! let predictor = ImagePredictor::new(sam2, ImagePredictorConfig::new());
//! let image = predictor.embed(&RgbImage::new(90, 60))?;
//!
//! // A click, and the three masks it may mean.
//! let click = ImagePrompt::new().with_point([30.0, 20.0], true);
//! let candidates = predictor.predict(&image, &click, true)?;
//! assert_eq!(candidates.masks().dims(), [1, 3, 60, 90]);
//! assert_eq!(candidates.iou.dims(), [1, 3]);
//!
//! // The first of them, refined by a second click that excludes something.
//! let first = candidates.low_res_logits.narrow(1, 0, 1);
//! let refined = click.with_point([80.0, 50.0], false).with_mask(first);
//! assert_eq!(predictor.predict(&image, &refined, false)?.masks().dims(), [1, 1, 60, 90]);
//! # Ok::<(), burn_love::sam2::image_predictor::PromptError>(())
//! ```

use burn::prelude::*;
use image::RgbImage;

use super::{
    components::Cleaning,
    config::Sam2Config,
    mask_decoder::MaskSelection,
    model::{ImageFeatures, Sam2, SamHeadsOutput},
    prompt_encoder::{PointLabel, Points},
};
use crate::{
    ops::{MAX_BUFFER, resize_bilinear},
    preprocess::sam2_image_pixels,
};

/// Bound of the low-resolution logits that are handed out.
const LOGIT_LIMIT: f32 = 32.0;

/// Choices of an [`ImagePredictor`].
#[derive(Config, Debug, PartialEq)]
pub struct ImagePredictorConfig {
    /// Logits above it belong to a mask.
    #[config(default = 0.0)]
    pub mask_threshold: f32,
    /// Holes of at most this many low-resolution pixels are filled; 0 fills none.
    #[config(default = 0)]
    pub max_hole_area: usize,
    /// Parts of at most this many low-resolution pixels are removed; 0 removes none.
    #[config(default = 0)]
    pub max_sprinkle_area: usize,
    /// Single masks: fall back to the best candidate where the mask is unstable (upstream's
    /// `dynamic_multimask_via_stability`, on in all models that `build_sam2` makes).
    #[config(default = true)]
    pub stability: bool,
}

/// The predictor. See the [module docs](self).
#[derive(Clone, Debug)]
pub struct ImagePredictor<B: Backend> {
    model: Sam2<B>,
    config: ImagePredictorConfig,
}

/// An encoded image.
#[derive(Clone, Debug)]
pub struct EmbeddedImage<B: Backend> {
    /// The neck's maps and their projections, of one image.
    pub features: ImageFeatures<B>,
    /// Height and width of the image, in pixels.
    pub size: [usize; 2],
}

/// A point in pixels of the image, (x, y), and what it means.
///
/// As upstream, points outside the image are not refused: they are encoded by the same formula, which was trained on
/// points inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptPoint {
    /// Column and row; pixel centres are whole numbers.
    pub position: [f32; 2],
    /// What the point means.
    pub label: PointLabel,
}

/// `P` prompts that are answered together: every part is there for all of them, or (mask) is shared.
#[derive(Clone, Debug)]
pub struct ImagePrompt<B: Backend> {
    /// Points of each prompt, as many for each; [`PointLabel::Padding`] fills up.
    pub points: Vec<Vec<PromptPoint>>,
    /// A box of each prompt in pixels of the image, `[x0, y0, x1, y1]`.
    pub boxes: Vec<[f32; 4]>,
    /// Low-resolution logits of an earlier answer, `[P or 1, 1, h, w]`.
    pub mask: Option<Tensor<B, 4>>,
}

/// The masks of `P` prompts, `M` for each.
#[derive(Clone, Debug)]
pub struct ImagePrediction<B: Backend> {
    /// Logits at a quarter of the model's resolution within ±32, `[P, M, h, w]`. A later prompt's mask is one of them.
    pub low_res_logits: Tensor<B, 4>,
    /// Predicted IoU of each mask, `[P, M]`.
    pub iou: Tensor<B, 2>,
    /// Logit of the object being there, `[P, 1]`; no mask depends on it.
    pub object_score: Tensor<B, 2>,
    /// Cleaned logits before they are enlarged, `[P, M, h, w]`.
    cleaned: Tensor<B, 4>,
    /// Height and width of the image.
    size: [usize; 2],
    /// Logits above it belong to a mask.
    threshold: f32,
}

/// What is wrong with an image or a prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PromptError {
    /// An image without pixels.
    #[error("expected an image, found {width}×{height} pixels")]
    EmptyImage {
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
    },
    /// Parts of a prompt that belong to different numbers of prompts.
    #[error("expected {expected} {part} as there are {expected} prompts, found {found}")]
    Count {
        /// The part.
        part: &'static str,
        /// Number of prompts.
        expected: usize,
        /// Number of parts.
        found: usize,
    },
    /// Prompts of one batch with different numbers of points.
    #[error("expected {expected} points in every prompt as in the first, found {found} in prompt {prompt}")]
    Ragged {
        /// Points of the first prompt.
        expected: usize,
        /// Points of the other one.
        found: usize,
        /// Index of the other one.
        prompt: usize,
    },
    /// A coordinate that is not a number.
    #[error("expected finite coordinates, found {value} in prompt {prompt}")]
    NotFinite {
        /// Index of the prompt.
        prompt: usize,
        /// The coordinate.
        value: f32,
    },
    /// A mask of another size.
    #[error("expected a mask of shape {expected:?}, found {found:?}")]
    MaskShape {
        /// `[1, h, w]`, the low-resolution grid.
        expected: [usize; 3],
        /// What was given.
        found: [usize; 3],
    },
}

impl<B: Backend> Default for ImagePrompt<B> {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            boxes: Vec::new(),
            mask: None,
        }
    }
}

impl<B: Backend> ImagePrompt<B> {
    /// One prompt without anything; the model then segments what it likes best.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a point to the (first) prompt: `inside` or outside the object.
    pub fn with_point(mut self, position: [f32; 2], inside: bool) -> Self {
        let label = if inside {
            PointLabel::Positive
        } else {
            PointLabel::Negative
        };
        if self.points.is_empty() {
            self.points.push(Vec::new());
        }
        self.points[0].push(PromptPoint { position, label });
        self
    }

    /// Adds a prompt's box, `[x0, y0, x1, y1]`.
    pub fn with_box(mut self, corners: [f32; 4]) -> Self {
        self.boxes.push(corners);
        self
    }

    /// Sets the mask, `[P or 1, 1, h, w]`.
    pub fn with_mask(mut self, logits: Tensor<B, 4>) -> Self {
        self.mask = Some(logits);
        self
    }

    /// Number of prompts.
    pub fn count(&self) -> usize {
        let masks = self.mask.as_ref().map_or(1, |mask| mask.dims()[0]);
        self.points.len().max(self.boxes.len()).max(masks)
    }

    fn check(&self, config: &Sam2Config) -> Result<(), PromptError> {
        let expected = self.count();
        let masks = self.mask.as_ref().map_or(0, |mask| mask.dims()[0]);
        for (part, found, shared) in [
            ("lists of points", self.points.len(), false),
            ("boxes", self.boxes.len(), false),
            ("masks", masks, self.mask.is_some()),
        ] {
            let missing = found == 0 && !shared;
            if !missing && found != expected && !(shared && found == 1) {
                return Err(PromptError::Count {
                    part,
                    expected,
                    found,
                });
            }
        }
        for (prompt, points) in self.points.iter().enumerate() {
            let (expected, found) = (self.points[0].len(), points.len());
            if found != expected {
                return Err(PromptError::Ragged {
                    expected,
                    found,
                    prompt,
                });
            }
        }
        let of_points = self.points.iter().enumerate().flat_map(|(prompt, points)| {
            points
                .iter()
                .flat_map(move |point| point.position.map(|x| (prompt, x)))
        });
        let of_boxes = self.boxes.iter().enumerate();
        let of_boxes = of_boxes.flat_map(|(prompt, corners)| corners.map(|x| (prompt, x)));
        if let Some((prompt, value)) = of_points.chain(of_boxes).find(|(_, x)| !x.is_finite()) {
            return Err(PromptError::NotFinite { prompt, value });
        }
        if let Some(mask) = &self.mask {
            let [_, c, h, w] = mask.dims();
            let (expected, found) = ([1, config.mask_size(), config.mask_size()], [c, h, w]);
            if found != expected {
                return Err(PromptError::MaskShape { expected, found });
            }
        }
        Ok(())
    }

    /// Prompts `range` of `count`; a shared mask stays shared.
    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            points: self.points.get(range.clone()).unwrap_or_default().to_vec(),
            boxes: self.boxes.get(range.clone()).unwrap_or_default().to_vec(),
            mask: self.mask.clone().map(|mask| match mask.dims()[0] {
                1 => mask,
                _ => mask.slice([range]),
            }),
        }
    }

    /// Boxes, then points, in pixels of the model's input of `resolution`², for an image of `size`.
    fn to_points(&self, size: [usize; 2], resolution: usize, device: &B::Device) -> Option<Points<B>> {
        let prompts = self.points.len().max(self.boxes.len());
        let each = usize::from(!self.boxes.is_empty()) * 2 + self.points.first().map_or(0, Vec::len);
        if prompts == 0 || each == 0 {
            return None;
        }
        let [h, w] = size.map(|side| side as f32);
        let scale = |[x, y]: [f32; 2]| [x / w * resolution as f32, y / h * resolution as f32];
        let (mut coordinates, mut labels) = (Vec::new(), Vec::new());
        let mut add = |position, label: PointLabel| {
            coordinates.extend(scale(position));
            labels.push(label as i32);
        };
        for prompt in 0..prompts {
            if let Some([x0, y0, x1, y1]) = self.boxes.get(prompt) {
                add([*x0, *y0], PointLabel::BoxTopLeft);
                add([*x1, *y1], PointLabel::BoxBottomRight);
            }
            for point in self.points.get(prompt).into_iter().flatten() {
                add(point.position, point.label);
            }
        }
        Some(Points {
            coordinates: Tensor::from_data(TensorData::new(coordinates, [prompts, each, 2]), device),
            labels: Tensor::from_data(TensorData::new(labels, [prompts, each]), device),
        })
    }
}

impl<B: Backend> ImagePredictor<B> {
    /// A predictor with final weights: what depends on them alone is computed here.
    pub fn new(model: Sam2<B>, config: ImagePredictorConfig) -> Self {
        Self {
            model: model.cache_constants(),
            config,
        }
    }

    /// The model.
    pub fn model(&self) -> &Sam2<B> {
        &self.model
    }

    /// Encodes an image of any size.
    ///
    /// # Errors
    /// [`PromptError::EmptyImage`]
    pub fn embed(&self, image: &RgbImage) -> Result<EmbeddedImage<B>, PromptError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(PromptError::EmptyImage { width, height });
        }
        let side = self.model.config.image_size;
        let pixels = TensorData::new(sam2_image_pixels(image, side), [1, 3, side, side]);
        let pixels = Tensor::from_data(pixels, &self.model.no_mem_embed.device());
        Ok(EmbeddedImage {
            features: self.model.forward_image(pixels),
            size: [height as usize, width as usize],
        })
    }

    /// Answers prompts on an encoded image: `M` is 3 candidates each with `multimask`, otherwise 1 mask.
    ///
    /// Candidates suit a prompt that may mean several things, such as one click; a single mask suits several clicks,
    /// boxes, and earlier masks. However many prompts there are, buffers stay bounded.
    ///
    /// # Errors
    /// If the parts of the prompt do not go together.
    pub fn predict(
        &self,
        image: &EmbeddedImage<B>,
        prompt: &ImagePrompt<B>,
        multimask: bool,
    ) -> Result<ImagePrediction<B>, PromptError> {
        let config = &self.model.config;
        prompt.check(config)?;
        let selection = match (multimask, self.config.stability) {
            (true, _) => MaskSelection::Candidates,
            (false, true) => MaskSelection::StableSingle,
            (false, false) => MaskSelection::Single,
        };
        // The decoder's largest buffer: the enlarged image, D/8 channels for each low-resolution pixel.
        let per_prompt = config.mask_size() * config.mask_size() * config.model_width / 8;
        let step = (MAX_BUFFER / per_prompt).max(1);
        let count = prompt.count();
        let answers = (0..count)
            .step_by(step)
            .map(|start| self.decode(image, &prompt.slice(start..(start + step).min(count)), selection));
        let (mut logits, mut ious, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for answer in answers {
            logits.push(answer.multimask_logits);
            ious.push(answer.multimask_iou);
            scores.push(answer.object_score);
        }
        let logits = Tensor::cat(logits, 0);
        Ok(ImagePrediction {
            low_res_logits: logits.clone().clamp(-LOGIT_LIMIT, LOGIT_LIMIT),
            iou: Tensor::cat(ious, 0),
            object_score: Tensor::cat(scores, 0),
            cleaned: self.clean(logits),
            size: image.size,
            threshold: self.config.mask_threshold,
        })
    }

    fn decode(
        &self,
        image: &EmbeddedImage<B>,
        prompt: &ImagePrompt<B>,
        selection: MaskSelection,
    ) -> SamHeadsOutput<B> {
        let (model, features) = (&self.model, &image.features);
        let (side, device) = (model.config.image_size, features.neck.stride16.device());
        let points = prompt.to_points(image.size, side, &device);
        let embeddings = model
            .sam_prompt_encoder
            .forward(points, prompt.mask.clone(), side);
        model.decode(model.unconditioned(features), features, embeddings, selection)
    }

    /// Fills holes and removes sprinkles, if asked to, on the host.
    fn clean(&self, logits: Tensor<B, 4>) -> Tensor<B, 4> {
        let cleaning = Cleaning {
            threshold: self.config.mask_threshold,
            max_hole_area: self.config.max_hole_area,
            max_sprinkle_area: self.config.max_sprinkle_area,
        };
        if cleaning.is_idle() {
            return logits;
        }
        let ([_, _, h, w], device) = (logits.dims(), logits.device());
        let mut data = logits.into_data().convert::<f32>();
        let values = data.as_mut_slice::<f32>().expect("just converted");
        for mask in values.chunks_exact_mut(h * w) {
            cleaning.apply(mask, w);
        }
        Tensor::from_data(data, &device)
    }
}

impl<B: Backend> ImagePrediction<B> {
    /// Logits at the image's resolution, without a bound.
    ///
    /// # Shapes
    /// - output: `[P, M, H, W]`
    pub fn logits(&self) -> Tensor<B, 4> {
        resize_bilinear(self.cleaned.clone(), self.size)
    }

    /// Masks at the image's resolution.
    ///
    /// # Shapes
    /// - output: `[P, M, H, W]`
    pub fn masks(&self) -> Tensor<B, 4, Bool> {
        self.logits().greater_elem(self.threshold)
    }

    /// One mask of one prompt, `P = M = 1`: the others need not be enlarged then.
    pub fn select(&self, prompt: usize, mask: usize) -> Self {
        let one = |x: &Tensor<B, 4>| x.clone().narrow(0, prompt, 1).narrow(1, mask, 1);
        Self {
            low_res_logits: one(&self.low_res_logits),
            iou: self.iou.clone().narrow(0, prompt, 1).narrow(1, mask, 1),
            object_score: self.object_score.clone().narrow(0, prompt, 1),
            cleaned: one(&self.cleaned),
            ..*self
        }
    }
}
