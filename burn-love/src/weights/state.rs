//! A module's parameters as named tensors, and back.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    prelude::*,
};

use super::WeightsError;

/// Named tensors of f32 in PyTorch's layout.
pub type State = BTreeMap<String, TensorData>;

/// What became of the tensors of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Taken over by the module.
    pub applied: Vec<String>,
    /// Parameters of the module that the file lacks; they keep their values.
    pub missing: Vec<String>,
    /// Tensors of the file that the module lacks.
    pub unused: Vec<String>,
}

impl LoadReport {
    /// An error unless every parameter was found and every tensor was used.
    ///
    /// # Errors
    /// [`WeightsError::Keys`]
    pub fn complete(self, path: &Path) -> Result<Self, WeightsError> {
        if self.missing.is_empty() && self.unused.is_empty() {
            return Ok(self);
        }
        Err(WeightsError::Keys {
            path: path.into(),
            expected: self.applied.len() + self.missing.len(),
            missing: self.missing,
            unused: self.unused,
        })
    }
}

/// The parameters of a module, each named `key(path)`.
pub fn state_of<B: Backend, M: Module<B>>(module: &M, key: fn(&str) -> String) -> State {
    let mut collector = Collector {
        key,
        path: ParameterPath::default(),
        state: State::new(),
    };
    module.visit(&mut collector);
    collector.state
}

/// Puts tensors into a module, whose parameter at a path is named `key(path)`; `path` is the file they came from.
///
/// # Errors
/// If a tensor has another shape than the parameter of its name.
pub fn load_state<B: Backend, M: Module<B>>(
    module: M,
    state: &State,
    key: fn(&str) -> String,
    path: &Path,
) -> Result<(M, LoadReport), WeightsError> {
    let mut loader = Loader {
        key,
        path: ParameterPath::default(),
        state,
        report: LoadReport::default(),
        mismatch: None,
    };
    let module = module.map(&mut loader);
    if let Some((key, expected, found)) = loader.mismatch {
        return Err(WeightsError::Shape {
            path: path.into(),
            key,
            expected,
            found,
        });
    }
    let mut report = loader.report;
    report.unused = state
        .keys()
        .filter(|key| !report.applied.contains(key))
        .cloned()
        .collect();
    Ok((module, report))
}

/// Field names on the way to a parameter, and the type that holds it.
#[derive(Default)]
struct ParameterPath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl ParameterPath {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// Whether the parameter is a matrix that PyTorch stores transposed.
    fn transposed<const D: usize>(&self) -> bool {
        D == 2
            && self
                .containers
                .last()
                .is_some_and(|container| container == "Struct:Linear")
    }

    fn dotted(&self) -> String {
        self.names.join(".")
    }
}

struct Collector {
    key: fn(&str) -> String,
    path: ParameterPath,
    state: State,
}

impl<B: Backend> ModuleVisitor<B> for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let mut value = param.val();
        if self.path.transposed::<D>() {
            value = value.swap_dims(0, 1); // [in, out] → [out, in]
        }
        self.state.insert(
            (self.key)(&self.path.dotted()),
            value.into_data().convert::<f32>(),
        );
    }
}

struct Loader<'a> {
    key: fn(&str) -> String,
    path: ParameterPath,
    state: &'a State,
    report: LoadReport,
    mismatch: Option<(String, Vec<usize>, Vec<usize>)>,
}

impl<B: Backend> ModuleMapper<B> for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let key = (self.key)(&self.path.dotted());
        let Some(data) = self.state.get(&key) else {
            self.report.missing.push(key);
            return param;
        };
        let transposed = self.path.transposed::<D>();
        let mut expected = param.lazy_shape().to_vec();
        if transposed {
            expected.reverse();
        }
        let found = data.shape.to_vec();
        if expected != found {
            self.mismatch.get_or_insert((key, expected, found));
            return param;
        }
        self.report.applied.push(key);
        let mut value = Tensor::<B, D>::from_data(data.clone(), &param.lazy_device());
        if transposed {
            value = value.swap_dims(0, 1); // [out, in] → [in, out]
        }
        let tracked = param.is_require_grad();
        param.map(|_| value.set_require_grad(tracked))
    }
}
