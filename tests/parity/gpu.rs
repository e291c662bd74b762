//! The parity cases on a GPU: the same functions as on the CPU, with the same bounds.
//!
//! A software adapter compiles every kernel for seconds; so an interaction is one case here, not two.

/// The cases on one backend; `$claim` gives its device, held, or nothing; `$bounds` are those of its numbers.
macro_rules! on_gpu {
    ($Gpu:ty, $claim:path, $bounds:expr) => {
        use burn::backend::Autodiff;

        use crate::{
            Bounds, clip, hiera, hiera_square, image_predictor, mask_decoder, memory_attention,
            memory_encoder, neck, other_geometry, prompt_encoder, roads, roberta, session,
            two_way_transformer, vggish, video_options, vit,
        };

        const BOUNDS: Bounds = $bounds;

        #[test]
        fn roads_agree() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            roads::check::<Autodiff<$Gpu>>(&gpu, BOUNDS);
        }

        #[test]
        fn hiera_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            hiera::check::<$Gpu>("hiera", hiera::config(), 2, &gpu, BOUNDS.module);
        }

        #[test]
        fn hiera_square_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            hiera::check::<$Gpu>(
                "hiera_square",
                hiera_square::config(),
                1,
                &gpu,
                BOUNDS.module,
            );
        }

        #[test]
        fn neck_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            neck::check::<$Gpu>(2, &gpu, BOUNDS.module);
        }

        #[test]
        fn prompt_encoder_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            prompt_encoder::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn mask_decoder_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            mask_decoder::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn memory_attention_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            memory_attention::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn memory_encoder_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            memory_encoder::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn two_way_transformer_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            two_way_transformer::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn image_predictor_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            image_predictor::check::<$Gpu>(&gpu, BOUNDS.image_model);
        }

        #[test]
        fn other_geometry_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            other_geometry::check_image::<$Gpu>(&gpu, BOUNDS.image_model);
        }

        #[test]
        fn video_session_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            let video = session::video().without_postprocessing();
            let config = crate::image_path::config();
            let unrounded = video.clone().with_round_memory(false);
            session::check::<$Gpu>("video_session", &config, unrounded, &gpu, BOUNDS.unrounded);
            session::check::<$Gpu>("video_session", &config, video, &gpu, BOUNDS.tracked);
        }

        #[test]
        fn video_options_agree() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            video_options::check::<$Gpu>(
                session::video().with_round_memory(false),
                &gpu,
                BOUNDS.unrounded,
            );
        }

        #[test]
        fn memory_attention_gradients_agree() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            memory_attention::check_gradients::<Autodiff<$Gpu>>(&gpu, BOUNDS.module, BOUNDS.gradient);
        }

        #[test]
        fn vggish_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            vggish::check::<$Gpu>(&gpu, BOUNDS.module, BOUNDS.quantised);
        }

        #[test]
        fn vit_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            vit::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn roberta_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            roberta::check::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn clip_vision_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            clip::check_vision::<$Gpu>(&gpu, BOUNDS.module);
        }

        #[test]
        fn clip_text_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            clip::check_text::<$Gpu>(&gpu, BOUNDS.module);
        }
    };
}

/// Cases that 10 bits do not hold, or hold by chance: object scores and gradients of the trunk miss the bounds (book,
/// Performance), a gradient that should vanish does not, and other logits fill other holes.
macro_rules! exactly_on_gpu {
    ($Gpu:ty, $claim:path) => {
        #[test]
        fn image_path_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            crate::image_path::check::<$Gpu>(&gpu, BOUNDS.image_model);
        }

        #[test]
        fn image_gradients_agree() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            crate::image_gradients::check::<Autodiff<$Gpu>>(&gpu, BOUNDS.image_model, BOUNDS.gradient);
        }

        #[test]
        fn mask_decoder_gradients_agree() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            crate::mask_decoder::check_gradients::<Autodiff<$Gpu>>(&gpu, BOUNDS.module, BOUNDS.gradient);
        }

        #[test]
        fn track_token_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            crate::track::check(crate::track_token::case::<$Gpu>(), &gpu, BOUNDS.tracked);
        }

        #[test]
        fn track_points_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            crate::track::check(crate::track_points::case::<$Gpu>(), &gpu, BOUNDS.tracked);
        }

        #[test]
        fn video_postprocess_agrees() {
            let Some((_alone, gpu)) = $claim() else {
                return;
            };
            let unrounded = crate::session::video().with_round_memory(false);
            crate::video_postprocess::check::<$Gpu>(unrounded, &gpu, BOUNDS.unrounded);
            crate::video_postprocess::check::<$Gpu>(crate::session::video(), &gpu, BOUNDS.tracked);
        }
    };
}

mod wgpu {
    on_gpu!(
        burn_love_tests::wgpu::Gpu,
        burn_love_tests::wgpu::claim,
        crate::Bounds::F32
    );
    exactly_on_gpu!(burn_love_tests::wgpu::Gpu, burn_love_tests::wgpu::claim);

    /// In f32 only, as those of [`exactly_on_gpu`].
    #[test]
    fn other_geometry_tracks_alike() {
        let Some((_alone, gpu)) = burn_love_tests::wgpu::claim() else {
            return;
        };
        other_geometry::check_video::<burn_love_tests::wgpu::Gpu>(
            other_geometry::video(),
            &gpu,
            BOUNDS.tracked,
        );
        other_geometry::check_video::<burn_love_tests::wgpu::Gpu>(
            other_geometry::video().with_round_memory(false),
            &gpu,
            BOUNDS.unrounded,
        );
    }
}

/// Products in f16, which has as many bits as TF32.
mod wgpu_f16 {
    use burn::prelude::*;
    use burn_love::ops::{matmul, resize_bilinear};
    use burn_love_tests::wgpu::{Gpu, claim, claim_f16};

    on_gpu!(Gpu, claim_f16, crate::Bounds::TF32);

    /// 12 bits behind the first, where f16 has 10.
    const FINE: f32 = 1.0 + 1.0 / 4096.0;

    #[test]
    fn factors_are_rounded_and_nothing_else() {
        let filled = |device: &_| Tensor::<Gpu, 3>::full([2, 8, 8], FINE, device);
        let least = |x: Tensor<Gpu, 3>| x.into_data().to_vec::<f32>().unwrap()[0];
        let product = |x: Tensor<Gpu, 3>| {
            let eye = Tensor::<Gpu, 2>::eye(8, &x.device()).unsqueeze::<3>();
            let eye = eye.expand([2, 8, 8]);
            matmul(x, eye)
        };
        let Some((held, gpu)) = claim_f16() else { return };
        assert_eq!(least(product(filled(&gpu))), 1.0);
        // The sum of many is f32 again.
        let ones = Tensor::<Gpu, 2>::ones([1, 4097], &gpu);
        assert_eq!(matmul(ones.clone(), ones.transpose()).into_scalar(), 4097.0);
        let map = filled(&gpu).reshape([1, 2, 8, 8]);
        let resized = resize_bilinear(map, [16, 16]).reshape([2, 16, 16]);
        assert!((least(resized) - FINE).abs() < 1e-6);
        drop(held);
        let Some((_alone, gpu)) = claim() else { return };
        assert_eq!(least(product(filled(&gpu))), FINE);
    }
}

#[cfg(feature = "cuda")]
mod cuda_f32 {
    on_gpu!(
        burn_love_tests::cuda::Gpu,
        burn_love_tests::cuda::claim_f32,
        crate::Bounds::F32
    );
    exactly_on_gpu!(burn_love_tests::cuda::Gpu, burn_love_tests::cuda::claim_f32);
}

#[cfg(feature = "cuda")]
mod cuda_f16 {
    on_gpu!(
        burn_love_tests::cuda::Gpu,
        burn_love_tests::cuda::claim_f16,
        crate::Bounds::TF32
    );
}

#[cfg(feature = "cuda")]
mod cuda_bf16 {
    on_gpu!(
        burn_love_tests::cuda::Gpu,
        burn_love_tests::cuda::claim_bf16,
        crate::Bounds::BF16
    );
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::{
        module::{Param, ParamId},
        nn::LinearConfig,
        prelude::*,
    };
    use burn_flex::Flex;
    use burn_love::ops::linear;
    use burn_love_tests::cuda::{Gpu, claim};

    on_gpu!(
        burn_love_tests::cuda::Gpu,
        burn_love_tests::cuda::claim,
        crate::Bounds::TF32
    );

    /// Small whole numbers, whose products are exact in TF32 too: what kernels add from beyond an inner width shows.
    #[test]
    fn products_of_every_width_are_exact() {
        let Some((_alone, gpu)) = claim() else { return };
        let number = |i: usize| ((i * 7919 + i / 11) % 7) as f32 - 3.0;
        let mut wrong = Vec::new();
        for width in (4..=256)
            .step_by(4)
            .chain([288, 320, 384, 448, 576, 768, 1152, 3072])
        {
            for (rows, columns) in [(16, 64), (64, 96), (100, 768), (4096, 72), (196, 196)] {
                let left = TensorData::new((0..2 * rows * width).map(number).collect(), [2, rows, width]);
                let right = TensorData::new(
                    (5..5 + 2 * width * columns).map(number).collect(),
                    [2, width, columns],
                );
                let expected = exact::<Flex>(&left, &right, &Default::default());
                // In two pieces of a batch, and as a linear layer has it.
                if exact::<Gpu>(&left, &right, &gpu) != expected
                    || layer::<Gpu>(&left, &right, &gpu) != layer::<Flex>(&left, &right, &Default::default())
                {
                    wrong.push([rows, width, columns]);
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "wrong products of rows, width, columns: {wrong:?}"
        );
    }

    /// The first matrices alone.
    fn layer<B: Backend>(left: &TensorData, right: &TensorData, device: &B::Device) -> Vec<f32> {
        let [left, right] = [left, right].map(|data| {
            let both = Tensor::<B, 3>::from_data(data.clone(), device);
            let [_, rows, columns] = both.dims();
            both.narrow(0, 0, 1).reshape([rows, columns])
        });
        let [width, columns] = right.dims();
        let mut layer = LinearConfig::new(width, columns)
            .with_bias(false)
            .init::<B>(device);
        layer.weight = Param::initialized(ParamId::new(), right);
        linear(&layer, left).into_data().to_vec().expect("f32")
    }

    fn exact<B: Backend>(left: &TensorData, right: &TensorData, device: &B::Device) -> Vec<f32> {
        let [left, right] = [left, right].map(|data| Tensor::<B, 3>::from_data(data.clone(), device));
        left.matmul(right).into_data().to_vec().expect("f32")
    }
}
