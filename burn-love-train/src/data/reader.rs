//! Opening a data set and reading the files of a row.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{GrayImage, Luma, RgbImage};

use super::{
    DataError, FrameFiles, Row, Split,
    files::{read_image, size_text},
    row::key_of,
};

const COLUMNS: [&str; 5] = ["vid", "uid", "split", "fid", "exp"];

/// A data set in Ref-AVS's layout. See the [module docs](super).
#[derive(Debug, Clone)]
pub struct RefAvs {
    root: PathBuf,
    rows: Vec<Row>,
    ignored: usize,
}

impl RefAvs {
    /// Reads `metadata.csv` in `root`. Rows whose split is `TODO` are left out and counted.
    ///
    /// # Errors
    /// When the directory, the table or one of its columns is missing, or when a line has an unknown split, a uid
    /// without a key, or an empty expression.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        if !root.is_dir() {
            return Err(DataError::Missing {
                path: root.into(),
                expected: "a data directory".into(),
            });
        }
        let path = root.join("metadata.csv");
        let bytes = fs::read(&path).map_err(|e| DataError::from_io(&path, "the table of expressions", e))?;
        let (rows, ignored) = parse(&path, &bytes)?;
        Ok(Self {
            root: root.into(),
            rows,
            ignored,
        })
    }

    /// The directory of the data set.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All rows, in metadata order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of one split, in metadata order.
    pub fn split(&self, split: Split) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.split == split).collect()
    }

    /// How many rows were left out because their split is `TODO`.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The frames of a row's clip in numeric order.
    ///
    /// # Errors
    /// When there is none, one is missing in the middle, cannot be decoded, or is of another size than the first.
    pub fn frames(&self, row: &Row) -> Result<Vec<RgbImage>, DataError> {
        self.frame_files(row)?.frames()
    }

    /// The frame files of a row's clip; they are not read yet.
    ///
    /// # Errors
    /// When there is none, or one is missing in the middle.
    pub fn frame_files(&self, row: &Row) -> Result<FrameFiles, DataError> {
        Ok(FrameFiles::new(self.frame_paths(row)?))
    }

    /// Frame `t` of a row's clip.
    ///
    /// # Errors
    /// When it is missing or cannot be decoded.
    pub fn frame(&self, row: &Row, t: usize) -> Result<RgbImage, DataError> {
        let folder = self.frame_folder(row);
        let path = ["jpg", "png", "jpeg"]
            .iter()
            .map(|extension| folder.join(format!("{t}.{extension}")))
            .find(|path| path.is_file())
            .ok_or_else(|| missing_frame(&folder, t))?;
        Ok(read_image(&path, "a decodable frame")?.to_rgb8())
    }

    /// How many frames a row's clip has.
    ///
    /// # Errors
    /// When there is none, or one is missing in the middle.
    pub fn frame_count(&self, row: &Row) -> Result<usize, DataError> {
        Ok(self.frame_paths(row)?.len())
    }

    /// The files of a row's frames in numeric order, at least one.
    ///
    /// # Errors
    /// When there is none, or one is missing in the middle.
    pub fn frame_paths(&self, row: &Row) -> Result<Vec<PathBuf>, DataError> {
        let folder = self.frame_folder(row);
        let entries = fs::read_dir(&folder).map_err(|e| DataError::from_io(&folder, "the frames", e))?;
        let mut numbered: Vec<(usize, PathBuf)> = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|source| DataError::Io {
                    path: folder.clone(),
                    source,
                })?
                .path();
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .map(str::to_ascii_lowercase);
            if !matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png")) {
                continue;
            }
            if let Some(number) = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| s.parse().ok())
            {
                numbered.push((number, path));
            }
        }
        numbered.sort();
        numbered.dedup_by_key(|(number, _)| *number);
        let gap = numbered
            .iter()
            .enumerate()
            .find(|(t, (number, _))| t != number)
            .map(|(t, _)| t);
        match gap.or(if numbered.is_empty() { Some(0) } else { None }) {
            Some(t) => Err(missing_frame(&folder, t)),
            None => Ok(numbered.into_iter().map(|(_, path)| path).collect()),
        }
    }

    /// The sound file of a row's clip.
    pub fn audio_path(&self, row: &Row) -> PathBuf {
        self.root.join("media").join(row.key()).join("audio.wav")
    }

    /// The bytes of a row's sound file.
    ///
    /// # Errors
    /// When it is missing, empty or cannot be read.
    pub fn audio(&self, row: &Row) -> Result<Vec<u8>, DataError> {
        let path = self.audio_path(row);
        let bytes = fs::read(&path).map_err(|e| DataError::from_io(&path, "the clip's sound", e))?;
        if bytes.is_empty() {
            return Err(DataError::content(&path, "a WAV file", "an empty file"));
        }
        Ok(bytes)
    }

    /// The masks of a row for `frames` frames of `size` (width, height): 0 background, 255 object.
    ///
    /// # Errors
    /// When a mask is missing (null rows without a mask folder have empty masks), cannot be decoded or is of another
    /// size.
    pub fn masks(&self, row: &Row, frames: usize, size: (u32, u32)) -> Result<Vec<GrayImage>, DataError> {
        (0..frames).map(|t| self.mask(row, t, size)).collect()
    }

    /// The mask of a row in frame `t`. See [`RefAvs::masks`].
    ///
    /// # Errors
    /// As [`RefAvs::masks`].
    pub fn mask(&self, row: &Row, t: usize, size: (u32, u32)) -> Result<GrayImage, DataError> {
        let colour = self.mask_image(row, t, size)?;
        Ok(GrayImage::from_fn(size.0, size.1, |x, y| {
            Luma([if colour.get_pixel(x, y).0 == [0; 3] {
                0
            } else {
                255
            }])
        }))
    }

    /// The mask file of a row in frame `t` with its own colours, which the official label preparation starts from.
    ///
    /// # Errors
    /// As [`RefAvs::masks`].
    pub fn mask_image(&self, row: &Row, t: usize, size: (u32, u32)) -> Result<RgbImage, DataError> {
        if row.is_null() && !self.mask_folder(row).is_dir() {
            return Ok(RgbImage::new(size.0, size.1));
        }
        let path = self.mask_path(row, t);
        let mask = read_image(&path, "a mask")?.to_rgb8();
        expect_size(&path, "as the frame", size, mask.dimensions())?;
        Ok(mask)
    }

    /// The mask file of a row in frame `t`.
    pub fn mask_path(&self, row: &Row, t: usize) -> PathBuf {
        self.mask_folder(row).join(format!("{t:05}.png"))
    }

    pub(super) fn mask_folder(&self, row: &Row) -> PathBuf {
        self.root
            .join("gt_mask")
            .join(row.key())
            .join(format!("fid_{}", row.fid))
    }

    /// The folder of a row's frames.
    pub fn frame_folder(&self, row: &Row) -> PathBuf {
        self.root.join("media").join(row.key()).join("frames")
    }
}

pub(super) fn expect_size(
    path: &Path,
    like: &str,
    expected: (u32, u32),
    found: (u32, u32),
) -> Result<(), DataError> {
    if expected == found {
        return Ok(());
    }
    Err(DataError::content(
        path,
        format!("{} pixels, {like}", size_text(expected)),
        size_text(found),
    ))
}

fn missing_frame(folder: &Path, t: usize) -> DataError {
    DataError::Missing {
        path: folder.join(format!("{t}.jpg")),
        expected: format!("frame {t} (.jpg or .png)"),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<Row>, usize), DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let unreadable = |error: csv::Error| DataError::Row {
        path: path.into(),
        line: error.position().map_or(1, csv::Position::line),
        expected: "a UTF-8 line with as many fields as the header".into(),
        found: error.to_string(),
    };
    let mut table = csv::Reader::from_reader(bytes);
    let header = table.headers().map_err(unreadable)?.clone();
    let column = |name: &str| header.iter().position(|found| found.trim() == name);
    let columns: Option<Vec<usize>> = COLUMNS.iter().map(|name| column(name)).collect();
    let Some(columns) = columns else {
        let found = header.iter().collect::<Vec<_>>().join(",");
        return Err(DataError::Columns {
            path: path.into(),
            expected: COLUMNS.join(","),
            found,
        });
    };

    let (mut rows, mut ignored) = (Vec::new(), 0);
    for record in table.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |i: usize| record.get(columns[i]).unwrap_or_default();
        if field(2) == "TODO" {
            ignored += 1;
            continue;
        }
        let split = field(2).parse().map_err(|source| DataError::RowSplit {
            path: path.into(),
            line,
            source,
        })?;
        let uid = field(1);
        let bad = |expected: &str, found: String| DataError::Row {
            path: path.into(),
            line,
            expected: expected.into(),
            found,
        };
        if key_of(uid).is_none() {
            return Err(bad("a uid of the form key_category_number", format!("\"{uid}\"")));
        }
        if field(4).trim().is_empty() {
            return Err(bad("an expression", format!("an empty one (uid {uid})")));
        }
        rows.push(Row {
            vid: field(0).into(),
            uid: uid.into(),
            split,
            fid: field(3).into(),
            expression: field(4).into(),
        });
    }
    Ok((rows, ignored))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
