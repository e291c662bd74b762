//! An encoder's weights, whatever file they come from.
//!
//! Published files hold the encoder inside a model for another task: names have a prefix, and there are heads, which are
//! left out. Only tensors that a table here names are; any other that the encoder lacks is an error.

use std::path::Path;

use burn::prelude::*;

use super::{
    Allow, Family, LoadReport, Shapes, TensorInfo, TensorSource, WeightsError, WeightsFile, compare,
    hugging_face::rename_by,
    keys, load_state, shapes_of,
    view::{Names, Origin, View},
};
use crate::encoders::{TextConfig, TextKind, VggishConfig, VisionConfig, VisionKind};

/// The encoder that is wanted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderPart {
    /// [`Vggish`](crate::encoders::Vggish)
    Vggish,
    /// [`Vit`](crate::encoders::Vit)
    Vit,
    /// [`Roberta`](crate::encoders::Roberta)
    Roberta,
    /// [`ClipText`](crate::encoders::ClipText)
    ClipText,
    /// [`ClipVision`](crate::encoders::ClipVision)
    ClipVision,
}

impl From<VisionKind> for EncoderPart {
    fn from(kind: VisionKind) -> Self {
        match kind {
            VisionKind::Vit => Self::Vit,
            VisionKind::Clip => Self::ClipVision,
        }
    }
}

impl From<TextKind> for EncoderPart {
    fn from(kind: TextKind) -> Self {
        match kind {
            TextKind::Roberta => Self::Roberta,
            TextKind::Clip => Self::ClipText,
        }
    }
}

/// How a file names an encoder's tensors.
struct Naming {
    /// What stands before all names of the encoder if it is inside another model.
    prefix: &'static str,
    /// Whether our own names have the prefix, too.
    prefixed: bool,
    /// Beginnings of names of tensors that are no part of the encoder, behind the prefix or without it.
    ignored: &'static [&'static str],
    /// Beginnings of our names of tensors that not every model of the encoder has.
    optional: &'static [&'static str],
    /// From other names to our own.
    tables: &'static [&'static [(&'static str, &'static str)]],
}

const VGGISH: Naming = Naming {
    prefix: "",
    prefixed: false,
    ignored: &[],
    // PCA and quantisation behind the embedding.
    optional: &["pproc."],
    tables: &[],
};

const VIT: Naming = Naming {
    prefix: "vit.",
    prefixed: false,
    ignored: &["pooler.", "classifier."],
    optional: &[],
    tables: &[VIT_IN_MEMORY],
};

const ROBERTA: Naming = Naming {
    prefix: "roberta.",
    prefixed: false,
    ignored: &["pooler.", "classifier.", "lm_head.", "embeddings.position_ids"],
    optional: &[],
    tables: &[],
};

const CLIP_TEXT: Naming = Naming {
    prefix: "text_model.",
    prefixed: true,
    ignored: &[
        "vision_model.",
        "visual_projection.",
        "text_projection.",
        "logit_scale",
        "embeddings.position_ids",
    ],
    optional: &[],
    tables: &[],
};

const CLIP_VISION: Naming = Naming {
    prefix: "vision_model.",
    prefixed: true,
    ignored: &[
        "text_model.",
        "visual_projection.",
        "text_projection.",
        "logit_scale",
        "embeddings.position_ids",
        // Of the pooled output only, see `encoders/clip_vision.rs`.
        "post_layernorm.",
    ],
    optional: &[],
    tables: &[],
};

const VIT_TIMM: Naming = Naming {
    prefix: "",
    prefixed: false,
    ignored: &["head."],
    optional: &[],
    tables: &[TIMM],
};

/// `ViTModel.state_dict()` of transformers 5; its `save_pretrained` writes the older names.
const VIT_IN_MEMORY: &[(&str, &str)] = &[
    (
        "layers.*.attention.q_proj",
        "encoder.layer.*.attention.attention.query",
    ),
    (
        "layers.*.attention.k_proj",
        "encoder.layer.*.attention.attention.key",
    ),
    (
        "layers.*.attention.v_proj",
        "encoder.layer.*.attention.attention.value",
    ),
    (
        "layers.*.attention.o_proj",
        "encoder.layer.*.attention.output.dense",
    ),
    ("layers.*.mlp.fc1", "encoder.layer.*.intermediate.dense"),
    ("layers.*.mlp.fc2", "encoder.layer.*.output.dense"),
    ("layers", "encoder.layer"),
];

const TIMM: &[(&str, &str)] = &[
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("blocks.*.norm1", "encoder.layer.*.layernorm_before"),
    ("blocks.*.norm2", "encoder.layer.*.layernorm_after"),
    ("blocks.*.attn.qkv", "encoder.layer.*.attention.attention.qkv"),
    ("blocks.*.attn.proj", "encoder.layer.*.attention.output.dense"),
    ("blocks.*.mlp.fc1", "encoder.layer.*.intermediate.dense"),
    ("blocks.*.mlp.fc2", "encoder.layer.*.output.dense"),
    ("norm", "layernorm"),
];

/// timm's one matrix of queries, keys and values, and the three that it is made of, in order.
const FUSED: (&str, [&str; 3]) = (".qkv.", [".query.", ".key.", ".value."]);

impl EncoderPart {
    /// The encoders in a file: none, one, or both towers of CLIP.
    pub fn within(file: &WeightsFile) -> Vec<Self> {
        let has = |piece: &str| file.keys().iter().any(|key| key.contains(piece));
        match Family::of(file) {
            Some(Family::Vggish) => vec![Self::Vggish],
            Some(Family::Vit | Family::VitTimm) => vec![Self::Vit],
            Some(Family::Roberta) => vec![Self::Roberta],
            Some(Family::Clip) => [
                (Self::ClipVision, "patch_embedding"),
                (Self::ClipText, "token_embedding"),
            ]
            .into_iter()
            .filter_map(|(tower, piece)| has(piece).then_some(tower))
            .collect(),
            _ => Vec::new(),
        }
    }

    /// How a file of `family` names this encoder's tensors, if it has them.
    fn naming(self, family: Option<Family>) -> Option<&'static Naming> {
        match (self, family?) {
            (Self::Vggish, Family::Vggish) => Some(&VGGISH),
            (Self::Vit, Family::Vit) => Some(&VIT),
            (Self::Vit, Family::VitTimm) => Some(&VIT_TIMM),
            (Self::Roberta, Family::Roberta) => Some(&ROBERTA),
            (Self::ClipText, Family::Clip) => Some(&CLIP_TEXT),
            (Self::ClipVision, Family::Clip) => Some(&CLIP_VISION),
            _ => None,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Vggish => "weights of VGGish, under torchvggish's names",
            Self::Vit => "weights of ViT, under Hugging Face's or timm's names",
            Self::Roberta => "weights of RoBERTa, under Hugging Face's names",
            Self::ClipText => "weights of CLIP with its text tower, under Hugging Face's names",
            Self::ClipVision => "weights of CLIP with its vision tower, under Hugging Face's names",
        }
    }

    /// Names and shapes of this encoder's weights for each named size.
    fn presets<B: Backend>(self) -> Vec<(&'static str, Shapes)> {
        let device = B::Device::default();
        let vision = |kind| {
            named(VisionConfig::PRESETS, VisionConfig::preset)
                .filter(|(_, config)| config.kind == kind)
                .map(|(name, config)| (name, shapes_of(&config.init::<B>(&device), keys::vision)))
                .collect()
        };
        let text = |kind| {
            named(TextConfig::PRESETS, TextConfig::preset)
                .filter(|(_, config)| config.kind == kind)
                .map(|(name, config)| (name, shapes_of(&config.init::<B>(&device), keys::text)))
                .collect()
        };
        match self {
            Self::Vggish => named(VggishConfig::PRESETS, VggishConfig::preset)
                .map(|(name, config)| (name, shapes_of(&config.init::<B>(&device), keys::vggish)))
                .collect(),
            Self::Vit => vision(VisionKind::Vit),
            Self::ClipVision => vision(VisionKind::Clip),
            Self::Roberta => text(TextKind::Roberta),
            Self::ClipText => text(TextKind::Clip),
        }
    }
}

/// The presets called `names`.
fn named<C, const N: usize>(
    names: [&'static str; N],
    preset: fn(&str) -> Option<C>,
) -> impl Iterator<Item = (&'static str, C)> {
    names
        .into_iter()
        .filter_map(move |name| Some((name, preset(name)?)))
}

/// An encoder's weights under the names of [`keys`]: of a file with Hugging Face's, timm's or torchvggish's names.
pub struct EncoderFile {
    view: View,
    part: EncoderPart,
    family: Family,
    ignored: Vec<String>,
}

impl EncoderFile {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or holds weights of another model.
    pub fn open(path: &Path, part: EncoderPart) -> Result<Self, WeightsError> {
        Self::new(WeightsFile::open(path)?, part)
    }

    /// An encoder's weights in a file that was opened.
    ///
    /// # Errors
    /// If it holds weights of another model.
    pub fn new(file: WeightsFile, part: EncoderPart) -> Result<Self, WeightsError> {
        let family = Family::of(&file);
        let (Some(naming), Some(family)) = (part.naming(family), family) else {
            return Err(WeightsError::Format {
                path: file.path().into(),
                expected: part.expected(),
                found: Family::describe(&file),
            });
        };
        let (names, ignored) = naming.apply(&file);
        Ok(Self {
            view: View { file, names },
            part,
            family,
            ignored,
        })
    }

    /// The encoder.
    pub fn part(&self) -> EncoderPart {
        self.part
    }

    /// The file.
    pub fn file(&self) -> &WeightsFile {
        &self.view.file
    }

    /// Whose names the tensors have in the file.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Tensors of the file that are known to be no part of the encoder, by their names there.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The named sizes that the weights have, if there are such.
    pub fn preset<B: Backend>(&self) -> Option<&'static str> {
        let mut found = self.shapes();
        found.retain(|name, _| !self.is_optional(name));
        let mut presets = self.part.presets::<B>().into_iter();
        presets.find(|(_, shapes)| *shapes == found).map(|(name, _)| name)
    }

    /// Names and shapes of all weights that a file of the size called `preset` should have, if this encoder has such a
    /// size: with those that not every model has, if the file has any of them.
    pub fn expected<B: Backend>(&self, preset: &str) -> Option<Shapes> {
        let names = self.shapes();
        if self.part == EncoderPart::Vggish && names.keys().any(|name| self.is_optional(name)) {
            let mut config = VggishConfig::preset(preset)?;
            config.postprocess = true;
            return Some(shapes_of(&config.init::<B>(&B::Device::default()), keys::vggish));
        }
        let mut presets = self.part.presets::<B>().into_iter();
        presets
            .find(|(name, _)| *name == preset)
            .map(|(_, shapes)| shapes)
    }

    /// Puts the weights into an encoder, whose parameter at a path is named `key(path)`: [`keys::vision`] for a
    /// [`VisionTower`](crate::encoders::VisionTower), [`keys::vit`] for a [`Vit`](crate::encoders::Vit), and so on.
    ///
    /// # Errors
    /// If a shape differs, something is missing or unused, or a tensor cannot be read, is damaged or not finite; an
    /// error about names and shapes names the sizes that fit.
    pub fn load_into<B: Backend, M: Module<B>>(
        &self,
        module: M,
        key: fn(&str) -> String,
    ) -> Result<(M, LoadReport), WeightsError> {
        let path = self.view.file.path();
        let wanted = shapes_of(&module, key);
        self.compare::<B>(&wanted, Allow::default())?;
        let (module, report) = load_state(module, self, key, path)?;
        Ok((module, self.without_spare(report, &wanted)))
    }

    /// Compares names and shapes with those of an encoder.
    ///
    /// # Errors
    /// If a shape differs, or something is missing or unused that is not allowed; the error names the sizes that fit.
    pub fn compare<B: Backend>(&self, expected: &Shapes, allow: Allow) -> Result<LoadReport, WeightsError> {
        let path = self.view.file.path();
        compare(expected, self, path)
            .and_then(|report| self.without_spare(report, expected).accept(path, allow))
            .map_err(|error| error.with_fits(|| self.preset::<B>().into_iter().collect()))
    }

    /// Leaves unused tensors out that not every model of the encoder has.
    fn without_spare(&self, mut report: LoadReport, wanted: &Shapes) -> LoadReport {
        report
            .unused
            .retain(|name| wanted.contains_key(name) || !self.is_optional(name));
        report
    }

    fn is_optional(&self, name: &str) -> bool {
        let naming = self.part.naming(Some(self.family));
        naming.is_some_and(|naming| naming.optional.iter().any(|start| name.starts_with(start)))
    }
}

impl TensorSource for EncoderFile {
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

impl Naming {
    /// Our names of a file's tensors, and the names of those that are left out.
    fn apply(&self, source: &dyn TensorSource) -> (Names, Vec<String>) {
        let (mut names, mut ignored) = (Names::new(), Vec::new());
        for key in source.keys() {
            let rest = key.strip_prefix(self.prefix).unwrap_or(key);
            if self.ignored.iter().any(|start| rest.starts_with(start)) {
                ignored.push(key.to_owned());
                continue;
            }
            let prefix = if self.prefixed { self.prefix } else { "" };
            let name = format!("{prefix}{}", rename_by(self.tables, rest));
            let rows = source
                .info(key)
                .and_then(|info| info.shape.first().copied())
                .unwrap_or_default();
            let (fused, parts) = FUSED;
            if name.contains(fused) && rows > 0 && rows.is_multiple_of(parts.len()) {
                let rows = rows / parts.len();
                for (i, part) in parts.iter().enumerate() {
                    let origin = Origin::rows(key, i * rows..(i + 1) * rows);
                    names.insert(name.replace(fused, part), origin);
                }
            } else {
                // Two names of one tensor, such as with and without the prefix: their values are compared when it is read.
                names.entry(name).or_default().keys.push(key.to_owned());
            }
        }
        (names, ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{State, write_safetensors};
    type B = burn_flex::Flex;

    fn tensor(shape: [usize; 2]) -> TensorData {
        let values = (0..shape[0] * shape[1]).map(|i| i as f32);
        TensorData::new(values.collect::<Vec<_>>(), shape)
    }

    fn file(folder: &tempfile::TempDir, state: &State) -> WeightsFile {
        let path = folder.path().join("weights.safetensors");
        write_safetensors(&path, state, None).unwrap();
        WeightsFile::open(&path).unwrap()
    }

    #[test]
    fn a_fused_matrix_comes_apart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::from([
            ("blocks.0.attn.qkv.weight".into(), tensor([6, 2])),
            ("patch_embed.proj.weight".into(), tensor([2, 2])),
            ("head.weight".into(), tensor([1, 2])),
        ]);
        let file = EncoderFile::new(file(&folder, &state), EncoderPart::Vit).unwrap();
        assert_eq!(file.family(), Family::VitTimm);
        assert_eq!(file.ignored(), ["head.weight"]);
        let key = "encoder.layer.0.attention.attention.key.weight";
        assert_eq!(file.info(key).unwrap().shape, [2, 2]);
        assert_eq!(
            file.read(key).unwrap(),
            TensorData::from([[4f32, 5.0], [6.0, 7.0]])
        );
    }

    #[test]
    fn only_what_is_known_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let config = TextConfig::preset("nano").unwrap();
        let model = config.init::<B>(&Default::default());
        let mut state: State = crate::weights::state_of(&model, keys::text)
            .into_iter()
            .map(|(key, data)| (format!("roberta.{key}"), data))
            .collect();
        state.insert("roberta.pooler.dense.weight".into(), tensor([2, 2]));
        state.insert("lm_head.bias".into(), tensor([1, 2]));
        let load = |state: &State| {
            let model = config.init::<B>(&Default::default());
            EncoderFile::new(file(&folder, state), EncoderPart::Roberta)?.load_into(model, keys::text)
        };
        let (_, report) = load(&state).unwrap();
        assert_eq!(report.applied.len(), state.len() - 2);
        state.insert("adapter.bias".into(), tensor([1, 2]));
        let error = load(&state).unwrap_err().to_string();
        assert!(error.contains("1 unused (`adapter.bias`)"), "{error}");
    }

    #[test]
    fn weights_of_other_models_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::from([("embeddings.class_embedding".into(), tensor([1, 2]))]);
        let error = EncoderFile::new(file(&folder, &state), EncoderPart::Vit)
            .err()
            .unwrap();
        let words = error.to_string();
        assert!(
            words.ends_with(
                "expected weights of ViT, under Hugging Face's or timm's names, found weights of CLIP (Hugging Face)"
            ),
            "{words}"
        );
    }
}
