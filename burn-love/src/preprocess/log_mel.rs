//! The log-mel spectrogram that VGGish hears.
//!
//! torchvggish, `mel_features.py` and `vggish_input.py`: windows of 25 ms every 10 ms (periodic Hann, FFT of 512),
//! 64 HTK mel bands from 125 to 7500 Hz, log(x + 0.01), examples of 96 frames without overlap.
//!
//! # Rows and frames
//!
//! A clip of T seconds has T frames, one a second, and T examples ([`log_mel_rows`]). Examples are 0.96 s long: example i
//! covers 0.96·i to 0.96·i + 0.975 s (its last window reaches 15 ms into the next), so it begins 0.04·i s before frame i's
//! second does. The T examples need 0.96·T + 0.015 s of sound, which T seconds always hold; what follows is not heard:
//! 0.385 s of 10 s, 2.385 s of 60 s. Sounds that are a little short, such as 9.6 s for ten frames, are continued with
//! silence.

use realfft::RealFftPlanner;

use super::{PreprocessError, SAMPLE_RATE, Waveform};
use crate::encoders::VggishConfig;

const WINDOW: usize = 400;
const HOP: usize = 160;
const FFT: usize = 512;
const MIN_HZ: f64 = 125.0;
const MAX_HZ: f64 = 7500.0;
const LOG_OFFSET: f64 = 0.01;

/// Log-mel examples, `[N, 96, 64]` row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    /// The values.
    pub values: Vec<f32>,
    /// Examples N.
    pub examples: usize,
}

impl LogMel {
    /// Some of the examples.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn chosen(&self, examples: &[usize]) -> Self {
        const SIZE: usize = VggishConfig::FRAMES * VggishConfig::BANDS;
        let values = examples
            .iter()
            .flat_map(|i| &self.values[i * SIZE..(i + 1) * SIZE]);
        Self {
            values: values.copied().collect(),
            examples: examples.len(),
        }
    }
}

/// Samples that `examples` examples need.
pub const fn samples_of(examples: usize) -> usize {
    match examples {
        0 => 0,
        _ => WINDOW + (examples * VggishConfig::FRAMES - 1) * HOP,
    }
}

/// Exactly `rows` log-mel examples of a sound, which is cut or continued with silence: the audio of a clip of `rows`
/// frames at one a second. See the [module docs](self) for their timing.
pub fn log_mel_rows(mut waveform: Waveform, rows: usize) -> LogMel {
    waveform.samples.resize(samples_of(rows), 0.0);
    examples_of(&waveform.samples, rows)
}

/// The log-mel examples of a sound; what is left behind the last whole example is dropped.
///
/// # Errors
/// If the sound is shorter than one example (0.975 s with the last window).
pub fn log_mel(waveform: &Waveform) -> Result<LogMel, PreprocessError> {
    let samples = &waveform.samples;
    if samples.len() < samples_of(1) {
        return Err(PreprocessError::ShortAudio {
            expected: samples_of(1) as f64 / f64::from(SAMPLE_RATE),
            found: waveform.seconds(),
        });
    }
    let examples = (1 + (samples.len() - WINDOW) / HOP) / VggishConfig::FRAMES;
    Ok(examples_of(samples, examples))
}

/// The first examples of samples that hold so many.
fn examples_of(samples: &[f32], examples: usize) -> LogMel {
    const FRAMES: usize = VggishConfig::FRAMES;
    const BANDS: usize = VggishConfig::BANDS;
    let window: Vec<f64> = (0..WINDOW)
        .map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / WINDOW as f64).cos())
        .collect();
    let bands = mel_bands();
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(FFT);
    let (mut input, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());
    let mut magnitudes = vec![0.0; spectrum.len()];
    let mut values = Vec::with_capacity(examples * FRAMES * BANDS);
    for frame in 0..examples * FRAMES {
        let samples = &samples[frame * HOP..][..WINDOW];
        input.fill(0.0);
        for (input, (sample, weight)) in input.iter_mut().zip(samples.iter().zip(&window)) {
            *input = f64::from(*sample) * weight;
        }
        fft.process(&mut input, &mut spectrum)
            .expect("the buffers have the plan's lengths");
        // A bin is in two bands; the squares of 16-bit sound are far from f64's limits, so no `hypot`.
        for (magnitude, bin) in magnitudes.iter_mut().zip(&spectrum) {
            *magnitude = bin.norm_sqr().sqrt();
        }
        for band in &bands {
            let energy: f64 = band.iter().map(|(bin, weight)| magnitudes[*bin] * weight).sum();
            values.push((energy + LOG_OFFSET).ln() as f32);
        }
    }
    LogMel { values, examples }
}

/// For each band its FFT bins and their weights: triangles in the mel scale, without the constant bin.
fn mel_bands() -> Vec<Vec<(usize, f64)>> {
    const BANDS: usize = VggishConfig::BANDS;
    let mel = |hertz: f64| 1127.0 * (1.0 + hertz / 700.0).ln();
    let (low, high) = (mel(MIN_HZ), mel(MAX_HZ));
    let edge = |i: usize| low + (high - low) * i as f64 / (BANDS + 1) as f64;
    let bin_mel = |bin: usize| mel(bin as f64 * f64::from(SAMPLE_RATE) / FFT as f64);
    let weight = |band: usize, bin: usize| {
        let (lower, centre, upper) = (edge(band), edge(band + 1), edge(band + 2));
        let at = bin_mel(bin);
        ((at - lower) / (centre - lower))
            .min((upper - at) / (upper - centre))
            .max(0.0)
    };
    (0..BANDS)
        .map(|band| {
            (1..=FFT / 2)
                .map(|bin| (bin, weight(band, bin)))
                .filter(|(_, weight)| *weight > 0.0)
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_are_ten_examples() {
        let examples = |n: usize| {
            log_mel(&Waveform {
                samples: vec![0.0; n],
            })
            .map(|mel| mel.examples)
        };
        assert_eq!(examples(160_000).unwrap(), 10);
        assert_eq!(examples(153_840).unwrap(), 10);
        assert_eq!(examples(153_839).unwrap(), 9);
        assert!(matches!(
            examples(15_599),
            Err(PreprocessError::ShortAudio { .. })
        ));
    }

    /// Whatever its length, a sound has a row per frame, and a row hears only its own 0.975 s.
    #[test]
    fn rows_are_as_many_as_frames() {
        let noise = |seconds: f64| {
            let length = (seconds * f64::from(SAMPLE_RATE)) as usize;
            let samples = (0..length)
                .map(|i| ((i * i % 7919) as f32 / 7919.0) - 0.5)
                .collect();
            Waveform { samples }
        };
        for frames in [1, 2, 10, 20, 24, 25, 30, 60] {
            for seconds in [0.96 * frames as f64, frames as f64, frames as f64 + 0.3, 60.0] {
                let mel = log_mel_rows(noise(seconds), frames);
                assert_eq!(mel.examples, frames, "{seconds} s for {frames} frames");
                assert_eq!(mel.values.len(), frames * 96 * 64);
            }
            assert!(samples_of(frames) <= frames * SAMPLE_RATE as usize);
        }
        let whole = log_mel_rows(noise(10.0), 10);
        assert_eq!(log_mel_rows(noise(10.3), 10), whole, "what follows is not heard");
        let short = log_mel_rows(noise(9.6), 10);
        let nine = 9 * 96 * 64;
        assert_eq!(short.values[..nine], whole.values[..nine]);
        // The tenth row reaches to 9.615 s: its last two windows hear silence.
        let row = &short.values[nine..];
        assert_eq!(row[..94 * 64], whole.values[nine..][..94 * 64]);
        assert_ne!(row[95 * 64..], whole.values[nine..][95 * 64..]);

        let start = 15_360 * 3;
        let third = Waveform {
            samples: noise(10.0).samples[start..][..15_600].to_vec(),
        };
        assert_eq!(
            log_mel_rows(third, 1).values,
            whole.values[3 * 96 * 64..][..96 * 64]
        );
        let chosen = whole.chosen(&[3, 9]);
        assert_eq!(chosen.examples, 2);
        assert_eq!(chosen.values[..96 * 64], whole.values[3 * 96 * 64..][..96 * 64]);
        assert_eq!(chosen.values[96 * 64..], whole.values[nine..]);
    }

    #[test]
    fn silence_is_the_offsets_logarithm() {
        let mel = log_mel(&Waveform {
            samples: vec![0.0; 16_000],
        })
        .unwrap();
        assert!(mel.values.iter().all(|value| (value - 0.01f32.ln()).abs() < 1e-6));
    }

    /// torchvggish 0.2, `waveform_to_examples` of 0.5·sin(2π·440·t) over one second: frame 50, bands 8 to 12.
    #[test]
    fn a_sine_has_torchvggishs_values() {
        let samples = (0..16_000)
            .map(|i| 0.5 * (std::f64::consts::TAU * 440.0 * i as f64 / 16_000.0).sin() as f32)
            .collect();
        let mel = log_mel(&Waveform { samples }).unwrap();
        let found = &mel.values[50 * 64 + 8..][..5];
        for (found, expected) in found.iter().zip(SINE) {
            assert!((found - expected).abs() < 1e-4, "{found} against {expected}");
        }
    }
    const SINE: [f32; 5] = [4.089_164, 3.645_787, 1.792_115, -0.527_639, -1.558_745];
}
