//! VGGish against torchvggish 0.2: from a WAV file to the embedding, at small channel counts.
//!
//! At 16 kHz everything must be the same. At other rates torchvggish's resampler is part of the result: resampy's
//! `kaiser_best` is at half its gain at 0.917 of the lower Nyquist frequency. So three spectrograms are compared: ours,
//! torchvggish's, and one of the same samples resampled by a filter that cuts at exactly that frequency (`ideal`).

use burn::prelude::*;
use burn_love::{
    encoders::{Vggish, VggishConfig},
    preprocess::{LogMel, Waveform, log_mel},
    weights::keys,
};
use burn_love_tests::{Fixture, assert_close, relative_error};

use crate::{Cpu, MODULE, report};

/// WAV files at 16 kHz: nothing is resampled.
const EXACT: [&str; 2] = ["int16", "float_stereo"];

/// A WAV file at another rate, and how many of the 64 bands end below 0.87 of the lower Nyquist frequency.
struct Resampled {
    name: &'static str,
    flat: usize,
}

const RESAMPLED: [Resampled; 4] = [
    Resampled { name: "8k", flat: 44 },
    Resampled {
        name: "22k_float",
        flat: 62,
    },
    Resampled {
        name: "44k_stereo",
        flat: 62,
    },
    Resampled {
        name: "48k",
        flat: 62,
    },
];

/// What `kaiser_best` loses at 0.87 of the lower Nyquist frequency, and at VGGish's 7500 Hz where that is 8 kHz, as
/// logarithms of its gain. No band below can differ by more.
const LOST_BELOW: f64 = 0.0165;
const LOST_AT_7500_HZ: f64 = 1.67;

fn config() -> VggishConfig {
    VggishConfig {
        channels: [4, 6, 8, 12],
        hidden: 24,
        embedding: 16,
        last_relu: true,
        postprocess: true,
    }
}

/// The recorded WAV file, as log-mel examples.
fn heard(fixture: &Fixture, name: &str) -> Tensor<Cpu, 3> {
    let content: Vec<u8> = fixture
        .data(&format!("wav.{name}"))
        .iter::<f32>()
        .map(|byte| byte as u8)
        .collect();
    let LogMel { values, examples } = log_mel(&Waveform::from_wav(&content).unwrap()).unwrap();
    Tensor::from_data(
        TensorData::new(values, [examples, VggishConfig::FRAMES, VggishConfig::BANDS]),
        &Default::default(),
    )
}

fn model<B: Backend>(fixture: &Fixture, device: &B::Device) -> Vggish<B> {
    fixture.load_into(config().init(device), keys::vggish)
}

#[test]
fn embeddings_agree_at_every_end() {
    check::<Cpu>(&Default::default(), MODULE, 0.0);
}

/// Compares the embeddings of all sounds, with and without the last ReLU and the post-processor, whose steps may differ by
/// `quantised` of the largest.
pub fn check<B: Backend>(device: &B::Device, bound: f64, quantised: f64) {
    let fixture = Fixture::load("vggish");
    let model = model::<B>(&fixture, device);
    let end = |last_relu: bool, postprocess: bool| {
        let mut model = model.clone();
        model.last_relu = last_relu;
        if !postprocess {
            model.pproc = None;
        }
        model
    };
    let mut errors = Vec::new();
    for name in EXACT.into_iter().chain(RESAMPLED.iter().map(|case| case.name)) {
        let mel: Tensor<B, 3> = fixture.tensor(&format!("mel.{name}"), device);
        for (what, model) in [("before", end(false, false)), ("after", end(true, false))] {
            let what = format!("{what}.{name}");
            let expected = fixture.tensor(&what, device);
            errors.push(assert_close(&what, model.forward(mel.clone()), expected, bound));
        }
        // Rounded to whole numbers: the generator leaves a margin.
        let what = format!("post.{name}");
        assert_close(
            &what,
            model.forward(mel.clone()),
            fixture.tensor(&what, device),
            quantised,
        );
    }
    report("vggish embeddings", &errors);
}

#[test]
fn log_mel_agrees_at_16_khz() {
    let fixture = Fixture::load("vggish");
    let errors = EXACT.map(|name| {
        let what = format!("mel.{name}");
        let expected = fixture.tensor(&what, &Default::default());
        assert_close(&what, heard(&fixture, name), expected, MODULE)
    });
    report("vggish log-mel", &errors);
}

/// The largest difference of logarithms.
fn gap(a: Tensor<Cpu, 3>, b: Tensor<Cpu, 3>) -> f64 {
    f64::from((a - b).abs().max().into_scalar())
}

#[test]
fn resampling_is_nearer_to_ideal_than_torchvggishs() {
    let device = Default::default();
    let fixture = Fixture::load("vggish");
    let mut model = model::<Cpu>(&fixture, &device);
    (model.last_relu, model.pproc) = (false, None);
    for Resampled { name, flat } in RESAMPLED {
        let ours = heard(&fixture, name);
        let theirs: Tensor<Cpu, 3> = fixture.tensor(&format!("mel.{name}"), &device);
        let ideal: Tensor<Cpu, 3> = fixture.tensor(&format!("ideal.{name}"), &device);
        let below = |mel: &Tensor<Cpu, 3>| mel.clone().narrow(2, 0, flat);
        let what = format!("{name}: bands below 0.87");
        assert_close(&what, below(&ours), below(&ideal), MODULE);
        let lost = gap(below(&ours), below(&theirs));
        assert!(lost <= LOST_BELOW, "{what}: off torchvggish's by {lost}");

        let embed = |mel: &Tensor<Cpu, 3>| model.forward(mel.clone());
        let to_theirs = relative_error(embed(&ours), embed(&theirs));
        let whole = gap(ours.clone(), theirs.clone());
        if flat == 62 {
            assert_close(name, ours.clone(), ideal.clone(), MODULE);
            assert_close(name, embed(&ours), embed(&ideal), MODULE);
            assert!(whole <= LOST_AT_7500_HZ, "{name}: off torchvggish's by {whole}");
        }
        // So the distance to torchvggish is at most twice torchvggish's own to the ideal.
        assert!(gap(ours.clone(), ideal.clone()) <= gap(theirs.clone(), ideal.clone()));
        assert!(relative_error(embed(&ours), embed(&ideal)) <= relative_error(embed(&theirs), embed(&ideal)));
        report(&format!("vggish {name}, bands below 0.87 (absolute)"), &[lost]);
        report(&format!("vggish {name}, all bands (absolute)"), &[whole]);
        report(&format!("vggish {name}, embedding"), &[to_theirs]);
    }
}
