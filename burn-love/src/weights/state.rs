//! A module's parameters as named tensors, and back.

use std::{collections::BTreeSet, path::Path};

use burn::{
    module::{ModuleMapper, ModuleVisitor, Param},
    prelude::*,
};

use super::{Shapes, State, TensorSource, WeightsError};

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

/// What a file may lack or have besides the module's parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// Parameters that the file lacks.
    pub missing: bool,
    /// Tensors that the module lacks.
    pub unused: bool,
}

impl LoadReport {
    /// An error unless every parameter was found and every tensor was used.
    ///
    /// # Errors
    /// [`WeightsError::Keys`]
    pub fn complete(self, path: &Path) -> Result<Self, WeightsError> {
        self.accept(path, Allow::default())
    }

    /// An error if something is missing or unused and that is not allowed.
    ///
    /// # Errors
    /// [`WeightsError::Keys`]; it names only what is not allowed.
    pub fn accept(self, path: &Path, allow: Allow) -> Result<Self, WeightsError> {
        let faults = |allowed, keys: &Vec<String>| if allowed { Vec::new() } else { keys.clone() };
        let missing = faults(allow.missing, &self.missing);
        let unused = faults(allow.unused, &self.unused);
        if missing.is_empty() && unused.is_empty() {
            return Ok(self);
        }
        Err(WeightsError::Keys {
            path: path.into(),
            expected: self.applied.len() + self.missing.len(),
            missing,
            unused,
            fits: Vec::new(),
        })
    }
}

/// The parameters of a module, each named `key(path)`.
pub fn state_of<B: Backend, M: Module<B>>(module: &M, key: fn(&str) -> String) -> State {
    struct Values(State);
    impl<B: Backend> Visit<B> for Values {
        fn visit<const D: usize>(&mut self, key: String, param: &Param<Tensor<B, D>>, transposed: bool) {
            let mut value = param.val();
            if transposed {
                value = value.swap_dims(0, 1); // [in, out] → [out, in]
            }
            self.0.insert(key, value.into_data().convert::<f32>());
        }
    }
    walk(module, key, Values(State::new())).0
}

/// Names and shapes of the parameters of a module, each named `key(path)`; no parameter is initialised.
pub fn shapes_of<B: Backend, M: Module<B>>(module: &M, key: fn(&str) -> String) -> Shapes {
    struct Declared(Shapes);
    impl<B: Backend> Visit<B> for Declared {
        fn visit<const D: usize>(&mut self, key: String, param: &Param<Tensor<B, D>>, transposed: bool) {
            let mut shape = param.lazy_shape().to_vec();
            if transposed {
                shape.reverse();
            }
            self.0.insert(key, shape);
        }
    }
    walk(module, key, Declared(Shapes::new())).0
}

/// Compares the tensors of a file with the parameters of a module, given as by [`shapes_of`]; `path` is the file.
///
/// # Errors
/// If a tensor has another shape than the parameter of its name, or is not of floats.
pub fn compare(
    expected: &Shapes,
    source: &dyn TensorSource,
    path: &Path,
) -> Result<LoadReport, WeightsError> {
    let mut report = LoadReport::default();
    for (key, shape) in expected {
        let Some(info) = source.info(key) else {
            report.missing.push(key.clone());
            continue;
        };
        if info.shape != *shape {
            return Err(WeightsError::Shape {
                path: path.into(),
                key: key.clone(),
                expected: shape.clone(),
                found: info.shape,
                fits: Vec::new(),
            });
        }
        if !info.is_float() {
            return Err(WeightsError::Type {
                path: path.into(),
                key: key.clone(),
                found: info.dtype,
            });
        }
        report.applied.push(key.clone());
    }
    let unused = source
        .keys()
        .into_iter()
        .filter(|key| !expected.contains_key(*key));
    report.unused = unused.map(str::to_owned).collect();
    Ok(report)
}

/// Puts tensors into a module, whose parameter at a path is named `key(path)`; `path` is the file they came from.
///
/// Names and shapes are compared before any value is read; then one tensor at a time is in memory besides the module.
///
/// # Errors
/// If a tensor has another shape than the parameter of its name, or cannot be read.
pub fn load_state<B: Backend, M: Module<B>>(
    module: M,
    source: &dyn TensorSource,
    key: fn(&str) -> String,
    path: &Path,
) -> Result<(M, LoadReport), WeightsError> {
    let report = compare(&shapes_of(&module, key), source, path)?;
    let mut loader = Loader {
        key,
        path: ParameterPath::default(),
        source,
        applied: report.applied.iter().map(String::as_str).collect(),
        error: None,
    };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error),
        None => Ok((module, report)),
    }
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

/// What is done with each parameter: its key, itself, and whether PyTorch stores it transposed.
trait Visit<B: Backend> {
    fn visit<const D: usize>(&mut self, key: String, param: &Param<Tensor<B, D>>, transposed: bool);
}

struct Walker<V> {
    key: fn(&str) -> String,
    path: ParameterPath,
    visit: V,
}

fn walk<B: Backend, M: Module<B>, V: Visit<B>>(module: &M, key: fn(&str) -> String, visit: V) -> V {
    let mut walker = Walker {
        key,
        path: ParameterPath::default(),
        visit,
    };
    module.visit(&mut walker);
    walker.visit
}

impl<B: Backend, V: Visit<B>> ModuleVisitor<B> for Walker<V> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let key = (self.key)(&self.path.dotted());
        self.visit.visit(key, param, self.path.transposed::<D>());
    }
}

struct Loader<'a> {
    key: fn(&str) -> String,
    path: ParameterPath,
    source: &'a dyn TensorSource,
    applied: BTreeSet<&'a str>,
    error: Option<WeightsError>,
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
        if self.error.is_some() || !self.applied.contains(key.as_str()) {
            return param;
        }
        let mut data = match self.source.read(&key) {
            Ok(data) => data,
            Err(error) => {
                self.error = Some(error);
                return param;
            }
        };
        if self.path.transposed::<D>() {
            data = transpose(data); // [out, in] → [in, out]
        }
        let value = Tensor::<B, D>::from_data(data, &param.lazy_device());
        let id = param.id;
        // Not `Param::map`, which would initialise the parameter first.
        param.transform_for_load(value, id)
    }
}

/// A matrix with rows and columns exchanged. A transposed view would be copied again at each use, or once more by
/// backends that want it contiguous.
fn transpose(data: TensorData) -> TensorData {
    /// Side of the squares that are exchanged; two of them lie in a core's first cache.
    const SIDE: usize = 32;
    let [rows, columns] = [data.shape[0], data.shape[1]];
    let values = data.as_slice::<f32>().expect("sources give f32");
    let mut transposed = vec![0.0; values.len()];
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            for i in row..rows.min(row + SIDE) {
                for j in column..columns.min(column + SIDE) {
                    transposed[j * rows + i] = values[i * columns + j];
                }
            }
        }
    }
    TensorData::new(transposed, [columns, rows])
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};

    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn a_matrix_is_transposed() {
        let (rows, columns) = (37, 70);
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let transposed = transpose(TensorData::new(values.clone(), [rows, columns]));
        assert_eq!(transposed.shape.to_vec(), [columns, rows]);
        let found = transposed.as_slice::<f32>().unwrap();
        for i in 0..rows {
            for j in 0..columns {
                assert_eq!(found[j * rows + i], values[i * columns + j]);
            }
        }
        assert_eq!(transpose(transposed), TensorData::new(values, [rows, columns]));
    }

    fn linear() -> Linear<B> {
        LinearConfig::new(2, 3).init(&Default::default())
    }

    fn state() -> State {
        State::from([
            (
                "weight".into(),
                TensorData::from([[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]]),
            ),
            ("bias".into(), TensorData::from([7f32, 8.0, 9.0])),
        ])
    }

    #[test]
    fn what_is_loaded_comes_back() {
        let (module, report) = load_state(linear(), &state(), str::to_owned, Path::new("f")).unwrap();
        assert_eq!(
            report.complete(Path::new("f")).unwrap().applied,
            ["bias", "weight"]
        );
        assert_eq!(
            module.weight.to_data(),
            TensorData::from([[1f32, 3.0, 5.0], [2.0, 4.0, 6.0]])
        );
        assert_eq!(state_of(&module, str::to_owned), state());
    }

    #[test]
    fn missing_and_unused_are_errors_unless_allowed() {
        let mut partial = state();
        partial.remove("bias");
        partial.insert("other".into(), TensorData::from([0f32]));
        let path = Path::new("f.pt");
        let (_, report) = load_state(linear(), &partial, str::to_owned, path).unwrap();
        assert_eq!(report.missing, ["bias"]);
        assert_eq!(report.unused, ["other"]);
        let allow = |missing, unused| report.clone().accept(path, Allow { missing, unused });
        assert!(allow(true, true).is_ok());
        assert_eq!(
            allow(false, true).unwrap_err().to_string(),
            "f.pt: expected the model's 2 tensors, found 1 missing (`bias`)"
        );
        assert_eq!(
            allow(false, false).unwrap_err().to_string(),
            "f.pt: expected the model's 2 tensors, found 1 missing (`bias`) and 1 unused (`other`)"
        );
    }

    #[test]
    fn other_shapes_are_refused_before_anything_is_read() {
        let other = State::from([("bias".into(), TensorData::from([1f32]))]);
        let error = load_state(linear(), &other, str::to_owned, Path::new("f.pt")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.pt: expected `bias` of shape [3], found [1]: weights of another config"
        );
    }

    #[test]
    fn loading_initialises_no_parameter() {
        let module = linear();
        assert_eq!(
            shapes_of(&module, str::to_owned),
            Shapes::from([("bias".into(), vec![3]), ("weight".into(), vec![3, 2])])
        );
        assert!(!module.weight.is_initialized());
    }
}
