//! Preset < config file < `--set`: merging, with every key checked against those that exist.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use burn_love::{
    encoders::{TextConfig, VggishConfig, VisionConfig},
    sam2::Sam2Config,
};
use serde::Serialize;
use toml::{Table, Value};

use super::{Config, FORMAT_VERSION, PRESETS, Preset, check::check};

/// A layer of a config, later ones over earlier ones.
#[derive(Debug, Clone)]
pub enum Source {
    /// A preset by name.
    Preset(String),
    /// A TOML file.
    File(PathBuf),
    /// TOML that came with a weights file.
    Embedded {
        /// The weights file.
        path: PathBuf,
        /// Its config.
        toml: String,
    },
    /// `key=value` of the command line, the value in TOML (bare words are strings).
    Set(String),
}

/// What can be wrong with a config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No preset of this name.
    #[error("expected a preset, found `{found}`")]
    Preset {
        /// The name given.
        found: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// The config file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{origin}: expected TOML, found: {reason}")]
    Syntax {
        /// File, preset or option.
        origin: String,
        /// The parser's words.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: expected a config key, found `{key}`")]
    Key {
        /// File, preset or option.
        origin: String,
        /// The key given.
        key: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// A name of sizes that does not exist.
    #[error("{origin}: expected a name of `{key}`, found `{found}`")]
    Sizes {
        /// File, preset or option.
        origin: String,
        /// The key.
        key: String,
        /// The name given.
        found: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// A value of another type or outside its range.
    #[error("{origin}: {reason}")]
    Value {
        /// File, preset or option.
        origin: String,
        /// What was expected and found.
        reason: String,
    },
}

impl ConfigError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Preset {
                nearest: Some(nearest),
                ..
            }
            | Self::Key {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean `{nearest}`?")),
            Self::Preset { .. } => Some("`train --list-presets` lists them".into()),
            Self::Sizes { known, .. } => Some(format!("known: {}", known.join(", "))),
            Self::Key { .. } | Self::Value { .. } => Some(
                "`train --preset NAME --data DIR --dry-run` prints every key with a value that fits".into(),
            ),
            Self::Syntax { .. } => Some("write key = value, one a line, and names in double quotes".into()),
            Self::Io { .. } => None,
        }
    }
}

/// Merges the layers over the defaults and checks the result.
///
/// # Errors
/// If a preset, key or name of sizes does not exist, or a value does not fit.
pub fn resolve(sources: &[Source]) -> Result<Config, ConfigError> {
    let mut tree = to_table(&Config::nano());
    let mut layers = Vec::with_capacity(sources.len());
    for source in sources {
        let (origin, layer) = read(source)?;
        if let Some(version) = layer.get("format_version")
            && version.as_integer() != Some(i64::from(FORMAT_VERSION))
        {
            let reason = format!("expected format_version = {FORMAT_VERSION}, found {version}");
            return Err(ConfigError::Value { origin, reason });
        }
        merge(&mut tree, layer, "", &origin)?;
        layers.push((origin, tree.clone()));
    }
    checked(tree).map_err(|reason| {
        // The layer that brought it: behind each of those over it the same is wrong.
        let spoiled = layers
            .into_iter()
            .rev()
            .take_while(|(_, tree)| checked(tree.clone()).err().as_ref() == Some(&reason))
            .last();
        let origin = spoiled.map_or_else(|| "defaults".to_owned(), |(origin, _)| origin);
        ConfigError::Value { origin, reason }
    })
}

/// The config of a tree, or what is wrong with one of its values.
fn checked(tree: Table) -> Result<Config, String> {
    let config: Config = Value::Table(tree)
        .try_into()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    check(&config)?;
    Ok(config)
}

fn name(source: &Source) -> String {
    match source {
        Source::Preset(name) => format!("preset {name}"),
        Source::File(path) | Source::Embedded { path, .. } => path.display().to_string(),
        Source::Set(assignment) => format!("--set {assignment}"),
    }
}

fn read(source: &Source) -> Result<(String, Table), ConfigError> {
    let origin = name(source);
    let parse = |text: &str| {
        text.parse::<Table>().map_err(|error| ConfigError::Syntax {
            origin: origin.clone(),
            reason: error.message().replace('\n', " "),
        })
    };
    let table = match source {
        Source::Preset(name) => {
            let preset = Preset::find(name).ok_or_else(|| ConfigError::Preset {
                found: name.clone(),
                nearest: nearest(name, PRESETS.iter().map(|preset| preset.name.to_owned())),
            })?;
            parse(preset.toml)?
        }
        Source::File(path) => parse(&std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
            path: path.clone(),
            source,
        })?)?,
        Source::Embedded { toml, .. } => parse(toml)?,
        Source::Set(assignment) => parse(&quoted(assignment, &origin)?)?,
    };
    Ok((origin, table))
}

/// `a.b=word` as `a.b = "word"`, where the value is not TOML by itself.
fn quoted(assignment: &str, origin: &str) -> Result<String, ConfigError> {
    let Some((key, value)) = assignment.split_once('=') else {
        let reason = "expected key=value".to_owned();
        return Err(ConfigError::Syntax {
            origin: origin.to_owned(),
            reason,
        });
    };
    let plain = format!("{key} = {value}");
    if plain.parse::<Table>().is_ok() {
        return Ok(plain);
    }
    Ok(format!("{key} = {}", Value::String(value.trim().to_owned())))
}

fn merge(tree: &mut Table, layer: Table, prefix: &str, origin: &str) -> Result<(), ConfigError> {
    for (key, value) in layer {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let Some(slot) = tree.get_mut(&key) else {
            let mut known = Vec::new();
            leaves(&to_table(&Config::nano()), "", &mut known);
            let nearest = nearest(&path, known.into_iter());
            return Err(ConfigError::Key {
                origin: origin.to_owned(),
                key: path,
                nearest,
            });
        };
        match (slot, value) {
            (Value::Table(slot), Value::Table(value)) => merge(slot, value, &path, origin)?,
            (Value::Table(slot), Value::String(name)) => *slot = sizes(&path, &name, origin)?,
            (Value::Table(_), value) => {
                let reason = format!("`{path}`: expected a table, found {value}");
                return Err(ConfigError::Value {
                    origin: origin.to_owned(),
                    reason,
                });
            }
            (slot @ Value::Float(_), Value::Integer(value)) => *slot = Value::Float(value as f64),
            (slot, value) if slot.same_type(&value) => *slot = value,
            (slot, value) => {
                let reason = format!("`{path}`: expected a value like {slot}, found {value}");
                return Err(ConfigError::Value {
                    origin: origin.to_owned(),
                    reason,
                });
            }
        }
    }
    Ok(())
}

/// The table that a name of sizes stands for.
fn sizes(path: &str, name: &str, origin: &str) -> Result<Table, ConfigError> {
    let (table, known): (_, Vec<String>) = match path {
        "sam2.model" => (
            Sam2Config::preset(name).map(|sizes| to_table(&sizes)),
            Sam2Config::preset_names().map(str::to_owned).collect(),
        ),
        "encoders.audio" => (
            VggishConfig::preset(name).map(|sizes| to_table(&sizes)),
            VggishConfig::PRESETS.map(str::to_owned).into(),
        ),
        "encoders.vision" => (
            VisionConfig::preset(name).map(|sizes| to_table(&sizes)),
            VisionConfig::PRESETS.map(str::to_owned).into(),
        ),
        "encoders.text" => (
            TextConfig::preset(name).map(|sizes| to_table(&sizes)),
            TextConfig::PRESETS.map(str::to_owned).into(),
        ),
        _ => {
            let reason = format!("`{path}`: expected a table, found \"{name}\"");
            return Err(ConfigError::Value {
                origin: origin.to_owned(),
                reason,
            });
        }
    };
    table.ok_or_else(|| ConfigError::Sizes {
        origin: origin.to_owned(),
        key: path.to_owned(),
        found: name.to_owned(),
        known,
    })
}

fn to_table<T: Serialize>(value: &T) -> Table {
    Table::try_from(value).expect("configs are tables of plain values")
}

fn leaves(table: &Table, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        out.push(path.clone());
        if let Value::Table(table) = value {
            leaves(table, &path, out);
        }
    }
}

/// The keys, such as `fusion.layers`, at which two configs differ.
pub fn differing_keys(a: &Config, b: &Config) -> Vec<String> {
    fn differ(a: &Table, b: &Table, prefix: &str, out: &mut Vec<String>) {
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let path = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match (a.get(key), b.get(key)) {
                (Some(Value::Table(a)), Some(Value::Table(b))) => differ(a, b, &path, out),
                (a, b) if a == b => {}
                _ => out.push(path),
            }
        }
    }
    let mut keys = Vec::new();
    differ(&to_table(a), &to_table(b), "", &mut keys);
    keys
}

fn nearest(word: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|key| (strsim::normalized_damerau_levenshtein(word, &key), key))
        .filter(|(similarity, _)| *similarity > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// Writes the resolved config: the file is complete, or what it was before.
///
/// # Errors
/// If the file cannot be written.
pub fn write_config(config: &Config, path: &Path) -> std::io::Result<()> {
    let aside = path.with_extension("toml.partial");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(config.to_toml().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

impl Config {
    /// The config as TOML; resolving it gives the same config.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(&to_table(self)).expect("configs are tables of plain values")
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
