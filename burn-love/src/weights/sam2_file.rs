//! SAM 2's weights, whatever file they come from.

use std::path::Path;

use burn::prelude::*;

use super::{
    Allow, Family, LoadReport, Shapes, TensorInfo, TensorSource, WeightsError, WeightsFile, compare,
    hugging_face, load_state, shapes_of,
    view::{Origin, View},
};
use crate::sam2::{Sam2, Sam2Config, to_checkpoint};

/// SAM 2's weights under Meta's names: of Meta's `.pt`, of Hugging Face's safetensors, or converted.
pub struct Sam2File {
    view: View,
    family: Family,
}

impl Sam2File {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or holds weights of another model.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::new(WeightsFile::open(path)?)
    }

    /// SAM 2's weights in a file that was opened.
    ///
    /// # Errors
    /// If it holds weights of another model.
    pub fn new(file: WeightsFile) -> Result<Self, WeightsError> {
        let (family, names) = match Family::of(&file) {
            Some(family @ Family::Sam2HuggingFace) => (family, hugging_face::to_meta(&file)),
            Some(family @ Family::Sam2) => {
                let keys = file.keys().into_iter();
                (
                    family,
                    keys.map(|key| (key.to_owned(), Origin::whole(key))).collect(),
                )
            }
            _ => {
                return Err(WeightsError::Format {
                    path: file.path().into(),
                    expected: "weights of SAM 2, under Meta's or Hugging Face's names",
                    found: Family::describe(&file),
                });
            }
        };
        Ok(Self {
            view: View { file, names },
            family,
        })
    }

    /// The file.
    pub fn file(&self) -> &WeightsFile {
        &self.view.file
    }

    /// Whose names the tensors have in the file.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Compares names and shapes with those of a model.
    ///
    /// # Errors
    /// If a shape differs, or something is missing or unused that is not allowed; the error names the presets that fit.
    pub fn compare<B: Backend>(&self, expected: &Shapes, allow: Allow) -> Result<LoadReport, WeightsError> {
        let path = self.view.file.path();
        compare(expected, self, path)
            .and_then(|report| report.accept(path, allow))
            .map_err(|error| error.with_fits(|| self.better::<B>(expected)))
    }

    /// Presets that the file fits better than a model of the shapes `expected`. A file that is a part of that model
    /// fits no other better.
    fn better<B: Backend>(&self, expected: &Shapes) -> Vec<&'static str> {
        let fits = Fit::of::<B>(&self.shapes()).presets();
        let asked = |name: &&str| preset_shapes::<B>(name).as_ref() == Some(expected);
        if fits.iter().any(asked) { Vec::new() } else { fits }
    }

    /// Puts the weights into a model.
    ///
    /// # Errors
    /// As [`compare`](Self::compare), and if a tensor cannot be read, is damaged or not finite.
    pub fn load_into<B: Backend>(
        &self,
        model: Sam2<B>,
        allow: Allow,
    ) -> Result<(Sam2<B>, LoadReport), WeightsError> {
        self.compare::<B>(&shapes_of(&model, to_checkpoint), allow)?;
        load_state(model, self, to_checkpoint, self.view.file.path())
    }
}

impl TensorSource for Sam2File {
    fn keys(&self) -> Vec<&str> {
        self.view.keys()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        self.view.info(key)
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        self.view.read(key)
    }
}

/// How tensors fit the presets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// They are the weights of this one.
    Whole(&'static str),
    /// They are among the weights of these; none is without others.
    Part(Vec<&'static str>),
}

impl Fit {
    /// The fit of tensors of these shapes, under Meta's names.
    pub fn of<B: Backend>(shapes: &Shapes) -> Self {
        let mut part = Vec::new();
        for name in Sam2Config::preset_names() {
            let expected = preset_shapes::<B>(name).expect("a name of a preset");
            if expected == *shapes {
                return Self::Whole(name);
            }
            let known = |(key, shape): (&String, &Vec<usize>)| expected.get(key) == Some(shape);
            if !shapes.is_empty() && shapes.iter().all(known) {
                part.push(name);
            }
        }
        Self::Part(part)
    }

    /// Names of the presets.
    pub fn presets(self) -> Vec<&'static str> {
        match self {
            Self::Whole(name) => vec![name],
            Self::Part(names) => names,
        }
    }
}

/// Names and shapes of a preset's weights, if there is such a preset.
pub fn preset_shapes<B: Backend>(name: &str) -> Option<Shapes> {
    let config = Sam2Config::preset(name)?;
    Some(shapes_of(&config.init::<B>(&B::Device::default()), to_checkpoint))
}
