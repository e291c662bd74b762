//! Evaluation: every row of some splits is predicted and scored, as the benchmark does it.
//!
//! [`evaluate`] runs a model over the rows in metadata order and gives an [`Evaluation`], which writes `metrics.json`,
//! `metrics.md`, `metrics.csv` and `per_expression.csv`. A modality can be taken away ([`EvalOptions::drop`]) or the
//! sound replaced by another clip's ([`EvalOptions::swap_audio`]) to see what a model relies on.

mod answers;
mod bootstrap;
mod dump;
mod evaluate;
mod options;
mod published;
mod scenes;
mod scores;
#[cfg(test)]
mod tests;
mod write;

pub use bootstrap::{Differences, ExpressionScore, Interval, intervals_of_differences};
pub use evaluate::evaluate;
pub use options::{EvalError, EvalOptions, Modality, Protocol, UnknownName};
pub use published::{PUBLISHED, Published};
pub use scores::{
    Evaluation, KindScore, MixScore, NullKindScore, NullSplitScore, ReferredScore, RowScore, SplitScore,
    TwinScore,
};
