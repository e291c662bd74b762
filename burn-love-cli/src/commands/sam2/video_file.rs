//! Video files, unpacked to frames by an ffmpeg process.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::error::CliError;

/// What ffmpeg says of a Matroska file that was cut, which it takes for a success.
const CUT: &str = "ended prematurely";

/// The frames of a video file, in a folder that is removed with it.
pub struct VideoFile {
    folder: tempfile::TempDir,
}

impl VideoFile {
    /// Unpacks every frame, without loss. A file that ends early is refused; frames that change their size are scaled to
    /// that of the first.
    pub fn unpack(path: &Path) -> Result<Self, CliError> {
        if !path.is_file() {
            let found = if path.exists() { "a folder" } else { "nothing" };
            return Err(CliError::input(format!(
                "{}: expected a video file, found {found}",
                path.display()
            )));
        }
        let folder = tempfile::tempdir().map_err(|error| CliError::io(&std::env::temp_dir(), &error))?;
        let pattern: PathBuf = folder.path().join("%08d.png");
        let unpack = |every_frame_once: [&str; 2]| {
            Command::new("ffmpeg")
                .args(["-v", "error", "-xerror", "-nostdin", "-i"])
                .arg(path)
                .args(every_frame_once)
                .arg(&pattern)
                .stdin(Stdio::null())
                .output()
        };
        let run = match unpack(["-fps_mode", "passthrough"]) {
            // Before ffmpeg 5.1 the option had another name.
            Ok(output) if !output.status.success() && says(&output).contains("fps_mode") => {
                unpack(["-vsync", "passthrough"])
            }
            run => run,
        };
        let output = run.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                CliError::input("ffmpeg: expected it on PATH to read a video file, found nothing")
                    .hint("install ffmpeg, or give a folder of frames with --frames")
            }
            _ => CliError::machine(format!("ffmpeg: {error}")),
        })?;
        let said = says(&output);
        let line = said.lines().next().unwrap_or("no reason given");
        if !output.status.success() || said.contains(CUT) {
            let message = format!(
                "{}: expected a whole video that ffmpeg reads, found: {line}",
                path.display()
            );
            return Err(
                CliError::input(message).hint("copy the file again from its source, or convert it anew")
            );
        }
        if !said.is_empty() {
            tracing::warn!("{}: ffmpeg says: {line}", path.display());
        }
        let mut frames =
            std::fs::read_dir(folder.path()).map_err(|error| CliError::io(folder.path(), &error))?;
        if frames.next().is_none() {
            let message = format!("{}: expected a video, found no frames in it", path.display());
            return Err(CliError::input(message));
        }
        Ok(Self { folder })
    }

    /// The folder of frames.
    pub fn frames(&self) -> &Path {
        self.folder.path()
    }
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
