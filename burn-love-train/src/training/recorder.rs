//! Burn's records as named MessagePack, written so that a full disk is an error.
//!
//! Burn 0.21's own recorder of this format drops its buffered writer without flushing it: the last kilobytes count as
//! written, whatever the disk says.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::PathBuf,
};

use burn::{
    prelude::*,
    record::{FullPrecisionSettings, Recorder, RecorderError},
};
use serde::{Serialize, de::DeserializeOwned};

/// Records in full precision, flushed to the disk.
#[derive(Debug, Default, Clone)]
pub(super) struct DurableRecorder;

impl<B: Backend> Recorder<B> for DurableRecorder {
    type Settings = FullPrecisionSettings;
    type RecordArgs = PathBuf;
    type RecordOutput = ();
    type LoadArgs = PathBuf;

    fn save_item<I: Serialize>(&self, item: I, path: PathBuf) -> Result<(), RecorderError> {
        let write = || {
            let mut writer = BufWriter::new(File::create(&path)?);
            rmp_serde::encode::write_named(&mut writer, &item).map_err(std::io::Error::other)?;
            writer.flush()?;
            writer.get_ref().sync_all()
        };
        write().map_err(|error| RecorderError::Unknown(error.to_string()))
    }

    fn load_item<I: DeserializeOwned>(&self, path: &mut PathBuf) -> Result<I, RecorderError> {
        let file = File::open(path).map_err(|error| RecorderError::Unknown(error.to_string()))?;
        rmp_serde::decode::from_read(BufReader::new(file))
            .map_err(|error| RecorderError::Unknown(error.to_string()))
    }
}
