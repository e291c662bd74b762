//! A cache as one model uses it: a slot for each input of each part that does not learn.

use std::sync::Arc;

use burn::prelude::*;
use burn_love::{
    love::{Sam2Love, Trainable},
    preprocess::Tokens,
};

use super::{
    FeatureCache, Fingerprint, Part, Slot,
    key::{Content, Key},
};

/// The frozen parts of a model, by their fingerprints, and the cache of what they say.
#[derive(Debug, Clone)]
pub struct ModelFeatures {
    cache: Arc<FeatureCache>,
    audio: Option<Fingerprint>,
    vision: Option<Fingerprint>,
    text: Option<Fingerprint>,
    sam2: Option<Fingerprint>,
}

impl ModelFeatures {
    /// Reads the weights of all parts that do not learn.
    pub fn new<B: Backend>(
        cache: Arc<FeatureCache>,
        model: &Sam2Love<B>,
        trainable: &Trainable,
        device: &B::Device,
    ) -> Self {
        let (encoders, config) = (&model.encoders, &model.config.encoders);
        let sam2 = &model.sam2.config;
        let image = (sam2.image_size, &sam2.hiera, &sam2.neck);
        let frozen = |learns: bool| (!learns).then_some(());
        Self {
            cache,
            audio: frozen(trainable.audio_encoder)
                .map(|()| Fingerprint::of(&encoders.audio, &config.audio, device)),
            vision: frozen(trainable.vision_encoder)
                .map(|()| Fingerprint::of(&encoders.vision, &config.vision, device)),
            text: frozen(trainable.text_encoder)
                .map(|()| Fingerprint::of(&encoders.text, &config.text, device)),
            sam2: frozen(trainable.image_encoder)
                .map(|()| Fingerprint::of(&model.sam2.image_encoder, &image, device)),
        }
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<FeatureCache> {
        &self.cache
    }

    /// Of a WAV file's content, heard as `rows` rows.
    pub(crate) fn sound(&self, wav: &[u8], rows: usize) -> Option<Slot> {
        self.slot(Part::Audio, self.audio.as_ref(), |content| {
            content.number(rows);
            content.bytes(wav);
        })
    }

    /// Of the contents of a clip's frame files, as the vision encoder sees them.
    pub(crate) fn sight<'a>(&self, files: impl Iterator<Item = &'a [u8]>) -> Option<Slot> {
        self.slot(Part::Vision, self.vision.as_ref(), |content| {
            files.for_each(|file| content.bytes(file));
        })
    }

    /// Of a sentence.
    pub(crate) fn sentence(&self, tokens: &Tokens) -> Option<Slot> {
        self.slot(Part::Text, self.text.as_ref(), |content| {
            content.number(tokens.length);
            tokens.ids.iter().for_each(|id| content.number(*id as usize));
        })
    }

    /// Of the content of one frame's file, as SAM 2 sees it.
    pub(crate) fn maps(&self, file: &[u8]) -> Option<Slot> {
        self.slot(Part::Sam2, self.sam2.as_ref(), |content| content.bytes(file))
    }

    fn slot(
        &self,
        part: Part,
        weights: Option<&Fingerprint>,
        input: impl FnOnce(&mut Content),
    ) -> Option<Slot> {
        let weights = weights?.clone();
        let mut content = Content::new();
        input(&mut content);
        let input = content.finish();
        Some(Slot {
            cache: self.cache.clone(),
            key: Key { part, weights, input },
        })
    }
}
