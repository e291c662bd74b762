//! Which pixels belong to which object in each frame.

use super::{
    graph::ObjectFrame,
    motion::{Path, Pose},
    outline::{Outline, local},
    scene::SECONDS,
};

/// Pixels `(x, y)` whose centre may be inside an object, beyond the frame too.
pub fn bounds(outline: &Outline, pose: &Pose) -> (std::ops::Range<i64>, std::ops::Range<i64>) {
    let extent = outline.reach() * pose.radius + 1.0;
    let range = |centre: f64| ((centre - extent).floor() as i64)..((centre + extent).ceil() as i64 + 1);
    (range(pose.x), range(pose.y))
}

/// The index of the uppermost object at each pixel of frame `t`, row by row.
pub fn owners(outlines: &[Outline], paths: &[Path], t: u32, width: u32, height: u32) -> Vec<Option<usize>> {
    let mut owners = vec![None; (width * height) as usize];
    for (object, (outline, path)) in outlines.iter().zip(paths).enumerate() {
        let pose = path.at(t);
        for (x, y) in pixels(outline, &pose) {
            if (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y) {
                owners[y as usize * width as usize + x as usize] = Some(object);
            }
        }
    }
    owners
}

/// Visible area and visibility of each object in each frame, `[object][frame]`.
pub fn visibility(outlines: &[Outline], paths: &[Path], width: u32, height: u32) -> Vec<Vec<ObjectFrame>> {
    let mut objects = vec![Vec::new(); outlines.len()];
    for t in 0..SECONDS {
        let owners = owners(outlines, paths, t, width, height);
        for (object, frames) in objects.iter_mut().enumerate() {
            let all = pixels(&outlines[object], &paths[object].at(t)).count().max(1);
            let visible = owners.iter().filter(|owner| **owner == Some(object)).count();
            frames.push(ObjectFrame {
                area: visible as f64 / owners.len() as f64,
                visibility: visible as f64 / all as f64,
                full_area: all as f64 / owners.len() as f64,
            });
        }
    }
    objects
}

fn pixels(outline: &Outline, pose: &Pose) -> impl Iterator<Item = (i64, i64)> {
    let (columns, rows) = bounds(outline, pose);
    rows.flat_map(move |y| columns.clone().map(move |x| (x, y)))
        .filter(move |(x, y)| outline.contains(local(pose, *x as f64 + 0.5, *y as f64 + 0.5), 0.0))
}
