//! SAM 2 is trainable part by part: freezing one takes its gradients away and no others.

use std::collections::BTreeSet;

use burn::{
    backend::Autodiff,
    module::{Module, ModuleVisitor, Param},
    prelude::*,
    tensor::{Distribution, backend::AutodiffBackend},
};
use burn_flex::Flex;
use burn_love::sam2::{MaskSelection, Points, Sam2, Sam2Config, memory_attention::Memories};
use burn_love_tests::ParameterPath;

use crate::data::alone;

type B = Autodiff<Flex>;

/// Side of the frames.
const SIDE: usize = 64;

/// What no mask, score or predicted IoU of the two frames depends on: the rest of a memory bank, and the encoding
/// that is never trained.
const UNREACHED: [&str; 4] = [
    "mask_downsample.",
    "no_mem_pos_enc",
    "obj_ptr_tpos_proj.",
    "sam_prompt_encoder.pe_layer.",
];

#[derive(Clone, Copy, Debug)]
enum Part {
    ImageEncoder,
    MemoryAttention,
    MemoryEncoder,
    PromptEncoder,
    MaskDecoder,
    PointerProjection,
}

const PARTS: [(Part, &str); 6] = [
    (Part::ImageEncoder, "image_encoder."),
    (Part::MemoryAttention, "memory_attention."),
    (Part::MemoryEncoder, "memory_encoder."),
    (Part::PromptEncoder, "sam_prompt_encoder."),
    (Part::MaskDecoder, "sam_mask_decoder."),
    (Part::PointerProjection, "obj_ptr_proj."),
];

fn freeze(mut model: Sam2<B>, part: Part) -> Sam2<B> {
    match part {
        Part::ImageEncoder => model.image_encoder = model.image_encoder.no_grad(),
        Part::MemoryAttention => model.memory_attention = model.memory_attention.no_grad(),
        Part::MemoryEncoder => model.memory_encoder = model.memory_encoder.no_grad(),
        Part::PromptEncoder => model.sam_prompt_encoder = model.sam_prompt_encoder.no_grad(),
        Part::MaskDecoder => model.sam_mask_decoder = model.sam_mask_decoder.no_grad(),
        Part::PointerProjection => model.obj_ptr_proj = model.obj_ptr_proj.no_grad(),
    }
    model
}

/// Two frames with every kind of prompt, the second conditioned on the first's memory: the masks, scores and IoUs.
fn loss(model: &Sam2<B>) -> Tensor<B, 1> {
    let device = Default::default();
    Flex::seed(&device, 5);
    let images = Tensor::random([2, 3, SIDE, SIDE], Distribution::Normal(0.0, 1.0), &device);
    let features = model.forward_image(images);
    let points = |values: [[f32; 2]; 5], labels: [i32; 5]| Points {
        coordinates: Tensor::<B, 2>::from_data(values, &device).unsqueeze(),
        labels: Tensor::<B, 1, Int>::from_data(labels, &device).unsqueeze(),
    };
    let corners = [[5.0, 6.0], [50.0, 60.0], [20.0, 30.0], [60.0, 10.0], [0.0, 0.0]];
    let encoder = &model.sam_prompt_encoder;
    let prompts = [
        encoder.forward(Some(points(corners, [2, 3, 1, 0, -1])), None, SIDE),
        encoder.forward(None, Some(Tensor::ones([1, 1, 16, 16], &device)), SIDE),
    ];

    let mut total = Tensor::zeros([1], &device);
    let mut memory = None;
    for (i, prompt) in prompts.into_iter().enumerate() {
        let mut frame = features.clone();
        frame.neck = frame.neck.images(i..i + 1);
        frame.high_res.stride4 = frame.high_res.stride4.narrow(0, i, 1);
        frame.high_res.stride8 = frame.high_res.stride8.narrow(0, i, 1);
        let embedding = match memory.take() {
            None => model.unconditioned(&frame),
            Some(memories) => model.conditioned(&frame, memories),
        };
        // Candidates and single masks: every hypernetwork has a say.
        let single = model.decode(embedding.clone(), &frame, prompt.clone(), MaskSelection::Single);
        let heads = model.decode(embedding, &frame, prompt, MaskSelection::Candidates);
        let squared = |x: Tensor<B, 4>| x.powi_scalar(2).mean();
        total = total
            + squared(single.multimask_logits)
            + squared(heads.multimask_logits)
            + heads.multimask_iou.sum()
            + heads.object_score.clone().sum();

        // Half present, so that the marks of absence are reached too.
        let present = heads.object_score.zeros_like() + 0.5;
        let spatial = model.encode_memory(
            frame.neck.stride16.clone(),
            heads.low_res_logits,
            present.clone(),
            false,
        );
        let pointer = model.object_pointer(heads.mask_token, present);
        let (memory_width, parts) = (model.config.memory_width, 128 / model.config.memory_width);
        let pointer = pointer.reshape([1, parts, memory_width]);
        let age = model
            .maskmem_tpos_enc
            .val()
            .sum_dim(0)
            .reshape([1, 1, memory_width]);
        let dated = model.tables.memory_position.clone() + age;
        memory = Some(Memories {
            spatial_rows: spatial.dims()[1],
            position: Tensor::cat(vec![dated, pointer.zeros_like()], 1),
            rows: Tensor::cat(vec![spatial, pointer], 1),
        });
    }
    total
}

/// Collects the names of parameters, and of those that have a gradient other than zero.
struct Reached<'a> {
    gradients: &'a <B as AutodiffBackend>::Gradients,
    path: ParameterPath,
    all: BTreeSet<String>,
    reached: BTreeSet<String>,
}

impl ModuleVisitor<B> for Reached<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = self.path.dotted();
        if let Some(gradient) = param.val().grad(self.gradients) {
            let largest = gradient.abs().max().into_scalar();
            assert!(largest.is_finite(), "{name}");
            if largest > 0.0 {
                self.reached.insert(name.clone());
            }
        }
        self.all.insert(name);
    }
}

/// Names of all parameters, and of those that a gradient reaches.
fn reached(model: &Sam2<B>) -> [BTreeSet<String>; 2] {
    let mut visitor = Reached {
        gradients: &loss(model).backward(),
        path: ParameterPath::default(),
        all: BTreeSet::new(),
        reached: BTreeSet::new(),
    };
    model.visit(&mut visitor);
    [visitor.all, visitor.reached]
}

#[test]
fn a_frozen_part_loses_its_gradients_and_no_other_does() {
    let _alone = alone();
    let device = Default::default();
    Flex::seed(&device, 1);
    let model: Sam2<B> = Sam2Config::nano().with_image_size(SIDE).init(&device);
    let [all, free] = reached(&model);
    let missing: Vec<_> = all.difference(&free).collect();
    let explained = |name: &&&String| UNREACHED.iter().any(|prefix| name.starts_with(prefix));
    let unexplained: Vec<_> = missing.iter().filter(|name| !explained(name)).collect();
    assert!(unexplained.is_empty(), "never trained: {unexplained:?}");

    for (part, prefix) in PARTS {
        let expected: BTreeSet<_> = free
            .iter()
            .filter(|name| !name.starts_with(prefix))
            .cloned()
            .collect();
        assert!(expected.len() < free.len(), "{part:?} has no gradients");
        let [_, found] = reached(&freeze(model.clone(), part));
        assert!(
            found == expected,
            "{part:?} frozen: {:?}",
            found.symmetric_difference(&expected).collect::<Vec<_>>()
        );
    }
}
