//! Generates a module and its weights from each ONNX graph, and constants of its fixed sizes.
//!
//! The graphs are those in `models/`, or in the folder that `BURN_LOVE_ONNX_MODELS` names.

// burn-import is a thin name for burn-onnx since 0.21.
#![allow(deprecated)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use burn_import::onnx::{LoadStrategy, ModelGen};
use onnx_ir::{OnnxGraph, OnnxGraphBuilder, ir::ArgType};

/// The graphs, called as the modules of `src/lib.rs`.
const GRAPHS: [&str; 3] = ["vggish", "vit", "distilroberta"];

/// Names the folder with other graphs than the crate's own.
const FOLDER: &str = "BURN_LOVE_ONNX_MODELS";

fn main() {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let folder = env::var_os(FOLDER).map_or_else(|| PathBuf::from("models"), PathBuf::from);
    let mut sizes = String::new();
    for name in GRAPHS {
        let path = folder.join(name).with_extension("onnx");
        println!("cargo::rerun-if-changed={}", path.display());
        let text = match path.to_str() {
            Some(text) if path.is_file() => text,
            Some(_) => panic!("{}: expected an ONNX graph, found no file", path.display()),
            None => panic!("{}: expected a path in UTF-8", path.display()),
        };
        let graph = OnnxGraphBuilder::new()
            .parse_file(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        sizes += &match name {
            "vit" => vision(&path, &graph),
            "distilroberta" => text_sizes(&path, &graph),
            _ => audio(&path, &graph),
        };
        ModelGen::new()
            .input(text)
            .out_dir("models")
            .load_strategy(LoadStrategy::Embedded)
            .run_from_script();
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets it"));
    fs::write(out.join("sizes.rs"), sizes).expect("OUT_DIR can be written");
}

/// Sizes of an input; nothing where one is free.
fn input(path: &Path, graph: &OnnxGraph, at: usize) -> Vec<Option<usize>> {
    let shape = graph.inputs.get(at).and_then(|input| match &input.ty {
        ArgType::Tensor(tensor) => tensor.static_shape.clone(),
        _ => None,
    });
    shape.unwrap_or_else(|| panic!("{}: expected a shape at input {at}, found none", path.display()))
}

fn audio(path: &Path, graph: &OnnxGraph) -> String {
    let shape = input(path, graph, 0);
    assert!(
        matches!(shape[..], [_, Some(96), Some(64)]),
        "{}: expected log-mel examples [N, 96, 64], found {shape:?}",
        path.display()
    );
    String::new()
}

fn vision(path: &Path, graph: &OnnxGraph) -> String {
    let shape = input(path, graph, 0);
    let side = match shape[..] {
        [_, Some(3), Some(height), Some(width)] if height == width => width,
        _ => panic!(
            "{}: expected square pictures [N, 3, S, S] of a fixed size, found {shape:?}",
            path.display()
        ),
    };
    constant(
        "VISION_SIDE",
        "Side of the pictures of `vit.onnx`, in pixels.",
        side,
    )
}

fn text_sizes(path: &Path, graph: &OnnxGraph) -> String {
    let shape = input(path, graph, 0);
    let tokens = match shape[..] {
        [_, Some(tokens)] => tokens,
        _ => panic!(
            "{}: expected sentences [N, L] of a fixed length, found {shape:?}",
            path.display()
        ),
    };
    // The table whose rows the ids choose.
    let ids = &graph.inputs[0].name;
    let table = graph
        .nodes
        .iter()
        .filter(|node| node.inputs().len() == 2 && node.inputs()[1].name == *ids)
        .find_map(|node| match &node.inputs()[0].ty {
            ArgType::Tensor(table) if table.rank == 2 => table.static_shape.as_ref()?[0],
            _ => None,
        });
    let vocabulary = table.unwrap_or_else(|| {
        panic!(
            "{}: expected the token ids to choose rows of a table, found no such node",
            path.display()
        )
    });
    constant(
        "TEXT_TOKENS",
        "Tokens of a sentence of `distilroberta.onnx`, padding included.",
        tokens,
    ) + &constant(
        "TEXT_VOCABULARY",
        "Token ids that `distilroberta.onnx` knows.",
        vocabulary,
    )
}

fn constant(name: &str, doc: &str, value: usize) -> String {
    format!("/// {doc}\npub const {name}: usize = {value};\n")
}
