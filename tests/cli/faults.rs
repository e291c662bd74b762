//! Trainings that are killed, told to stop, or run out of disk: what is there stays readable, and going on ends with the
//! bytes of a run that nothing happened to.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};

use crate::{cli, scenes::pristine, text};

/// A training of many small steps: two micro-batches each, a checkpoint every second one.
fn arguments(out: &Path, steps: usize, resume: bool) -> Vec<String> {
    let set = [
        "sam2.model.image_size=64",
        "train.batch_size=1",
        "train.accumulation=2",
        "train.tracked_frames=0",
        "train.warmup_steps=10",
        "train.checkpoint_every=2",
        "train.validate_every=20",
        "train.log_every=3",
    ];
    let steps = format!("train.steps={steps}");
    let mut arguments = vec![
        "train",
        "--data",
        text(pristine()),
        "--out",
        text(out),
        "--device",
        "cpu",
    ];
    for set in set.into_iter().chain([steps.as_str()]) {
        arguments.extend(["--set", set]);
    }
    // A run that was killed before its config was there has to begin anew, over what it left.
    arguments.push(if resume { "--resume" } else { "--overwrite" });
    arguments.into_iter().map(str::to_owned).collect()
}

fn start(out: &Path, steps: usize, resume: bool) -> Child {
    Command::new(env!("CARGO_BIN_EXE_burn-love-cli"))
        .args(arguments(out, steps, resume))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// A training that is killed at the end of the scope, if it still runs.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Waits until there is a file.
    #[track_caller]
    fn wait_for(&mut self, path: &Path) {
        let patience = Instant::now() + Duration::from_secs(300);
        while !path.is_file() {
            assert!(Instant::now() < patience, "no {}", path.display());
            assert!(self.0.try_wait().unwrap().is_none(), "the run ended by itself");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal, and returns the exit code and what stderr held.
    fn told(self, signal: &str) -> (Option<i32>, String) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
        self.ended()
    }

    /// Waits for its end, and returns the exit code and what stderr held.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.0.wait().unwrap().code(), stderr)
    }
}

#[track_caller]
fn ends_well(out: &Path, steps: usize, resume: bool) {
    let arguments = arguments(out, steps, resume);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = cli(&arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

fn weights(out: &Path, step: usize) -> Vec<u8> {
    fs::read(out.join(format!("checkpoints/step-{step:08}/model.safetensors"))).unwrap()
}

/// The values of `metrics.jsonl`, without their times and what depends on the machine.
fn metrics(out: &Path) -> Vec<String> {
    const MACHINE: [&str; 4] = [
        "seconds_per_step",
        "rows_per_second",
        "memory_bytes",
        "eta_seconds",
    ];
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| !MACHINE.contains(&line["name"].as_str().unwrap()))
        .map(|line| {
            format!(
                "{} {} {} {}",
                line["step"], line["split"], line["name"], line["value"]
            )
        })
        .collect()
}

/// Every checkpoint that can be seen is complete, and `last` names one.
fn is_readable(out: &Path) {
    let complete = |folder: PathBuf| {
        for file in ["model.safetensors", "model.mpk", "optimizer.mpk", "position.toml"] {
            assert!(folder.join(file).is_file(), "{} has no {file}", folder.display());
        }
    };
    for entry in fs::read_dir(out.join("checkpoints")).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("step-") {
            complete(path);
        }
    }
    if let Ok(name) = fs::read_to_string(out.join("last")) {
        complete(out.join("checkpoints").join(name));
    }
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_with_the_same_bytes() {
    const STEPS: usize = 60;
    const KILLS: u32 = 20;
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    pristine();
    let began = Instant::now();
    ends_well(&whole, STEPS, false);
    let alone = began.elapsed();

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut behind = 0;
    for i in 0..KILLS {
        let resume = killed.join("config.toml").is_file();
        let mut child = Running(start(&killed, STEPS, resume));
        if i == KILLS / 2 {
            // However slow the machine is, half of the kills have a checkpoint to lose.
            child.wait_for(&killed.join("last"));
        }
        std::thread::sleep(alone.mul_f64(rng.random_range(0.005..0.1)));
        drop(child);
        is_readable(&killed);
        behind += usize::from(killed.join("last").is_file());
    }
    assert!(behind > 0, "no kill came behind a checkpoint");
    ends_well(&killed, STEPS, killed.join("config.toml").is_file());
    assert!(weights(&whole, STEPS) == weights(&killed, STEPS), "other weights");
    assert_eq!(metrics(&whole), metrics(&killed));
    let hidden =
        |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().starts_with('.');
    assert!(
        !fs::read_dir(killed.join("checkpoints")).unwrap().any(hidden),
        "leftovers of a kill"
    );
}

#[test]
fn the_wish_to_stop_is_heard() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let mut child = Running(start(&out, 100_000, false));
        child.wait_for(&out.join("last"));
        let (code, stderr) = child.told(signal);
        assert_eq!(code, Some(130), "{signal}: {stderr}");
        assert!(
            stderr.contains("go on with `train --resume`"),
            "{signal}: {stderr}"
        );
        is_readable(&out);
    }
}

#[test]
fn an_ablation_that_is_stopped_says_how_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("table");
    let ablate = |steps: &str, resume: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burn-love-cli"));
        command.args(["ablate", "--presets", "paper", "--nano-scale", "--device", "cpu"]);
        command.args(["--data", text(pristine()), "--out", text(&out)]);
        for set in [
            "sam2.model.image_size=64",
            "train.batch_size=1",
            "train.warmup_steps=2",
            "train.checkpoint_every=2",
            steps,
        ] {
            command.args(["--set", set]);
        }
        command.args(resume.then_some("--resume"));
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        command.spawn().expect("the program starts")
    };
    let mut child = Running(ablate("train.steps=60", false));
    child.wait_for(&out.join("paper/seed-0/run/last"));
    let (code, stderr) = child.told("-INT");
    assert_eq!(code, Some(130), "{stderr}");
    assert!(
        stderr.contains("go on with `ablate --resume` and the same arguments"),
        "{stderr}"
    );
    assert!(!out.join("ablation.md").exists());

    let (code, stderr) = Running(ablate("train.steps=60", true)).ended();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("training from step ") && !stderr.contains("from step 0 "),
        "{stderr}"
    );
    assert!(out.join("ablation.md").is_file());
}

#[test]
fn a_full_disk_harms_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, short) = (folder.path().join("whole"), folder.path().join("short"));
    ends_well(&whole, 6, false);
    ends_well(&short, 4, false);
    // Like a disk without room: no file may grow beyond a part of a checkpoint's, and the signal for it is ignored.
    let largest = fs::metadata(short.join("checkpoints/step-00000004/optimizer.mpk"))
        .unwrap()
        .len();
    for kilobytes in [8, largest / 2048, (largest - 1) / 1024] {
        let script = format!("ulimit -f {kilobytes}; trap '' XFSZ; exec \"$0\" \"$@\"");
        let output = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_burn-love-cli")])
            .args(arguments(&short, 6, true))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{kilobytes} kB: {stderr}");
        assert!(
            stderr.contains("error: ") && stderr.contains("hint: "),
            "{stderr}"
        );
        assert!(!stderr.contains("panicked"), "{stderr}");
        is_readable(&short);
        assert_eq!(fs::read_to_string(short.join("last")).unwrap(), "step-00000004");
    }
    ends_well(&short, 6, true);
    // The schedule of four steps is not that of six, so only the run can be compared, not its bytes.
    assert_eq!(weights(&whole, 6).len(), weights(&short, 6).len());
}

#[test]
fn a_checkpoint_of_another_model_is_refused_with_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    ends_well(&out, 2, false);
    let config = out.join("config.toml");
    let toml = fs::read_to_string(&config).unwrap();
    let other = toml.replace("seg_tokens = 1", "seg_tokens = 4");
    assert_ne!(other, toml);
    fs::write(&config, other).unwrap();
    let resumed = arguments(&out, 4, true);
    let ended = cli(&resumed.iter().map(String::as_str).collect::<Vec<_>>());
    crate::refused(&ended, &["step-00000002", "fusion.seg_tokens"]);
}
