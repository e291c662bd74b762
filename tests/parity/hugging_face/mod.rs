//! SAM 2 under Hugging Face's names: those of the published models, and the outputs of a small one.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use burn::prelude::*;
use burn_love::{
    sam2::{MaskSelection, Sam2, to_checkpoint},
    weights::{Allow, Family, Fit, Sam2File, Shapes, TensorSource, preset_shapes, shapes_of},
};
use burn_love_tests::{Fixture, assert_close};
use serde_json::{Map, json};

use crate::{Cpu, IMAGE_MODEL, MODULE, image_path, memory_attention, report};

/// A safetensors file of tensors without values: a hole of the right size.
fn hollow(folder: &Path, shapes: &Shapes) -> PathBuf {
    let mut end = 0;
    let mut header = Map::new();
    for (key, shape) in shapes {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(key.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let path = folder.join("hollow.safetensors");
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    path
}

#[test]
fn every_name_of_the_published_models_is_known() {
    let published: BTreeMap<String, Shapes> =
        serde_json::from_str(include_str!("shapes.json")).expect("the generator writes JSON");
    let folder = tempfile::tempdir().unwrap();
    for (name, shapes) in published {
        let file = Sam2File::open(&hollow(folder.path(), &shapes)).unwrap();
        assert_eq!(file.family(), Family::Sam2HuggingFace);
        let fit = Fit::of::<Cpu>(&file.shapes());
        match name.strip_prefix("image-") {
            None => {
                assert!(
                    matches!(fit, Fit::Whole(found) if found == name),
                    "{name}: {fit:?}"
                );
                let report = file.compare::<Cpu>(&preset_shapes::<Cpu>(&name).unwrap(), Allow::default());
                assert_eq!(report.unwrap().applied.len(), file.keys().len());
            }
            Some(size) => {
                let presets = ["sam2", "sam2.1"].map(|generation| format!("{generation}-hiera-{size}"));
                assert_eq!(fit.presets(), presets, "{name}");
                // What an image does not need is missing, and said to be.
                let expected = preset_shapes::<Cpu>(&presets[1]).unwrap();
                let error = file.compare::<Cpu>(&expected, Allow::default()).unwrap_err();
                let words = error.to_string();
                assert!(words.contains("missing (`mask_downsample.bias`"), "{words}");
                let allow = Allow {
                    missing: true,
                    unused: false,
                };
                let report = file.compare::<Cpu>(&expected, allow).unwrap();
                assert!(report.unused.is_empty());
                let image = |key: &String| !key.starts_with("image_encoder") && !key.starts_with("sam_");
                assert!(report.missing.iter().all(image), "{:?}", report.missing);
            }
        }
    }
}

#[test]
fn a_checkpoint_of_hugging_face_s_computes_the_same() {
    let device = Default::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/hugging_face/weights.safetensors");
    let config = image_path::config();
    let (model, loaded): (Sam2<Cpu>, _) = Sam2File::open(&path)
        .unwrap()
        .load_into(config.init(&device), Allow::default())
        .unwrap();
    let expected = shapes_of(&model, to_checkpoint);
    assert!(loaded.applied.iter().eq(expected.keys()));

    let fixture = Fixture::load("hugging_face");
    let mut errors = Vec::new();
    let features = model.forward_image(fixture.images("pixels", &device));
    let embedding = model.unconditioned(&features);
    let [fine, middle] = [&features.high_res.stride4, &features.high_res.stride8].map(Clone::clone);
    let cells: Tensor<Cpu, 4> = fixture.tensor("embedding", &device);
    let cells = cells.flatten::<3>(2, 3).swap_dims(1, 2); // BCHW → BLC
    errors.push(assert_close("embedding", embedding.clone(), cells, IMAGE_MODEL));
    for (name, actual) in [("fine", fine), ("middle", middle)] {
        let expected: Tensor<Cpu, 4> = fixture.tensor(name, &device);
        errors.push(assert_close(name, actual, expected, IMAGE_MODEL));
    }

    let prompt = image_path::points(&fixture, "", &device);
    let prompt = model.sam_prompt_encoder.forward(Some(prompt), None, 96);
    let output = model.decode(embedding, &features, prompt, MaskSelection::Candidates);
    let pointer = model.object_pointer(output.mask_token.clone(), output.present());
    for (name, actual) in [
        ("iou", output.multimask_iou.clone()),
        ("score", output.object_score.clone()),
        ("pointer", pointer),
    ] {
        let expected: Tensor<Cpu, 2> = fixture.tensor(name, &device);
        errors.push(assert_close(name, actual, expected, IMAGE_MODEL));
    }
    for image in 0..2 {
        // One by one: an emptied mask's −1024 would hide the other's error.
        let pick = |x: Tensor<Cpu, 4>| x.narrow(0, image, 1);
        let expected = pick(fixture.tensor("gated", &device));
        errors.push(assert_close(
            "gated",
            pick(output.gated_logits()),
            expected,
            IMAGE_MODEL,
        ));
    }

    let memory = model.memory_encoder.forward(
        fixture.tensor("embedding", &device),
        fixture.tensor("mask", &device),
    );
    let expected: Tensor<Cpu, 4> = fixture.tensor("memory", &device);
    errors.push(assert_close("memory", memory, expected, MODULE));
    let memories = burn_love::sam2::memory_attention::Memories {
        rows: fixture.tensor("rows", &device),
        position: fixture.tensor("memory_position", &device),
        spatial_rows: 72,
    };
    let position: Tensor<Cpu, 3> = fixture.tensor("position", &device);
    let attended = model.memory_attention.forward(
        fixture.tensor("frame", &device),
        position.narrow(0, 0, 1),
        memories,
        &memory_attention::config().rotary_table(32, [6, 6], &device),
    );
    let expected: Tensor<Cpu, 3> = fixture.tensor("attended", &device);
    errors.push(assert_close("attended", attended, expected, MODULE));
    report("hugging_face", &errors);
}
