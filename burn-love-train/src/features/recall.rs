//! Asking the cache first, and the part itself where it has no answer.

use std::{sync::Arc, time::Instant};

use burn::prelude::*;
use burn_love::sam2::NeckFeatures;

use super::{FeatureCache, entry::Features, key::Key};
use crate::inference::Seen;

/// The place of one entry in a cache.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(super) cache: Arc<FeatureCache>,
    pub(super) key: Key,
}

impl Slot {
    /// Whether there is an entry, be it damaged or not.
    pub fn is_kept(&self) -> bool {
        self.cache.has(&self.key)
    }

    /// What is kept there, or only what is kept of some frames.
    pub fn get(&self, frames: Option<&[usize]>) -> Option<Features> {
        self.cache.get(&self.key, frames)
    }
}

/// What a frozen part is asked about a row: an input, or what it said of it before.
#[derive(Debug)]
pub(crate) enum Asked<I> {
    /// Said before.
    Known(Features),
    /// To be said, and to be kept where there is a slot.
    Fresh(I, Option<Slot>),
}

impl<I> Asked<I> {
    /// Looks into the cache; only where it has no answer the input is made.
    ///
    /// # Errors
    /// Those of the input.
    pub fn new<E>(slot: Option<Slot>, input: impl FnOnce() -> Result<I, E>) -> Result<Self, E> {
        Self::of_frames(slot, None, input)
    }

    /// As [`new`](Self::new), of a clip; what is known is taken of some frames alone.
    ///
    /// # Errors
    /// Those of the input.
    pub fn of_frames<E>(
        slot: Option<Slot>,
        frames: Option<&[usize]>,
        input: impl FnOnce() -> Result<I, E>,
    ) -> Result<Self, E> {
        match slot.as_ref().and_then(|slot| slot.get(frames)) {
            Some(features) => Ok(Self::Known(features)),
            None => Ok(Self::Fresh(input()?, slot)),
        }
    }

    /// The input.
    ///
    /// # Panics
    /// If the answer is known: parts that learn have no cache.
    pub fn input(&self) -> &I {
        match self {
            Self::Known(_) => panic!("a part that learns has no known features"),
            Self::Fresh(input, _) => input,
        }
    }

    /// The answer on a device.
    pub fn answer<B: Backend, F: Kept<B>>(&self, device: &B::Device, say: impl FnOnce(&I) -> F) -> F {
        match self {
            Self::Known(features) => F::from_features(features.clone(), device),
            Self::Fresh(input, slot) => recall(slot.as_ref(), device, || say(input)),
        }
    }
}

/// What is kept in `slot`, or else what `say` says, which is kept then.
pub(crate) fn recall<B: Backend, F: Kept<B>>(
    slot: Option<&Slot>,
    device: &B::Device,
    say: impl FnOnce() -> F,
) -> F {
    let Some(slot) = slot else { return say() };
    let features = slot.get(None).unwrap_or_else(|| {
        let began = Instant::now();
        // Reading back waits for the device, so the time is the part's own.
        let features = say().into_features();
        slot.cache.put(&slot.key, features, began.elapsed())
    });
    F::from_features(features, device)
}

/// Features that can be kept: tensors on a device, and their values.
pub(crate) trait Kept<B: Backend>: Sized {
    /// The values of its tensors, as f32.
    fn into_features(self) -> Features;

    /// Tensors of such values.
    fn from_features(features: Features, device: &B::Device) -> Self;
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> TensorData {
    tensor.into_data().convert::<f32>()
}

/// `N` tensors' values; entries have as many as their part says.
fn several<const N: usize>(features: Features) -> [TensorData; N] {
    features.try_into().expect("as many tensors as the part has")
}

impl<B: Backend> Kept<B> for Tensor<B, 3> {
    fn into_features(self) -> Features {
        vec![values(self)]
    }

    fn from_features(features: Features, device: &B::Device) -> Self {
        let [data] = several(features);
        Tensor::from_data(data, device)
    }
}

impl<B: Backend> Kept<B> for Seen<B> {
    fn into_features(self) -> Features {
        vec![values(self.patches), values(self.cls)]
    }

    fn from_features(features: Features, device: &B::Device) -> Self {
        let [patches, cls] = several(features);
        Self {
            patches: Tensor::from_data(patches, device),
            cls: Tensor::from_data(cls, device),
        }
    }
}

impl<B: Backend> Kept<B> for NeckFeatures<B> {
    fn into_features(self) -> Features {
        vec![values(self.stride4), values(self.stride8), values(self.stride16)]
    }

    fn from_features(features: Features, device: &B::Device) -> Self {
        let [stride4, stride8, stride16] = several(features);
        Self {
            stride4: Tensor::from_data(stride4, device),
            stride8: Tensor::from_data(stride8, device),
            stride16: Tensor::from_data(stride16, device),
        }
    }
}
