//! The log-mel spectrogram that VGGish hears.
//!
//! torchvggish, `mel_features.py` and `vggish_input.py`: windows of 25 ms every 10 ms (periodic Hann, FFT of 512),
//! 64 HTK mel bands from 125 to 7500 Hz, log(x + 0.01), examples of 96 frames without overlap.

use realfft::RealFftPlanner;

use super::{PreprocessError, SAMPLE_RATE, Waveform};
use crate::encoders::VggishConfig;

/// Length and hop of an example, in seconds.
pub const EXAMPLE_SECONDS: f64 = 0.96;

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

/// The log-mel examples of a sound; what is left behind the last whole example is dropped.
///
/// # Errors
/// If the sound is shorter than one example (0.975 s with the last window).
pub fn log_mel(waveform: &Waveform) -> Result<LogMel, PreprocessError> {
    const FRAMES: usize = VggishConfig::FRAMES;
    const BANDS: usize = VggishConfig::BANDS;
    let samples = &waveform.samples;
    let needed = WINDOW + (FRAMES - 1) * HOP;
    if samples.len() < needed {
        let expected = needed as f64 / f64::from(SAMPLE_RATE);
        return Err(PreprocessError::ShortAudio {
            expected,
            found: waveform.seconds(),
        });
    }
    let examples = (1 + (samples.len() - WINDOW) / HOP) / FRAMES;
    let window: Vec<f64> = (0..WINDOW)
        .map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / WINDOW as f64).cos())
        .collect();
    let bands = mel_bands();
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(FFT);
    let (mut input, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());
    let mut values = Vec::with_capacity(examples * FRAMES * BANDS);
    for frame in 0..examples * FRAMES {
        let samples = &samples[frame * HOP..][..WINDOW];
        input.fill(0.0);
        for (input, (sample, weight)) in input.iter_mut().zip(samples.iter().zip(&window)) {
            *input = f64::from(*sample) * weight;
        }
        fft.process(&mut input, &mut spectrum)
            .expect("the buffers have the plan's lengths");
        for band in &bands {
            let energy: f64 = band
                .iter()
                .map(|(bin, weight)| spectrum[*bin].norm() * weight)
                .sum();
            values.push((energy + LOG_OFFSET).ln() as f32);
        }
    }
    Ok(LogMel { values, examples })
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
