//! WAV files: integers of 8, 16, 24 and 32 bits and floats of 32, of any channel count, plain or `WAVE_EXTENSIBLE`.
//!
//! hound reads the header. The samples are read and decoded here, so that no more is read than is asked for and nothing
//! is allocated that only a header claims. What a file may hold, and what becomes of it:
//!
//! | file | result |
//! |---|---|
//! | silent, clipped, floats beyond full scale | kept as they are |
//! | 20 valid bits in 24, 24 in 32 | the highest bits of their container, as the format says |
//! | several channels | their mean |
//! | fewer samples than its header says | [`TruncatedAudio`](PreprocessError::TruncatedAudio), even if those wanted are there |
//! | no samples | [`ShortAudio`](PreprocessError::ShortAudio) |
//! | NaN, infinity, floats beyond ±2³² | [`NotFinite`](PreprocessError::NotFinite), if among those wanted |
//! | below 1 kHz or above 384 kHz | [`SampleRate`](PreprocessError::SampleRate) |
//! | no channels, compressed, 64-bit floats, streamed without a length, damaged, no WAV file | [`NotWav`](PreprocessError::NotWav) |

use std::io::{Read, Seek, SeekFrom};

use hound::{SampleFormat, WavReader};

use super::PreprocessError;

/// Rates that can be resampled with little memory, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Samples that are larger would overflow f32 on the way to a spectrogram.
const LARGEST: f32 = (1u64 << 32) as f32;

/// Bytes of a `fmt ` chunk that are believed; `WAVE_EXTENSIBLE` has 40.
const LONGEST_FORMAT: u32 = 1024;

/// How a sample is stored.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Unsigned8,
    /// Signed, of so many bytes.
    Signed(usize),
    Float32,
}

/// A WAV file whose header was read and whose samples are there. They are read in order, a part at a time.
#[derive(Debug)]
pub(super) struct Wav<R> {
    /// Samples per second and channel.
    pub rate: u32,
    channels: usize,
    encoding: Encoding,
    /// The file, at the next sample.
    file: R,
    /// Samples per channel that were read.
    read: usize,
    /// Samples per channel in the file.
    length: usize,
}

impl<R: Read + Seek> Wav<R> {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// If it cannot be read, is not a WAV file, is truncated or empty, or of a kind that is not read.
    pub fn open(mut file: R) -> Result<Self, PreprocessError> {
        let size = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if size == 0 {
            return Err(PreprocessError::NotWav("an empty file".into()));
        }
        let header = header(&mut file)?;
        let reader =
            WavReader::new(header.as_slice()).map_err(|error| PreprocessError::NotWav(error.to_string()))?;
        let (spec, announced, samples) = (reader.spec(), reader.duration() as usize, reader.len() as usize);
        let channels = usize::from(spec.channels);
        if !RATES.contains(&spec.sample_rate) {
            return Err(PreprocessError::SampleRate {
                lowest: *RATES.start(),
                highest: *RATES.end(),
                found: spec.sample_rate,
            });
        }
        if samples == 0 {
            return Err(PreprocessError::ShortAudio {
                expected: 1.0 / f64::from(spec.sample_rate),
                found: 0.0,
            });
        }
        // The chunk's length stands at the end. Divided by its samples it is the container's size, which hound has
        // checked to be a whole number of bytes.
        let length = le32(&header[header.len() - 4..]);
        let there = size - file.stream_position().map_err(unreadable)?;
        let bytes = length as usize / samples;
        let encoding = match (spec.sample_format, bytes) {
            (SampleFormat::Int, 1) => Encoding::Unsigned8,
            (SampleFormat::Int, 2..=4) => Encoding::Signed(bytes),
            (SampleFormat::Float, 4) => Encoding::Float32,
            (format, _) => {
                let kind = match format {
                    SampleFormat::Int => "integers",
                    SampleFormat::Float => "floats",
                };
                return Err(PreprocessError::NotWav(format!("{kind} of {} bits", 8 * bytes)));
            }
        };
        if there < u64::from(length) {
            return Err(PreprocessError::TruncatedAudio {
                expected: announced,
                found: there as usize / (bytes * channels),
            });
        }
        Ok(Self {
            rate: spec.sample_rate,
            channels,
            encoding,
            file,
            read: 0,
            length: length as usize / (bytes * channels),
        })
    }

    /// Samples per channel that were not read yet.
    pub fn left(&self) -> usize {
        self.length - self.read
    }

    /// Leaves out what follows the next `instants` samples.
    pub fn limit(&mut self, instants: usize) {
        self.length = self.length.min(self.read.saturating_add(instants));
    }

    /// The mean of the channels at the next `instants`, or as many as are left; integers are scaled to −1..1.
    ///
    /// # Errors
    /// If the file cannot be read, or a sample is not finite.
    pub fn next(&mut self, instants: usize) -> Result<Vec<f32>, PreprocessError> {
        let bytes = self.encoding.bytes();
        let mut block = vec![0; instants.min(self.left()) * bytes * self.channels];
        self.file.read_exact(&mut block).map_err(unreadable)?;
        let first = self.read;
        let mean = |(index, instant): (usize, &[u8])| {
            let mut sum = 0.0;
            for sample in instant.chunks_exact(bytes) {
                let value = self.encoding.decode(sample);
                if value.is_nan() || value.abs() > LARGEST {
                    let index = first + index;
                    return Err(PreprocessError::NotFinite { index, value });
                }
                sum += f64::from(value);
            }
            Ok((sum / self.channels as f64) as f32)
        };
        let samples: Vec<f32> = block
            .chunks_exact(bytes * self.channels)
            .enumerate()
            .map(mean)
            .collect::<Result<_, _>>()?;
        self.read += samples.len();
        Ok(samples)
    }
}

/// The header of a file with its chunks `fmt ` and `data` alone, as hound reads it; the file then stands at its samples.
///
/// hound 3.5 forgets that a chunk of an odd length is followed by a byte, and loses its way behind such a chunk.
fn header(file: &mut (impl Read + Seek)) -> Result<Vec<u8>, PreprocessError> {
    let mut read = |bytes: &mut [u8]| match file.read_exact(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(PreprocessError::NotWav(
            "a file that ends before its samples".into(),
        )),
        read => read.map_err(unreadable),
    };
    let mut header = vec![0; 12];
    read(&mut header)?;
    if &header[..4] != b"RIFF" || &header[8..] != b"WAVE" {
        return Err(PreprocessError::NotWav("no RIFF/WAVE header".into()));
    }
    loop {
        let mut chunk = [0; 8];
        read(&mut chunk)?;
        let length = le32(&chunk[4..]);
        let padded = u64::from(length) + u64::from(length % 2);
        match &chunk[..4] {
            b"data" => {
                header.extend(chunk);
                return Ok(header);
            }
            b"fmt " if length <= LONGEST_FORMAT => {
                let mut format = vec![0; padded as usize];
                read(&mut format)?;
                header.extend(chunk);
                header.extend(&format[..length as usize]);
            }
            _ => {
                let mut skipped = [0; 4096];
                let mut left = padded;
                while left > 0 {
                    let part = left.min(skipped.len() as u64) as usize;
                    read(&mut skipped[..part])?;
                    left -= part as u64;
                }
            }
        }
    }
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn unreadable(error: std::io::Error) -> PreprocessError {
    PreprocessError::Unreadable(error.to_string())
}

impl Encoding {
    /// Size of a sample.
    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 => 1,
            Self::Signed(bytes) => bytes,
            Self::Float32 => 4,
        }
    }

    /// A sample from its little-endian bytes.
    fn decode(self, bytes: &[u8]) -> f32 {
        // Integers are moved to the highest bits of 32.
        let mut word = [0; 4];
        word[4 - bytes.len()..].copy_from_slice(bytes);
        const FULL_SCALE: f32 = (1u32 << 31) as f32;
        match self {
            Self::Unsigned8 => (f32::from(bytes[0]) - 128.0) / 128.0,
            Self::Signed(_) => i32::from_le_bytes(word) as f32 / FULL_SCALE,
            Self::Float32 => f32::from_le_bytes(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// The fields of a `fmt ` chunk that files get wrong.
    #[derive(Clone, Copy)]
    struct Header {
        tag: u16,
        channels: u16,
        rate: u32,
        bits: u16,
        /// Of one sample.
        container: u16,
    }

    const PCM: u16 = 1;
    const FLOAT: u16 = 3;

    impl Header {
        fn new(tag: u16, channels: u16, rate: u32, bits: u16) -> Self {
            let container = bits.div_ceil(8);
            Self {
                tag,
                channels,
                rate,
                bits,
                container,
            }
        }

        fn fmt(self) -> Vec<u8> {
            let align = self.container * self.channels;
            let mut chunk = self.tag.to_le_bytes().to_vec();
            chunk.extend(self.channels.to_le_bytes());
            chunk.extend(self.rate.to_le_bytes());
            chunk.extend(self.rate.wrapping_mul(u32::from(align)).to_le_bytes());
            chunk.extend(align.to_le_bytes());
            chunk.extend((8 * self.container).to_le_bytes());
            chunk
        }

        fn plain(self, data: &[u8]) -> Vec<u8> {
            file(self.fmt(), data, data.len())
        }

        fn extensible(self, data: &[u8]) -> Vec<u8> {
            let tag = self.tag;
            let mut fmt = Self { tag: 0xfffe, ..self }.fmt();
            fmt.extend(22u16.to_le_bytes());
            fmt.extend(self.bits.to_le_bytes());
            fmt.extend(0u32.to_le_bytes()); // no speaker positions
            fmt.extend(tag.to_le_bytes());
            fmt.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
            file(fmt, data, data.len())
        }
    }

    /// A file whose data chunk announces `announced` bytes.
    fn file(fmt: Vec<u8>, data: &[u8], announced: usize) -> Vec<u8> {
        let mut content = b"RIFF\xff\xff\xff\xffWAVEfmt ".to_vec();
        content.extend((fmt.len() as u32).to_le_bytes());
        content.extend(fmt);
        content.extend(b"data");
        content.extend((announced as u32).to_le_bytes());
        content.extend(data);
        content
    }

    fn samples(content: &[u8]) -> Result<Vec<f32>, PreprocessError> {
        Wav::open(Cursor::new(content))?.next(usize::MAX)
    }

    #[test]
    fn integers_are_scaled_by_their_container() {
        let pcm = |bits| Header::new(PCM, 1, 16_000, bits);
        assert_eq!(samples(&pcm(8).plain(&[0, 128, 192])).unwrap(), [-1.0, 0.0, 0.5]);
        assert_eq!(samples(&pcm(16).plain(&[0, 0x80, 0, 0x40])).unwrap(), [-1.0, 0.5]);
        let three = [0, 0, 0x80, 0, 0, 0x40];
        assert_eq!(samples(&pcm(24).plain(&three)).unwrap(), [-1.0, 0.5]);
        assert_eq!(samples(&pcm(24).extensible(&three)).unwrap(), [-1.0, 0.5]);
        // Valid bits are the highest ones.
        assert_eq!(samples(&pcm(20).extensible(&three)).unwrap(), [-1.0, 0.5]);
        let four = [0, 0, 0, 0x80, 0, 0, 0, 0x40];
        assert_eq!(samples(&pcm(32).plain(&four)).unwrap(), [-1.0, 0.5]);
        let padded = Header {
            container: 4,
            ..pcm(24)
        };
        assert_eq!(samples(&padded.extensible(&four)).unwrap(), [-1.0, 0.5]);
    }

    #[test]
    fn channels_are_averaged_and_floats_kept() {
        let data: Vec<u8> = [1.0f32, 0.0, -3.0, -3.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let stereo = Header::new(FLOAT, 2, 48_000, 32);
        for content in [stereo.plain(&data), stereo.extensible(&data)] {
            assert_eq!(samples(&content).unwrap(), [0.5, -3.0]);
            assert_eq!(Wav::open(Cursor::new(&content)).unwrap().next(1).unwrap(), [0.5]);
        }
    }

    /// A title of an odd length stands before the samples, and its padding behind it.
    #[test]
    fn chunks_of_odd_lengths_are_padded() {
        let mono = Header::new(PCM, 1, 16_000, 16);
        let plain = mono.plain(&[0, 0x40]);
        let (before, data) = plain.split_at(plain.len() - 10);
        let content = [before, b"LIST\x05\0\0\0title\0", data].concat();
        assert_eq!(samples(&content).unwrap(), [0.5]);
    }

    #[test]
    fn only_what_is_wanted_must_be_finite() {
        for value in [f32::NAN, f32::INFINITY, f32::MAX] {
            let data = [1f32.to_le_bytes(), value.to_le_bytes()].concat();
            let content = Header::new(FLOAT, 1, 16_000, 32).plain(&data);
            assert!(matches!(
                samples(&content),
                Err(PreprocessError::NotFinite { index: 1, .. })
            ));
            assert_eq!(Wav::open(Cursor::new(&content)).unwrap().next(1).unwrap(), [1.0]);
        }
    }

    #[test]
    fn rates_beyond_reason_are_refused() {
        for rate in [0, 1, 999, 384_001, 4_000_000_000] {
            let content = Header::new(PCM, 1, rate, 8).plain(&[128; 4]);
            let error = Wav::open(Cursor::new(&content)).unwrap_err();
            assert!(
                matches!(error, PreprocessError::SampleRate { found, .. } if found == rate),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let not_wav = |content: &[u8]| match Wav::open(Cursor::new(content)) {
            Err(PreprocessError::NotWav(found)) => found,
            other => panic!("{other:?}"),
        };
        let mono = Header::new(PCM, 1, 16_000, 16);
        assert!(not_wav(&Header { channels: 0, ..mono }.plain(&[0; 4])).contains("zero channels"));
        assert!(
            not_wav(&Header::new(FLOAT, 1, 16_000, 64).extensible(&[0; 8])).contains("floats of 64 bits")
        );
        not_wav(&Header { tag: 2, ..mono }.plain(&[0; 4])); // ADPCM
        not_wav(b"RIFF");
        not_wav(b"ID3\x04 a file that is something else");
        not_wav(&mono.plain(&[0; 4])[..36]); // no data chunk
        let streamed = file(mono.fmt(), &[0; 4], u32::MAX as usize);
        not_wav(&streamed);
    }

    #[test]
    fn a_claimed_length_is_no_allocation() {
        let mono = Header::new(PCM, 1, 16_000, 16);
        let content = file(mono.fmt(), &[0; 6], 0xffff_fffe);
        let error = Wav::open(Cursor::new(&content)).unwrap_err();
        assert!(
            matches!(
                error,
                PreprocessError::TruncatedAudio {
                    expected: 0x7fff_ffff,
                    found: 3
                }
            ),
            "{error}"
        );
        assert!(matches!(
            Wav::open(Cursor::new(mono.plain(&[]))),
            Err(PreprocessError::ShortAudio { .. })
        ));
    }

    proptest! {
        /// Whatever a file holds, it is read or refused.
        #[test]
        fn damage_never_panics(
            changes in prop::collection::vec((0usize..90, any::<u8>()), 1..6),
            cut in 0usize..90,
            extensible: bool,
        ) {
            let header = Header::new(PCM, 2, 44_100, 16);
            let data = [1; 40];
            let mut content = if extensible { header.extensible(&data) } else { header.plain(&data) };
            for (at, value) in changes {
                if let Some(byte) = content.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = samples(&content);
            content.truncate(cut);
            let _ = samples(&content);
        }
    }
}
