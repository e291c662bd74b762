//! Names: from module paths to the keys of each checkpoint family.
//!
//! Fields are named after the upstream keys where Rust allows it. A table lists the exceptions as pairs of fragments
//! of whole names; the first that occurs in a path is replaced.

use crate::sam2;

/// torchvggish: `nn.Sequential` counts activations and pooling too. The post-processor's `pproc.*` are called alike.
const VGGISH: &[(&str, &str)] = &[
    ("conv1", "features.0"),
    ("conv2", "features.3"),
    ("conv3_1", "features.6"),
    ("conv3_2", "features.8"),
    ("conv4_1", "features.11"),
    ("conv4_2", "features.13"),
    ("fc1_1", "embeddings.0"),
    ("fc1_2", "embeddings.2"),
    ("fc2", "embeddings.4"),
];

/// Hugging Face's ViT: deeper nesting of the block that it shares with RoBERTa.
const VIT: &[(&str, &str)] = &[
    ("embeddings.projection", "embeddings.patch_embeddings.projection"),
    ("query", "attention.attention.query"),
    ("key", "attention.attention.key"),
    ("value", "attention.attention.value"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "layernorm_before"),
    ("intermediate", "intermediate.dense"),
    ("output", "output.dense"),
    ("output_norm", "layernorm_after"),
];

/// Hugging Face's RoBERTa.
const ROBERTA: &[(&str, &str)] = &[
    ("embeddings.layer_norm", "embeddings.LayerNorm"),
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("intermediate", "intermediate.dense"),
    ("output", "output.dense"),
    ("output_norm", "output.LayerNorm"),
];

/// Hugging Face's CLIP, both towers.
const CLIP: &[(&str, &str)] = &[
    ("query", "self_attn.q_proj"),
    ("key", "self_attn.k_proj"),
    ("value", "self_attn.v_proj"),
    ("attention_output", "self_attn.out_proj"),
    ("attention_norm", "layer_norm1"),
    ("intermediate", "mlp.fc1"),
    ("output", "mlp.fc2"),
    ("output_norm", "layer_norm2"),
];

/// torchvggish's key of the [`Vggish`](crate::encoders::Vggish) parameter at `path`.
pub fn vggish(path: &str) -> String {
    replace(path, VGGISH)
}

/// Hugging Face's key of the [`Vit`](crate::encoders::Vit) parameter at `path`.
pub fn vit(path: &str) -> String {
    replace(&layers(path, "encoder.layer"), VIT)
}

/// Hugging Face's key of the [`Roberta`](crate::encoders::Roberta) parameter at `path`.
pub fn roberta(path: &str) -> String {
    replace(&layers(path, "encoder.layer"), ROBERTA)
}

/// Hugging Face's key of the [`ClipText`](crate::encoders::ClipText) parameter at `path`, in a `CLIPModel`.
pub fn clip_text(path: &str) -> String {
    format!("text_model.{}", replace(&layers(path, "encoder.layers"), CLIP))
}

/// Hugging Face's key of the [`ClipVision`](crate::encoders::ClipVision) parameter at `path`, in a `CLIPModel`.
pub fn clip_vision(path: &str) -> String {
    format!("vision_model.{}", replace(&layers(path, "encoder.layers"), CLIP))
}

/// Upstream's key of the [`VisionTower`](crate::encoders::VisionTower) parameter at `path`.
pub fn vision(path: &str) -> String {
    variant(path, [("Vit.", vit), ("Clip.", clip_vision)])
}

/// Upstream's key of the [`TextTower`](crate::encoders::TextTower) parameter at `path`.
pub fn text(path: &str) -> String {
    variant(path, [("Roberta.", roberta), ("Clip.", clip_text)])
}

/// Key of the [`Sam2Love`](crate::love::Sam2Love) parameter at `path`: each part's upstream key behind the part's name.
///
/// ```
/// use burn_love::weights::keys::love;
///
/// assert_eq!(love("sam2.no_mem_embed"), "sam2.no_mem_embed");
/// assert_eq!(love("encoders.audio.conv3_1.bias"), "encoders.audio.features.6.bias");
/// let path = "encoders.text.Roberta.layers.0.key.bias";
/// assert_eq!(love(path), "encoders.text.encoder.layer.0.attention.self.key.bias");
/// let path = "encoders.text.Clip.layers.0.key.bias";
/// assert_eq!(love(path), "encoders.text.text_model.encoder.layers.0.self_attn.k_proj.bias");
/// ```
pub fn love(path: &str) -> String {
    const PARTS: [(&str, Key); 4] = [
        ("sam2.", sam2::to_checkpoint),
        ("encoders.audio.", vggish),
        ("encoders.vision.", vision),
        ("encoders.text.", text),
    ];
    for (part, key) in PARTS {
        if let Some(rest) = path.strip_prefix(part) {
            return format!("{part}{}", key(rest));
        }
    }
    path.to_owned()
}

type Key = fn(&str) -> String;

/// The key in a module that is an enum, whose paths begin with the variant's name; files do not have it.
fn variant(path: &str, variants: [(&str, Key); 2]) -> String {
    for (name, key) in variants {
        if let Some(rest) = path.strip_prefix(name) {
            return key(rest);
        }
    }
    path.to_owned()
}

/// Hugging Face keeps blocks in a module of their own, `place`.
fn layers(path: &str, place: &str) -> String {
    match path.strip_prefix("layers.") {
        Some(rest) => format!("{place}.{rest}"),
        None => path.to_owned(),
    }
}

/// Replaces the first fragment of `table` that occurs in `path` as whole names.
fn replace(path: &str, table: &[(&str, &str)]) -> String {
    let dotted = format!(".{path}.");
    for (fragment, key) in table {
        if let Some(start) = dotted.find(&format!(".{fragment}.")) {
            let rest = &dotted[start + fragment.len() + 1..];
            return format!("{}.{key}{rest}", &dotted[..start])
                .trim_matches('.')
                .to_owned();
        }
    }
    path.to_owned()
}
