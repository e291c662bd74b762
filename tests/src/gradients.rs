//! Gradients of a whole module against recorded ones.

use std::collections::BTreeSet;

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
    tensor::backend::AutodiffBackend,
};

use crate::{Fixture, ParameterPath, STATE, assert_close, largest};

/// Prefix of recorded gradients.
const GRAD: &str = "grad.";

/// Share of the largest gradient below which one vanishes but for rounding. The generators assert that only the
/// biases of keys are there: a common shift of all keys changes no attention.
const VANISHING: f64 = 1e-5;

/// Compares the gradients of all parameters of `module`, called `key(path)` upstream, with those that the fixture
/// records as `grad.{key}`; returns their errors. A parameter without a record must have no gradient or a zero one,
/// and where the recorded gradient vanishes this one must vanish too.
#[track_caller]
pub fn assert_gradients<B: AutodiffBackend, M: Module<B>>(
    fixture: &Fixture,
    module: &M,
    gradients: &B::Gradients,
    key: fn(&str) -> String,
    bound: f64,
) -> Vec<f64> {
    let device = B::Device::default();
    let recorded: BTreeSet<&str> = fixture.names(GRAD).collect();
    let scale = recorded
        .iter()
        .map(|name| largest(fixture.data(name)))
        .fold(0.0, f64::max);
    let mut comparison = Comparison::<B> {
        fixture,
        gradients,
        key,
        bound,
        floor: VANISHING * scale,
        device,
        path: ParameterPath::default(),
        compared: BTreeSet::new(),
        errors: Vec::new(),
    };
    module.visit(&mut comparison);
    let of_parameters = |name: &&str| fixture.contains(&format!("{STATE}{}", &name[GRAD.len()..]));
    let missed: Vec<_> = recorded
        .into_iter()
        .filter(of_parameters)
        .filter(|name| !comparison.compared.contains(*name))
        .collect();
    assert!(missed.is_empty(), "gradients without a parameter: {missed:?}");
    assert!(!comparison.errors.is_empty(), "no gradient was compared");
    comparison.errors
}

/// The gradient that the fixture records for an input.
#[track_caller]
pub fn assert_input_gradient<B: AutodiffBackend, const D: usize>(
    fixture: &Fixture,
    name: &str,
    input: &Tensor<B, D>,
    gradients: &B::Gradients,
    bound: f64,
) -> f64 {
    let name = format!("{GRAD}{name}");
    let found = input
        .grad(gradients)
        .unwrap_or_else(|| panic!("{name}: no gradient"));
    let expected = fixture.tensor(&name, &found.device());
    assert_close(&name, found, expected, bound)
}

struct Comparison<'a, B: AutodiffBackend> {
    fixture: &'a Fixture,
    gradients: &'a B::Gradients,
    key: fn(&str) -> String,
    bound: f64,
    floor: f64,
    device: B::Device,
    path: ParameterPath,
    compared: BTreeSet<String>,
    errors: Vec<f64>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Comparison<'_, B> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = format!("{GRAD}{}", (self.key)(&self.path.dotted()));
        let found = param.val().grad(self.gradients);
        let size = |x: &Tensor<B::InnerBackend, D>| largest(&x.to_data());
        if !self.fixture.contains(&name) {
            let found = found.as_ref().map_or(0.0, size);
            assert!(found == 0.0, "{name}: expected no gradient, found {found:.1e}");
            return;
        }
        let mut found = found.unwrap_or_else(|| panic!("{name}: no gradient"));
        if self.path.is_transposed::<D>() {
            found = found.swap_dims(0, 1); // [in, out] → [out, in]
        }
        let expected: Tensor<B::InnerBackend, D> = self.fixture.tensor(&name, &self.device);
        if size(&expected) < self.floor {
            let found = size(&found);
            assert!(
                found < self.floor,
                "{name}: expected to vanish, found {found:.1e}"
            );
        } else {
            self.errors.push(assert_close(&name, found, expected, self.bound));
        }
        self.compared.insert(name);
    }
}
