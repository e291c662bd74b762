//! Sound: WAV of any rate, mono or stereo, integer or float → 16 kHz mono.

use std::io::{Cursor, Read, Seek};

use rubato::{FftFixedIn, Resampler};

use super::{PreprocessError, wav::Wav};

/// The rate that VGGish hears, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Samples that are read at once where nothing else says how many.
const BLOCK: usize = 1 << 16;

/// Mono sound at [`SAMPLE_RATE`]. Full scale is −1..=1; samples of float files may lie beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// The samples.
    pub samples: Vec<f32>,
}

impl Waveform {
    /// Decodes the content of a WAV file, averages its channels and resamples it.
    ///
    /// # Errors
    /// If it is not a WAV file, is of a kind that is not read, truncated, empty, or holds samples that are not finite.
    pub fn from_wav(content: &[u8]) -> Result<Self, PreprocessError> {
        Self::read_wav(Cursor::new(content))
    }

    /// As [`from_wav`](Self::from_wav), from a file that is read in parts: what this takes is the memory of its result.
    ///
    /// # Errors
    /// As [`from_wav`](Self::from_wav), or if the file cannot be read.
    pub fn read_wav(file: impl Read + Seek) -> Result<Self, PreprocessError> {
        resample(Wav::open(file)?)
    }

    /// The first `seconds` of what [`read_wav`](Self::read_wav) gives, or all of it if there is less. Nothing behind them
    /// is read: time and memory do not depend on the file's length.
    ///
    /// # Errors
    /// As [`read_wav`](Self::read_wav); samples that are not needed may be anything.
    pub fn read_wav_start(file: impl Read + Seek, seconds: f64) -> Result<Self, PreprocessError> {
        let mut wav = Wav::open(file)?;
        wav.limit((seconds * f64::from(wav.rate)).ceil() as usize + lookahead(wav.rate));
        let mut start = resample(wav)?;
        start
            .samples
            .truncate((seconds * f64::from(SAMPLE_RATE)).round() as usize);
        Ok(start)
    }

    /// Seconds of a WAV file by its header; the samples must be there, but are not read.
    ///
    /// # Errors
    /// As [`read_wav`](Self::read_wav), but for samples that are not finite.
    pub fn wav_seconds(file: impl Read + Seek) -> Result<f64, PreprocessError> {
        let wav = Wav::open(file)?;
        Ok(wav.left() as f64 / f64::from(wav.rate))
    }

    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Samples that the resampler filters at once.
///
/// They are a filter's length too: at least 1024 samples at the lower rate keep the filter flat up to 0.97 of the lower
/// Nyquist frequency, above VGGish's highest band. An even number of the rates' common periods makes the filter's delay
/// a whole number of samples.
fn chunk_of(rate: u32) -> usize {
    const LEAST: u32 = 1024;
    let period = (rate / gcd(rate, SAMPLE_RATE)) as usize;
    let least = LEAST * rate.max(SAMPLE_RATE).div_ceil(SAMPLE_RATE);
    (least as usize).next_multiple_of(2 * period)
}

/// Samples behind an instant that the filter needs for everything before it.
fn lookahead(rate: u32) -> usize {
    if rate == SAMPLE_RATE {
        0
    } else {
        2 * chunk_of(rate)
    }
}

/// Resamples to [`SAMPLE_RATE`], without delay and with the length rounded to the nearest sample.
///
/// DEVIATION: torchvggish resamples with resampy 0.4's `kaiser_best`, whose gain falls to a half at 0.917 of the lower
/// Nyquist frequency: from 44.1 kHz it weakens what lies above 7 kHz. This filter is flat up to 0.97 of it. The parity
/// case `vggish` measures what that is worth.
fn resample(mut wav: Wav<impl Read + Seek>) -> Result<Waveform, PreprocessError> {
    let (rate, given) = (wav.rate, wav.left());
    if rate == SAMPLE_RATE {
        let mut samples = Vec::with_capacity(given);
        while wav.left() > 0 {
            samples.extend(wav.next(BLOCK)?);
        }
        return Ok(Waveform { samples });
    }
    let chunk = chunk_of(rate);
    let failed = |reason: String| PreprocessError::Resample {
        from: rate,
        to: SAMPLE_RATE,
        reason,
    };
    let mut resampler = FftFixedIn::<f32>::new(rate as usize, SAMPLE_RATE as usize, chunk, 1, 1)
        .map_err(|error| failed(error.to_string()))?;
    let length = (given as f64 * f64::from(SAMPLE_RATE) / f64::from(rate))
        .round()
        .max(1.0) as usize;
    let mut delay = resampler.output_delay();
    let mut samples: Vec<f32> = Vec::with_capacity(length + chunk);
    while samples.len() < length {
        let needed = resampler.input_frames_next();
        let input = wav.next(needed)?;
        let output = if input.len() == needed {
            resampler.process(&[input], None)
        } else {
            resampler.process_partial((!input.is_empty()).then_some(&[input]), None)
        };
        let output = &output.map_err(|error| failed(error.to_string()))?[0];
        let late = delay.min(output.len());
        samples.extend_from_slice(&output[late..]);
        delay -= late;
    }
    samples.truncate(length);
    Ok(Waveform { samples })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use hound::{SampleFormat, WavSpec, WavWriter};

    use super::*;
    use crate::preprocess::{log_mel, log_mel_rows};

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

    const MONO: WavSpec = WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };

    #[test]
    fn the_start_of_a_sound_is_the_same_without_the_rest() {
        for (rate, seconds) in [
            (16_000, 1.0),
            (44_100, 1.0),
            (96_000, 0.9),
            (8_000, 2.2),
            (44_101, 1.3),
        ] {
            let spec = WavSpec {
                sample_rate: rate,
                ..MONO
            };
            let content = wav(spec, 6.0, 440.0);
            let start = Waveform::read_wav_start(Cursor::new(&content), seconds).unwrap();
            let whole = Waveform::from_wav(&content).unwrap();
            let length = (seconds * 16_000.0) as usize;
            assert_eq!(start.samples, whole.samples[..length], "{rate} Hz");
            assert_eq!(
                Waveform::read_wav_start(Cursor::new(&content), 100.0).unwrap(),
                whole
            );
        }
    }

    /// Counts the bytes that are read of a file.
    struct Counted<R> {
        file: R,
        read: usize,
    }

    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.file.read(buffer)?;
            self.read += read;
            Ok(read)
        }
    }

    impl<R: Seek> Seek for Counted<R> {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.file.seek(to)
        }
    }

    /// An hour of sound is as quick and small as its first seconds.
    #[test]
    fn an_hour_is_not_read() {
        let spec = WavSpec {
            sample_rate: 8_000,
            bits_per_sample: 8,
            ..MONO
        };
        let mut content = wav(spec, 0.0, 440.0);
        let samples = 3600 * 8000;
        let data = content.len() - 4;
        content[data..].copy_from_slice(&u32::to_le_bytes(samples));
        content.resize(content.len() + samples as usize, 200);
        let mut file = Counted {
            file: Cursor::new(content),
            read: 0,
        };
        let start = Waveform::read_wav_start(&mut file, 10.0).unwrap();
        assert_eq!(start.samples.len(), 160_000);
        assert!(start.samples.capacity() < 200_000, "{}", start.samples.capacity());
        assert!(file.read < 100_000, "{} bytes for 10 s of 80,000", file.read);
        assert_eq!(log_mel_rows(start, 10).examples, 10);
    }

    #[test]
    fn a_file_that_cannot_be_read_on_is_an_error() {
        /// Fails behind so many bytes.
        struct Failing(Cursor<Vec<u8>>, usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let read = self.0.read(buffer)?;
                self.1 = self
                    .1
                    .checked_sub(read)
                    .ok_or_else(|| std::io::Error::other("the disk is gone"))?;
                Ok(read)
            }
        }
        impl Seek for Failing {
            fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
                self.0.seek(to)
            }
        }
        for rate in [16_000, 44_100] {
            let spec = WavSpec {
                sample_rate: rate,
                ..MONO
            };
            let file = Failing(Cursor::new(wav(spec, 6.0, 440.0)), 1000);
            let error = Waveform::read_wav(file).unwrap_err().to_string();
            assert_eq!(error, "cannot be read: the disk is gone");
        }
    }

    #[test]
    fn silent_clipped_and_fast_sounds_are_sounds() {
        let spec = WavSpec {
            sample_rate: 96_000,
            ..MONO
        };
        let fast = Waveform::from_wav(&wav(spec, 1.0, 440.0)).unwrap();
        assert_eq!(fast.samples.len(), 16_000);
        assert!(log_mel(&fast).unwrap().values.iter().all(|x| x.is_finite()));

        let silent = Waveform::from_wav(&wav(spec, 1.0, 0.0)).unwrap();
        assert!(silent.samples.iter().all(|sample| *sample == 0.0));
        assert!(log_mel(&silent).unwrap().values.iter().all(|x| *x < -4.6));

        // A square wave: every sample is at the end of its range.
        let mut content = wav(spec, 1.0, 0.0);
        for (i, sample) in content[44..].chunks_exact_mut(2).enumerate() {
            let clipped = if i / 100 % 2 == 0 { i16::MAX } else { i16::MIN };
            sample.copy_from_slice(&clipped.to_le_bytes());
        }
        let clipped = Waveform::from_wav(&content).unwrap();
        let loudest = clipped.samples.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!((1.0..1.5).contains(&loudest), "the filter overshoots: {loudest}");
        assert!(log_mel(&clipped).unwrap().values.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn ten_milliseconds_are_a_sound_without_an_example() {
        let blip = Waveform::from_wav(&wav(MONO, 0.01, 440.0)).unwrap();
        assert_eq!(blip.samples.len(), 160);
        assert!(matches!(log_mel(&blip), Err(PreprocessError::ShortAudio { .. })));
        assert_eq!(log_mel_rows(blip, 1).examples, 1);
        let spec = WavSpec {
            sample_rate: 44_100,
            ..MONO
        };
        assert_eq!(
            Waveform::from_wav(&wav(spec, 0.01, 440.0)).unwrap().samples.len(),
            160
        );
    }
}
