//! Every published model has exactly the weights of its checkpoint, by name and by shape.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::Tensor,
};
use burn_love::sam2::{Sam2, Sam2Config, to_checkpoint};
use burn_love_tests::ParameterPath;

use crate::Cpu;

type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Default)]
struct Collector {
    path: ParameterPath,
    shapes: Shapes,
}

impl ModuleVisitor<Cpu> for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Cpu, D>>) {
        // The declared shape: the weights themselves are never drawn.
        let mut shape = param.lazy_shape().as_slice().to_vec();
        if self.path.is_transposed::<D>() {
            shape.reverse();
        }
        self.shapes.insert(to_checkpoint(&self.path.dotted()), shape);
    }
}

#[test]
fn every_published_model_has_the_weights_of_its_checkpoint() {
    let published: BTreeMap<String, Shapes> =
        serde_json::from_str(include_str!("shapes.json")).expect("the generator writes JSON");
    assert_eq!(
        published.len() + 1,
        Sam2Config::preset_names().count(),
        "all but nano are published"
    );
    for (name, expected) in published {
        let config = Sam2Config::preset(&name).unwrap_or_else(|| panic!("no preset {name}"));
        let model: Sam2<Cpu> = config.init(&Default::default());
        let mut collector = Collector::default();
        model.visit(&mut collector);
        let differ = |a: &Shapes, b: &Shapes| -> Vec<_> {
            let only = a.iter().filter(|(key, shape)| b.get(*key) != Some(shape));
            only.map(|(key, shape)| format!("{key} {shape:?}")).collect()
        };
        let (missing, unknown) = (
            differ(&expected, &collector.shapes),
            differ(&collector.shapes, &expected),
        );
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{name}\nmissing: {missing:#?}\nunknown: {unknown:#?}"
        );
    }
}
