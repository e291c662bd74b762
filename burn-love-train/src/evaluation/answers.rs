//! What the model answers to all expressions about one clip.

use burn::prelude::*;
use burn_love::{
    love::Sam2Love,
    preprocess::{LogMel, Tokens},
};
use image::RgbImage;

use super::{EvalError, EvalOptions, Modality, Protocol};
use crate::{
    data::{FrameFiles, RefAvs, Row},
    features::{ModelFeatures, recall},
    inference::{
        EXPRESSIONS_AT_ONCE, Question, background, floats, hear, maps, probabilities, prompts, read, see,
        track,
    },
    metrics::LABEL_SIDE,
    samples::Preparer,
};

/// The expression that stands for a dropped text.
const NO_TEXT: &str = "the object";

/// How a row is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// As the options say.
    AsIs,
    /// The text in lower case, without a final period.
    TextNormalised,
    /// With another clip's sound.
    AudioSwapped,
}

/// Masks of one expression.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// `[T, H, W]` at the protocol's size.
    pub probability: Vec<f32>,
    /// `[T, 256, 256]`, where it is dumped and the protocol's size is another one.
    pub dumped: Option<Vec<f32>>,
    /// Probability of the object being there, `[T]`.
    pub presence: Vec<f32>,
}

/// All that asking takes. Clones share the weights.
#[derive(Clone)]
pub(super) struct Asker<'a, B: Backend> {
    pub model: Sam2Love<B>,
    pub preparer: Preparer,
    pub data: &'a RefAvs,
    pub options: &'a EvalOptions,
    pub features: Option<ModelFeatures>,
    pub device: &'a B::Device,
}

/// The sounds that questions about a clip come with.
struct Sounds<B: Backend> {
    own: Tensor<B, 3>,
    other: Option<Tensor<B, 3>>,
}

impl<B: Backend> Asker<'_, B> {
    /// Asks about rows of one clip. The answers come in the order of `questions`, which index `rows`. `other` is a row
    /// of another clip, for swapped sounds.
    pub fn ask(
        &self,
        rows: &[&Row],
        files: &FrameFiles,
        frames: &[RgbImage],
        questions: &[(usize, Variant)],
        other: Option<&Row>,
    ) -> Result<Vec<Answer>, EvalError> {
        let (model, preparer, device) = (&self.model, &self.preparer, self.device);
        let encoders = &model.encoders;
        let features = self.features.as_ref();
        let slot = match features {
            Some(features) => features.sight(files)?,
            None => None,
        };
        let mut seen = recall(slot.as_ref(), device, || {
            see(
                &encoders.vision,
                preparer,
                &frames.iter().collect::<Vec<_>>(),
                device,
            )
        });
        if self.options.drop == Some(Modality::Vision) {
            seen = seen.blind();
        }
        let sounds = self.sounds(rows[0], other, frames.len(), questions)?;
        let tokens: Vec<Tokens> = questions
            .iter()
            .map(|(row, variant)| preparer.tokens(&text(self.options, rows[*row], *variant)))
            .collect::<Result<_, _>>()?;
        let questions: Vec<Question<'_, B>> = questions
            .iter()
            .zip(&tokens)
            .map(|((_, variant), tokens)| {
                let slot = features.and_then(|features| features.sentence(tokens));
                Question {
                    heard: match variant {
                        Variant::AudioSwapped => sounds.other.as_ref().unwrap_or(&sounds.own),
                        _ => &sounds.own,
                    },
                    tokens,
                    said: recall(slot.as_ref(), device, || read(&encoders.text, tokens, device)),
                }
            })
            .collect();
        let prompts = questions
            .chunks(EXPRESSIONS_AT_ONCE)
            .map(|some| prompts(model, &seen, some, device))
            .collect();

        let label = [LABEL_SIDE; 2];
        let size = match self.options.protocol {
            Protocol::Official => label,
            Protocol::PerExpression => [frames[0].height() as usize, frames[0].width() as usize],
        };
        let dumps = self.options.dump.is_some() && size != label;
        let mut answers = vec![Answer::default(); questions.len()];
        let slot = match features {
            Some(features) => features.maps(files, 0)?,
            None => None,
        };
        let first = recall(slot.as_ref(), device, || {
            let pixels = preparer.sam2_pixels(&frames[0]);
            maps(&model.sam2.image_encoder, pixels, preparer.sam2_size, device)
        });
        track(
            model,
            preparer,
            frames,
            first,
            prompts,
            device,
            |_, group, output| {
                let answers = answers[group * EXPRESSIONS_AT_ONCE..]
                    .iter_mut()
                    .take(EXPRESSIONS_AT_ONCE);
                let presence = floats(burn::tensor::activation::sigmoid(output.object_score));
                let at = |size: [usize; 2]| probabilities(output.low_res_logits.clone(), size);
                let (scored, dumped) = (at(size), dumps.then(|| at(label)));
                for (i, answer) in answers.enumerate() {
                    let own = |values: &[f32]| {
                        let length = values.len() / presence.len();
                        values[i * length..][..length].to_vec()
                    };
                    answer.probability.extend(own(&scored));
                    answer.presence.push(presence[i]);
                    if let Some(dumped) = &dumped {
                        answer.dumped.get_or_insert_default().extend(own(dumped));
                    }
                }
            },
        );
        Ok(answers)
    }

    fn sounds(
        &self,
        row: &Row,
        other: Option<&Row>,
        frames: usize,
        questions: &[(usize, Variant)],
    ) -> Result<Sounds<B>, EvalError> {
        let heard = |sound: &LogMel| hear(&self.model.encoders.audio, sound, self.device);
        if self.options.drop == Some(Modality::Audio) {
            return Ok(Sounds {
                own: heard(&background(frames)),
                other: None,
            });
        }
        let sound = |row: &Row| -> Result<Tensor<B, 3>, EvalError> {
            let path = self.data.audio_path(row);
            // The cache names an entry by the whole file; without one, only the clip's seconds are read.
            let slot = match self.features.as_ref() {
                Some(features) => features.sound(&path, frames, || self.data.audio(row))?,
                None => None,
            };
            // Also where the cache knows it: a sound that is too short is an error.
            let sound = self.preparer.sound_file(&path, frames)?;
            Ok(recall(slot.as_ref(), self.device, || heard(&sound)))
        };
        if self.options.swap_audio {
            let other = other.ok_or(EvalError::OneClip { split: row.split })?;
            return Ok(Sounds {
                own: sound(other)?,
                other: None,
            });
        }
        let swaps = questions
            .iter()
            .any(|(_, variant)| *variant == Variant::AudioSwapped);
        Ok(Sounds {
            own: sound(row)?,
            other: other.filter(|_| swaps).map(sound).transpose()?,
        })
    }
}

/// The text that a row is asked about with.
pub(super) fn text(options: &EvalOptions, row: &Row, variant: Variant) -> String {
    match (options.drop, variant) {
        (Some(Modality::Text), _) => NO_TEXT.into(),
        (_, Variant::TextNormalised) => normalised(&row.expression),
        _ => row.expression.clone(),
    }
}

/// Lower case, without a final period.
pub(super) fn normalised(text: &str) -> String {
    let text = text.trim().to_lowercase();
    match text.strip_suffix('.') {
        Some(rest) if !rest.trim().is_empty() => rest.trim_end().into(),
        _ => text,
    }
}
