//! What a video session says about a frame.

use burn::prelude::*;

use super::ObjectId;
use crate::{ops::resize_bilinear, sam2::components};

/// Logit above which an object keeps no pixel that another one claims more strongly: sigmoid(−10) = 4.5e-5.
const SUPPRESSED: f64 = -10.0;

/// One object on one frame.
#[derive(Clone, Debug)]
pub struct ObjectMask<B: Backend> {
    /// Which object.
    pub object: ObjectId,
    /// Mask logits at a quarter of the model's resolution, `[1, 1, h, w]`;
    /// [`NO_OBJECT_LOGIT`](crate::sam2::NO_OBJECT_LOGIT) everywhere if the object is not there.
    pub low_res_logits: Tensor<B, 4>,
    /// Logit of the object being there, `[1, 1]`.
    pub object_score: Tensor<B, 2>,
    /// Predicted IoU of the mask, `[1, 1]`.
    pub iou: Tensor<B, 2>,
}

/// All objects on one frame.
#[derive(Clone, Debug)]
pub struct FrameMasks<B: Backend> {
    /// Index of the frame.
    pub frame: usize,
    /// Height and width of the video.
    pub size: [usize; 2],
    /// Whether [`video_logits`](Self::video_logits) gives each pixel to one object at most.
    pub non_overlapping: bool,
    /// The objects that were prompted or tracked on this frame, in the order of their first prompts; never empty.
    pub objects: Vec<ObjectMask<B>>,
}

impl<B: Backend> FrameMasks<B> {
    /// Mask logits at the video's resolution; a pixel belongs to the object where they are above 0.
    ///
    /// # Shapes
    /// - output: `[N, 1, H, W]`, in the order of `objects`
    pub fn video_logits(&self) -> Tensor<B, 4> {
        let low_res = self
            .objects
            .iter()
            .map(|object| object.low_res_logits.clone())
            .collect();
        let logits = resize_bilinear(Tensor::cat(low_res, 0), self.size);
        if !self.non_overlapping || self.objects.len() == 1 {
            return logits;
        }
        let [n, _, h, w] = logits.dims();
        let device = logits.device();
        let strongest = logits.clone().argmax(0).expand([n, 1, h, w]);
        let own = Tensor::<B, 1, Int>::arange(0..n as i64, &device).reshape([n, 1, 1, 1]);
        let keep = strongest.equal(own.expand([n, 1, h, w]));
        logits.clone().clamp_max(SUPPRESSED).mask_where(keep, logits)
    }
}

/// Fills the holes of a mask of at most `area` cells; reads the mask back to do so.
pub(super) fn fill_holes<B: Backend>(logits: Tensor<B, 4>, area: usize) -> Tensor<B, 4> {
    if area == 0 {
        return logits;
    }
    let device = logits.device();
    let shape = logits.dims();
    let mut values = logits
        .into_data()
        .convert::<f32>()
        .to_vec::<f32>()
        .expect("just converted");
    components::fill_holes(&mut values, shape[3], area);
    Tensor::from_data(TensorData::new(values, shape), &device)
}
