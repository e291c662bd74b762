//! The metric against its definition, written out slowly: every threshold and every pixel, no histogram, no running
//! sums.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

struct Case {
    pixels: usize,
    frames: usize,
    /// Probabilities and labels of each expression, `[T, pixels]`.
    rows: Vec<(Vec<f32>, Vec<bool>)>,
}

fn random_case(rng: &mut ChaCha8Rng) -> Case {
    let (pixels, frames, count) = (
        rng.random_range(1..60),
        rng.random_range(1..5),
        rng.random_range(1..=2 * OFFICIAL_BATCH + 1),
    );
    let row = |rng: &mut ChaCha8Rng| {
        let style = rng.random_range(0..6);
        let density = if rng.random_bool(0.25) {
            0.0
        } else {
            rng.random_range(0.0..1.0)
        };
        let mut labels = Vec::new();
        for _ in 0..frames {
            let empty = rng.random_bool(0.3);
            labels.extend((0..pixels).map(|_| !empty && rng.random_bool(density)));
        }
        let probability = |(rng, label): (&mut ChaCha8Rng, bool)| match style {
            0 => 0.0,
            1 => 1.0,
            2 => rng.random_range(0..=254) as f32 / 254.0,
            3 => [0.4, 0.5, 0.40000004, 0.50000006, 1e-9][rng.random_range(0..5)],
            4 => (f32::from(u8::from(label)) * 0.6 + rng.random_range(0.0..0.4)).min(1.0),
            _ => rng.random_range(0.0..=1.0),
        };
        let probabilities = labels
            .iter()
            .map(|label| probability((&mut *rng, *label)))
            .collect();
        (probabilities, labels)
    };
    Case {
        pixels,
        frames,
        rows: (0..count).map(|_| row(rng)).collect(),
    }
}

/// `(J, F)` straight from the definition.
fn slow(case: &Case, batch_size: usize) -> (f64, f64) {
    let (mut js, mut fs) = (Vec::new(), Vec::new());
    for batch in case.rows.chunks(batch_size) {
        let mut ious = Vec::new();
        let mut curves: Vec<Vec<f64>> = Vec::new();
        for (probabilities, labels) in batch {
            for t in 0..case.frames {
                let frame: Vec<(f32, bool)> = (t * case.pixels..(t + 1) * case.pixels)
                    .map(|i| (probabilities[i], labels[i]))
                    .collect();
                let empty = frame.iter().all(|(_, l)| !l);
                let (mut over, mut under) = (0.0, 0.0);
                for (p, l) in &frame {
                    let p = *p > 0.4;
                    over += f64::from(u8::from(if empty { !p } else { p && *l }));
                    under += f64::from(u8::from(empty || p || *l));
                }
                ious.push(over / (under + 1e-7));
                if empty {
                    continue;
                }
                let curve = (0..255).map(|k| {
                    let step = f64::from(1.0f32 / 254.0);
                    let threshold = if k < 127 {
                        k as f64 * step
                    } else {
                        1.0 - (254 - k) as f64 * step
                    } as f32;
                    let tp = frame.iter().filter(|(p, l)| *p >= threshold && *l).count() as f64;
                    let predicted = frame.iter().filter(|(p, _)| *p >= threshold).count() as f64;
                    let real = frame.iter().filter(|(_, l)| *l).count() as f64;
                    let (precision, recall) = (tp / (predicted + 1e-20), tp / (real + 1e-20));
                    let f = 1.3 * precision * recall / (0.3 * precision + recall);
                    if f.is_nan() { 0.0 } else { f }
                });
                curves.push(curve.collect());
            }
        }
        js.push(ious.iter().sum::<f64>() / ious.len() as f64);
        let mean = |k: usize| curves.iter().map(|curve| curve[k]).sum::<f64>() / curves.len() as f64;
        fs.push(if curves.is_empty() {
            0.0
        } else {
            (0..255).map(mean).fold(f64::MIN, f64::max)
        });
    }
    (
        js.iter().sum::<f64>() / js.len() as f64,
        fs.iter().sum::<f64>() / fs.len() as f64,
    )
}

#[test]
fn equals_the_definition_on_200_random_cases() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for number in 0..200 {
        let case = random_case(&mut rng);
        for batch_size in [OFFICIAL_BATCH, 1] {
            let mut official = Official::with_batch(batch_size);
            for (probabilities, labels) in &case.rows {
                official.push(probabilities, labels, case.frames);
            }
            let score = official.finish();
            let (j, f) = slow(&case, batch_size);
            assert!(
                (score.j - j).abs() < 1e-6 && (score.f - f).abs() < 1e-6,
                "case {number}: {score:?}, {j} {f}"
            );
            assert_eq!((score.n, score.jf), (case.rows.len(), (score.j + score.f) / 2.0));
        }
        let mut null = OfficialNull::new();
        case.rows.iter().for_each(|(probabilities, _)| {
            null.push(probabilities);
        });
        let share = |batch: &[(Vec<f32>, Vec<bool>)]| {
            let all: Vec<f32> = batch.iter().flat_map(|(p, _)| p.clone()).collect();
            (all.iter().filter(|p| **p > 0.5).count() as f64 / all.len() as f64).sqrt()
        };
        let batches: Vec<f64> = case.rows.chunks(4).map(share).collect();
        let s = batches.iter().sum::<f64>() / batches.len() as f64;
        assert!((null.finish().s - s).abs() < 1e-6, "case {number}");
    }
}

#[test]
fn batches_weigh_the_same_however_many_rows_they_hold() {
    let (right, wrong) = (([1.0f32, 0.0], [true, false]), ([0.0f32, 1.0], [true, false]));
    let mut official = Official::new();
    for (p, l) in [right, right, right, right, wrong] {
        official.push(&p, &l, 1);
    }
    let score = official.finish();
    assert!((score.j - 0.5).abs() < 1e-6, "{score:?}");
    assert_eq!(score.expressions.iter().filter(|own| own.j > 0.9).count(), 4);
}

#[test]
fn a_batch_of_empty_labels_has_no_f() {
    let mut official = Official::new();
    official.push(&[0.0; 6], &[false; 6], 2);
    let score = official.finish();
    assert_eq!(score.f, 0.0);
    assert!((score.j - 1.0).abs() < 1e-6);
    assert_eq!(Official::new().finish().n, 0);
}
