//! Masks of everything in an image: a grid of clicks, filtered by quality and by overlap.
//!
//! SAM 2, `automatic_mask_generator.py: SAM2AutomaticMaskGenerator`.

use burn::prelude::*;
use image::{RgbImage, imageops};

use super::{
    image_predictor::{
        EmbeddedImage, ImagePredictor, ImagePredictorConfig, ImagePrompt, PromptError, PromptPoint,
    },
    mask_boxes::{Corners, Crop, crops, is_cut, mask_corners, point_grid, suppress},
    model::Sam2,
    prompt_encoder::PointLabel,
    run_length::RunLengths,
};

/// Choices of [`AutomaticMasks`]; the defaults are upstream's.
#[derive(Config, Debug, PartialEq)]
pub struct AutomaticMasksConfig {
    /// Clicks along each side of the image.
    #[config(default = 32)]
    pub points_per_side: usize,
    /// Clicks that are answered at a time.
    #[config(default = 64)]
    pub points_per_batch: usize,
    /// Masks need a predicted IoU above it; 0 takes all.
    #[config(default = 0.8)]
    pub min_iou: f32,
    /// Masks need a stability of at least this; 0 takes all.
    #[config(default = 0.95)]
    pub min_stability: f32,
    /// Stability is the IoU of the masks at thresholds this much above and below.
    #[config(default = 1.0)]
    pub stability_offset: f32,
    /// Logits above it belong to a mask.
    #[config(default = 0.0)]
    pub mask_threshold: f32,
    /// Boxes of one crop that overlap more count as the same object, as IoU.
    #[config(default = 0.7)]
    pub max_overlap: f32,
    /// Layers of crops beside the whole image.
    #[config(default = 0)]
    pub crop_layers: usize,
    /// Boxes of different crops that overlap more count as the same object, as IoU.
    #[config(default = 0.7)]
    pub max_crop_overlap: f32,
    /// What neighbouring crops of the first layer share, as a fraction of the image's shorter side.
    #[config(default = "512.0 / 1500.0")]
    pub crop_overlap: f64,
    /// Each layer of crops has this many times fewer clicks along a side than the one before.
    #[config(default = 1)]
    pub crop_points_divisor: usize,
    /// Holes and parts of at most this many low-resolution pixels are removed; 0 removes none.
    #[config(default = 0)]
    pub min_region_area: usize,
    /// Ask again with each mask as a prompt beside its click.
    #[config(default = false)]
    pub refine: bool,
    /// Three candidates for each click, or one mask.
    #[config(default = true)]
    pub multimask: bool,
    /// Single masks: fall back to the best candidate where the mask is unstable.
    #[config(default = true)]
    pub stable_single: bool,
}

/// The generator. See the [module docs](self).
///
/// ```
/// use burn_flex::Flex;
/// use burn_love::sam2::{AutomaticMasks, AutomaticMasksConfig, Sam2Config};
/// use image::RgbImage;
///
/// let sam2 = Sam2Config::nano().with_image_size(64).init::<Flex>(&Default::default());
/// let config = AutomaticMasksConfig::new().with_points_per_side(2);
/// let masks = AutomaticMasks::new(sam2, config).generate(&RgbImage::new(48, 32), |_, _| {})?;
/// for mask in masks {
///     assert_eq!(mask.mask.area(), mask.mask.decode().iter().filter(|inside| **inside).count());
/// }
/// # Ok::<(), burn_love::sam2::image_predictor::PromptError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AutomaticMasks<B: Backend> {
    predictor: ImagePredictor<B>,
    config: AutomaticMasksConfig,
}

/// A mask that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct AutomaticMask {
    /// The mask, at the image's resolution.
    pub mask: RunLengths,
    /// First and last column and row of the mask in its crop, moved to the image.
    pub corners: Corners,
    /// Predicted IoU.
    pub iou: f32,
    /// IoU of the masks at a higher and a lower threshold.
    pub stability: f32,
    /// The click, in pixels of the image.
    pub point: [f32; 2],
    /// The crop in which it was found.
    pub crop: Corners,
}

impl<B: Backend> AutomaticMasks<B> {
    /// A generator with final weights.
    pub fn new(model: Sam2<B>, config: AutomaticMasksConfig) -> Self {
        let cleaning = ImagePredictorConfig::new()
            .with_max_hole_area(config.min_region_area)
            .with_max_sprinkle_area(config.min_region_area)
            .with_stability(config.stable_single);
        Self {
            predictor: ImagePredictor::new(model, cleaning),
            config,
        }
    }

    /// Masks of everything in an image; `progress` is told clicks done and all clicks.
    ///
    /// Masks come by falling predicted IoU, those of smaller crops first.
    ///
    /// # Errors
    /// [`PromptError::EmptyImage`]
    pub fn generate(
        &self,
        image: &RgbImage,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<AutomaticMask>, PromptError> {
        let config = &self.config;
        let (width, height) = image.dimensions();
        let crops = crops([height, width], config.crop_layers, config.crop_overlap);
        let side = |crop: &Crop| self.points_per_side(crop.layer);
        let total = crops.iter().map(|crop| side(crop) * side(crop)).sum();
        let (mut found, mut done) = (Vec::new(), 0);
        for crop in &crops {
            let mut ticks = |points: usize| {
                done += points;
                progress(done, total);
            };
            found.extend(self.in_crop(image, *crop, &mut ticks)?);
        }
        if crops.len() == 1 {
            return Ok(found);
        }
        let area = |[x0, y0, x1, y1]: Corners| ((x1 - x0) * (y1 - y0)) as f32;
        let scores: Vec<f32> = found
            .iter()
            .map(|mask: &AutomaticMask| 1.0 / area(mask.crop))
            .collect();
        Ok(keep(found, &scores, config.max_crop_overlap))
    }

    fn points_per_side(&self, layer: usize) -> usize {
        let divisor = (self.config.crop_points_divisor.max(1) as f64).powi(layer as i32);
        (self.config.points_per_side as f64 / divisor) as usize
    }

    fn in_crop(
        &self,
        image: &RgbImage,
        crop: Crop,
        ticks: &mut dyn FnMut(usize),
    ) -> Result<Vec<AutomaticMask>, PromptError> {
        let [x0, y0, x1, y1] = crop.corners;
        let part = imageops::crop_imm(image, x0, y0, x1 - x0, y1 - y0).to_image();
        let embedded = self.predictor.embed(&part)?;
        let [h, w] = embedded.size.map(|side| side as f64);
        let points: Vec<[f32; 2]> = point_grid(self.points_per_side(crop.layer))
            .into_iter()
            .map(|[x, y]| [(x * w) as f32, (y * h) as f32])
            .collect();

        let whole = [image.height(), image.width()];
        let mut found = Vec::new();
        for batch in points.chunks(self.config.points_per_batch.max(1)) {
            found.extend(self.in_batch(&embedded, batch, crop.corners, whole)?);
            ticks(batch.len());
        }
        let scores: Vec<f32> = found.iter().map(|mask: &AutomaticMask| mask.iou).collect();
        let mut kept = keep(found, &scores, self.config.max_overlap);
        for mask in &mut kept {
            let [left, top, right, bottom] = mask.corners;
            mask.corners = [left + x0, top + y0, right + x0, bottom + y0];
            mask.point = [mask.point[0] + x0 as f32, mask.point[1] + y0 as f32];
        }
        Ok(kept)
    }

    /// The good masks of some clicks. Boxes and clicks are the crop's, masks the whole image's.
    fn in_batch(
        &self,
        embedded: &EmbeddedImage<B>,
        points: &[[f32; 2]],
        crop: Corners,
        whole: [u32; 2],
    ) -> Result<Vec<AutomaticMask>, PromptError> {
        let config = &self.config;
        let mut answers = self
            .predictor
            .predict(embedded, &clicks(points), config.multimask)?;
        let [_, candidates, ..] = answers.low_res_logits.dims();
        let points: Vec<[f32; 2]> = points
            .iter()
            .flat_map(|point| std::iter::repeat_n(*point, candidates))
            .collect();
        if config.refine {
            let [p, m, h, w] = answers.low_res_logits.dims();
            let masks = answers.low_res_logits.reshape([p * m, 1, h, w]);
            let prompt = clicks(&points).with_mask(masks);
            answers = self.predictor.predict(embedded, &prompt, false)?;
        }
        let [_, candidates, ..] = answers.low_res_logits.dims();
        let ious = answers.iou.to_data().iter::<f32>().collect::<Vec<_>>();

        let mut found = Vec::new();
        for (i, (point, iou)) in points.into_iter().zip(ious).enumerate() {
            if config.min_iou > 0.0 && iou <= config.min_iou {
                continue;
            }
            // One at a time: all of them at the image's resolution may not fit.
            let logits = answers.select(i / candidates, i % candidates).logits();
            let logits: Vec<f32> = logits.into_data().iter().collect();
            let stability = stability(&logits, config.mask_threshold, config.stability_offset);
            // An empty mask has no stability: NaN is not enough.
            if config.min_stability > 0.0 && (stability.is_nan() || stability < config.min_stability) {
                continue;
            }
            let mask: Vec<bool> = logits
                .iter()
                .map(|logit| *logit > config.mask_threshold)
                .collect();
            let corners = mask_corners(&mask, embedded.size[1]);
            if !is_cut(corners, crop, whole) {
                found.push(AutomaticMask {
                    mask: RunLengths::encode(&uncrop(&mask, crop, whole), whole.map(|side| side as usize)),
                    corners,
                    iou,
                    stability,
                    point,
                    crop,
                });
            }
        }
        Ok(found)
    }
}

/// One prompt for each click.
fn clicks<B: Backend>(points: &[[f32; 2]]) -> ImagePrompt<B> {
    let click = |position: &[f32; 2]| PromptPoint {
        position: *position,
        label: PointLabel::Positive,
    };
    ImagePrompt {
        points: points.iter().map(|point| vec![click(point)]).collect(),
        ..ImagePrompt::new()
    }
}

/// IoU of the masks at `threshold ± offset`; not a number where both are empty.
fn stability(logits: &[f32], threshold: f32, offset: f32) -> f32 {
    let area = |threshold: f32| logits.iter().filter(|logit| **logit > threshold).count() as f32;
    area(threshold + offset) / area(threshold - offset)
}

/// A crop's mask in the whole image of `[height, width]`.
fn uncrop(mask: &[bool], [x0, y0, x1, _]: Corners, [h, w]: [u32; 2]) -> Vec<bool> {
    let (w, h) = (w as usize, h as usize);
    let (left, top, width) = (x0 as usize, y0 as usize, (x1 - x0) as usize);
    let mut whole = vec![false; w * h];
    for (y, row) in mask.chunks_exact(width).enumerate() {
        let start = (top + y) * w + left;
        whole[start..start + width].copy_from_slice(row);
    }
    whole
}

/// Without those whose boxes overlap that of a better one too much, best first.
fn keep(masks: Vec<AutomaticMask>, scores: &[f32], max_overlap: f32) -> Vec<AutomaticMask> {
    let boxes: Vec<Corners> = masks.iter().map(|mask| mask.corners).collect();
    let mut masks: Vec<Option<AutomaticMask>> = masks.into_iter().map(Some).collect();
    suppress(&boxes, scores, max_overlap)
        .into_iter()
        .filter_map(|i| masks[i].take())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stability_is_the_iou_of_a_tighter_and_a_wider_mask() {
        let logits = [3.0, 1.5, 0.5, -0.5, -2.0];
        assert_eq!(stability(&logits, 0.0, 1.0), 2.0 / 4.0);
        assert!(stability(&[-5.0], 0.0, 1.0).is_nan());
    }

    #[test]
    fn a_crop_goes_back_to_its_place() {
        let whole = uncrop(&[true, false, true, true], [1, 1, 3, 3], [3, 4]);
        let expected = [
            [false; 4],
            [false, true, false, false],
            [false, true, true, false],
        ];
        assert_eq!(whole, expected.concat());
    }
}
