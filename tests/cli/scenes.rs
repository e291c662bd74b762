//! A tiny data set, generated once, and copies of it to spoil.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{cli, text};

/// Settings that make a run small.
pub const SMALL: [&str; 10] = [
    "--set",
    "sam2.model.image_size=64",
    "--set",
    "train.steps=2",
    "--set",
    "train.batch_size=2",
    "--set",
    "train.tracked_frames=0",
    "--device",
    "cpu",
];

/// The data set; not to be changed.
pub fn pristine() -> &'static Path {
    static DATA: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = DATA.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("data");
        let sizes = [
            "--train",
            "4",
            "--val",
            "1",
            "--test-seen",
            "1",
            "--test-unseen",
            "1",
            "--test-null",
            "1",
        ];
        let arguments = [
            &["data", "synth", "--out", text(&path), "--size", "64x48"],
            sizes.as_slice(),
        ]
        .concat();
        let ended = cli(&arguments);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        (folder, path)
    });
    path
}

/// A run on the data set; not to be changed.
pub fn run() -> &'static Path {
    static RUN: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run");
        let arguments = [
            &["train", "--data", text(pristine()), "--out", text(&path)],
            SMALL.as_slice(),
        ]
        .concat();
        let ended = cli(&arguments);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        (folder, path)
    });
    path
}

/// A copy of the data set.
pub fn copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data");
    copy_folder(pristine(), &path);
    (folder, path)
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a readable file");
        }
    }
}

/// The first training row with an object: media folder and mask folder.
pub fn first_row(data: &Path) -> (PathBuf, PathBuf) {
    let table = fs::read_to_string(data.join("metadata.csv")).expect("a table");
    let row: Vec<&str> = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .find(|row| row[2] == "train" && !row[1].starts_with("null_"))
        .expect("a training row");
    (
        data.join("media").join(row[0]),
        data.join("gt_mask").join(row[0]).join(format!("fid_{}", row[3])),
    )
}
