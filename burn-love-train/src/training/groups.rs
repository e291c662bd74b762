//! Parameter groups: AdamW with a learning rate and a weight decay of their own for the parts of a model.
//!
//! Parameters of one dimension (biases, norms, scales) have no weight decay. Groups that would be treated alike are one.

use std::collections::{BTreeMap, HashSet};

use burn::{
    module::{AutodiffModule, ModuleVisitor, Param, ParamId, list_param_ids},
    optim::{AdamW, AdamWConfig, GradientsParams, Optimizer, adaptor::OptimizerAdaptor},
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_love::love::Sam2Love;

use crate::config::TrainConfig;

/// The moments of all parameters, by id.
pub type Moments<B, M> = <OptimizerAdaptor<AdamW, M, B> as Optimizer<M, B>>::Record;

/// Parameters that are treated alike.
#[derive(Clone)]
struct Group<B: AutodiffBackend, M: AutodiffModule<B>> {
    ids: HashSet<ParamId>,
    /// Factor of the schedule's learning rate.
    lr_scale: f64,
    adam: OptimizerAdaptor<AdamW, M, B>,
}

/// AdamW over groups of parameters.
#[derive(Clone)]
pub struct GroupedAdamW<B: AutodiffBackend, M: AutodiffModule<B>> {
    groups: Vec<Group<B, M>>,
}

/// A part of a model: its parameters, and the factors of its learning rate and weight decay.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterPart {
    /// Its name, as in `train.lr_scale`.
    pub name: &'static str,
    /// Its parameters.
    pub ids: Vec<ParamId>,
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// Factor of the weight decay.
    pub weight_decay_scale: f64,
}

/// The parts of `model` with their factors: what [`Trainable`](burn_love::love::Trainable) names, and the rest, which is
/// the fusion.
pub fn parts<B: Backend>(model: &Sam2Love<B>, config: &TrainConfig) -> Vec<ParameterPart> {
    let sam2 = &model.sam2;
    let mut left: HashSet<ParamId> = list_param_ids(sam2).into_iter().collect();
    let image_encoder = list_param_ids(&sam2.image_encoder);
    let prompt_encoder = list_param_ids(&sam2.sam_prompt_encoder);
    let mask_decoder = list_param_ids(&sam2.sam_mask_decoder);
    for id in image_encoder.iter().chain(&prompt_encoder).chain(&mask_decoder) {
        left.remove(id);
    }
    let mut memory = list_param_ids(sam2);
    memory.retain(|id| left.contains(id));
    let encoders = &model.encoders;
    // In the order of `PartScales::named`.
    let ids = [
        list_param_ids(&model.fusion),
        mask_decoder,
        prompt_encoder,
        image_encoder,
        memory,
        list_param_ids(&encoders.audio),
        list_param_ids(&encoders.vision),
        list_param_ids(&encoders.text),
    ];
    let scales = config
        .lr_scale
        .named()
        .into_iter()
        .zip(config.weight_decay_scale.named());
    ids.into_iter()
        .zip(scales)
        .map(
            |(ids, ((name, lr_scale), (_, weight_decay_scale)))| ParameterPart {
                name,
                ids,
                lr_scale,
                weight_decay_scale,
            },
        )
        .collect()
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> GroupedAdamW<B, M> {
    /// The optimizer of what learns in `module`. Parameters of no part have the factors 1.
    pub fn new(config: &TrainConfig, module: &M, parts: &[ParameterPart]) -> Self {
        let part_of: BTreeMap<ParamId, &ParameterPart> = parts
            .iter()
            .flat_map(|part| part.ids.iter().map(move |id| (*id, part)))
            .collect();
        let mut learning = Learning(Vec::new());
        module.visit(&mut learning);
        // Keyed by the bits of two floats: equal factors are one group.
        let mut groups: BTreeMap<[u64; 2], HashSet<ParamId>> = BTreeMap::new();
        for (id, dimensions) in learning.0 {
            let (lr_scale, decay_scale) = part_of
                .get(&id)
                .map_or((1.0, 1.0), |part| (part.lr_scale, part.weight_decay_scale));
            let decay = if dimensions > 1 {
                config.weight_decay * decay_scale
            } else {
                0.0
            };
            let key = [lr_scale.to_bits(), decay.to_bits()];
            groups.entry(key).or_default().insert(id);
        }
        let groups = groups.into_iter().map(|([lr_scale, decay], ids)| Group {
            ids,
            lr_scale: f64::from_bits(lr_scale),
            adam: AdamWConfig::new()
                .with_beta_1(config.beta_1 as f32)
                .with_beta_2(config.beta_2 as f32)
                .with_epsilon(config.epsilon as f32)
                .with_weight_decay(f64::from_bits(decay) as f32)
                .init(),
        });
        Self {
            groups: groups.collect(),
        }
    }

    /// One step: every parameter that has a gradient moves.
    pub fn step(&mut self, lr: f64, mut module: M, mut grads: GradientsParams) -> M {
        for group in &mut self.groups {
            let mut own = Split {
                ids: &group.ids,
                from: &mut grads,
                into: GradientsParams::new(),
            };
            module.visit(&mut own);
            let own = own.into;
            module = group.adam.step(lr * group.lr_scale, module, own);
        }
        module
    }

    /// The moments of all groups.
    pub fn to_record(&self) -> Moments<B, M> {
        let mut records = self.groups.iter().map(|group| group.adam.to_record());
        let mut all = records.next().unwrap_or_default();
        records.for_each(|record| all.extend(record));
        all
    }

    /// Goes on from the moments of a record. Groups may have been drawn otherwise when it was taken.
    pub fn load_record(mut self, record: Moments<B, M>) -> Self {
        for group in &mut self.groups {
            let mut own = record.clone();
            own.retain(|id, _| group.ids.contains(id));
            group.adam = group.adam.clone().load_record(own);
        }
        self
    }
}

/// Parameters that learn, with their numbers of dimensions.
struct Learning(Vec<(ParamId, usize)>);

impl<B: Backend> ModuleVisitor<B> for Learning {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if param.is_require_grad() {
            self.0.push((param.id, D));
        }
    }
}

/// Moves some gradients from one set into another.
struct Split<'a> {
    ids: &'a HashSet<ParamId>,
    from: &'a mut GradientsParams,
    into: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Split<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if self.ids.contains(&param.id)
            && let Some(grad) = self.from.remove::<B::InnerBackend, D>(param.id)
        {
            self.into.register(param.id, grad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

    type B = burn_autodiff::Autodiff<burn_flex::Flex>;

    fn values<const D: usize>(tensor: &Param<Tensor<B, D>>) -> Vec<f32> {
        tensor.val().into_data().to_vec().unwrap()
    }

    /// Both layers see gradients of 0.5 everywhere.
    fn stepped(config: &TrainConfig, scales: [(f64, f64); 2], steps: usize) -> [Linear<B>; 2] {
        let device = Default::default();
        let init = burn::module::Initializer::Constant { value: 2.0 };
        let layer = || {
            LinearConfig::new(3, 2)
                .with_initializer(init.clone())
                .init(&device)
        };
        let mut layers: [Linear<B>; 2] = [layer(), layer()];
        let parts: Vec<ParameterPart> = layers
            .iter()
            .zip(scales)
            .map(|(layer, (lr_scale, weight_decay_scale))| ParameterPart {
                name: "layer",
                ids: list_param_ids(layer),
                lr_scale,
                weight_decay_scale,
            })
            .collect();
        let mut optimizer = GroupedAdamW::new(config, &layers, &parts);
        for _ in 0..steps {
            let x = Tensor::<B, 2>::full([1, 3], 1.0, &device);
            let out = layers[0].forward(x.clone()).sum() + layers[1].forward(x).sum();
            let grads = GradientsParams::from_grads((out * 0.5).backward(), &layers);
            // Through a record, as a resumed run goes on.
            let record = optimizer.to_record();
            optimizer = GroupedAdamW::new(config, &layers, &parts).load_record(record);
            layers = optimizer.step(0.1, layers, grads);
        }
        layers
    }

    fn config() -> TrainConfig {
        TrainConfig {
            weight_decay: 0.5,
            ..TrainConfig::paper()
        }
    }

    /// The first step of AdamW moves by the learning rate against the gradient's sign, whatever its size; decay takes
    /// `lr · decay` of the weight before.
    #[test]
    fn each_part_has_its_rate_and_its_decay() {
        let [first, second] = stepped(&config(), [(1.0, 1.0), (0.1, 0.5)], 1);
        let close = |found: &[f32], expected: f32| {
            assert!(
                found.iter().all(|x| (x - expected).abs() < 1e-5),
                "{found:?}, expected {expected}"
            );
        };
        close(&values(&first.weight), 2.0 - 2.0 * 0.1 * 0.5 - 0.1);
        close(&values(&second.weight), 2.0 - 2.0 * 0.01 * 0.25 - 0.01);
    }

    #[test]
    fn biases_do_not_decay() {
        let [first, second] = stepped(&config(), [(1.0, 1.0), (1.0, 0.0)], 3);
        let (decayed, free) = (values(&first.weight), values(&second.weight));
        assert!(
            decayed.iter().zip(&free).all(|(a, b)| a < b),
            "{decayed:?} {free:?}"
        );
        // With the same rate and gradients, all that differs is the decay.
        assert_eq!(values(first.bias.as_ref().unwrap()), free[..2]);
    }

    #[test]
    fn groups_that_are_alike_are_one() {
        let linear = LinearConfig::new(3, 2).init::<B>(&Default::default());
        let groups = |weight_decay| {
            let config = TrainConfig {
                weight_decay,
                ..TrainConfig::paper()
            };
            GroupedAdamW::new(&config, &linear, &[]).groups.len()
        };
        assert_eq!((groups(0.0), groups(0.1)), (1, 2));
        let frozen = linear.clone().no_grad();
        assert!(GroupedAdamW::new(&config(), &frozen, &[]).groups.is_empty());
    }
}
