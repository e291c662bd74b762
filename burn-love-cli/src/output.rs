//! Output directories and files: created, or refused if something is there.

use std::{fs, path::Path};

use crate::error::CliError;

/// Refuses a directory that is not empty, unless `overwrite`. Touches nothing, so it can stand before other checks.
pub fn check(out: &Path, overwrite: bool) -> Result<(), CliError> {
    if out.exists() && !out.is_dir() {
        return Err(CliError::input(format!(
            "{}: expected a directory, found a file",
            out.display()
        )));
    }
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::io(out, &error)),
    };
    if entries.next().is_some() && !overwrite {
        let message = format!(
            "{}: expected an empty directory, found files in it",
            out.display()
        );
        return Err(CliError::input(message).hint("choose another --out, or give --overwrite"));
    }
    Ok(())
}

/// Makes `out` ready once all inputs are known to be good. A directory that is not empty is refused, unless
/// `overwrite`: then only `own`, the entries that the command itself writes, are removed.
pub fn prepare(out: &Path, overwrite: bool, own: &[&str]) -> Result<(), CliError> {
    check(out, overwrite)?;
    fs::create_dir_all(out).map_err(|error| CliError::machine(format!("{}: {error}", out.display())))?;
    for path in own.iter().map(|name| out.join(name)) {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CliError::io(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses an output file that exists, unless `overwrite`, or whose directory does not.
pub fn prepare_file(out: &Path, overwrite: bool) -> Result<(), CliError> {
    if out.is_dir() {
        let message = format!("{}: expected a file, found a directory", out.display());
        return Err(CliError::input(message));
    }
    if out.exists() && !overwrite {
        let message = format!("{}: expected no file, found one", out.display());
        return Err(CliError::input(message).hint("choose another name, or give --overwrite"));
    }
    // The parent of a bare name is empty: it stands for the current directory.
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => Err(CliError::input(format!(
            "{}: expected a directory, found none",
            parent.display()
        ))),
        _ => Ok(()),
    }
}

/// Writes a file of text.
pub fn write(path: &Path, content: &str) -> Result<(), CliError> {
    fs::write(path, content).map_err(|error| CliError::machine(format!("{}: {error}", path.display())))
}
