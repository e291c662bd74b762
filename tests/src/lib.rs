//! Shared by the parity cases: fixtures, weights under upstream names, and the error that is bounded.

#[cfg(feature = "cuda")]
pub mod cuda;
mod gradients;
mod held;
mod path;
pub mod wgpu;

pub use gradients::{assert_gradients, assert_input_gradient};
pub use held::Held;
pub use path::ParameterPath;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use burn::{
    module::{Module, ModuleMapper, Param},
    prelude::*,
};
use safetensors::{Dtype, SafeTensors};

/// Prefix of the reference model's weights in a fixture.
const STATE: &str = "state.";

/// The recorded inputs, outputs and weights of a parity case.
pub struct Fixture {
    tensors: BTreeMap<String, TensorData>,
}

impl Fixture {
    /// Reads `tests/parity/{case}/fixture.safetensors`.
    pub fn load(case: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("parity")
            .join(case)
            .join("fixture.safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file =
            SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let shape = view.shape().to_vec();
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => {
                    let words = view.data().chunks_exact(4);
                    words
                        .map(|word| f32::from_le_bytes(word.try_into().expect("four bytes")))
                        .collect()
                }
                Dtype::U8 => view.data().iter().map(|&byte| f32::from(byte)).collect(),
                other => panic!("{name}: unexpected type {other:?}"),
            };
            (name, TensorData::new(values, shape))
        });
        Self {
            tensors: tensors.collect(),
        }
    }

    /// The tensor called `name`.
    pub fn tensor<B: Backend, const D: usize>(&self, name: &str, device: &B::Device) -> Tensor<B, D> {
        Tensor::from_data(self.data(name).clone(), device)
    }

    /// The values of the tensor called `name`.
    pub fn data(&self, name: &str) -> &TensorData {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    /// The names that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let names = self.tensors.keys().map(String::as_str);
        names.filter(move |name| name.starts_with(prefix))
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Images stored as bytes, as the generator normalises them.
    pub fn images<B: Backend>(&self, name: &str, device: &B::Device) -> Tensor<B, 4> {
        self.tensor::<B, 4>(name, device) / 64.0 - 2.0
    }

    /// Puts the fixture's weights into `module`, whose parameter at a path is called `key(path)` upstream.
    ///
    /// Panics if a parameter is missing in the fixture or a weight of the fixture has no parameter.
    pub fn load_into<B: Backend, M: Module<B>>(&self, module: M, key: fn(&str) -> String) -> M {
        let mut loader = Loader {
            fixture: self,
            key,
            path: ParameterPath::default(),
            applied: BTreeSet::new(),
            missing: Vec::new(),
        };
        let module = module.map(&mut loader);
        let weights = self.names(STATE);
        let unused: Vec<_> = weights.filter(|name| !loader.applied.contains(*name)).collect();
        assert!(
            loader.missing.is_empty() && unused.is_empty(),
            "missing: {:?}\nunused: {unused:?}",
            loader.missing
        );
        module
    }
}

/// Replaces parameters by the fixture's weights.
struct Loader<'a> {
    fixture: &'a Fixture,
    key: fn(&str) -> String,
    path: ParameterPath,
    applied: BTreeSet<String>,
    missing: Vec<String>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = format!("{STATE}{}", (self.key)(&self.path.dotted()));
        if !self.fixture.contains(&name) {
            self.missing.push(name);
            return param;
        }
        let mut value: Tensor<B, D> = self.fixture.tensor(&name, &param.device());
        if self.path.is_transposed::<D>() {
            value = value.swap_dims(0, 1); // [out, in] → [in, out]
        }
        assert_eq!(value.dims(), param.dims(), "{name}");
        self.applied.insert(name);
        let tracked = param.is_require_grad();
        param.map(|_| value.set_require_grad(tracked))
    }
}

/// max |x|.
fn largest(data: &TensorData) -> f64 {
    let values = data.clone().convert::<f64>();
    let values = values.as_slice::<f64>().expect("just converted");
    values.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// max |a − b| / max |b| over whole tensors; not finite if any value is not.
pub fn relative_error<B: Backend, const D: usize>(actual: Tensor<B, D>, expected: Tensor<B, D>) -> f64 {
    assert_eq!(actual.dims(), expected.dims(), "shapes differ");
    let values = |x: Tensor<B, D>| {
        x.into_data()
            .convert::<f64>()
            .to_vec::<f64>()
            .expect("just converted")
    };
    let (actual, expected) = (values(actual), values(expected));
    // f64::max drops NaN, which must not pass for agreement.
    if actual.iter().any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    let error = actual
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    let scale = expected.iter().map(|b| b.abs()).fold(f64::MIN_POSITIVE, f64::max);
    error / scale
}

/// Panics where [`relative_error`] exceeds `bound`; returns the error.
#[track_caller]
pub fn assert_close<B: Backend, const D: usize>(
    what: &str,
    actual: Tensor<B, D>,
    expected: Tensor<B, D>,
    bound: f64,
) -> f64 {
    let error = relative_error(actual, expected);
    assert!(
        error <= bound,
        "{what}: relative error {error:.2e} exceeds {bound:.0e}"
    );
    error
}

/// Settles how the GPU backends run; they read it at the first use of a device.
fn one_stream() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::default();
        // With more streams, a buffer that is read on another thread than the one that wrote it may be corrupted.
        config.streaming.max_streams = 1;
        CubeClRuntimeConfig::set(config);
    });
}
