//! A few pictures at every validation: what the model finds in the first frames of validation rows.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{data::dataloader::DataLoader, prelude::*};
use burn_love::ops::resize_bilinear;
use image::{GrayImage, RgbImage};

use super::{Cursor, LoveLearner, LoveLoader, Rows, Shown, SyntheticNulls};
use crate::{
    prediction::{OBJECT_COLOUR, TRUTH_COLOUR, outline, overlay},
    samples::SampleError,
};

/// Rows that are drawn, their frames and labels at hand.
pub struct Gallery<B: Backend> {
    loader: LoveLoader<B>,
    pictures: Vec<Picture>,
    /// The folder of pictures, a folder for each step in it.
    out: PathBuf,
}

struct Picture {
    uid: String,
    frame: RgbImage,
    label: GrayImage,
}

impl<B: Backend> Gallery<B> {
    /// The first `count` of the validation `rows` with different clips, drawn into `run`'s folder `overlays`.
    ///
    /// # Errors
    /// If a frame or mask cannot be read.
    pub fn new(rows: &Rows, count: usize, run: &Path, device: &B::Device) -> Result<Self, SampleError> {
        let mut chosen: Vec<crate::data::Row> = Vec::new();
        for row in &rows.rows {
            if chosen.len() < count && chosen.iter().all(|other| other.vid != row.vid) {
                chosen.push(row.clone());
            }
        }
        let read = |row: &crate::data::Row| {
            let frame = rows.data.frame(row, 0)?;
            Ok::<_, SampleError>(Picture {
                uid: row.uid.clone(),
                label: rows.data.mask(row, 0, frame.dimensions())?,
                frame,
            })
        };
        let pictures = chosen.iter().map(read).collect::<Result<_, _>>()?;
        let rows = Rows {
            data: rows.data.clone(),
            rows: chosen,
            preparer: rows.preparer.clone(),
            batch_size: 1,
            shown: Shown::all(1),
            first: (0, Shown::all(1)),
            nulls: SyntheticNulls::default(),
            shuffle: None,
            features: rows.features.clone(),
        };
        Ok(Self {
            loader: LoveLoader::new(Arc::new(rows), Arc::new(Cursor::default()), device.clone()),
            pictures,
            out: run.join("overlays"),
        })
    }

    /// Draws every row with the model's mask of its first frame, the label outlined.
    ///
    /// # Errors
    /// If a picture cannot be written.
    pub fn draw(&self, learner: &LoveLearner<B>, step: usize) -> io::Result<()> {
        if self.pictures.is_empty() {
            return Ok(());
        }
        let folder = self.out.join(format!("step-{step:08}"));
        fs::create_dir_all(&folder)?;
        for (picture, batch) in self.pictures.iter().zip(self.loader.iter()) {
            let (features, neck) = batch.features(&learner.model, &learner.trainable);
            let logits = learner.model.forward_features(features, neck, 1, false).logits;
            let (width, height) = picture.frame.dimensions();
            let inside = resize_bilinear(logits, [height as usize, width as usize])
                .greater_elem(learner.threshold_logit)
                .into_data()
                .iter::<bool>()
                .map(|inside| u8::from(inside) * 255)
                .collect();
            let mask = GrayImage::from_raw(width, height, inside).expect("a mask of the frame's size");
            let mut drawn = overlay(&picture.frame, &mask, OBJECT_COLOUR);
            outline(&mut drawn, &picture.label, TRUTH_COLOUR);
            drawn
                .save(folder.join(format!("{}.png", picture.uid)))
                .map_err(io::Error::other)?;
        }
        Ok(())
    }
}
