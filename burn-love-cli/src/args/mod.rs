//! The command line as a type.

mod ablate;
mod bench;
mod precision;
mod pretrain;
mod sam2;
mod values;

use std::path::PathBuf;

use burn_love::{
    encoders::{TextConfig, VggishConfig, VisionConfig},
    sam2::Sam2Config,
};
use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

use self::values::{bytes, rate, size, threads};
pub use self::{
    ablate::AblateArgs,
    bench::BenchArgs,
    precision::Precision,
    pretrain::PretrainCommand,
    sam2::{Sam2Command, Sam2ImageArgs, Sam2VideoArgs, SearchArgs},
};
use crate::device::DeviceChoice;

/// SAM2-LOVE on Burn: language, sound and video in, masks of the referred object out.
#[derive(Debug, Parser)]
#[command(
    name = "burn-love-cli",
    version,
    about,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where to compute: `auto`, `cpu`, `wgpu[:N]` or `cuda[:N]`
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// CPU threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Numbers that a GPU multiplies matrices in; sums and all else are f32 [default: tf32 on CUDA, f32 elsewhere]
    #[arg(long, global = true, value_enum, value_name = "NUMBERS")]
    pub precision: Option<Precision>,
    /// Write into a directory that is not empty, or over a file; only what the command itself writes is replaced
    #[arg(long, global = true)]
    pub overwrite: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate scenes, train the nano model, evaluate it, and draw what it sees
    Demo(DemoArgs),
    /// Make data sets
    #[command(subcommand)]
    Data(DataCommand),
    /// Train one part of the nano model alone, on one modality, for a training to begin with
    #[command(subcommand)]
    Pretrain(PretrainCommand),
    /// Train a model
    Train(TrainArgs),
    /// Evaluate a model on the splits of a data set
    Eval(EvalArgs),
    /// Train presets with the same seeds and budget, evaluate them, and say in one table what each changes
    Ablate(AblateArgs),
    /// Segment what a sentence refers to in a clip with sound
    Predict(PredictArgs),
    /// Say what an encoder makes of a sound, an image or a sentence
    #[command(subcommand)]
    Encode(EncodeCommand),
    /// Look into weights files and convert them
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Segment with SAM 2 alone
    #[command(subcommand)]
    Sam2(Sam2Command),
    /// Time parts of the model
    Bench(BenchArgs),
    /// Say what this machine can do and what a preset needs
    Doctor(DoctorArgs),
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to write data, train, eval, overlays and report.md
    #[arg(long, default_value = "burn-love-demo", value_name = "DIR")]
    pub out: PathBuf,
    /// Seed of scenes and weights
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Few small clips and few steps: shows that everything runs, not what it can do
    #[arg(long)]
    pub quick: bool,
}

/// Make data sets.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Generate LAVS-Synth: scenes with sound and expressions, in Ref-AVS's layout
    Synth(SynthArgs),
}

/// Arguments of `data synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Where to write the data set
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Seed; the same seed gives the same bytes
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Training clips
    #[arg(long, default_value_t = 600, value_name = "CLIPS")]
    pub train: usize,
    /// Validation clips
    #[arg(long, default_value_t = 60, value_name = "CLIPS")]
    pub val: usize,
    /// Test clips of classes that training shows
    #[arg(long, default_value_t = 100, value_name = "CLIPS")]
    pub test_seen: usize,
    /// Test clips of held-out classes
    #[arg(long, default_value_t = 100, value_name = "CLIPS")]
    pub test_unseen: usize,
    /// Test clips whose expressions refer to nothing
    #[arg(long, default_value_t = 60, value_name = "CLIPS")]
    pub test_null: usize,
    /// Of a hundred training objects that can do without the name of their shape or surface, how many have none
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    pub unnamed: u32,
    /// Frame size in pixels
    #[arg(long, default_value = "224x128", value_name = "WxH", value_parser = size)]
    pub size: (u32, u32),
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Begin with a preset [default: nano]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub preset: Option<String>,
    /// Begin with a config file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data set, in Ref-AVS's layout
    #[arg(long, value_name = "DIR", required_unless_present_any = ["list_presets"])]
    pub data: Option<PathBuf>,
    /// Where to write the run
    #[arg(long, value_name = "RUN", required_unless_present_any = ["list_presets", "dry_run"])]
    pub out: Option<PathBuf>,
    /// Change a value of the config, such as train.lr=3e-4; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Go on from the run's last checkpoint, or from its start where there is none, with the run's own config
    #[arg(long)]
    pub resume: bool,
    /// Begin with the weights of a whole model
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub init_from: Option<PathBuf>,
    /// Where features of frozen parts are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Leave out samples that cannot be used, and list them
    #[arg(long)]
    pub skip_bad_samples: bool,
    /// Check config and data, print parts, memory, steps, learning rate and the resolved config, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// List the presets and stop
    #[arg(long)]
    pub list_presets: bool,
}

/// Where features of parts that do not learn are kept.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Keep what parts that do not learn say of each input in a folder, and read it from there the next time
    #[arg(long, value_name = "DIR")]
    pub cache_features: Option<PathBuf>,
    /// Numbers that are kept; f16 takes half the space and rounds
    #[arg(
        long,
        value_enum,
        default_value = "f32",
        requires = "cache_features",
        value_name = "F"
    )]
    pub cache_precision: CachePrecisionArg,
    /// Most bytes in the folder; what does not fit is computed every time
    #[arg(long, value_parser = bytes, default_value = "64GB", requires = "cache_features", value_name = "SIZE")]
    pub cache_limit: u64,
}

/// Numbers that are kept.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CachePrecisionArg {
    /// As computed
    F32,
    /// Rounded to half precision
    F16,
}

/// Where a model comes from.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A run: its best checkpoint and its config
    #[arg(long, value_name = "RUN", conflicts_with_all = ["weights", "config"])]
    pub run: Option<PathBuf>,
    /// A weights file [default: the shipped nano model, embedded:nano]
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// The config of the weights [default: the one inside the file]
    #[arg(long, value_name = "FILE", requires = "weights")]
    pub config: Option<PathBuf>,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Where the model comes from.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The data set, in Ref-AVS's layout
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to write metrics.json, .md and .csv
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Splits, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "test_s,test_u,test_n",
        value_name = "A,B,…"
    )]
    pub splits: Vec<String>,
    /// How rows are judged
    #[arg(long, value_enum, default_value = "official")]
    pub protocol: ProtocolArg,
    /// Take a modality away: background noise, "the object", or empty vision features
    #[arg(long, value_enum, value_name = "MODALITY")]
    pub drop: Option<DropArg>,
    /// Give each clip another clip's modality
    #[arg(long, value_enum, value_name = "MODALITY")]
    pub swap: Option<SwapArg>,
    /// Where features are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Tell differences to an earlier evaluation of the same rows, with intervals: its --out
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// Write each row's probabilities to DIR/{uid}.safetensors
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// Print metrics.json
    #[arg(long)]
    pub json: bool,
}

/// How rows are judged.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ProtocolArg {
    /// Ref-AVS's own: batches of four expressions at 256²
    Official,
    /// One expression at a time, at native resolution
    PerExpression,
}

/// A modality that can be dropped.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DropArg {
    /// The sound
    Audio,
    /// The sentence
    Text,
    /// The vision encoder's features
    Vision,
}

/// A modality that can be swapped.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SwapArg {
    /// The sound
    Audio,
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Where the model comes from.
    #[command(flatten)]
    pub model: ModelArgs,
    /// A folder of frames (JPEG or PNG), in numeric order
    #[arg(long, value_name = "DIR")]
    pub frames: PathBuf,
    /// The clip's sound, a WAV file [default: background noise]
    #[arg(long, value_name = "FILE")]
    pub audio: Option<PathBuf>,
    /// The sentence
    #[arg(long, value_name = "TEXT")]
    pub text: String,
    /// Frames per second of the folder
    #[arg(long, default_value_t = 1.0, value_name = "FPS", value_parser = rate)]
    pub fps: f64,
    /// Where to write masks, overlays and result.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What to write, separated by commas; result.json always is
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "png,overlay,gif",
        value_name = "A,B,…"
    )]
    pub format: Vec<FormatArg>,
    /// Print result.json
    #[arg(long)]
    pub json: bool,
}

/// Something `predict` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// masks/{frame}.png
    Png,
    /// overlays/{frame}.png
    Overlay,
    /// overlay.gif
    Gif,
}

/// Say what an encoder makes of an input.
#[derive(Debug, Subcommand)]
pub enum EncodeCommand {
    /// A WAV file to log-mel examples and VGGish's embeddings: log_mel (N, 96, 64), embedding (N, 128)
    #[command(mut_arg("model", |arg| arg.value_parser(encoders(VggishConfig::PRESETS))))]
    Audio(EncodeAudioArgs),
    /// A picture to pixels and ViT's or CLIP's hidden state: pixel_values (3, H, W), last_hidden_state (1+P, D)
    #[command(mut_arg("model", |arg| arg.value_parser(encoders(VisionConfig::PRESETS))))]
    Image(EncodeArgs),
    /// A sentence to token ids and RoBERTa's or CLIP's hidden state: input_ids (L), attention_mask (L),
    /// last_hidden_state (L, D)
    #[command(mut_arg("model", |arg| arg.value_parser(encoders(TextConfig::PRESETS))))]
    Text(EncodeArgs),
}

/// Arguments of `encode audio`.
#[derive(Debug, Args)]
pub struct EncodeAudioArgs {
    /// What all encoders take.
    #[command(flatten)]
    pub encode: EncodeArgs,
    /// End with VGGish's last ReLU, as torchvggish does; SAM2-LOVE hears without it
    #[arg(long)]
    pub last_relu: bool,
    /// Whiten and quantise to 0 to 255 behind that ReLU, as AudioSet's features are; the weights must hold pproc.*
    #[arg(long, requires = "last_relu")]
    pub postprocess: bool,
}

/// Arguments of `encode`.
#[derive(Debug, Args)]
pub struct EncodeArgs {
    /// The encoder and its sizes, or `onnx` for the graph that a program with the feature onnx was built with
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Its weights, under the names of Hugging Face, timm (ViT) or torchvggish; heads around it are left out. A graph
    /// has its own
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// The WAV file, the picture, or the sentence or a text file that holds it
    #[arg(long, value_name = "X")]
    pub input: String,
    /// The text encoder's tokenizer.json [default: the embedded one of nano]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub tensors: PathBuf,
    /// Print names and shapes as JSON
    #[arg(long)]
    pub json: bool,
}

/// Look into weights files and convert them.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// Say what a weights file holds; -v lists its tensors. Names and shapes are read, values are not
    Inspect(InspectArgs),
    /// Convert weights of SAM 2 or of an encoder, whosever names they have, to safetensors or to a file for PyTorch
    Convert(ConvertArgs),
}

/// Arguments of `weights inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A safetensors file, or a state dict that PyTorch saved
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `weights convert` calls a whole SAM2-LOVE, whose sizes are in the file.
pub const LOVE: &str = "love";

/// Arguments of `weights convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// The model that the weights are of
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(convertible()))]
    pub model: String,
    /// SAM 2 of Meta's or Hugging Face's, ViT, RoBERTa or CLIP of Hugging Face's, ViT of timm's, torchvggish, or a
    /// checkpoint's model.safetensors (--model love): .pt or safetensors
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write: .safetensors, or .pt for torch.load
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Store floats as f16, in half the space (safetensors)
    #[arg(long)]
    pub f16: bool,
    /// Of SAM2-LOVE (--model love): leave out parts that did not learn and whose files the config inside IN names
    #[arg(long)]
    pub learned: bool,
    /// Leave out what IN lacks, such as the memory in an image-only file
    #[arg(long)]
    pub allow_missing: bool,
    /// Leave out what the model lacks
    #[arg(long)]
    pub allow_unused: bool,
    /// Print the load report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Check the weights that a preset names
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// An encoder's name in place of its preset: the ONNX graph that the program was built with.
pub const ONNX: &str = "onnx";

/// Names of encoders: presets, and the graph where there is one.
fn encoders<const N: usize>(presets: [&'static str; N]) -> PossibleValuesParser {
    let graph = cfg!(feature = "onnx").then_some(ONNX);
    PossibleValuesParser::new(presets.into_iter().chain(graph))
}

/// Names of the models whose weights can be converted.
fn convertible() -> Vec<&'static str> {
    let mut names: Vec<_> = Sam2Config::preset_names().chain([LOVE]).collect();
    for name in [
        &VggishConfig::PRESETS[..],
        &VisionConfig::PRESETS,
        &TextConfig::PRESETS,
    ]
    .concat()
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
