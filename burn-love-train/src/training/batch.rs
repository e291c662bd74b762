//! A micro-batch on its way from files to the model's features.

use std::ops::Range;

use burn::{module::AutodiffModule, prelude::*, tensor::backend::AutodiffBackend};
use burn_love::{
    encoders::{AudioEncoder, TextEncoder, VggishConfig, VisionEncoder},
    love::{ClipFeatures, Encoders, Sam2Love, Trainable},
    preprocess::{LogMel, Tokens},
    sam2::{ImageEncoder, NeckFeatures},
};

use super::VisiblePatches;
use crate::{
    features::Asked,
    inference::{Seen, hear, maps, read, see_pixels},
    samples::token_batch,
};

/// A batch of rows, to be used on a device.
#[derive(Debug)]
pub struct LoveBatch<B: Backend> {
    pub(super) rows: BatchRows,
    /// Side of the vision encoder's image.
    pub(super) vit_size: usize,
    /// Side of SAM 2's image.
    pub(super) sam2_size: usize,
    pub(super) device: B::Device,
}

/// Rows on the host: for each part of the model an input, or what the cache knows of it.
#[derive(Debug, Default)]
pub(super) struct BatchRows {
    pub tokens: Vec<Tokens>,
    pub sentences: Vec<Asked<Tokens>>,
    pub sounds: Vec<Asked<LogMel>>,
    pub sights: Vec<Sight>,
    /// Patches that the fusion is shown of every frame, where it is not shown all.
    pub patches: Option<VisiblePatches>,
    /// The prompted frame and those tracked from it, row by row, `[3, S, S]` each.
    pub frames: Vec<Asked<Vec<f32>>>,
    /// Their masks, 0 or 1, `[S, S]` each.
    pub labels: Vec<f32>,
    /// Frames per row whose masks are asked for.
    pub mask_frames: usize,
}

/// A clip as the vision encoder sees it.
#[derive(Debug)]
pub(super) struct Sight {
    /// Frames T of the clip.
    pub frames: usize,
    /// `[T, 3, V, V]`; those of `shown` alone without a cache, and where the cache knows them.
    pub pixels: Asked<Vec<f32>>,
    /// Frames that the fusion is shown, where it is not shown all.
    pub shown: Option<Vec<usize>>,
}

/// Indices as a tensor.
pub(super) fn upload<B: Backend>(indices: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let indices: Vec<i64> = indices.iter().map(|index| *index as i64).collect();
    Tensor::from_data(indices.as_slice(), device)
}

impl Sight {
    /// What the encoder says of the frames that the fusion is shown.
    fn see<B: Backend>(&self, vision: &impl VisionEncoder<B>, side: usize, device: &B::Device) -> Seen<B> {
        let seen: Seen<B> = self.pixels.answer(device, |pixels| {
            let stride = 3 * side * side;
            let some = |range: Range<usize>| pixels[range.start * stride..range.end * stride].to_vec();
            see_pixels(vision, side, pixels.len() / stride, some, device)
        });
        let [_, frames, _] = seen.cls.dims();
        match &self.shown {
            Some(shown) if frames == self.frames => {
                let shown = upload(shown, device);
                Seen {
                    patches: seen.patches.select(1, shown.clone()),
                    cls: seen.cls.select(1, shown),
                }
            }
            _ => seen,
        }
    }
}

/// What parts of the model say of a batch; nothing where a part was not asked.
#[derive(Debug)]
struct PartFeatures<B: Backend> {
    /// `[B, A, D]`
    audio: Option<Tensor<B, 3>>,
    /// `[B, T, P, D]` and `[B, T, D]`
    vision: Option<Seen<B>>,
    /// `[B, L, D]`
    text: Option<Tensor<B, 3>>,
    /// Of `B·K` frames.
    neck: Option<NeckFeatures<B>>,
}

impl<B: AutodiffBackend> LoveBatch<B> {
    /// What all parts say, with a graph to those that learn. Frozen ones run on the inner backend: no graph, and the
    /// fast inference roads.
    pub(super) fn features_in_training(
        &self,
        model: &Sam2Love<B>,
        trainable: &Trainable,
    ) -> (ClipFeatures<B>, NeckFeatures<B>) {
        let (encoders, image_encoder) = (model.encoders.valid(), model.sam2.image_encoder.valid());
        let frozen = self.ask_frozen(&encoders, &image_encoder, trainable);
        let frozen = PartFeatures {
            audio: frozen.audio.map(Tensor::from_inner),
            vision: frozen.vision.map(|seen| Seen {
                patches: Tensor::from_inner(seen.patches),
                cls: Tensor::from_inner(seen.cls),
            }),
            text: frozen.text.map(Tensor::from_inner),
            neck: frozen.neck.map(|neck| neck.map(Tensor::from_inner)),
        };
        self.ask_others(model, frozen)
    }
}

impl<B: Backend> LoveBatch<B> {
    /// What all parts say, without a graph.
    pub(super) fn features(
        &self,
        model: &Sam2Love<B>,
        trainable: &Trainable,
    ) -> (ClipFeatures<B>, NeckFeatures<B>) {
        let frozen = self.ask_frozen(&model.encoders, &model.sam2.image_encoder, trainable);
        self.ask_others(model, frozen)
    }

    /// Frames per row whose masks are asked for.
    pub(super) fn mask_frames(&self) -> usize {
        self.rows.mask_frames
    }

    /// The patches that the fusion is shown, if not all.
    pub(super) fn visible_patches(&self) -> Option<&VisiblePatches> {
        self.rows.patches.as_ref()
    }

    /// The masks, 0 or 1, `[B, K, S, S]`.
    pub(super) fn labels(&self) -> Tensor<B, 4> {
        let (b, k, s) = (self.rows.tokens.len(), self.rows.mask_frames, self.sam2_size);
        Tensor::from_data(
            TensorData::new(self.rows.labels.clone(), [b, k, s, s]),
            &self.device,
        )
    }

    /// Asks the parts that do not learn, about one input at a time: the cache has it, or gets it.
    fn ask_frozen<I: Backend<Device = B::Device>>(
        &self,
        encoders: &Encoders<I>,
        image_encoder: &ImageEncoder<I>,
        trainable: &Trainable,
    ) -> PartFeatures<I> {
        let (rows, device) = (&self.rows, &self.device);
        let sounds = || {
            let say = |sound: &LogMel| hear(&encoders.audio, sound, device);
            let heard = rows.sounds.iter().map(|asked| asked.answer(device, say));
            Tensor::cat(heard.collect(), 0)
        };
        let sentences = || {
            let say = |tokens: &Tokens| read(&encoders.text, tokens, device);
            let said = rows.sentences.iter().map(|asked| asked.answer(device, say));
            Tensor::cat(said.collect(), 0)
        };
        let sights = || {
            let seen = rows.sights.iter();
            let seen = seen.map(|sight| sight.see(&encoders.vision, self.vit_size, device));
            let (patches, cls) = seen.map(|seen| (seen.patches, seen.cls)).unzip();
            Seen {
                patches: Tensor::cat(patches, 0),
                cls: Tensor::cat(cls, 0),
            }
        };
        let necks = || {
            let say = |pixels: &Vec<f32>| maps(image_encoder, pixels.clone(), self.sam2_size, device);
            let necks: Vec<NeckFeatures<I>> = rows
                .frames
                .iter()
                .map(|asked| asked.answer(device, say))
                .collect();
            let all = |map: fn(&NeckFeatures<I>) -> &Tensor<I, 4>| {
                Tensor::cat(necks.iter().map(|neck| map(neck).clone()).collect(), 0)
            };
            NeckFeatures {
                stride4: all(|neck| &neck.stride4),
                stride8: all(|neck| &neck.stride8),
                stride16: all(|neck| &neck.stride16),
            }
        };
        PartFeatures {
            audio: (!trainable.audio_encoder).then(sounds),
            vision: (!trainable.vision_encoder).then(sights),
            text: (!trainable.text_encoder).then(sentences),
            neck: (!trainable.image_encoder).then(necks),
        }
    }

    /// Asks the parts that were not asked, about the whole batch at once.
    fn ask_others(&self, model: &Sam2Love<B>, asked: PartFeatures<B>) -> (ClipFeatures<B>, NeckFeatures<B>) {
        let (rows, device, encoders) = (&self.rows, &self.device, &model.encoders);
        let b = rows.tokens.len();
        let pixels = |inputs: Vec<&Vec<f32>>, side: usize| {
            let all: Vec<f32> = inputs.into_iter().flatten().copied().collect();
            let n = all.len() / (3 * side * side);
            Tensor::<B, 4>::from_data(TensorData::new(all, [n, 3, side, side]), device)
        };
        let tokens: Vec<&Tokens> = rows.tokens.iter().collect();
        let tokens = token_batch(&tokens, device);
        let text_padding = tokens.padding.clone();
        let audio = asked.audio.unwrap_or_else(|| {
            let sounds = rows.sounds.iter().map(Asked::input);
            let values: Vec<f32> = sounds.flat_map(|sound| sound.values.iter().copied()).collect();
            let (frames, bands) = (VggishConfig::FRAMES, VggishConfig::BANDS);
            let a = values.len() / (b * frames * bands);
            let data = TensorData::new(values, [b * a, frames, bands]);
            let heard = encoders.audio.encode_audio(Tensor::from_data(data, device));
            let [_, d] = heard.dims();
            heard.reshape([b, a, d])
        });
        let vision = asked.vision.unwrap_or_else(|| {
            let inputs = rows.sights.iter().map(|sight| sight.pixels.input()).collect();
            let features = encoders.vision.encode_image(pixels(inputs, self.vit_size));
            let [n, p, d] = features.patches.dims();
            Seen {
                patches: features.patches.reshape([b, n / b, p, d]),
                cls: features.cls.reshape([b, n / b, d]),
            }
        });
        let neck = asked.neck.unwrap_or_else(|| {
            let inputs = rows.frames.iter().map(Asked::input).collect();
            model.sam2.image_encoder.forward(pixels(inputs, self.sam2_size))
        });
        let patches = match self.visible_patches() {
            Some(visible) => vision.patches.select(2, visible.indices(device)),
            None => vision.patches,
        };
        let features = ClipFeatures {
            audio,
            text: asked.text.unwrap_or_else(|| encoders.text.encode_text(tokens)),
            text_padding,
            patches,
            cls: vision.cls,
        };
        (features, neck)
    }
}
