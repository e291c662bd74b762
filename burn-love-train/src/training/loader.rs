//! Micro-batches in an order that the seed decides, prepared ahead on a second thread.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, sync_channel},
};

use burn::{
    data::dataloader::{DataLoader, DataLoaderIterator, Progress},
    prelude::*,
};
use burn_love::love::ClipInput;
use image::imageops::FilterType;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    data::{RefAvs, Row},
    samples::{Clip, Preparer, SampleError},
};

/// Micro-batches prepared ahead.
const AHEAD: usize = 2;

/// A batch of rows on a device.
#[derive(Debug, Clone)]
pub struct LoveBatch<B: Backend> {
    /// What the encoders take.
    pub clip: ClipInput<B>,
    /// The prompted frame and those tracked from it, `[B, K, 3, S, S]`.
    pub frames: Tensor<B, 5>,
    /// Their masks, 0 or 1, `[B, K, S, S]`.
    pub labels: Tensor<B, 4>,
}

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
    /// Frames per clip whose masks are asked for.
    pub mask_frames: usize,
    /// Seed of the order; `None` keeps metadata order.
    pub shuffle: Option<u64>,
}

/// Loads micro-batches of [`Rows`] onto a device.
#[derive(Debug, Clone)]
pub struct LoveLoader<B: Backend> {
    rows: Arc<Rows>,
    cursor: Arc<Cursor>,
    device: B::Device,
}

/// A batch before it is moved to a device.
struct HostBatch {
    clips: Vec<Clip>,
    frames: Vec<f32>,
    labels: Vec<f32>,
    mask_frames: usize,
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

    fn batch(&self, rows: &[usize]) -> Result<HostBatch, SampleError> {
        let side = self.preparer.sam2_size as u32;
        let mut batch = HostBatch {
            clips: Vec::new(),
            frames: Vec::new(),
            labels: Vec::new(),
            mask_frames: 0,
        };
        for row in rows.iter().map(|i| &self.rows[*i]) {
            let frames = self.data.frames(row)?;
            let clip = self.preparer.clip(&self.data, row, &frames)?;
            if let Some(first) = batch.clips.first()
                && (first.frames, first.log_mel.examples) != (clip.frames, clip.log_mel.examples)
            {
                return Err(SampleError::Length {
                    path: self.data.audio_path(row),
                    expected: first.frames,
                    expected_audio: first.log_mel.examples,
                    found: clip.frames,
                    found_audio: clip.log_mel.examples,
                });
            }
            batch.mask_frames = self.mask_frames.min(frames.len());
            for (t, frame) in frames.iter().enumerate().take(batch.mask_frames) {
                batch.frames.extend(self.preparer.sam2_pixels(frame));
                let mask = self.data.mask(row, t, frame.dimensions())?;
                let mask = image::imageops::resize(&mask, side, side, FilterType::Nearest);
                batch
                    .labels
                    .extend(mask.pixels().map(|pixel| f32::from(u8::from(pixel.0[0] > 0))));
            }
            batch.clips.push(clip);
        }
        Ok(batch)
    }

    fn to_device<B: Backend>(&self, batch: HostBatch, device: &B::Device) -> LoveBatch<B> {
        let (b, k, s) = (batch.clips.len(), batch.mask_frames, self.preparer.sam2_size);
        let clips: Vec<&Clip> = batch.clips.iter().collect();
        LoveBatch {
            clip: self.preparer.clip_input(&clips, device),
            frames: Tensor::from_data(TensorData::new(batch.frames, [b, k, 3, s, s]), device),
            labels: Tensor::from_data(TensorData::new(batch.labels, [b, k, s, s]), device),
        }
    }
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
        let order = rows.order(self.cursor.epoch.load(Ordering::SeqCst));
        let (sender, receiver) = sync_channel(AHEAD);
        // Files are read and decoded on a thread of its own; tensors are made where they are used.
        std::thread::spawn(move || {
            for batch in order.chunks(rows.batch_size).skip(skip) {
                let batch = rows.batch(batch);
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
            mask_frames,
            shuffle,
        } = &*self.rows;
        let rows = Rows {
            data: data.clone(),
            rows: rows[start.min(rows.len())..end.min(rows.len())].to_vec(),
            preparer: preparer.clone(),
            batch_size: *batch_size,
            mask_frames: *mask_frames,
            shuffle: *shuffle,
        };
        Arc::new(Self {
            rows: Arc::new(rows),
            ..self.clone()
        })
    }
}

struct LoveIterator<'a, B: Backend> {
    loader: &'a LoveLoader<B>,
    receiver: Receiver<Result<HostBatch, SampleError>>,
    done: usize,
}

impl<B: Backend> Iterator for LoveIterator<'_, B> {
    type Item = LoveBatch<B>;

    fn next(&mut self) -> Option<LoveBatch<B>> {
        match self.receiver.recv().ok()? {
            Ok(batch) => {
                self.done += batch.clips.len();
                Some(self.loader.rows.to_device(batch, &self.loader.device))
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
