//! What SAM 2 is measured by: objects of held-out scenes, pointed at and tracked.

use burn::prelude::*;
use burn_love::{
    ops::resize_bilinear,
    sam2::{MaskSelection, Prompt, Sam2, Tracker, TrackerConfig},
};

use super::{
    Sam2Task, points,
    prompts::{Mask, Owners, PointRows, Pointer},
    put_rows,
};
use crate::{
    data::Split,
    metrics::iou,
    pretraining::{
        patches::View,
        scenes::Scene,
        task::{Gate, upload},
    },
    synth::SECONDS,
    training::{RunError, Values},
};

/// All measurements; `sam2` is for inference.
pub fn measure<B: Backend>(
    task: &Sam2Task<'_>,
    sam2: &Sam2<B>,
    device: &B::Device,
) -> Result<Vec<Gate>, RunError> {
    let mut gates = task.image_gates(sam2, device)?;
    gates.extend(task.tracking_gates(sam2, device)?);
    gates.push(task.score_gate(sam2, device)?);
    Ok(gates)
}

impl Sam2Task<'_> {
    /// IoUs of objects of held-out frames that are pointed at with boxes, and with a click.
    fn image_gates<B: Backend>(&self, sam2: &Sam2<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let side = self.side();
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let mut found: [Vec<f64>; 2] = Default::default();
        for scene in self.scenes.of(Split::Val) {
            for t in [0, SECONDS / 2] {
                let owners = Owners::new(&scene.graph, t, side);
                let masks: Vec<(usize, Mask)> = owners
                    .objects()
                    .into_iter()
                    .map(|object| (object, owners.mask(object)))
                    .collect();
                if masks.is_empty() {
                    continue;
                }
                let pixels = upload(
                    self.pixels(&[(scene, t, View::default())])?,
                    [1, 3, side, side],
                    device,
                );
                let features = sam2.forward_image(pixels).repeat(masks.len());
                let one_click = {
                    let mut rows = PointRows {
                        count: 1,
                        ..PointRows::default()
                    };
                    for (_, mask) in &masks {
                        rows.coordinates.extend(mask.click(&mut rng));
                        rows.labels.push(1);
                    }
                    rows
                };
                let boxes = PointRows::boxes(masks.iter().map(|(_, mask)| mask));
                for (rows, found) in [boxes, one_click].iter().zip(&mut found) {
                    let points = points(rows, masks.len(), device);
                    let prompt = sam2.sam_prompt_encoder.forward(Some(points), None, side);
                    let heads = sam2.decode(
                        sam2.unconditioned(&features),
                        &features,
                        prompt,
                        MaskSelection::Single,
                    );
                    let objects: Vec<usize> = masks.iter().map(|(object, _)| *object).collect();
                    found.extend(
                        ious(scene, t, &objects, heads.low_res_logits)
                            .into_iter()
                            .flatten(),
                    );
                }
            }
        }
        let [boxes, clicks] = found;
        Ok(vec![
            gate("J of boxes", &boxes, Some(0.85)),
            gate("J of clicks", &clicks, None),
        ])
    }

    /// IoUs of objects of held-out clips that are tracked from their masks in the first frame.
    fn tracking_gates<B: Backend>(&self, sam2: &Sam2<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let side = self.side();
        let (mut all, mut last) = (Vec::new(), Vec::new());
        for scene in self.scenes.of(Split::Val) {
            let owners = Owners::new(&scene.graph, 0, side);
            let objects = owners.objects();
            if objects.is_empty() {
                continue;
            }
            let frames: Vec<_> = (0..SECONDS).map(|t| (scene, t, View::default())).collect();
            let pixels = upload(self.pixels(&frames)?, [frames.len(), 3, side, side], device);
            let neck = sam2.image_encoder.forward(pixels);
            let frame = |i| {
                sam2.project_features(neck.frame(1, frames.len(), i))
                    .repeat(objects.len())
            };
            let masks = objects
                .iter()
                .flat_map(|object| owners.mask(*object).values().collect::<Vec<_>>());
            let mask = upload(masks.collect(), [objects.len(), 1, side, side], device);
            let config = TrackerConfig::new().with_frames(Some(frames.len()));
            let (mut session, _) = Tracker::new(sam2, config).start(&frame(0), Prompt::Mask(mask));
            for t in 1..SECONDS {
                let output = session.step(&frame(t as usize));
                let found = ious(scene, t, &objects, output.low_res_logits);
                let found = found.into_iter().flatten();
                if t + 1 == SECONDS {
                    last.extend(found.clone());
                }
                all.extend(found);
            }
        }
        Ok(vec![
            gate("J tracked from masks", &all, Some(0.80)),
            gate("J tracked, last frame", &last, None),
        ])
    }

    /// How often the object score is right about prompts on held-out images.
    fn score_gate<B: Backend>(&self, sam2: &Sam2<B>, device: &B::Device) -> Result<Gate, RunError> {
        let mut values = Values::default();
        let mut rng = rand::SeedableRng::seed_from_u64(2);
        for pointer in [Pointer::Click, Pointer::Box].repeat(8) {
            let batch = self.draw(Split::Val, pointer, 1, &mut rng)?;
            let neck = self.maps(sam2, &batch, device);
            for loss in self.losses(sam2, neck, &batch, device) {
                put_rows(&mut values, pointer, &loss);
            }
        }
        Ok(Gate {
            name: "object score right".into(),
            value: values.get("score").unwrap_or(0.0),
            least: None,
        })
    }
}

/// IoUs of objects in a frame at its own size; none for those that are hidden there.
///
/// # Shapes
/// - `logits`: `[objects, 1, h, w]`
fn ious<B: Backend>(scene: &Scene, t: u32, objects: &[usize], logits: Tensor<B, 4>) -> Vec<Option<f64>> {
    let (width, height) = (scene.graph.width as usize, scene.graph.height as usize);
    let found = resize_bilinear(logits, [height, width])
        .into_data()
        .convert::<f32>();
    let found = found.as_slice::<f32>().expect("just converted");
    let owners = scene.graph.owners(t);
    let one = |(object, found): (&usize, &[f32])| {
        let label: Vec<bool> = owners.iter().map(|owner| *owner == Some(*object)).collect();
        let found: Vec<bool> = found.iter().map(|logit| *logit > 0.0).collect();
        label.contains(&true).then(|| iou(&found, &label))
    };
    objects
        .iter()
        .zip(found.chunks_exact(width * height))
        .map(one)
        .collect()
}

fn gate(name: &str, values: &[f64], least: Option<f64>) -> Gate {
    Gate {
        name: name.into(),
        value: values.iter().sum::<f64>() / values.len().max(1) as f64,
        least,
    }
}
