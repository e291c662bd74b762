//! Ten optimizer steps of the trained parts against PyTorch: fusion, projections, `[seg]`, prompt projection, SAM 2's
//! prompt encoder and mask decoder. AdamW with parameter groups, DeepSpeed's schedule, accumulation and clipping.
//!
//! Not compared, because only rounding or nothing moves them: biases of keys (a common shift of all keys changes no
//! attention), and what one mask without a score does not depend on: the heads of IoU and object score, the hypernetworks of
//! the other masks, and of the prompt encoder all but the embedding that stands for no mask.

use burn::{
    backend::Autodiff,
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::{GradientsAccumulator, GradientsParams},
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_love::{
    fusion::{Fusion, FusionConfig, FusionInput, FusionInputWidths},
    love::{LoveConfig, Sam2Love, Trainable},
    sam2::{NeckFeatures, Sam2},
    weights::keys,
};
use burn_love_tests::{Fixture, ParameterPath};
use burn_love_train::{
    config::TrainConfig,
    training::{GroupedAdamW, Objective, WarmupDecayConfig, average_and_clip, parts},
};

use crate::{Cpu, GRADIENT, image_path, report};

type B = Autodiff<Cpu>;

const STEPS: usize = 10;
const MICRO_BATCHES: usize = 6;

/// Largest relative error of a step's loss.
const LOSS: f64 = 1e-4;

/// Largest norm of the difference between a tensor's ways, relative to the way.
const WAY: f64 = 1e-2;

/// The parts that the fixture has weights of.
#[derive(Module, Debug)]
struct Parts<B: Backend> {
    fusion: Fusion<B>,
    sam2: Sam2<B>,
}

fn train_config() -> TrainConfig {
    TrainConfig {
        steps: STEPS,
        accumulation: 2,
        lr: 1e-3,
        warmup_steps: 3,
        weight_decay: 0.05,
        clip_norm: 6.0,
        ..TrainConfig::paper()
    }
}

fn model(fixture: &Fixture) -> Sam2Love<B> {
    let device = Default::default();
    let mut config = LoveConfig::nano();
    config.sam2.model = image_path::config_2_0();
    config.fusion = FusionConfig {
        width: 24,
        projection_width: 32,
        layers: 2,
        heads: 4,
        mlp_ratio: 2,
        ..FusionConfig::paper()
    };
    let widths = FusionInputWidths {
        audio: 12,
        text: 10,
        vision: 14,
        prompt: 32,
    };
    let parts = Parts {
        fusion: config.fusion.init(&widths, &device),
        sam2: config.sam2.model.init(&device),
    };
    let parts: Parts<B> = fixture.load_into(parts, keys::love);
    let fresh: Sam2Love<B> = config.init(&device);
    let whole = Sam2Love {
        fusion: parts.fusion,
        sam2: parts.sam2,
        ..fresh
    };
    whole.freeze(&Trainable::PAPER)
}

/// Loss of a micro-batch, with the image encoder as training runs it: without autodiff.
fn loss(fixture: &Fixture, model: &Sam2Love<B>, objective: &Objective, i: usize) -> Tensor<B, 1> {
    let device = Default::default();
    let name = |kind: &str| format!("{kind}.{i}");
    let features = FusionInput {
        audio: fixture.tensor(&name("audio"), &device),
        text: fixture.tensor(&name("text"), &device),
        text_padding: fixture.tensor::<B, 2>(&name("padding"), &device).bool(),
        patches: fixture.tensor(&name("patches"), &device),
        cls: fixture.tensor(&name("cls"), &device),
    };
    let pixels = fixture.images::<Cpu>(&name("pixels"), &device);
    let neck = model.sam2.image_encoder.valid().forward(pixels);
    let tracked = |map: Tensor<Cpu, 4>| Tensor::<B, 4>::from_inner(map);
    let neck = NeckFeatures {
        stride4: tracked(neck.stride4),
        stride8: tracked(neck.stride8),
        stride16: tracked(neck.stride16),
    };
    let output = model.forward_features(features, neck, 1, false);
    let labels = fixture.tensor(&name("labels"), &device);
    objective.losses(&output, labels, None).total
}

#[test]
fn ten_steps_lead_where_pytorchs_do() {
    let fixture = Fixture::load("ten_steps");
    let config = train_config();
    let mut model = model(&fixture);
    let parts = parts(&model, &config);
    let mut optimizer = GroupedAdamW::new(&config, &model, &parts);
    let objective = Objective::new(&config);
    let schedule = WarmupDecayConfig::new(&config, STEPS).init();
    let recorded = |name: &str| -> Vec<f64> { fixture.data(name).iter().collect() };
    let (losses, norms) = (recorded("losses"), recorded("norms"));
    let mut errors = Vec::new();
    for step in 0..STEPS {
        let mut accumulator = GradientsAccumulator::new();
        let mut total = 0.0;
        for k in 0..config.accumulation {
            let i = (step * config.accumulation + k) % MICRO_BATCHES;
            let loss = loss(&fixture, &model, &objective, i);
            total += f64::from(loss.clone().into_scalar()) / config.accumulation as f64;
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            accumulator.accumulate(&model, grads);
        }
        let mut grads = accumulator.grads();
        if step == 0 {
            errors.extend(first_gradients(&fixture, &model, &grads, config.accumulation));
        }
        let norm = average_and_clip::<B, _>(&model, &mut grads, config.accumulation, config.clip_norm);
        let error = (total - losses[step]).abs() / losses[step];
        assert!(
            error <= LOSS,
            "step {step}: loss {total} against {}",
            losses[step]
        );
        let of_norm = (norm - norms[step]).abs() / norms[step];
        assert!(
            of_norm <= 10.0 * LOSS,
            "step {step}: norm {norm} against {}",
            norms[step]
        );
        errors.push(error);
        model = optimizer.step(schedule.at(step), model, grads);
    }
    report("ten_steps (losses and first gradients)", &errors);
    report("ten_steps (ways)", &ways(&fixture, &model));
}

/// Visits the parameters of a model under their names in the fixture.
struct Named<F> {
    path: ParameterPath,
    visit: F,
}

/// What [`Named`] calls: name, whether PyTorch stores it transposed, and the parameter's values.
trait Visit {
    fn visit<const D: usize>(&mut self, name: &str, transposed: bool, param: &Param<Tensor<B, D>>);
}

impl<F: Visit> ModuleVisitor<B> for Named<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = keys::love(&self.path.dotted());
        self.visit.visit(&name, self.path.is_transposed::<D>(), param);
    }
}

fn visit<F: Visit>(model: &Sam2Love<B>, visit: F) -> F {
    let mut named = Named {
        path: ParameterPath::default(),
        visit,
    };
    model.visit(&mut named);
    named.visit
}

/// Values in PyTorch's order.
fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>, transposed: bool) -> Vec<f64> {
    let tensor = if transposed {
        tensor.swap_dims(0, 1)
    } else {
        tensor
    };
    tensor.into_data().iter().collect()
}

fn largest(values: &[f64]) -> f64 {
    assert!(values.iter().all(|value| value.is_finite()));
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

struct Gradients<'a> {
    fixture: &'a Fixture,
    grads: &'a GradientsParams,
    count: f64,
    /// Below it a gradient is nothing but rounding.
    floor: f64,
    errors: Vec<f64>,
    seen: usize,
}

impl Visit for Gradients<'_> {
    fn visit<const D: usize>(&mut self, name: &str, transposed: bool, param: &Param<Tensor<B, D>>) {
        let found = self
            .grads
            .get::<<B as AutodiffBackend>::InnerBackend, D>(param.id)
            .map(|grad| values(grad / self.count, transposed))
            .unwrap_or_default();
        let key = format!("grad.{name}");
        if !self.fixture.contains(&key) {
            assert_eq!(largest(&found), 0.0, "{name} has a gradient");
            return;
        }
        self.seen += 1;
        let expected: Vec<f64> = self.fixture.data(&key).iter().collect();
        if largest(&expected) <= self.floor {
            assert!(largest(&found) <= self.floor, "{name} has a gradient");
            return;
        }
        let difference: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
        let error = largest(&difference) / largest(&expected);
        assert!(
            found.len() == expected.len() && error <= GRADIENT,
            "gradient of {name}: {error:.1e}"
        );
        self.errors.push(error);
    }
}

/// Errors of the first step's averaged gradients, before clipping.
fn first_gradients(
    fixture: &Fixture,
    model: &Sam2Love<B>,
    grads: &GradientsParams,
    count: usize,
) -> Vec<f64> {
    let names: Vec<&str> = fixture.names("grad.").collect();
    let scale = names.iter().map(|name| {
        let values: Vec<f64> = fixture.data(name).iter().collect();
        largest(&values)
    });
    let compared = visit(
        model,
        Gradients {
            fixture,
            grads,
            count: count as f64,
            floor: 1e-5 * scale.fold(0.0, f64::max),
            errors: Vec::new(),
            seen: 0,
        },
    );
    assert_eq!(compared.seen, names.len());
    compared.errors
}

struct Ways<'a> {
    fixture: &'a Fixture,
    errors: Vec<f64>,
}

impl Visit for Ways<'_> {
    fn visit<const D: usize>(&mut self, name: &str, transposed: bool, param: &Param<Tensor<B, D>>) {
        let key = format!("after.{name}");
        if !self.fixture.contains(&key) {
            return;
        }
        let recorded = |key: &str| -> Vec<f64> { self.fixture.data(key).iter().collect() };
        let (before, after) = (recorded(&format!("state.{name}")), recorded(&key));
        let found = values(param.val(), transposed);
        let norm = |values: &[f64], from: &[f64]| -> f64 {
            let squares = values.iter().zip(from).map(|(a, b)| (a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let error = norm(&found, &after) / norm(&after, &before);
        assert!(
            error <= WAY,
            "the way of {name} is off by {error:.1e} of its length"
        );
        self.errors.push(error);
    }
}

/// For each tensor, how far it ended from PyTorch's, relative to the way that it went.
fn ways(fixture: &Fixture, model: &Sam2Love<B>) -> Vec<f64> {
    let compared = visit(
        model,
        Ways {
            fixture,
            errors: Vec::new(),
        },
    );
    assert_eq!(compared.errors.len(), fixture.names("after.").count());
    compared.errors
}
