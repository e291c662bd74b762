//! What a file's weights are of, told by its tensors' names.

use std::fmt;

use super::TensorSource;

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
    /// ViT, by Hugging Face: `ViTModel`, or a model around it.
    Vit,
    /// ViT, by timm.
    VitTimm,
    /// RoBERTa, by Hugging Face: `RobertaModel`, or a model around it.
    Roberta,
    /// CLIP, by Hugging Face: `CLIPModel`, or one of its towers.
    Clip,
}

/// A tensor that only one family calls so. What holds others comes first.
const MARKS: [(&str, Family); 13] = [
    // First, and all that is sure to be in a file of what learned.
    ("fusion.seg", Family::Love),
    ("sam2.image_encoder.trunk.patch_embed.proj.weight", Family::Love),
    ("image_encoder.trunk.patch_embed.proj.weight", Family::Sam2),
    (
        "vision_encoder.backbone.patch_embed.projection.weight",
        Family::Sam2HuggingFace,
    ),
    ("text_model.embeddings.token_embedding.weight", Family::Clip),
    ("vision_model.embeddings.class_embedding", Family::Clip),
    ("embeddings.token_embedding.weight", Family::Clip),
    ("embeddings.class_embedding", Family::Clip),
    ("vit.embeddings.cls_token", Family::Vit),
    ("embeddings.patch_embeddings.projection.weight", Family::Vit),
    ("roberta.embeddings.word_embeddings.weight", Family::Roberta),
    ("embeddings.word_embeddings.weight", Family::Roberta),
    ("embeddings.4.weight", Family::Vggish),
];

/// Two tensors that only timm's ViT has both.
const TIMM: [&str; 2] = ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"];

impl Family {
    /// The family of a file's tensors, if it is known.
    pub fn of(source: &dyn TensorSource) -> Option<Self> {
        let has = |key: &str| source.info(key).is_some();
        if TIMM.into_iter().all(has) {
            return Some(Self::VitTimm);
        }
        let (_, family) = MARKS.iter().find(|(key, _)| has(key))?;
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
            Self::VitTimm => "vit-timm",
            Self::Roberta => "roberta",
            Self::Clip => "clip",
        }
    }

    /// What a file holds, for a message about something else being expected.
    pub(super) fn describe(source: &dyn TensorSource) -> String {
        match (Self::of(source), source.keys().first()) {
            (Some(family), _) => format!("weights of {family}"),
            (None, Some(key)) => format!("others, such as `{key}`"),
            (None, None) => "no tensor".into(),
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
            Self::VitTimm => "ViT (timm)",
            Self::Roberta => "RoBERTa (Hugging Face)",
            Self::Clip => "CLIP (Hugging Face)",
        })
    }
}
