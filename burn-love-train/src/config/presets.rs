//! The presets: what differs from the defaults, as data.

/// A named config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its content.
    pub toml: &'static str,
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(Preset { name: $name, toml: include_str!(concat!("../../../assets/presets/", $name, ".toml")) }),*]
    };
}

/// All presets, the default first.
pub const PRESETS: &[Preset] = presets![
    "nano",
    "paper",
    "paper-plus",
    "ablation-clip",
    "ablation-no-accumulation",
    "ablation-layers-1",
    "ablation-layers-12",
    "ablation-seg-4",
    "ablation-seg-8",
    "ablation-mean",
    "ablation-frozen-prompt-encoder",
    "ablation-frozen-sam2",
];

impl Preset {
    /// The preset called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What the preset is: the first line of its file.
    pub fn summary(&self) -> &'static str {
        self.toml
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches(['#', ' '])
    }
}
