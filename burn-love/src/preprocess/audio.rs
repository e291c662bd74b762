//! Sound: WAV of any rate, mono or stereo, integer or float → 16 kHz mono.

use std::io::Cursor;

use hound::{SampleFormat, WavReader};
use rubato::{FftFixedIn, Resampler};

use super::PreprocessError;

/// The rate that VGGish hears, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Mono sound at [`SAMPLE_RATE`], within −1..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// The samples.
    pub samples: Vec<f32>,
}

impl Waveform {
    /// Decodes the content of a WAV file, averages its channels and resamples it.
    ///
    /// # Errors
    /// If it is not a WAV file, is truncated, empty, or holds samples that are not finite.
    pub fn from_wav(content: &[u8]) -> Result<Self, PreprocessError> {
        let not_wav = |error: hound::Error| PreprocessError::NotWav(error.to_string());
        if content.is_empty() {
            return Err(PreprocessError::NotWav("an empty file".into()));
        }
        let reader = WavReader::new(Cursor::new(content)).map_err(not_wav)?;
        let spec = reader.spec();
        let channels = usize::from(spec.channels);
        if channels == 0 || spec.sample_rate == 0 {
            return Err(PreprocessError::NotWav(format!(
                "{channels} channels at {} Hz",
                spec.sample_rate
            )));
        }
        let announced = reader.duration() as usize;
        let decoded: Vec<f32> = match spec.sample_format {
            SampleFormat::Float => reader.into_samples::<f32>().map_while(Result::ok).collect(),
            SampleFormat::Int => {
                let scale = 1.0 / (1i64 << (spec.bits_per_sample - 1)) as f32;
                let samples = reader.into_samples::<i32>().map_while(Result::ok);
                samples.map(|sample| sample as f32 * scale).collect()
            }
        };
        if decoded.len() < announced * channels {
            return Err(PreprocessError::TruncatedAudio {
                expected: announced,
                found: decoded.len() / channels,
            });
        }
        if let Some(index) = decoded.iter().position(|sample| !sample.is_finite()) {
            return Err(PreprocessError::NotFinite {
                index: index / channels,
                value: decoded[index],
            });
        }
        if decoded.is_empty() {
            return Err(PreprocessError::ShortAudio {
                expected: 1.0 / f64::from(spec.sample_rate),
                found: 0.0,
            });
        }
        let mono = decoded
            .chunks_exact(channels)
            .map(|frame| frame.iter().sum::<f32>() / channels as f32)
            .collect();
        Ok(Self {
            samples: resample(mono, spec.sample_rate)?,
        })
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Resamples to [`SAMPLE_RATE`], without delay and with the length rounded to the nearest sample.
fn resample(samples: Vec<f32>, rate: u32) -> Result<Vec<f32>, PreprocessError> {
    const CHUNK: usize = 1024;
    // An even number of the rates' common periods in a chunk makes the filter's delay a whole number of samples.
    let period = (rate / gcd(rate, SAMPLE_RATE)) as usize;
    let chunk = 2 * period * CHUNK.div_ceil(2 * period);
    if rate == SAMPLE_RATE {
        return Ok(samples);
    }
    let failed = |reason: String| PreprocessError::Resample {
        from: rate,
        to: SAMPLE_RATE,
        reason,
    };
    let mut resampler = FftFixedIn::<f32>::new(rate as usize, SAMPLE_RATE as usize, chunk, 1, 1)
        .map_err(|error| failed(error.to_string()))?;
    let length = (samples.len() as f64 * f64::from(SAMPLE_RATE) / f64::from(rate))
        .round()
        .max(1.0) as usize;
    let delay = resampler.output_delay();
    let mut output: Vec<f32> = Vec::with_capacity(length + delay + chunk);
    let mut rest = samples.as_slice();
    while output.len() < length + delay {
        let needed = resampler.input_frames_next();
        let chunk = if rest.len() >= needed {
            let (chunk, tail) = rest.split_at(needed);
            rest = tail;
            resampler.process(&[chunk], None)
        } else {
            let chunk = std::mem::take(&mut rest);
            resampler.process_partial((!chunk.is_empty()).then_some(&[chunk]), None)
        };
        output.extend_from_slice(&chunk.map_err(|error| failed(error.to_string()))?[0]);
    }
    output.drain(..delay);
    output.truncate(length);
    Ok(output)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{WavSpec, WavWriter};

    fn wav(spec: WavSpec, seconds: f64, hertz: f64) -> Vec<u8> {
        let mut content = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut content, spec).unwrap();
        for i in 0..(seconds * f64::from(spec.sample_rate)) as usize {
            let value = 0.5 * (std::f64::consts::TAU * hertz * i as f64 / f64::from(spec.sample_rate)).sin();
            for _ in 0..spec.channels {
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(value as f32).unwrap(),
                    SampleFormat::Int => {
                        let full = (1i64 << (spec.bits_per_sample - 1)) as f64;
                        writer.write_sample((value * full) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        content.into_inner()
    }

    /// Every rate, channel count and sample format gives the same sound: a sine keeps frequency, level and phase.
    #[test]
    fn a_sine_survives_every_format() {
        for rate in [8_000, 16_000, 22_050, 44_100, 48_000] {
            for (bits, format) in [
                (8, SampleFormat::Int),
                (16, SampleFormat::Int),
                (24, SampleFormat::Int),
                (32, SampleFormat::Float),
            ] {
                for channels in [1, 2] {
                    let spec = WavSpec {
                        channels,
                        sample_rate: rate,
                        bits_per_sample: bits,
                        sample_format: format,
                    };
                    let wave = Waveform::from_wav(&wav(spec, 0.5, 440.0)).unwrap();
                    assert!(
                        (wave.samples.len() as i64 - 8000).abs() <= 1,
                        "{spec:?}: {}",
                        wave.samples.len()
                    );
                    let tolerance = if bits == 8 { 0.02 } else { 0.005 };
                    for (i, sample) in wave.samples.iter().enumerate().take(7000).skip(1000) {
                        let expected = 0.5 * (std::f64::consts::TAU * 440.0 * i as f64 / 16_000.0).sin();
                        let error = (f64::from(*sample) - expected).abs();
                        assert!(error < tolerance, "{spec:?}: off by {error} at sample {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn truncated_and_empty_files_are_errors() {
        let spec = WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let content = wav(spec, 0.5, 440.0);
        let cut = Waveform::from_wav(&content[..content.len() / 2]);
        assert!(
            matches!(cut, Err(PreprocessError::TruncatedAudio { expected: 8000, .. })),
            "{cut:?}"
        );
        assert!(matches!(Waveform::from_wav(&[]), Err(PreprocessError::NotWav(_))));
        assert!(matches!(
            Waveform::from_wav(b"RIFF"),
            Err(PreprocessError::NotWav(_))
        ));
        let silent = Waveform::from_wav(&wav(spec, 0.0, 440.0));
        assert!(
            matches!(silent, Err(PreprocessError::ShortAudio { .. })),
            "{silent:?}"
        );
    }
}
