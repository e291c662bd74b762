//! Arguments of `sam2`.

use std::path::PathBuf;

use burn_love::sam2::Sam2Config;
use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::values::{clicks, corners, fraction, image_size, layers, point};

/// Segment with SAM 2 alone.
#[derive(Debug, Subcommand)]
pub enum Sam2Command {
    /// Masks in a still image, from points, a box, an earlier mask, or all three
    Image(Sam2ImageArgs),
    /// Objects tracked through a video, from points, boxes and masks on any frames
    Video(Sam2VideoArgs),
}

/// Arguments of `sam2 image`.
#[derive(Debug, Args)]
pub struct Sam2ImageArgs {
    /// The architecture
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Sam2Config::preset_names()))]
    pub model: String,
    /// Its weights: a .pt of Meta's, or a safetensors file with Meta's or Hugging Face's names
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// The image
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// A point in pixels and its label, 1 on the object or 0 beside it; can be repeated
    #[arg(long, value_name = "X,Y,LABEL", value_parser = point, allow_hyphen_values = true)]
    pub point: Vec<([f32; 2], bool)>,
    /// Left, top, right and bottom of the object's box, in pixels
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = corners, allow_hyphen_values = true)]
    pub corners: Option<[f32; 4]>,
    /// An earlier mask: the best of a file that --tensors wrote, or a picture of the image's size, white on the object
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// Answer with three candidates: what one click means is often not clear
    #[arg(long)]
    pub multimask: bool,
    /// Find masks of whatever there is, from a grid of clicks
    #[arg(long, conflicts_with_all = ["point", "corners", "mask", "multimask", "tensors"])]
    pub everything: bool,
    /// How everything is looked for.
    #[command(flatten)]
    pub search: SearchArgs,
    /// Where to write masks, overlays and result.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write low_res_logits, iou and object_score to a safetensors file
    #[arg(long, value_name = "FILE")]
    pub tensors: Option<PathBuf>,
    /// Print result.json
    #[arg(long)]
    pub json: bool,
}

/// How `--everything` looks and what it keeps; upstream's defaults.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Clicks along each side of the image
    #[arg(long, default_value = "32", value_parser = clicks, requires = "everything", value_name = "N")]
    pub points_per_side: usize,
    /// Clicks that are answered at a time
    #[arg(long, default_value = "64", value_parser = clicks, requires = "everything", value_name = "N")]
    pub points_per_batch: usize,
    /// Layers of crops beside the whole image: each has four times as many
    #[arg(long, default_value = "0", value_parser = layers, requires = "everything", value_name = "N")]
    pub crop_layers: usize,
    /// Keep masks whose predicted IoU is above it
    #[arg(long, default_value = "0.8", value_parser = fraction, requires = "everything", value_name = "X")]
    pub min_iou: f32,
    /// Keep masks of at least this stability: the IoU of the masks at a logit of 1 and of −1
    #[arg(long, default_value = "0.95", value_parser = fraction, requires = "everything", value_name = "X")]
    pub min_stability: f32,
    /// Take boxes that overlap more for one object, as IoU
    #[arg(long, default_value = "0.7", value_parser = fraction, requires = "everything", value_name = "X")]
    pub max_overlap: f32,
    /// Remove holes and parts of at most so many low-resolution pixels; 0 removes none
    #[arg(long, default_value_t = 0, requires = "everything", value_name = "N")]
    pub min_region_area: usize,
    /// Ask again with each mask as a prompt beside its click
    #[arg(long, requires = "everything")]
    pub refine: bool,
}

/// Arguments of `sam2 video`.
#[derive(Debug, Args)]
pub struct Sam2VideoArgs {
    /// The architecture
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Sam2Config::preset_names()))]
    pub model: String,
    /// Its weights: a .pt of Meta's, or a safetensors file with Meta's or Hugging Face's names
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// A folder of .jpg or .png frames
    #[arg(long, value_name = "DIR", required_unless_present = "video")]
    pub frames: Option<PathBuf>,
    /// A video file; needs ffmpeg on PATH
    #[arg(long, value_name = "FILE", conflicts_with = "frames")]
    pub video: Option<PathBuf>,
    /// A JSON list of {"frame", "object", "points" and "labels", "box" or "mask"}, in pixels of the video
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Side of the images that the model sees, in pixels, a multiple of 32 [default: the model's]
    #[arg(long, value_name = "N", value_parser = image_size)]
    pub image_size: Option<usize>,
    /// Neither fall back from unstable masks, nor binarise prompted ones for memory, nor fill holes
    #[arg(long)]
    pub no_postprocess: bool,
    /// Where to write masks, overlays and result.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write logits and object scores of every frame and object to a safetensors file
    #[arg(long, value_name = "FILE")]
    pub tensors: Option<PathBuf>,
    /// Print result.json
    #[arg(long)]
    pub json: bool,
}
