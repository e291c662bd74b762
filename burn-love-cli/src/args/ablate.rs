//! Arguments of `ablate`.

use std::path::PathBuf;

use clap::Args;

use super::CacheArgs;

/// Arguments of `ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// Presets, separated by commas; each is compared with its base where that is among them
    #[arg(long, value_delimiter = ',', required = true, value_name = "A,B,…")]
    pub presets: Vec<String>,
    /// Seeds, separated by commas: each preset is trained with each
    #[arg(long, value_delimiter = ',', default_value = "0", value_name = "N,…")]
    pub seeds: Vec<u64>,
    /// The data set, in Ref-AVS's layout
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to write ablation.md, ablation.csv and, for each preset and seed, a run and its evaluation
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Train at nano's scale: its sizes and shipped parts; what a preset varies stays as it is
    #[arg(long)]
    pub nano_scale: bool,
    /// Lay a config file over every preset
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Change a value of every config, such as train.steps=400; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Go on where an earlier call with the same arguments stopped: what is finished is not done again. What only evaluation uses
    /// may differ (sam2.clip_gate_threshold, say): then runs are evaluated again, and older scores removed
    #[arg(long)]
    pub resume: bool,
    /// Where features of frozen parts are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Leave out samples that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_samples: bool,
    /// Print the table as CSV instead of Markdown
    #[arg(long)]
    pub csv: bool,
}
