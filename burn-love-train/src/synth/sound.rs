//! Sound: one spectrum a shape, one modulation a surface, over a quiet background.

use std::f64::consts::TAU;

use rand::Rng;

use super::{
    class::Shape,
    scene::{SECONDS, Voice},
    unnamed::Unnamed,
};

/// Samples a second.
pub const SAMPLE_RATE: u32 = 16_000;

/// Level of the background, in dBFS.
pub const BACKGROUND_DBFS: f64 = -50.0;

/// Depth of the amplitude modulation.
const MODULATION: f64 = 0.75;

/// Rise and fall at the ends of a sound, in seconds.
const FADE: f64 = 0.01;

/// Plucks a second of a cross: above all modulations, so that it is not taken for one.
const PLUCKS: f64 = 16.0;

/// Partials end below half the sampling rate.
const HIGHEST: f64 = 7000.0;

/// The clip's sound as samples of full scale 1.
pub fn mix(voices: &[Voice], rng: &mut impl Rng) -> Vec<f64> {
    let length = (SECONDS * SAMPLE_RATE) as usize;
    let mut samples = background(length, rng);
    for voice in voices {
        // A carrier for the whole clip keeps its phase over pauses.
        let carrier = match voice.unnamed.and_then(Unnamed::partials) {
            Some(own) => partials(&own, voice.pitch_hz, length),
            None => carrier(voice.class.shape, voice.pitch_hz, length, rng),
        };
        let of_surface = voice.class.surface.modulation_hz();
        let modulation_hz = voice
            .unnamed
            .and_then(Unnamed::modulation_hz)
            .unwrap_or(of_surface);
        let phase = rng.random_range(0.0..TAU);
        let mut stem = Vec::new();
        for [start, end] in &voice.intervals {
            for i in start * SAMPLE_RATE..end * SAMPLE_RATE {
                let time = f64::from(i) / f64::from(SAMPLE_RATE);
                let rim = (time - f64::from(*start)).min(f64::from(*end) - time);
                let swing = (TAU * modulation_hz * time + phase).sin();
                let envelope = if modulation_hz == 0.0 {
                    1.0
                } else {
                    1.0 + MODULATION * swing
                };
                stem.push(carrier[i as usize] * envelope * (rim / FADE).min(1.0));
            }
        }
        set_level(&mut stem, voice.level_dbfs);
        let mut stem = stem.into_iter();
        for [start, end] in &voice.intervals {
            for i in start * SAMPLE_RATE..end * SAMPLE_RATE {
                samples[i as usize] += stem.next().unwrap_or_default();
            }
        }
    }
    samples
}

/// The background alone.
pub fn background(length: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut samples: Vec<f64> = (0..length).map(|_| gaussian(rng)).collect();
    set_level(&mut samples, BACKGROUND_DBFS);
    samples
}

/// A mono WAV file of 16-bit samples.
///
/// # Errors
/// When the file would be longer than the format allows.
pub fn wav(samples: &[f64]) -> Result<Vec<u8>, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in samples {
        writer.write_sample((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

/// Level of samples (RMS against full scale 1), in dBFS.
pub fn level(samples: &[f64]) -> f64 {
    let power = samples.iter().map(|v| v * v).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * power.max(1e-20).log10()
}

fn set_level(samples: &mut [f64], dbfs: f64) {
    let gain = 10f64.powf((dbfs - level(samples)) / 20.0);
    samples.iter_mut().for_each(|v| *v *= gain);
}

/// Sum of four uniform numbers: normal enough for noise, and without long tails.
fn gaussian(rng: &mut impl Rng) -> f64 {
    (0..4).map(|_| rng.random_range(-1.0..1.0)).sum()
}

fn carrier(shape: Shape, pitch: f64, length: usize, rng: &mut impl Rng) -> Vec<f64> {
    let rate = f64::from(SAMPLE_RATE);
    let start = rng.random_range(0.0..1.0);
    let cycles = move |i: usize| start + pitch * i as f64 / rate;
    let every = |sound: &dyn Fn(f64) -> f64| (0..length).map(|i| sound(cycles(i))).collect::<Vec<_>>();
    match shape {
        Shape::Disc => every(&|cycle| (TAU * cycle).sin()),
        Shape::Star => every(&|cycle| (TAU * cycle + 2.5 * (TAU * 1.4 * cycle).sin()).sin()),
        Shape::Square => {
            let table = period(pitch, |k| if k % 2 == 1 { 1.0 / k as f64 } else { 0.0 });
            limit(every(&|cycle| lookup(&table, cycle)))
        }
        Shape::Triangle => {
            let table = period(pitch, |k| 1.0 / k as f64);
            limit(every(&|cycle| lookup(&table, cycle)))
        }
        Shape::Cross => {
            let table = period(pitch, |k| if k <= 6 { 1.0 / k as f64 } else { 0.0 });
            let pluck = |i: usize| (-1.6 * (i as f64 / rate * PLUCKS).fract()).exp();
            limit(
                (0..length)
                    .map(|i| lookup(&table, cycles(i)) * pluck(i))
                    .collect(),
            )
        }
        Shape::Ring => noise_band(pitch, length, rng),
    }
}

/// A sum of partials at the given multiples of the pitch, with the given strengths.
fn partials(partials: &[(f64, f64)], pitch: f64, length: usize) -> Vec<f64> {
    let at = |i: usize| {
        let cycles = pitch * i as f64 / f64::from(SAMPLE_RATE);
        let audible = partials
            .iter()
            .filter(|(multiple, _)| multiple * pitch <= HIGHEST);
        audible
            .map(|(multiple, strength)| strength * (TAU * multiple * cycles).sin())
            .sum()
    };
    limit((0..length).map(at).collect())
}

/// One period of a sum of partials with the given strengths.
fn period(pitch: f64, strength: impl Fn(usize) -> f64) -> Vec<f64> {
    const POINTS: usize = 2048;
    let highest = (HIGHEST / pitch) as usize;
    (0..POINTS)
        .map(|i| {
            let partial = |k: usize| strength(k) * (TAU * (k * i) as f64 / POINTS as f64).sin();
            (1..=highest.max(1)).map(partial).sum()
        })
        .collect()
}

fn lookup(table: &[f64], cycle: f64) -> f64 {
    let at = cycle.fract() * table.len() as f64;
    let (index, share) = (at as usize, at.fract());
    let (a, b) = (table[index % table.len()], table[(index + 1) % table.len()]);
    a + (b - a) * share
}

/// White noise through two band passes (RBJ's cookbook, constant peak) of quality 3 around twice the pitch.
fn noise_band(pitch: f64, length: usize, rng: &mut impl Rng) -> Vec<f64> {
    let w = TAU * 2.0 * pitch / f64::from(SAMPLE_RATE);
    let alpha = w.sin() / 6.0;
    let (a0, a1, a2) = (1.0 + alpha, -2.0 * w.cos(), 1.0 - alpha);
    let mut noise: Vec<f64> = (0..length).map(|_| gaussian(rng)).collect();
    for _ in 0..2 {
        let (mut x, mut y) = ([0.0; 2], [0.0; 2]);
        for v in &mut noise {
            let out = (alpha * (*v - x[1]) - a1 * y[0] - a2 * y[1]) / a0;
            (x, y) = ([*v, x[0]], [out, y[0]]);
            *v = out;
        }
    }
    limit(noise)
}

/// Holds peaks down, so that no mix of two sounds leaves full scale.
fn limit(mut samples: Vec<f64>) -> Vec<f64> {
    set_level(&mut samples, 0.0);
    samples.iter_mut().for_each(|v| *v = v.tanh());
    samples
}
