//! Every published model has exactly the weights of its checkpoint, by name and by shape.

use std::collections::BTreeMap;

use burn_love::{
    sam2::Sam2Config,
    weights::{Fit, Shapes, preset_shapes},
};

use crate::Cpu;

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
        let shapes = preset_shapes::<Cpu>(&name).unwrap_or_else(|| panic!("no preset {name}"));
        let differ = |a: &Shapes, b: &Shapes| -> Vec<_> {
            let only = a.iter().filter(|(key, shape)| b.get(*key) != Some(shape));
            only.map(|(key, shape)| format!("{key} {shape:?}")).collect()
        };
        let (missing, unknown) = (differ(&expected, &shapes), differ(&shapes, &expected));
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{name}\nmissing: {missing:#?}\nunknown: {unknown:#?}"
        );
        let fit = Fit::of::<Cpu>(&expected);
        assert!(
            matches!(fit, Fit::Whole(found) if found == name),
            "{name}: {fit:?}"
        );
    }
}
