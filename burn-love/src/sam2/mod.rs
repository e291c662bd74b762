//! SAM 2 (Segment Anything in Images and Videos), in its published architecture.
//!
//! Ported from `facebookresearch/sam2` (Apache-2.0), PyPI `sam2==1.1.0`. Every size is a value of
//! [`Sam2Config`]; fields are named after the checkpoints' keys, exceptions stand in [`keys`].

pub mod attention;
pub mod automatic_masks;
pub mod components;
pub mod config;
pub mod fpn_neck;
pub mod hiera;
pub mod hiera_block;
pub mod image_predictor;
pub mod keys;
pub mod mask_boxes;
pub mod mask_decoder;
pub mod memory_attention;
pub mod memory_bank;
pub mod memory_encoder;
pub mod mlp;
pub mod model;
pub mod position_encoding;
pub mod prompt_encoder;
pub mod rope;
pub mod run_length;
pub mod tracker;
pub mod two_way_transformer;

pub use automatic_masks::{AutomaticMask, AutomaticMasks, AutomaticMasksConfig};
pub use config::{EMBEDDING_STRIDE, MemoryConfig, Sam2Config};
pub use fpn_neck::{ImageEncoder, NeckFeatures};
pub use image_predictor::{ImagePredictor, ImagePredictorConfig, ImagePrompt};
pub use keys::to_checkpoint;
pub use mask_decoder::{HighResFeatures, MaskSelection};
pub use model::{ImageFeatures, NO_OBJECT_LOGIT, Sam2, SamHeadsOutput};
pub use prompt_encoder::{PointLabel, Points, PromptEmbeddings};
pub use tracker::{FrameOutput, Prompt, TrackSession, Tracker, TrackerConfig};
