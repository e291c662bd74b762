//! Boxes of masks, crops of images, and which boxes to keep.
//!
//! SAM 2, `utils/amg.py: batched_mask_to_box, generate_crop_boxes, is_box_near_crop_edge, build_point_grid`;
//! torchvision, `ops/boxes.py: nms`.

/// Pixels within which a box touches the edge of a crop.
const EDGE: f32 = 20.0;

/// `[x0, y0, x1, y1]` in pixels.
pub type Corners = [u32; 4];

/// A part of an image that is segmented on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Its corners in the image; the right and lower ones are not part of it.
    pub corners: Corners,
    /// 0 for the whole image; layer `i` has `2ⁱ` crops in each direction.
    pub layer: usize,
}

/// The crops of an image of `[height, width]`: the image itself, then `layers` layers of overlapping parts. In the
/// first layer neighbours share `overlap` of the image's shorter side, in later ones less.
pub fn crops([h, w]: [u32; 2], layers: usize, overlap: f64) -> Vec<Crop> {
    let mut crops = vec![Crop {
        corners: [0, 0, w, h],
        layer: 0,
    }];
    for layer in 1..=layers {
        let count = 1u32 << layer;
        let shared = (overlap * f64::from(h.min(w)) * (2.0 / f64::from(count))) as u32;
        let [crop_w, crop_h] = [w, h].map(|side| (shared * (count - 1) + side).div_ceil(count));
        for column in 0..count {
            for row in 0..count {
                let (x, y) = ((crop_w - shared) * column, (crop_h - shared) * row);
                let corners = [x, y, (x + crop_w).min(w), (y + crop_h).min(h)];
                // An image of few pixels has fewer crops.
                if x < w && y < h {
                    crops.push(Crop { corners, layer });
                }
            }
        }
    }
    crops
}

/// The centres of a grid of `side`² cells, row by row, as fractions of width and height.
pub fn point_grid(side: usize) -> Vec<[f64; 2]> {
    let centre = |i: usize| (i as f64 + 0.5) / side as f64;
    let rows = 0..side;
    rows.flat_map(|y| (0..side).map(move |x| [centre(x), centre(y)]))
        .collect()
}

/// First and last column and row of a mask of `width` columns; all 0 if it is empty.
pub fn mask_corners(mask: &[bool], width: usize) -> Corners {
    let mut corners: Option<Corners> = None;
    for (i, _) in mask.iter().enumerate().filter(|(_, inside)| **inside) {
        let (x, y) = ((i % width) as u32, (i / width) as u32);
        corners = Some(match corners {
            None => [x, y, x, y],
            Some([x0, y0, x1, y1]) => [x0.min(x), y0.min(y), x1.max(x), y1.max(y)],
        });
    }
    corners.unwrap_or_default()
}

/// Whether a box in a crop ends near an edge of the crop that is no edge of the image of `[height, width]`: then the
/// crop probably cuts its object.
pub fn is_cut(corners: Corners, crop: Corners, [h, w]: [u32; 2]) -> bool {
    let [x0, y0, ..] = crop;
    let offset = [x0, y0, x0, y0];
    let near = |a: u32, b: u32| (a as f32 - b as f32).abs() <= EDGE;
    let image = [0, 0, w, h];
    (0..4).any(|i| {
        let side = corners[i] + offset[i];
        near(side, crop[i]) && !near(side, image[i])
    })
}

/// Non-maximum suppression: indices of boxes by falling score, without those whose IoU with a better one that is kept
/// exceeds `threshold`. Equal scores keep their order. A box without an area suppresses nothing and is kept.
pub fn suppress(boxes: &[Corners], scores: &[f32], threshold: f32) -> Vec<usize> {
    let boxes: Vec<[f32; 4]> = boxes
        .iter()
        .map(|corners| corners.map(|side| side as f32))
        .collect();
    let area = |[x0, y0, x1, y1]: [f32; 4]| (x1 - x0) * (y1 - y0);
    let iou = |a: [f32; 4], b: [f32; 4]| {
        let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
        let shared = side(0) * side(1);
        shared / (area(a) + area(b) - shared)
    };
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        // Two boxes without areas have no IoU: NaN exceeds nothing.
        if !kept
            .iter()
            .any(|better| iou(boxes[*better], boxes[i]) > threshold)
        {
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `generate_crop_boxes((60, 100), 1, 512 / 1500)` of sam2 1.1.0.
    #[test]
    fn crops_are_upstreams() {
        let found: Vec<_> = crops([60, 100], 1, 512.0 / 1500.0)
            .iter()
            .map(|crop| crop.corners)
            .collect();
        let expected = [
            [0, 0, 100, 60],
            [0, 0, 60, 40],
            [0, 20, 60, 60],
            [40, 0, 100, 40],
            [40, 20, 100, 60],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn crops_of_few_pixels_are_not_empty() {
        for crop in crops([2, 3], 3, 0.3) {
            let [x0, y0, x1, y1] = crop.corners;
            assert!(x0 < x1 && x1 <= 3 && y0 < y1 && y1 <= 2, "{crop:?}");
        }
    }

    #[test]
    fn a_mask_has_the_box_of_its_pixels() {
        let mask = [
            false, false, false, false, //
            false, true, false, false, //
            false, false, true, false,
        ];
        assert_eq!(mask_corners(&mask, 4), [1, 1, 2, 2]);
        assert_eq!(mask_corners(&[false; 12], 4), [0; 4]);
    }

    #[test]
    fn a_box_is_cut_at_the_inner_edges_of_a_crop_only() {
        let (image, crop) = ([200, 200], [100, 0, 200, 100]);
        assert!(is_cut([5, 30, 60, 60], crop, image), "left edge");
        assert!(is_cut([30, 30, 60, 95], crop, image), "lower edge");
        assert!(!is_cut([30, 0, 99, 60], crop, image), "the image's own edges");
        assert!(!is_cut([21, 0, 99, 79], crop, image), "just far enough");
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let boxes = [
            [0, 0, 10, 10],
            [1, 0, 10, 10],
            [20, 20, 30, 30],
            [5, 5, 5, 9],
            [5, 5, 5, 9],
        ];
        let kept = suppress(&boxes, &[0.5, 0.9, 0.7, 0.1, 0.1], 0.7);
        assert_eq!(kept, [1, 2, 3, 4], "0.9 suppresses 0.5; lines have no IoU");
        assert_eq!(suppress(&boxes, &[0.5, 0.9, 0.7, 0.1, 0.1], 0.95)[..3], [1, 2, 0]);
    }
}
