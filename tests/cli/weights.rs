//! `weights`: files are described, converted both ways, and refused with a reason.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn_flex::Flex;
use burn_love::{
    sam2::{Sam2Config, to_checkpoint},
    weights::{State, TensorSource, WeightsFile, state_of, write_safetensors, write_torch},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, cli, refused, scenes::run, text};

/// Fresh weights of the smallest SAM 2.
fn nano() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| {
        let model = Sam2Config::nano().init::<Flex>(&Default::default());
        state_of(&model, to_checkpoint)
    })
}

/// A folder with `nano.pt`, as Meta would publish it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nano.pt");
    write_torch(&path, nano()).unwrap();
    (folder, path)
}

fn convert(input: &Path, output: &Path, more: &[&str]) -> Ended {
    let arguments = ["weights", "convert", "--model", "nano", text(input), text(output)];
    cli(&[&arguments, more].concat())
}

fn inspect(path: &Path) -> Value {
    let ended = cli(&["weights", "inspect", text(path), "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn state(path: &Path) -> State {
    let file = WeightsFile::open(path).unwrap();
    let read = |key: &str| (key.to_owned(), file.read(key).unwrap());
    file.keys().into_iter().map(read).collect()
}

#[test]
fn weights_are_converted_both_ways() {
    let (folder, torch) = folder();
    let safetensors = folder.path().join("nano.safetensors");
    let ended = convert(&torch, &safetensors, &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let said = format!("{} applied, 0 missing, 0 unused", nano().len());
    assert!(ended.stdout.contains(&said), "{}", ended.stdout);
    assert_eq!(state(&safetensors), *nano());

    let back = folder.path().join("back.pt");
    let ended = convert(&safetensors, &back, &["--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["applied"], nano().len());
    assert_eq!(report["family"], "sam2");
    assert_eq!(
        fs::read(&back).unwrap(),
        fs::read(&torch).unwrap(),
        "the same content, the same bytes"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else");
}

#[test]
fn files_are_described() {
    let (_folder, torch) = folder();
    let report = inspect(&torch);
    assert_eq!(report["format"], "torch");
    assert_eq!(report["family"], "sam2");
    assert_eq!(report["preset"], "nano");
    assert_eq!(report["tensors"], nano().len());
    let parameters: usize = nano().values().map(|data| data.num_elements()).sum();
    assert_eq!(report["parameters"], parameters);
    assert_eq!(report["dtypes"]["F32"], nano().len());

    let listed = cli(&["weights", "inspect", text(&torch), "-v"]);
    for words in ["PyTorch", "SAM 2 (Meta)", "no_mem_embed", "[1, 1, 128]"] {
        assert!(
            listed.stdout.contains(words),
            "expected `{words}` in: {}",
            listed.stdout
        );
    }

    let hugging_face = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/hugging_face");
    let report = inspect(&hugging_face.join("weights.safetensors"));
    assert_eq!(report["family"], "sam2-hugging-face");
    assert_eq!(report["preset"], Value::Null);
}

#[test]
fn a_run_of_one_s_own_is_described() {
    let last = fs::read_to_string(run().join("last")).unwrap();
    let report = inspect(&run().join("checkpoints").join(last).join("model.safetensors"));
    assert_eq!(report["format"], "safetensors");
    assert_eq!(report["family"], "sam2-love");
    assert_eq!(report["preset"], "nano");
    assert_eq!(report["config"], true);
}

#[test]
fn an_output_that_exists_is_left_alone() {
    let (folder, torch) = folder();
    let out = folder.path().join("out.safetensors");
    fs::write(&out, "mine").unwrap();
    refused(&convert(&torch, &out, &[]), &["out.safetensors", "--overwrite"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    // A conversion that fails leaves what was there, too.
    let cut = folder.path().join("cut.pt");
    let bytes = fs::read(&torch).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(&convert(&cut, &out, &["--overwrite"]), &["cut.pt"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    assert_eq!(convert(&torch, &out, &["--overwrite"]).code, 0);
    assert_eq!(state(&out), *nano());

    refused(
        &convert(&torch, &folder.path().join("out.bin"), &[]),
        &["out.bin", ".safetensors", ".pt"],
    );
    refused(
        &convert(&torch, &folder.path().join("none/out.pt"), &[]),
        &["none", "directory"],
    );
    refused(
        &convert(&torch, folder.path(), &["--overwrite"]),
        &["ends in .safetensors"],
    );
}

#[test]
fn weights_of_another_size_come_with_the_preset_that_fits() {
    let (folder, torch) = folder();
    let out = folder.path().join("out.safetensors");
    let arguments = [
        "weights",
        "convert",
        "--model",
        "sam2.1-hiera-large",
        text(&torch),
        text(&out),
    ];
    let ended = cli(&arguments);
    refused(
        &ended,
        &[
            "nano.pt",
            "`image_encoder.neck.convs.0.conv.bias` of shape [256], found [128]",
            "fit `nano`",
            "hint:",
        ],
    );
    assert!(!out.exists());
    let ended = cli(&["weights", "convert", "--model", "sam2", text(&torch), text(&out)]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("sam2.1-hiera-tiny"), "{}", ended.stderr);
}

#[test]
fn missing_and_unused_tensors_are_refused_unless_allowed() {
    let (folder, torch) = folder();
    let out = folder.path().join("out.safetensors");
    let mut other = nano().clone();
    let memory = other.remove("maskmem_tpos_enc").unwrap();
    write_safetensors(&torch, &other, None).unwrap();
    refused(
        &convert(&torch, &out, &[]),
        &["1 missing (`maskmem_tpos_enc`)", "--allow-missing"],
    );
    let ended = convert(&torch, &out, &["--allow-missing"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("missing: maskmem_tpos_enc"),
        "{}",
        ended.stderr
    );
    assert_eq!(state(&out), other);

    other = nano().clone();
    other.insert("extra".into(), memory);
    write_safetensors(&torch, &other, None).unwrap();
    refused(
        &convert(&torch, &out, &["--overwrite"]),
        &["1 unused (`extra`)", "--allow-unused"],
    );
    assert_eq!(convert(&torch, &out, &["--overwrite", "--allow-unused"]).code, 0);
    assert_eq!(state(&out), *nano());
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let (folder, torch) = folder();
    let out = folder.path().join("out.safetensors");
    let whole = fs::read(&torch).unwrap();
    let bad = folder.path().join("bad.pt");
    let refuse = |content: &[u8], words: &[&str]| {
        fs::write(&bad, content).unwrap();
        let words = [&["bad.pt", "hint:"], words].concat();
        refused(&convert(&bad, &out, &[]), &words);
        assert!(!out.exists());
    };
    refuse(&[], &["an empty file"]);
    refuse(b"not a pickle", &["neither"]);
    refuse(&whole[..whole.len() / 2], &["undamaged", "again"]);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    refuse(&flipped, &["undamaged", "checksum"]);
    refused(&convert(&folder.path().join("none.pt"), &out, &[]), &["none.pt"]);
    refused(&convert(folder.path(), &out, &[]), &["a directory"]);

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/torch_file");
    refused(
        &convert(&fixtures.join("foreign.pt"), &out, &[]),
        &["foreign.pt", "`argparse.Namespace`", "hint:"],
    );
    refused(
        &convert(&fixtures.join("old.pt"), &out, &[]),
        &["old.pt", "weights of SAM 2", "`bf16`"],
    );
    refused(
        &convert(&fixtures.join("flat.pt"), &out, &[]),
        &["flat.pt", "weights of SAM 2", "`bf16`"],
    );
    let mut nan = nano().clone();
    nan.insert(
        "no_mem_embed".into(),
        burn::tensor::TensorData::from([[[f32::NAN; 128]]]),
    );
    write_torch(&torch, &nan).unwrap();
    refused(&convert(&torch, &out, &[]), &["nano.pt", "NaN", "`no_mem_embed`"]);
    assert!(!out.exists());
}
