//! The presets: what differs from the defaults, as data.

use burn_love::{
    encoders::{TextKind, VisionKind},
    fusion::FusionConfig,
};

use super::{Config, Source};

/// A named config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its content.
    pub toml: &'static str,
    /// What it is compared with: for the paper's Tables 3 to 6, the row without token accumulation.
    pub base: Option<&'static str>,
    /// What the paper reports: J&F in percent on seen and on unseen classes.
    pub published: Option<[Option<f64>; 2]>,
}

macro_rules! presets {
    ($($name:literal: $base:expr, $published:expr;)*) => {
        &[$(Preset {
            name: $name,
            toml: include_str!(concat!("../../../assets/presets/", $name, ".toml")),
            base: $base,
            published: $published,
        }),*]
    };
}

const PAPER: Option<&str> = Some("paper");
const WITHOUT_ACCUMULATION: Option<&str> = Some("ablation-no-accumulation");

const fn both(seen: f64, unseen: f64) -> Option<[Option<f64>; 2]> {
    Some([Some(seen), Some(unseen)])
}

const fn seen(seen: f64) -> Option<[Option<f64>; 2]> {
    Some([Some(seen), None])
}

/// All presets, the default first.
pub const PRESETS: &[Preset] = presets![
    "nano": None, None;
    "nano-pretrained": None, None;
    "paper": None, both(47.7, 69.4);
    "paper-plus": PAPER, None;
    "ablation-clip": PAPER, both(46.8, 68.2);
    "ablation-no-accumulation": PAPER, both(46.7, 69.0);
    "ablation-layers-1": WITHOUT_ACCUMULATION, both(45.4, 68.1);
    "ablation-layers-12": WITHOUT_ACCUMULATION, both(46.4, 70.5);
    "ablation-seg-4": WITHOUT_ACCUMULATION, both(46.0, 68.1);
    "ablation-seg-8": WITHOUT_ACCUMULATION, both(45.2, 69.6);
    "ablation-mean": WITHOUT_ACCUMULATION, both(45.8, 68.7);
    "ablation-frozen-prompt-encoder": WITHOUT_ACCUMULATION, seen(46.5);
    "ablation-frozen-sam2": WITHOUT_ACCUMULATION, seen(39.8);
];

/// What makes any preset one of nano's scale: nano's sizes and its shipped parts; CLIP has none, so its weights are fresh.
/// What presets vary stays: tokens, strategy and accumulation of the fusion, kinds of encoders, and the parts that learn.
/// Where the paper has six layers nano has two, so of all layers there is a third.
pub fn nano_scale(config: &Config) -> Vec<Source> {
    let encoders = &config.model.encoders;
    let nano = Config::nano();
    let vision = match encoders.vision.kind {
        VisionKind::Vit => "nano",
        VisionKind::Clip => "clip-nano",
    };
    let text = match encoders.text.kind {
        TextKind::Roberta => "nano",
        TextKind::Clip => "clip-nano",
    };
    let fusion = &nano.model.fusion;
    let mut settings = vec![
        "sam2.model=nano".to_owned(),
        "encoders.audio=nano".to_owned(),
        format!("encoders.vision={vision}"),
        format!("encoders.text={text}"),
        format!("fusion.width={}", fusion.width),
        format!("fusion.projection_width={}", fusion.projection_width),
        format!("fusion.heads={}", fusion.heads),
        format!("fusion.layers={}", scaled(&config.model.fusion)),
        format!("train.lr={:e}", nano.train.lr),
        format!("train.accumulation={}", nano.train.accumulation),
    ];
    let vit = encoders.vision.kind == VisionKind::Vit;
    let roberta = encoders.text.kind == TextKind::Roberta;
    let shipped = |part, shipped| {
        if shipped {
            format!("embedded:{part}")
        } else {
            String::new()
        }
    };
    let weights = [
        ("sam2", shipped("sam2", true)),
        ("vision", shipped("vision", vit)),
        ("audio", shipped("audio", true)),
        ("text", shipped("text", roberta)),
        ("tokenizer", String::new()),
        ("love", String::new()),
    ];
    settings.extend(weights.map(|(part, path)| format!("weights.{part}={path:?}")));
    settings.into_iter().map(Source::Set).collect()
}

/// The layers of a fusion at nano's scale.
fn scaled(fusion: &FusionConfig) -> usize {
    let (nano, paper) = (FusionConfig::nano(), FusionConfig::paper());
    if fusion.width == nano.width {
        return fusion.layers;
    }
    (fusion.layers * nano.layers).div_ceil(paper.layers)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve;

    #[test]
    fn at_nanos_scale_layers_are_a_third() {
        let expected = [
            ("ablation-layers-1", 1),
            ("paper", 2),
            ("ablation-layers-12", 4),
            ("nano", 2),
        ];
        for (name, layers) in expected {
            let preset = Source::Preset(name.into());
            let scale = nano_scale(&resolve(std::slice::from_ref(&preset)).unwrap());
            let sources: Vec<_> = std::iter::once(preset).chain(scale).collect();
            let config = resolve(&sources).unwrap();
            assert_eq!(config.model.fusion.layers, layers, "{name}");
            assert_eq!(config.model.fusion.width, FusionConfig::nano().width, "{name}");
        }
    }
}
