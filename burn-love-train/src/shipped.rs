//! The nano weights that come with the library, so that an installed program has them, too.
//!
//! Wherever a path of weights is asked for, `embedded:NAME` stands for one of them: `audio`, `vision`, `text` and `sam2`
//! are nano's parts as `pretrain` made them, `nano` is what learned of the whole model on top of them.

use std::path::{Path, PathBuf};

use burn_love::weights::{WeightsError, WeightsFile};

/// What paths of embedded weights begin with.
const SCHEME: &str = "embedded:";

/// Names and contents.
const FILES: &[(&str, &[u8])] = &[
    ("audio", include_bytes!("../../assets/nano/audio.safetensors")),
    ("vision", include_bytes!("../../assets/nano/vision.safetensors")),
    ("text", include_bytes!("../../assets/nano/text.safetensors")),
    ("sam2", include_bytes!("../../assets/nano/sam2.safetensors")),
    ("nano", include_bytes!("../../assets/nano/nano.safetensors")),
];

/// The path of the shipped model.
pub fn nano() -> PathBuf {
    PathBuf::from(format!("{SCHEME}nano"))
}

/// The names of all embedded weights, as paths.
pub fn paths() -> impl Iterator<Item = PathBuf> {
    FILES
        .iter()
        .map(|(name, _)| PathBuf::from(format!("{SCHEME}{name}")))
}

/// Whether `path` names embedded weights, known or not.
pub fn is_embedded(path: &Path) -> bool {
    content(path).is_some()
}

/// Whether there are weights at `path`: a file, or embedded ones.
pub fn exists(path: &Path) -> bool {
    content(path).map_or_else(|| path.is_file(), |content| content.is_some())
}

/// Opens a weights file, or embedded weights.
///
/// # Errors
/// If there are none of that name, or the file cannot be read or is damaged.
pub fn open(path: &Path) -> Result<WeightsFile, WeightsError> {
    match content(path) {
        None => WeightsFile::open(path),
        Some(Some(content)) => WeightsFile::from_bytes(path, content.to_vec()),
        Some(None) => {
            let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
            let message = format!("no weights of that name; there are {}", names.join(", "));
            Err(WeightsError::Io {
                path: path.into(),
                source: std::io::Error::new(std::io::ErrorKind::NotFound, message),
            })
        }
    }
}

/// The embedded weights that a path names; the outer `None` is a path of a file.
fn content(path: &Path) -> Option<Option<&'static [u8]>> {
    let name = path.to_str()?.strip_prefix(SCHEME)?;
    let file = FILES.iter().find(|(known, _)| *known == name);
    Some(file.map(|(_, content)| *content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Source, resolve},
        training::load_model,
    };
    use burn_love::weights::TensorSource;

    type B = burn_flex::Flex;

    /// What the file of what learned leaves out comes from the parts that its config names.
    #[test]
    fn the_shipped_model_is_whole() {
        let file = open(&nano()).unwrap();
        assert!(file.info("encoders.audio.embeddings.4.weight").is_none());
        let config = resolve(&[Source::Embedded {
            path: nano(),
            toml: file.config().unwrap().into(),
        }])
        .unwrap();
        let model = load_model::<B>(&config, &nano(), &Default::default()).unwrap();
        let sound = open(Path::new("embedded:audio")).unwrap();
        let expected = sound.read("embeddings.4.bias").unwrap();
        let found = burn_love::weights::state_of(&model, burn_love::weights::keys::love);
        assert_eq!(found["encoders.audio.embeddings.4.bias"], expected);
    }

    #[test]
    fn all_weights_are_small() {
        let bytes: usize = FILES.iter().map(|(_, content)| content.len()).sum();
        assert!(bytes <= 12_000_000, "{bytes}");
        for path in paths() {
            assert!(exists(&path));
            open(&path).unwrap();
        }
    }

    #[test]
    fn an_unknown_name_is_told() {
        let path = Path::new("embedded:none");
        assert!(!exists(path));
        let message = open(path).err().unwrap().to_string();
        assert!(
            message.starts_with("embedded:none: ") && message.contains("audio"),
            "{message}"
        );
        assert!(!exists(Path::new("no/such/file")));
    }
}
