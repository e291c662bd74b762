//! SAM 2's weights, whatever file they come from.

use std::{collections::BTreeMap, fmt, path::Path};

use burn::prelude::*;

use super::{
    Allow, LoadReport, Shapes, TensorInfo, TensorSource, WeightsError, WeightsFile, compare,
    hugging_face::{self, Origin},
    load_state, shapes_of,
};
use crate::sam2::{Sam2, Sam2Config, to_checkpoint};

/// Whose names a file's tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// SAM 2, by Meta.
    Sam2,
    /// SAM 2, by Hugging Face: `Sam2Model` or `Sam2VideoModel`.
    Sam2HuggingFace,
    /// A whole SAM2-LOVE, by burn-love.
    Love,
    /// VGGish, by torchvggish.
    Vggish,
    /// ViT, by Hugging Face.
    Vit,
    /// RoBERTa, by Hugging Face.
    Roberta,
}

/// A tensor that only one family calls so. What holds others comes first.
const MARKS: [(&str, Family); 6] = [
    ("sam2.image_encoder.trunk.patch_embed.proj.weight", Family::Love),
    ("image_encoder.trunk.patch_embed.proj.weight", Family::Sam2),
    (
        "vision_encoder.backbone.patch_embed.projection.weight",
        Family::Sam2HuggingFace,
    ),
    ("embeddings.patch_embeddings.projection.weight", Family::Vit),
    ("embeddings.word_embeddings.weight", Family::Roberta),
    ("embeddings.4.weight", Family::Vggish),
];

impl Family {
    /// The family of a file's tensors, if it is known.
    pub fn of(source: &dyn TensorSource) -> Option<Self> {
        let (_, family) = MARKS.iter().find(|(key, _)| source.info(key).is_some())?;
        Some(*family)
    }

    /// A short name for programs.
    pub fn id(self) -> &'static str {
        match self {
            Self::Sam2 => "sam2",
            Self::Sam2HuggingFace => "sam2-hugging-face",
            Self::Love => "sam2-love",
            Self::Vggish => "vggish",
            Self::Vit => "vit",
            Self::Roberta => "roberta",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sam2 => "SAM 2 (Meta)",
            Self::Sam2HuggingFace => "SAM 2 (Hugging Face)",
            Self::Love => "SAM2-LOVE (burn-love)",
            Self::Vggish => "VGGish (torchvggish)",
            Self::Vit => "ViT (Hugging Face)",
            Self::Roberta => "RoBERTa (Hugging Face)",
        })
    }
}

/// SAM 2's weights under Meta's names: of Meta's `.pt`, of Hugging Face's safetensors, or converted.
pub struct Sam2File {
    file: WeightsFile,
    family: Family,
    names: BTreeMap<String, Origin>,
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
                let own = |key: &str| Origin {
                    keys: vec![key.to_owned()],
                    row: None,
                };
                let names = file.keys().into_iter().map(|key| (key.to_owned(), own(key)));
                (family, names.collect())
            }
            other => {
                let found = match (other, file.keys().first()) {
                    (Some(family), _) => format!("weights of {family}"),
                    (None, Some(key)) => format!("others, such as `{key}`"),
                    (None, None) => "no tensor".into(),
                };
                return Err(WeightsError::Format {
                    path: file.path().into(),
                    expected: "weights of SAM 2, under Meta's or Hugging Face's names",
                    found,
                });
            }
        };
        Ok(Self { file, family, names })
    }

    /// The file.
    pub fn file(&self) -> &WeightsFile {
        &self.file
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
        let path = self.file.path();
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
        load_state(model, self, to_checkpoint, self.file.path())
    }
}

impl TensorSource for Sam2File {
    fn keys(&self) -> Vec<&str> {
        self.names.keys().map(String::as_str).collect()
    }

    fn info(&self, key: &str) -> Option<TensorInfo> {
        let origin = self.names.get(key)?;
        let mut info = self.file.info(origin.keys.first()?)?;
        if let (Some(_), Some(rows)) = (origin.row, info.shape.first_mut()) {
            *rows = 1;
        }
        Some(info)
    }

    fn read(&self, key: &str) -> Result<TensorData, WeightsError> {
        let origin = &self.names[key];
        let (first, others) = origin.keys.split_first().expect("a tensor has a name");
        let data = self.file.read(first)?;
        for other in others {
            if self.file.read(other)? != data {
                return Err(WeightsError::Format {
                    path: self.file.path().into(),
                    expected: "the same values under both names of a tensor",
                    found: format!("others in `{first}` than in `{other}`"),
                });
            }
        }
        let Some(row) = origin.row else { return Ok(data) };
        let mut shape = data.shape.to_vec();
        shape[0] = 1;
        let size = shape.iter().product::<usize>();
        let values = data.as_slice::<f32>().expect("sources give f32");
        Ok(TensorData::new(
            values[row * size..(row + 1) * size].to_vec(),
            shape,
        ))
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
