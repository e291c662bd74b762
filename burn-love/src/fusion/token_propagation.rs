//! Token propagation (Eq. 3): the output at `[seg]` is the next frame's `[seg]`.

use std::ops::Range;

use burn::prelude::*;

use super::{FusionTransformer, History, token_accumulation::history};

/// The projected modalities of one clip.
pub(super) struct ProjectedTokens<B: Backend> {
    /// `[B, A, D]`.
    pub audio: Tensor<B, 3>,
    /// `[B, L, D]`.
    pub text: Tensor<B, 3>,
    /// True at the text's padding, `[B, L]`.
    pub text_padding: Tensor<B, 2, Bool>,
    /// `[B, T, P, D]`.
    pub patches: Tensor<B, 4>,
    /// `[B, T, D]`.
    pub cls: Tensor<B, 3>,
}

/// Outputs of the transformer.
pub(super) struct Fused<B: Backend> {
    /// The token that becomes the prompt, behind the last frame, `[B, 1, D]`.
    pub token: Tensor<B, 3>,
    /// Where it was asked for, what finds the object among the first frame's patches.
    pub grounds: Option<Grounds<B>>,
}

/// Outputs of the transformer whose products say where the object is.
pub(super) struct Grounds<B: Backend> {
    /// The token behind the first frame, where it goes from frame to frame, `[B, 1, D]`.
    pub token: Tensor<B, 3>,
    /// The first frame's patches, `[B, P, D]`.
    pub patches: Tensor<B, 3>,
}

impl<B: Backend> ProjectedTokens<B> {
    /// `F_A ; [aud] ; F_T ; [vis] ; vision`, with `[aud]` all zeros and `[vis]` all ones.
    ///
    /// # Shapes
    /// - `vision`: `[B, V, D]`; output: `[B, A + 1 + L + 1 + V, D]`
    pub fn sequence(&self, vision: Tensor<B, 3>) -> Tensor<B, 3> {
        let [b, _, d] = self.audio.dims();
        let device = self.audio.device();
        let aud = Tensor::zeros([b, 1, d], &device);
        let vis = Tensor::ones([b, 1, d], &device);
        Tensor::cat(vec![self.audio.clone(), aud, self.text.clone(), vis, vision], 1)
    }

    /// True at padding, for [`sequence`](Self::sequence) with `before` tokens in front and `after` behind the text.
    pub fn padding(&self, before: usize, after: usize) -> Tensor<B, 2, Bool> {
        let [b, _] = self.text_padding.dims();
        let device = self.audio.device();
        let [_, audio, _] = self.audio.dims();
        let unmasked = |length| Tensor::<B, 2>::zeros([b, length], &device).bool();
        Tensor::cat(
            vec![
                unmasked(before + audio + 1),
                self.text_padding.clone(),
                unmasked(1 + after),
            ],
            1,
        )
    }
}

/// Sends `[seg]` through the frames in order; the first of its `n` tokens becomes the prompt. The first frame's patches
/// are kept where they are to be `grounded`.
///
/// # Shapes
/// - `seg`: `[B, n, D]`
///
/// # Panics
/// If there is no frame.
pub(super) fn propagate<B: Backend>(
    transformer: &FusionTransformer<B>,
    seg: Tensor<B, 3>,
    tokens: &ProjectedTokens<B>,
    accumulation: Option<History>,
    grounded: bool,
) -> Fused<B> {
    let [_, n, _] = seg.dims();
    let [b, t, p, d] = tokens.patches.dims();
    let before_patches = n + tokens.audio.dims()[1] + 1 + tokens.text.dims()[1] + 1;
    let fuse = |seg: Tensor<B, 3>, frame: usize, rows: &[Range<usize>]| {
        let patches = tokens.patches.clone().narrow(1, frame, 1).reshape([b, p, d]);
        let mut parts = vec![seg, tokens.sequence(patches)];
        parts.extend(accumulation.and_then(|kind| history(&tokens.cls, frame, kind)));
        let sequence = Tensor::cat(parts, 1);
        let [_, length, _] = sequence.dims();
        let padding = tokens.padding(n, length - before_patches);
        transformer.forward_rows(sequence, padding, rows)
    };
    let seg_rows = 0..n;
    let (seg, grounds) = if grounded {
        let patches = before_patches..before_patches + p;
        let first = fuse(seg, 0, &[seg_rows.clone(), patches]);
        let grounds = Grounds {
            token: first.clone().narrow(1, 0, 1),
            patches: first.clone().narrow(1, n, p),
        };
        (first.narrow(1, 0, n), Some(grounds))
    } else {
        (fuse(seg, 0, std::slice::from_ref(&seg_rows)), None)
    };
    let last = (1..t).fold(seg, |seg, frame| {
        fuse(seg, frame, std::slice::from_ref(&seg_rows))
    });
    Fused {
        token: last.narrow(1, 0, 1),
        grounds,
    }
}
