//! The whole fusion: features in, SAM 2's prompt tokens out.

use burn::{
    module::{Initializer, Param},
    prelude::*,
};

use super::{
    AudioPositions, FusionConfig, FusionInputWidths, FusionTransformer, History, Projection,
    ProjectionConfig, Strategy,
    config::chosen,
    token_propagation::{Fused, Grounds, ProjectedTokens, propagate},
};
use crate::ops::matmul;

/// Features of a batch of clips.
#[derive(Debug, Clone)]
pub struct FusionInput<B: Backend> {
    /// Audio features F_A, `[B, A, D_audio]`.
    pub audio: Tensor<B, 3>,
    /// Text features F_T, `[B, L, D_text]`.
    pub text: Tensor<B, 3>,
    /// True at the text's padding, `[B, L]`.
    pub text_padding: Tensor<B, 2, Bool>,
    /// Patch features F_V, `[B, T, P, D_vision]`.
    pub patches: Tensor<B, 4>,
    /// `[cls]` of each frame, `[B, T, D_vision]`.
    pub cls: Tensor<B, 3>,
}

/// What the fusion makes of a batch of clips.
#[derive(Debug, Clone)]
pub struct FusionOutput<B: Backend> {
    /// The prompt of each clip, `[B, 1, D_prompt]`: of the first `[seg]`, or of the mean token.
    pub prompt: Tensor<B, 3>,
    /// For each patch of the first frame a logit of showing the object: its product with that token, over √D, both as the
    /// transformer leaves them, `[B, P]`. `[seg]` is taken behind the first frame; a mean token has seen all frames.
    pub grounding: Tensor<B, 2>,
}

/// Projections, transformer and the learnable `[seg]`. See the [module docs](super).
#[derive(Module, Debug)]
pub struct Fusion<B: Backend> {
    /// Projection of the audio features.
    pub audio: Projection<B>,
    /// Projection of the text features.
    pub text: Projection<B>,
    /// Projection of the patches and of `[cls]`.
    pub vision: Projection<B>,
    /// The learnable `[seg]` tokens, `[n, D]`.
    pub seg: Param<Tensor<B, 2>>,
    /// Learned audio positions, `[64, D]`, where configured.
    pub audio_positions: Option<Param<Tensor<B, 2>>>,
    /// The transformer.
    pub transformer: FusionTransformer<B>,
    /// From the final `[seg]` to SAM 2's prompt.
    pub prompt: Projection<B>,
    accumulate: bool,
    inclusive: bool,
    mean: bool,
    max_frames: usize,
}

impl<B: Backend> FusionInput<B> {
    /// What of a long clip is fused: see [`FusionConfig::max_frames`].
    fn fused(mut self, limit: usize) -> Self {
        let device = self.audio.device();
        let [_, seconds, _] = self.audio.dims();
        let [_, frames, _] = self.cls.dims();
        if let Some(seconds) = chosen(limit, seconds, &device) {
            self.audio = self.audio.select(1, seconds);
        }
        if let Some(frames) = chosen(limit, frames, &device) {
            self.patches = self.patches.select(1, frames.clone());
            self.cls = self.cls.select(1, frames);
        }
        self
    }
}

impl FusionConfig {
    /// Builds the fusion with fresh weights.
    pub fn init<B: Backend>(&self, widths: &FusionInputWidths, device: &B::Device) -> Fusion<B> {
        let d = self.width;
        let modality = |from| ProjectionConfig::new(from, self.projection_width, d).init(device);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        Fusion {
            audio: modality(widths.audio),
            text: modality(widths.text),
            vision: modality(widths.vision),
            seg: small.init([self.seg_tokens, d], device),
            audio_positions: (self.audio_positions == AudioPositions::Learned)
                .then(|| small.init([Self::MAX_AUDIO, d], device)),
            transformer: FusionTransformer::new(self, device),
            prompt: ProjectionConfig::new(d, d, widths.prompt).init(device),
            accumulate: self.accumulation,
            inclusive: self.history == History::Inclusive,
            mean: self.strategy == Strategy::Mean,
            max_frames: self.max_frames,
        }
    }
}

impl<B: Backend> Fusion<B> {
    /// The prompt of each clip.
    ///
    /// # Shapes
    /// - output: `[B, 1, D_prompt]`: the first `[seg]`, or the mean token
    ///
    /// # Panics
    /// If there is no frame; with learned audio positions, if more than 64 audio features are fused.
    pub fn forward(&self, input: FusionInput<B>) -> Tensor<B, 3> {
        self.prompt.forward(self.fuse(input, false).token)
    }

    /// The prompt of each clip, and where in its first frame the object is.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_grounded(&self, input: FusionInput<B>) -> FusionOutput<B> {
        let fused = self.fuse(input, true);
        let Grounds { token, patches } = fused.grounds.expect("they were asked for");
        let [b, p, d] = patches.dims();
        let products = matmul(token, patches.swap_dims(1, 2)); // [B, 1, P]
        FusionOutput {
            prompt: self.prompt.forward(fused.token),
            grounding: products.reshape([b, p]) / (d as f64).sqrt(),
        }
    }

    fn fuse(&self, input: FusionInput<B>, grounded: bool) -> Fused<B> {
        let input = input.fused(self.max_frames);
        let mut audio = self.audio.forward(input.audio);
        if let Some(positions) = &self.audio_positions {
            let [_, a, _] = audio.dims();
            audio = audio + positions.val().narrow(0, 0, a).unsqueeze();
        }
        let tokens = ProjectedTokens {
            audio,
            text: self.text.forward(input.text),
            text_padding: input.text_padding,
            patches: self.vision.forward(input.patches),
            cls: self.vision.forward(input.cls),
        };
        if self.mean {
            self.mean_token(&tokens, grounded)
        } else {
            self.seg_token(&tokens, grounded)
        }
    }

    /// The first `[seg]` behind the last frame.
    fn seg_token(&self, tokens: &ProjectedTokens<B>, grounded: bool) -> Fused<B> {
        let [b, ..] = tokens.audio.dims();
        let [n, d] = self.seg.dims();
        let seg = self.seg.val().unsqueeze::<3>().expand([b, n, d]);
        let kind = if self.inclusive {
            History::Inclusive
        } else {
            History::Previous
        };
        let history = self.accumulate.then_some(kind);
        propagate(&self.transformer, seg, tokens, history, grounded)
    }

    /// The mean over one sequence that holds all frames, padding left out.
    fn mean_token(&self, tokens: &ProjectedTokens<B>, grounded: bool) -> Fused<B> {
        let [b, t, p, d] = tokens.patches.dims();
        let sequence = tokens.sequence(tokens.patches.clone().reshape([b, t * p, d]));
        let padding = tokens.padding(0, t * p);
        let output = self.transformer.forward(sequence, padding.clone());
        let [_, length, _] = output.dims();
        let kept = padding.bool_not().float().unsqueeze_dim::<3>(2); // [B, L, 1]
        let token = (output.clone() * kept.clone()).sum_dim(1) / kept.sum_dim(1);
        let grounds = grounded.then(|| Grounds {
            token: token.clone(),
            patches: output.narrow(1, length - t * p, p),
        });
        Fused { token, grounds }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::config::fused, *};
    use burn::tensor::{Distribution, Tolerance};
    type B = burn_flex::Flex;

    const WIDTHS: FusionInputWidths = FusionInputWidths {
        audio: 5,
        text: 6,
        vision: 7,
        prompt: 8,
    };

    fn config() -> FusionConfig {
        FusionConfig {
            width: 16,
            projection_width: 12,
            heads: 2,
            ..FusionConfig::nano()
        }
    }

    fn input(b: usize, t: usize, padded: usize) -> FusionInput<B> {
        let device = Default::default();
        let normal = Distribution::Normal(0.0, 1.0);
        let text_padding: Vec<bool> = (0..b).flat_map(|_| (0..4).map(|i| i + padded >= 4)).collect();
        FusionInput {
            audio: Tensor::random([b, 3, 5], normal, &device),
            text: Tensor::random([b, 4, 6], normal, &device),
            text_padding: Tensor::from_data(TensorData::new(text_padding, [b, 4]), &device),
            patches: Tensor::random([b, t, 9, 7], normal, &device),
            cls: Tensor::random([b, t, 7], normal, &device),
        }
    }

    fn distance(a: Tensor<B, 3>, b: Tensor<B, 3>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    #[test]
    fn every_switch_gives_one_prompt_and_matters() {
        let device = Default::default();
        let variants = [
            config(),
            FusionConfig {
                accumulation: false,
                ..config()
            },
            FusionConfig {
                history: History::Inclusive,
                ..config()
            },
            FusionConfig {
                strategy: Strategy::Mean,
                ..config()
            },
        ];
        let input = input(2, 3, 1);
        let fusion = config().init::<B>(&WIDTHS, &device);
        // Weights get their values when they are first used, and copies made before get other ones.
        fusion.forward(input.clone());
        let outputs: Vec<_> = variants
            .iter()
            .map(|variant| {
                // The same weights under another switch.
                let other = variant
                    .init::<B>(&WIDTHS, &device)
                    .load_record(fusion.clone().into_record());
                let output = other.forward(input.clone());
                assert_eq!(output.dims(), [2, 1, 8]);
                output
            })
            .collect();
        for i in 0..outputs.len() {
            for j in 0..i {
                assert!(
                    distance(outputs[i].clone(), outputs[j].clone()) > 1e-5,
                    "variants {i} and {j} agree"
                );
            }
        }
    }

    #[test]
    fn of_a_long_clip_some_frames_are_fused() {
        assert_eq!(FusionConfig::nano().fused(10), (0..10).collect::<Vec<_>>());
        assert_eq!(fused(4, 10), [0, 2, 5, 7]);
        assert_eq!(fused(0, 3), [0, 1, 2]);
        for strategy in [Strategy::Learnable, Strategy::Mean] {
            let all = FusionConfig {
                strategy,
                max_frames: 0,
                ..config()
            }
            .init::<B>(&WIDTHS, &Default::default());
            let long = input(2, 5, 1);
            // Only now do its weights have values.
            let of_all = all.forward(long.clone());
            let some = FusionConfig {
                strategy,
                max_frames: 2,
                ..config()
            }
            .init::<B>(&WIDTHS, &Default::default())
            .load_record(all.clone().into_record());
            let mut short = long.clone();
            let at = |indices: [i64; 2]| Tensor::<B, 1, Int>::from_data(indices, &Default::default());
            short.audio = long.audio.clone().select(1, at([0, 1]));
            short.patches = long.patches.clone().select(1, at([0, 2]));
            short.cls = long.cls.clone().select(1, at([0, 2]));
            let chosen = some.forward(long.clone());
            assert_eq!(distance(chosen.clone(), all.forward(short.clone())), 0.0);
            assert!(distance(chosen, of_all) > 1e-5);
            assert_eq!(distance(some.forward(short.clone()), all.forward(short)), 0.0);
        }
    }

    #[test]
    fn padding_has_no_say() {
        let fusion = config().init::<B>(&WIDTHS, &Default::default());
        let mean = FusionConfig {
            strategy: Strategy::Mean,
            ..config()
        }
        .init::<B>(&WIDTHS, &Default::default());
        let input = input(1, 2, 2);
        let mut noisy = input.clone();
        let noise = Tensor::random([1, 2, 6], Distribution::Normal(0.0, 5.0), &Default::default());
        noisy.text = noisy.text.slice_assign([0..1, 2..4, 0..6], noise);
        for fusion in [fusion, mean] {
            let (a, b) = (fusion.forward(input.clone()), fusion.forward(noisy.clone()));
            a.into_data()
                .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-5));
        }
    }

    #[test]
    fn a_batch_is_its_clips_side_by_side() {
        let fusion = config().init::<B>(&WIDTHS, &Default::default());
        let input = input(3, 2, 1);
        let all = fusion.forward(input.clone());
        for i in 0..3 {
            let one = fusion.forward(FusionInput {
                audio: input.audio.clone().narrow(0, i, 1),
                text: input.text.clone().narrow(0, i, 1),
                text_padding: input.text_padding.clone().narrow(0, i, 1),
                patches: input.patches.clone().narrow(0, i, 1),
                cls: input.cls.clone().narrow(0, i, 1),
            });
            assert!(distance(one, all.clone().narrow(0, i, 1)) < 1e-5);
        }
    }

    #[test]
    fn audio_is_a_set_unless_positions_are_learned() {
        let device = Default::default();
        let mut input = input(1, 2, 1);
        let fusion = config().init::<B>(&WIDTHS, &device);
        let ordered = FusionConfig {
            audio_positions: AudioPositions::Learned,
            ..config()
        }
        .init::<B>(&WIDTHS, &device);
        let before = (fusion.forward(input.clone()), ordered.forward(input.clone()));
        input.audio = input.audio.flip([1]);
        assert!(distance(fusion.forward(input.clone()), before.0) < 1e-5);
        assert!(distance(ordered.forward(input), before.1) > 1e-5);
    }

    /// What stands where in the sequence, seen through a transformer without layers.
    #[test]
    fn grounding_is_of_the_first_seg_and_the_first_frames_patches() {
        let fusion = FusionConfig {
            layers: 0,
            seg_tokens: 2,
            history: History::Inclusive,
            ..config()
        }
        .init::<B>(&WIDTHS, &Default::default());
        let input = input(2, 3, 1);
        let patches = fusion
            .vision
            .forward(input.patches.clone())
            .narrow(1, 0, 1)
            .reshape([2, 9, 16]);
        let seg = fusion
            .seg
            .val()
            .narrow(0, 0, 1)
            .reshape([1, 16, 1])
            .expand([2, 16, 1]);
        let expected = patches.matmul(seg).reshape([2, 9]) / 4.0;
        let found = fusion.forward_grounded(input).grounding;
        found
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn grounding_follows_the_first_frames_patches_alone() {
        for strategy in [Strategy::Learnable, Strategy::Mean] {
            let fusion = FusionConfig { strategy, ..config() }.init::<B>(&WIDTHS, &Default::default());
            let input = input(2, 3, 1);
            let flipped = |frame: usize| {
                let mut flipped = input.clone();
                let patches = input.patches.clone().narrow(1, frame, 1).flip([2]);
                flipped.patches = flipped
                    .patches
                    .slice_assign([0..2, frame..frame + 1, 0..9, 0..7], patches);
                fusion.forward_grounded(flipped)
            };
            // Patches have no positions, so that another order changes no prompt.
            let output = fusion.forward_grounded(input.clone());
            for (frame, expected) in [(0, output.grounding.clone().flip([1])), (1, output.grounding)] {
                let other = flipped(frame);
                assert!(distance(other.prompt, output.prompt.clone()) < 1e-5);
                assert!(
                    distance(other.grounding.unsqueeze(), expected.unsqueeze()) < 1e-5,
                    "{strategy:?}, {frame}"
                );
            }
        }
    }
}
