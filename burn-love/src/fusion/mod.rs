//! The paper's fusion: three modalities gathered in learnable `[seg]` tokens, frame by frame.
//!
//! [`Projection`] (Eq. 1) brings each modality to one width, [`FusionTransformer`] (Eq. 2) lets them attend to each
//! other, token propagation carries `[seg]` from frame to frame (Eq. 3), token accumulation keeps the history (Eq. 4).

mod config;
mod model;
mod projection;
mod token_accumulation;
mod token_propagation;
mod transformer;

pub use config::{AudioPositions, FusionConfig, FusionInputWidths, History, Strategy};
pub use model::{Fusion, FusionInput, FusionOutput};
pub use projection::{Projection, ProjectionConfig};
pub use transformer::FusionTransformer;
