//! A cache as one model uses it: a slot for each input of each part that does not learn.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use burn::prelude::*;
use burn_love::{
    love::{Sam2Love, Trainable},
    preprocess::Tokens,
};

use super::{
    FeatureCache, Fingerprint, Part, Slot,
    key::{Content, Key},
};
use crate::data::{DataError, FrameFiles};

/// An input's file, or the first of its files, and how many of frames or rows it is.
type Source = (Part, PathBuf, usize);

/// The frozen parts of a model, by their fingerprints, and the cache of what they say.
#[derive(Debug, Clone)]
pub struct ModelFeatures {
    cache: Arc<FeatureCache>,
    audio: Option<Fingerprint>,
    vision: Option<Fingerprint>,
    text: Option<Fingerprint>,
    sam2: Option<Fingerprint>,
    /// Names of inputs from files, which need not be read again for them.
    names: Arc<Mutex<HashMap<Source, String>>>,
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
            names: Arc::default(),
        }
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<FeatureCache> {
        &self.cache
    }

    /// Of a WAV file, heard as `rows` rows; `read` gives its content.
    pub(crate) fn sound(
        &self,
        path: &Path,
        rows: usize,
        read: impl FnOnce() -> Result<Vec<u8>, DataError>,
    ) -> Result<Option<Slot>, DataError> {
        self.slot_of_files((Part::Audio, path.into(), rows), self.audio.as_ref(), |content| {
            content.number(rows);
            content.bytes(&read()?);
            Ok(())
        })
    }

    /// Of no sound, heard as `rows` rows. No file is empty, so that the name is nobody else's.
    pub(crate) fn silence(&self, rows: usize) -> Option<Slot> {
        let mut content = Content::new();
        content.number(rows);
        content.bytes(&[]);
        Some(self.slot(Part::Audio, self.audio.as_ref()?, content.finish()))
    }

    /// Of a clip's frames, as the vision encoder sees them.
    pub(crate) fn sight(&self, files: &FrameFiles) -> Result<Option<Slot>, DataError> {
        let source = (Part::Vision, files.path(0).into(), files.count());
        self.slot_of_files(source, self.vision.as_ref(), |content| {
            for t in 0..files.count() {
                content.bytes(files.content(t)?);
            }
            Ok(())
        })
    }

    /// Of a sentence.
    pub(crate) fn sentence(&self, tokens: &Tokens) -> Option<Slot> {
        let mut content = Content::new();
        content.number(tokens.length);
        tokens.ids.iter().for_each(|id| content.number(*id as usize));
        Some(self.slot(Part::Text, self.text.as_ref()?, content.finish()))
    }

    /// Of frame `t`, as SAM 2 sees it.
    pub(crate) fn maps(&self, files: &FrameFiles, t: usize) -> Result<Option<Slot>, DataError> {
        let source = (Part::Sam2, files.path(t).into(), 1);
        self.slot_of_files(source, self.sam2.as_ref(), |content| {
            content.bytes(files.content(t)?);
            Ok(())
        })
    }

    /// A slot that is named by the content of files. While it holds an entry, they are not read for its name again.
    fn slot_of_files(
        &self,
        source: Source,
        weights: Option<&Fingerprint>,
        read: impl FnOnce(&mut Content) -> Result<(), DataError>,
    ) -> Result<Option<Slot>, DataError> {
        let Some(weights) = weights else { return Ok(None) };
        let slot = |name| self.slot(source.0, weights, name);
        let names = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names().get(&source).cloned().map(slot);
        if let Some(known) = known.filter(Slot::is_kept) {
            return Ok(Some(known));
        }
        let mut content = Content::new();
        read(&mut content)?;
        let name = content.finish();
        names().insert(source.clone(), name.clone());
        Ok(Some(slot(name)))
    }

    fn slot(&self, part: Part, weights: &Fingerprint, input: String) -> Slot {
        Slot {
            cache: self.cache.clone(),
            key: Key {
                part,
                weights: weights.clone(),
                input,
            },
        }
    }
}
