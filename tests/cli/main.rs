//! The command line's contract: exit codes, one clear line, a hint, and nothing harmed.

mod ablate;
mod bad_input;
mod encode;
#[cfg(unix)]
mod faults;
mod features;
mod happy_path;
mod pretrain;
mod sam2_image;
mod sam2_video;
mod scenes;
mod shipped;
mod weights;

use std::{path::Path, process::Command};

/// How a command ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program.
fn cli(arguments: &[&str]) -> Ended {
    cli_with(arguments, &[])
}

/// Runs the program with changed environment variables.
fn cli_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_burn-love-cli"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts");
    Ended {
        code: output.status.code().expect("the program was not killed"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asserts that bad input ends with code 2, one `error:` line that holds all of `words`, and no panic.
#[track_caller]
fn refused(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, 2, "stderr: {}", ended.stderr);
    let errors: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!(errors.len(), 1, "stderr: {}", ended.stderr);
    for word in words {
        assert!(
            ended.stderr.contains(word),
            "expected `{word}` in: {}",
            ended.stderr
        );
    }
    assert!(
        ended.stderr.contains("\nhint: ") || ended.stderr.contains("try '--help'"),
        "no hint: {}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("panicked"), "stderr: {}", ended.stderr);
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
