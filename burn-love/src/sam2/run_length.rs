//! Binary masks as run lengths, in COCO's uncompressed form.
//!
//! SAM 2, `utils/amg.py: mask_to_rle_pytorch, rle_to_mask, area_from_rle`.

use serde::{Deserialize, Serialize};

/// A mask as lengths of runs down its columns, from left to right; the first run is background and may be empty.
///
/// ```
/// use burn_love::sam2::run_length::RunLengths;
///
/// let mask = [
///     true, false, //
///     true, true,
/// ];
/// let runs = RunLengths::encode(&mask, [2, 2]);
/// assert_eq!(runs.counts, [0, 2, 1, 1]);
/// assert_eq!(runs.area(), 3);
/// assert_eq!(runs.decode(), mask);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLengths {
    /// Height and width.
    pub size: [usize; 2],
    /// Lengths of the runs: background, object, background, …
    pub counts: Vec<usize>,
}

impl RunLengths {
    /// Encodes a mask given row by row.
    ///
    /// # Panics
    /// If the mask is not of `size`.
    pub fn encode(mask: &[bool], size: [usize; 2]) -> Self {
        let [h, w] = size;
        assert_eq!(mask.len(), h * w, "a mask of {h}×{w} pixels");
        let mut counts = Vec::new();
        let (mut inside, mut run) = (false, 0);
        for x in 0..w {
            for y in 0..h {
                if mask[y * w + x] != inside {
                    counts.push(run);
                    (inside, run) = (!inside, 0);
                }
                run += 1;
            }
        }
        counts.push(run);
        Self { size, counts }
    }

    /// The mask, row by row.
    ///
    /// # Panics
    /// If the runs do not make up the size.
    pub fn decode(&self) -> Vec<bool> {
        let [h, w] = self.size;
        assert_eq!(
            self.counts.iter().sum::<usize>(),
            h * w,
            "runs of a mask of {h}×{w}"
        );
        let runs = self.counts.iter().enumerate();
        let columns = runs.flat_map(|(i, run)| std::iter::repeat_n(i % 2 == 1, *run));
        let mut mask = vec![false; h * w];
        for (i, inside) in columns.enumerate() {
            mask[i % h * w + i / h] = inside;
        }
        mask
    }

    /// Pixels of the object.
    pub fn area(&self) -> usize {
        self.counts.iter().skip(1).step_by(2).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_and_empty_masks_have_one_run() {
        assert_eq!(RunLengths::encode(&[false; 6], [2, 3]).counts, [6]);
        assert_eq!(RunLengths::encode(&[true; 6], [2, 3]).counts, [0, 6]);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mask: Vec<bool> = (0..35).map(|i| i * i % 7 < 3).collect();
        let runs = RunLengths::encode(&mask, [5, 7]);
        assert_eq!(runs.decode(), mask);
        assert_eq!(runs.area(), mask.iter().filter(|inside| **inside).count());
    }
}
