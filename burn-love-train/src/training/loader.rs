//! Micro-batches in an order that the seed decides, read and prepared ahead on a second thread.

use std::{
    cell::OnceCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, sync_channel},
    },
};

use burn::{
    data::dataloader::{DataLoader, DataLoaderIterator, Progress},
    prelude::*,
};
use burn_love::preprocess::LogMel;
use rand::{
    SeedableRng,
    seq::{SliceRandom, index::sample},
};
use rand_chacha::ChaCha8Rng;

use super::{
    GOLDEN, VisiblePatches,
    batch::{BatchRows, LoveBatch, Sight},
    nulls::{Deprived, SyntheticNulls},
};
use crate::{
    data::{RefAvs, Row},
    features::{Asked, ModelFeatures},
    inference::background,
    metrics::label_nearest,
    samples::{Preparer, SampleError},
    threads::receive,
};

/// Micro-batches prepared ahead.
const AHEAD: usize = 2;

/// Where the next epoch starts, and what went wrong on the way: shared by loader and strategy.
#[derive(Debug, Default)]
pub struct Cursor {
    epoch: AtomicUsize,
    skip: AtomicUsize,
    error: Mutex<Option<SampleError>>,
}

impl Cursor {
    /// The next iteration runs epoch `epoch` (from 0) from micro-batch `skip`.
    pub fn seek(&self, epoch: usize, skip: usize) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.skip.store(skip, Ordering::SeqCst);
    }

    /// The error that ended an iteration early.
    pub fn take_error(&self) -> Option<SampleError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: SampleError) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// What a micro-batch is shown of its clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Frames whose masks are asked for.
    pub masks: usize,
    /// Frames that the fusion is shown, drawn anew in every epoch; 0 for all.
    pub frames: usize,
    /// Patches per frame that the fusion is shown, drawn anew for every micro-batch; 0 for all.
    pub patches: usize,
}

impl Shown {
    /// Everything that the fusion can see, and so many masks.
    pub fn all(masks: usize) -> Self {
        Self {
            masks,
            frames: 0,
            patches: 0,
        }
    }
}

/// What a loader reads.
#[derive(Debug)]
pub struct Rows {
    /// The data set.
    pub data: RefAvs,
    /// Its rows that are used.
    pub rows: Vec<Row>,
    /// Makes the model's inputs of them.
    pub preparer: Preparer,
    /// Rows in a micro-batch.
    pub batch_size: usize,
    /// What is shown of a clip.
    pub shown: Shown,
    /// Micro-batches at the start of the training that are shown something else, and what.
    pub first: (usize, Shown),
    /// Rows that become nulls, drawn anew in every epoch.
    pub nulls: SyntheticNulls,
    /// Seed of the order; `None` keeps metadata order.
    pub shuffle: Option<u64>,
    /// Features of frozen parts that are kept.
    pub features: Option<ModelFeatures>,
}

/// Loads micro-batches of [`Rows`] onto a device.
#[derive(Debug, Clone)]
pub struct LoveLoader<B: Backend> {
    rows: Arc<Rows>,
    cursor: Arc<Cursor>,
    device: B::Device,
}

impl Rows {
    /// Micro-batches of an epoch; the last may be smaller.
    pub fn micro_batches(&self) -> usize {
        self.rows.len().div_ceil(self.batch_size)
    }

    /// The order of rows in an epoch: a function of seed and epoch alone.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        if let Some(seed) = self.shuffle {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(epoch as u64 + 1);
            order.shuffle(&mut rng);
        }
        order
    }

    /// Micro-batch `number` of an epoch, of `rows`.
    fn batch(&self, epoch: usize, number: usize, rows: &[usize]) -> Result<BatchRows, SampleError> {
        let (glances, glance) = self.first;
        let done = epoch * self.micro_batches() + number;
        let show = if done < glances { glance } else { self.shown };
        let side = self.preparer.sam2_size;
        let seed = self.shuffle.unwrap_or(0) ^ GOLDEN;
        let mut batch = BatchRows {
            patches: self.patches(show.patches, epoch, rows, seed),
            ..BatchRows::default()
        };
        for (index, row) in rows.iter().map(|i| (*i, &self.rows[*i])) {
            let files = self.data.frame_files(row)?;
            let t = files.count();
            if let Some(first) = batch.sights.first()
                && first.frames != t
            {
                return Err(SampleError::Length {
                    path: self.data.frame_folder(row),
                    expected: first.frames,
                    found: t,
                });
            }
            let features = self.features.as_ref();

            let tokens = self.preparer.tokens(&row.expression)?;
            let slot = features.and_then(|features| features.sentence(&tokens));
            batch
                .sentences
                .push(Asked::new(slot, || Ok::<_, SampleError>(tokens.clone()))?);
            batch.tokens.push(tokens);

            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(((epoch as u64) << 32) + index as u64);
            let some = show.frames > 0 && show.frames < t;
            let shown = some.then(|| shown(t, show.frames, &mut rng));

            let (sound, null) = self.sound(row, t, &mut rng)?;
            batch.sounds.push(sound);

            // Decoded at most once, and only where something has to be computed.
            let decoded = OnceCell::new();
            let frames = || match decoded.get() {
                Some(frames) => Ok(frames),
                None => files.frames().map(|frames| decoded.get_or_init(|| frames)),
            };
            let slot = match features {
                Some(features) => features.sight(&files)?,
                None => None,
            };
            let cached = slot.is_some();
            let pixels = || {
                let frames = frames()?;
                Ok::<_, SampleError>(match &shown {
                    // What is kept is kept of the whole clip.
                    Some(shown) if !cached => {
                        let shown: Vec<_> = shown.iter().map(|frame| frames[*frame].clone()).collect();
                        self.preparer.vit_pixels(&shown)
                    }
                    _ => self.preparer.vit_pixels(frames),
                })
            };
            batch.sights.push(Sight {
                frames: t,
                pixels: Asked::of_frames(slot, shown.as_deref(), pixels)?,
                shown,
            });

            let size = files.size()?;
            batch.mask_frames = show.masks.min(t);
            for i in 0..batch.mask_frames {
                let slot = match features {
                    Some(features) => features.maps(&files, i)?,
                    None => None,
                };
                let pixels = || Ok::<_, SampleError>(self.preparer.sam2_pixels(&frames()?[i]));
                batch.frames.push(Asked::new(slot, pixels)?);
                let mask = self.data.mask(row, i, size)?;
                let label = label_nearest(&mask, side).map(|shows| f32::from(u8::from(shows && !null)));
                batch.labels.extend(label);
            }
        }
        Ok(batch)
    }

    /// The patches that the fusion is shown of every frame, where it is not shown all.
    fn patches(&self, count: usize, epoch: usize, rows: &[usize], seed: u64) -> Option<VisiblePatches> {
        let all = self.preparer.patches();
        let some = count > 0 && count < all;
        some.then(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(!seed);
            rng.set_stream(((epoch as u64) << 32) + rows.first().copied().unwrap_or(0) as u64);
            let mut indices = sample(&mut rng, all, count).into_vec();
            indices.sort_unstable();
            VisiblePatches { total: all, indices }
        })
    }

    /// What is heard with a row, and whether that makes a null of it.
    fn sound(
        &self,
        row: &Row,
        frames: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Asked<LogMel>, bool), SampleError> {
        let features = self.features.as_ref();
        let of = |row: &Row| {
            let path = self.data.audio_path(row);
            // The cache names an entry by the whole file; without one, only the clip's seconds are read.
            let slot = match features {
                Some(features) => features.sound(&path, frames, || self.data.audio(row))?,
                None => None,
            };
            Asked::new(slot, || self.preparer.sound_file(&path, frames))
        };
        match self.nulls.draw(row, &self.rows, rng) {
            Some(Deprived::Muted) => {
                let slot = features.and_then(|features| features.silence(frames));
                let sound = Asked::new(slot, || Ok::<_, SampleError>(background(frames)))?;
                Ok((sound, true))
            }
            // One that cannot be used, as it is too short for this clip, is left alone.
            Some(Deprived::Swapped(other)) => match of(other) {
                Ok(sound) => Ok((sound, true)),
                Err(_) => Ok((of(row)?, false)),
            },
            None => Ok((of(row)?, false)),
        }
    }
}

/// `count` frames of a clip of `frames`, in order: the first one, which is the one to be masked, and others.
fn shown(frames: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let others = sample(rng, frames - 1, count - 1).into_iter();
    let mut shown: Vec<usize> = others.map(|frame| frame + 1).chain([0]).collect();
    shown.sort_unstable();
    shown
}

impl<B: Backend> LoveLoader<B> {
    /// A loader of `rows` whose epoch and position `cursor` decides.
    pub fn new(rows: Arc<Rows>, cursor: Arc<Cursor>, device: B::Device) -> Self {
        Self { rows, cursor, device }
    }
}

impl<B: Backend> DataLoader<B, LoveBatch<B>> for LoveLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LoveBatch<B>> + 'a> {
        let rows = self.rows.clone();
        let skip = self.cursor.skip.load(Ordering::SeqCst);
        let epoch = self.cursor.epoch.load(Ordering::SeqCst);
        let order = rows.order(epoch);
        let (sender, receiver) = sync_channel(AHEAD);
        // Files are read and decoded on a thread of its own; tensors are made where they are used.
        std::thread::spawn(move || {
            for (number, batch) in order.chunks(rows.batch_size).enumerate().skip(skip) {
                let batch = rows.batch(epoch, number, batch);
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        });
        Box::new(LoveIterator {
            loader: self,
            receiver,
            done: skip * self.rows.batch_size,
        })
    }

    fn num_items(&self) -> usize {
        self.rows.rows.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, LoveBatch<B>>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, LoveBatch<B>>> {
        let Rows {
            data,
            rows,
            preparer,
            batch_size,
            shown,
            first,
            nulls,
            shuffle,
            features,
        } = &*self.rows;
        let rows = Rows {
            data: data.clone(),
            rows: rows[start.min(rows.len())..end.min(rows.len())].to_vec(),
            preparer: preparer.clone(),
            batch_size: *batch_size,
            shown: *shown,
            first: *first,
            nulls: *nulls,
            shuffle: *shuffle,
            features: features.clone(),
        };
        Arc::new(Self {
            rows: Arc::new(rows),
            ..self.clone()
        })
    }
}

struct LoveIterator<'a, B: Backend> {
    loader: &'a LoveLoader<B>,
    receiver: Receiver<Result<BatchRows, SampleError>>,
    done: usize,
}

impl<B: Backend> Iterator for LoveIterator<'_, B> {
    type Item = LoveBatch<B>;

    fn next(&mut self) -> Option<LoveBatch<B>> {
        match receive(&self.receiver)? {
            Ok(rows) => {
                self.done += rows.tokens.len();
                Some(LoveBatch {
                    rows,
                    vit_size: self.loader.rows.preparer.vit_size(),
                    sam2_size: self.loader.rows.preparer.sam2_size,
                    device: self.loader.device.clone(),
                })
            }
            Err(error) => {
                self.loader.cursor.fail(error);
                None
            }
        }
    }
}

impl<B: Backend> DataLoaderIterator<LoveBatch<B>> for LoveIterator<'_, B> {
    fn progress(&self) -> Progress {
        Progress {
            items_processed: self.done,
            items_total: self.loader.rows.rows.len(),
        }
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
