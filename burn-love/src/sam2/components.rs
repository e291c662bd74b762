//! Small components of a mask: holes to fill and sprinkles to remove.
//!
//! SAM 2, `utils/misc.py: get_connected_components, fill_holes_in_mask_scores` and
//! `utils/transforms.py: SAM2Transforms.postprocess_masks`. Upstream labels components in a CUDA kernel and skips these
//! steps without one; here they run on the host, on any device's results. Neighbours touch by a side or a corner.

/// Score that [`fill_holes`] gives to holes.
const FILLED: f32 = 0.1;

/// Distance from the threshold of what [`Cleaning`] replaces.
const MARGIN: f32 = 10.0;

/// The connected components of a binary mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Components {
    /// Component of each pixel: 0 outside the mask, otherwise 1 and up in the order of their first pixels.
    pub labels: Vec<u32>,
    /// Pixels of each component; component `i` has entry `i − 1`.
    pub areas: Vec<usize>,
}

/// Labels the components of a mask of `width` columns, row by row. Pixels that touch by a side or a corner belong
/// together.
///
/// ```
/// use burn_love::sam2::components::components;
///
/// let mask = [
///     true, false, false, true, //
///     false, true, false, true,
/// ];
/// let found = components(&mask, 4);
/// assert_eq!(found.labels, [1, 0, 0, 2, 0, 1, 0, 2]);
/// assert_eq!(found.areas, [2, 2]);
/// ```
///
/// # Panics
/// If the mask is not a whole number of rows.
pub fn components(mask: &[bool], width: usize) -> Components {
    assert!(
        width > 0 && mask.len().is_multiple_of(width),
        "{} pixels are not a whole number of rows of {width}",
        mask.len()
    );
    let height = mask.len() / width;
    let mut labels = vec![0; mask.len()];
    let mut areas = Vec::new();
    let mut open = Vec::new();
    for first in 0..mask.len() {
        if !mask[first] || labels[first] != 0 {
            continue;
        }
        let label = areas.len() as u32 + 1;
        let mut area = 0;
        labels[first] = label;
        open.push(first);
        while let Some(pixel) = open.pop() {
            area += 1;
            let (y, x) = (pixel / width, pixel % width);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let neighbour = row * width + column;
                    if mask[neighbour] && labels[neighbour] == 0 {
                        labels[neighbour] = label;
                        open.push(neighbour);
                    }
                }
            }
        }
        areas.push(area);
    }
    Components { labels, areas }
}

/// Turns holes of at most `max_area` pixels into object: components of scores that are not above 0 become 0.1.
///
/// As upstream, the surroundings of an object count as a hole when they are small enough.
///
/// # Panics
/// If the scores are not a whole number of rows of `width`.
pub fn fill_holes(scores: &mut [f32], width: usize, max_area: usize) {
    for pixel in small(scores, width, max_area, |score| score <= 0.0) {
        scores[pixel] = FILLED;
    }
}

/// What to clean in a mask's scores before it is enlarged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleaning {
    /// Scores above it belong to the object.
    pub threshold: f32,
    /// Holes of at most this many pixels are filled; 0 fills none.
    pub max_hole_area: usize,
    /// Parts of at most this many pixels are removed; 0 removes none.
    pub max_sprinkle_area: usize,
}

impl Cleaning {
    /// Whether nothing is to be cleaned.
    pub fn is_idle(&self) -> bool {
        self.max_hole_area == 0 && self.max_sprinkle_area == 0
    }

    /// Fills holes and removes sprinkles of one mask. Both are found in the scores as they come.
    ///
    /// # Panics
    /// If the scores are not a whole number of rows of `width`.
    pub fn apply(&self, scores: &mut [f32], width: usize) {
        let threshold = self.threshold;
        let holes = small(scores, width, self.max_hole_area, |score| score <= threshold);
        let sprinkles = small(scores, width, self.max_sprinkle_area, |score| score > threshold);
        for pixel in holes {
            scores[pixel] = threshold + MARGIN;
        }
        for pixel in sprinkles {
            scores[pixel] = threshold - MARGIN;
        }
    }
}

/// Pixels of the components of at most `max_area` pixels, among the scores that `belongs` selects.
fn small(scores: &[f32], width: usize, max_area: usize, belongs: impl Fn(f32) -> bool) -> Vec<usize> {
    if max_area == 0 {
        return Vec::new();
    }
    let mask: Vec<bool> = scores.iter().map(|score| belongs(*score)).collect();
    let Components { labels, areas } = components(&mask, width);
    (0..labels.len())
        .filter(|pixel| labels[*pixel] > 0 && areas[labels[*pixel] as usize - 1] <= max_area)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#` is object, anything else is not.
    fn scores(rows: &[&str]) -> Vec<f32> {
        let pixels = rows.iter().flat_map(|row| row.chars());
        pixels.map(|c| if c == '#' { 5.0 } else { -5.0 }).collect()
    }

    #[test]
    fn small_holes_are_filled_and_large_ones_stay() {
        let mut mask = scores(&[
            "########", //
            "#.##..##", "###.#..#", "########",
        ]);
        // One hole of one pixel at (1, 1); the others touch by corners and are five pixels.
        let before = mask.clone();
        fill_holes(&mut mask, 8, 4);
        for (pixel, (after, before)) in mask.iter().zip(before).enumerate() {
            let expected = if pixel == 9 { FILLED } else { before };
            assert_eq!(*after, expected, "pixel {pixel}");
        }
    }

    #[test]
    fn a_score_on_the_threshold_is_no_object() {
        let mut mask = vec![1.0, 0.0, 1.0];
        fill_holes(&mut mask, 3, 1);
        assert_eq!(mask, [1.0, FILLED, 1.0]);
    }

    #[test]
    fn holes_and_sprinkles_are_found_before_either_is_replaced() {
        // The dot in the ring is a sprinkle, what surrounds it a hole: each takes the other's side.
        let rows = ["#####", "#...#", "#.#.#", "#...#", "#####"];
        let mut mask = scores(&rows);
        let cleaning = Cleaning {
            threshold: 0.0,
            max_hole_area: 8,
            max_sprinkle_area: 1,
        };
        cleaning.apply(&mut mask, 5);
        let row = |y: usize| mask[5 * y..5 * y + 5].to_vec();
        assert_eq!(row(0), [5.0; 5]);
        assert_eq!(row(2), [5.0, 10.0, -10.0, 10.0, 5.0]);
    }

    #[test]
    fn nothing_is_cleaned_unless_asked() {
        let mut mask = scores(&["#.#", "###"]);
        let before = mask.clone();
        let idle = Cleaning {
            threshold: 0.0,
            max_hole_area: 0,
            max_sprinkle_area: 0,
        };
        assert!(idle.is_idle());
        idle.apply(&mut mask, 3);
        assert_eq!(mask, before);
    }
}
