//! Token propagation (Eq. 3): the output at `[seg]` is the next frame's `[seg]`.

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
    /// That token behind the first frame, where it goes from frame to frame, `[B, 1, D]`.
    pub first_token: Tensor<B, 3>,
    /// The first frame's patches, `[B, P, D]`.
    pub first_patches: Tensor<B, 3>,
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

/// Sends `[seg]` through the frames in order; the first of its `n` tokens becomes the prompt.
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
) -> Fused<B> {
    let [_, n, _] = seg.dims();
    let [b, t, p, d] = tokens.patches.dims();
    let fuse = |seg: Tensor<B, 3>, frame: usize| {
        let patches = tokens.patches.clone().narrow(1, frame, 1).reshape([b, p, d]);
        let mut parts = vec![seg, tokens.sequence(patches)];
        parts.extend(accumulation.and_then(|kind| history(&tokens.cls, frame, kind)));
        let sequence = Tensor::cat(parts, 1);
        let [_, length, _] = sequence.dims();
        let fixed = n + tokens.audio.dims()[1] + 1 + tokens.text.dims()[1] + 1;
        let padding = tokens.padding(n, length - fixed);
        (transformer.forward(sequence, padding), fixed)
    };
    let (first, before_patches) = fuse(seg, 0);
    let seg = first.clone().narrow(1, 0, n);
    let last = (1..t).fold(seg, |seg, frame| fuse(seg, frame).0.narrow(1, 0, n));
    Fused {
        token: last.narrow(1, 0, 1),
        first_token: first.clone().narrow(1, 0, 1),
        first_patches: first.narrow(1, before_patches, p),
    }
}
