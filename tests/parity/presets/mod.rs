//! Every published model has exactly the weights of its checkpoint, by name and by shape.

use std::collections::BTreeMap;

use burn_love::{
    sam2::Sam2Config,
    weights::{Fit, Shapes, preset_shapes},
};

use serde_json::Value;

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

/// Every value of `expected` that differs in `found`, by its path.
fn differences(expected: &Value, found: &Value, path: &str, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, expected) in expected {
                let found = found.get(key).unwrap_or(&Value::Null);
                differences(expected, found, &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(expected, found, &format!("{path}[{i}]"), out);
            }
        }
        // 20 and 20.0 are one number.
        _ if expected == found || (expected.is_number() && expected.as_f64() == found.as_f64()) => {}
        _ => out.push(format!("{path}: expected {expected}, found {found}")),
    }
}

#[test]
fn every_published_model_has_the_sizes_and_flags_of_its_config() {
    let published: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("configs.json")).expect("the generator writes JSON");
    assert_eq!(published.len() + 1, Sam2Config::preset_names().count());
    for (name, expected) in published {
        let found = serde_json::to_value(Sam2Config::preset(&name).unwrap()).unwrap();
        let mut out = Vec::new();
        differences(&expected, &found, &name, &mut out);
        assert!(out.is_empty(), "{out:#?}");
    }
}
