//! Arguments of `bench`.

use clap::Args;

use super::values::runs;
use crate::commands::bench::Case;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Cases, separated by commas: image_encoder/SIZE, memory_attention/MEMORIES, memory_encoder, mask_decoder,
    /// vit_b/IMAGES, distilroberta/TOKENS, vggish/EXAMPLES, fusion_step, love_video/FRAMES[/PRESET], train_step/PRESET
    #[arg(
        long,
        value_delimiter = ',',
        default_value = Case::DEFAULT,
        hide_default_value = true,
        value_name = "A,B,…"
    )]
    pub cases: Vec<Case>,
    /// Timed runs of each case; the median counts
    #[arg(long, default_value = "5", value_parser = runs, value_name = "N")]
    pub runs: usize,
    /// Runs of each case before those; the first compiles what a GPU needs
    #[arg(long, default_value = "2", value_parser = runs, value_name = "N")]
    pub warm_up: usize,
    /// Print a line of JSON for each case
    #[arg(long)]
    pub json: bool,
}
