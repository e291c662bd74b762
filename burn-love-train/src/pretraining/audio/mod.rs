//! The audio encoder on labels of sound mixtures: which timbres and modulations sound, how loud, and which of them go together.
//!
//! The encoder learns what a look will be said to sound like, but sees no look: labels come from the scenes' voices. No label
//! is of a class: the louder and the softer of two voices tell what goes together, whichever classes there are.

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use burn_love::{
    encoders::{AudioEncoder, Vggish, VggishConfig},
    preprocess::log_mel_rows,
    weights::{State, WeightsError, keys, state_of},
};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

mod labels;
mod sounds;

use self::{
    labels::{ATTRIBUTES, AudioLabels},
    sounds::Sound,
};
use super::{
    probe::{Labelled, probe},
    scenes::Scenes,
    task::{
        Draw, Gate, Scored, Task, bce_among, cross_entropy, no_choice, one_hot, put_accuracy, read, squared,
        upload,
    },
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{AT_ONCE, SECONDS, Shape, Surface},
    training::{RunError, Values},
};

/// Weights of presence and levels, whose losses are means over many columns, beside the ranked voices' cross-entropies.
const PRESENCE: f64 = 4.0;
const LEVEL: f64 = 8.0;
/// Clips whose features fit the probes.
const PROBE_CLIPS: usize = 400;

/// Encoder and heads.
#[derive(Module, Debug)]
pub struct AudioLearner<B: Backend> {
    /// What the stage is for.
    pub encoder: Vggish<B>,
    /// Which timbres and modulations sound.
    presence: Linear<B>,
    /// How loud each of them is.
    level: Linear<B>,
    /// Timbre, then modulation, of the loudest voice, then of the next.
    ranked: Linear<B>,
}

/// The stage.
#[derive(Debug)]
pub struct AudioTask<'a> {
    config: &'a Config,
    preparer: Preparer,
    scenes: Scenes,
}

/// Examples with labels.
#[derive(Debug)]
pub struct AudioBatch {
    log_mel: Vec<f32>,
    labels: Vec<AudioLabels>,
}

impl<'a> AudioTask<'a> {
    /// The stage on the scenes of a data set.
    ///
    /// # Errors
    /// If the tokenizer that the config names cannot be used.
    pub fn new(config: &'a Config, scenes: Scenes) -> Result<Self, RunError> {
        Ok(Self {
            config,
            preparer: Preparer::new(config)?,
            scenes,
        })
    }

    /// All examples of some sounds.
    fn read(&self, sounds: &[Sound<'_>]) -> Result<AudioBatch, RunError> {
        let seconds = SECONDS as usize;
        let clip = |sound: &Sound<'_>| {
            let heard =
                sound.waveform(|scene| self.preparer.waveform_file(&self.scenes.sound(scene), seconds))?;
            let voices = sound.voices();
            let labels = (0..seconds).map(|i| AudioLabels::new(&voices, i));
            Ok((log_mel_rows(heard, seconds).values, labels.collect::<Vec<_>>()))
        };
        let clips: Vec<_> = sounds.par_iter().map(clip).collect::<Result<_, RunError>>()?;
        let (sounds, labels): (Vec<_>, Vec<_>) = clips.into_iter().unzip();
        Ok(AudioBatch {
            log_mel: sounds.concat(),
            labels: labels.concat(),
        })
    }

    /// Features of clear examples with timbre and modulation of a voice: of the loudest, where it is alone, and of the next.
    fn features<B: Backend>(
        &self,
        encoder: &Vggish<B>,
        split: Split,
        device: &B::Device,
    ) -> Result<[Labelled; 6], RunError> {
        let mut found: [Labelled; 6] = Default::default();
        let scenes = self.scenes.of(split).iter().take(PROBE_CLIPS);
        let sounds: Vec<Sound<'_>> = scenes.map(Sound::plain).collect();
        for some in sounds.chunks(16) {
            let AudioBatch { log_mel, labels } = self.read(some)?;
            let features = embed(encoder, log_mel, labels.len(), device)
                .into_data()
                .convert::<f32>();
            let features = features.as_slice::<f32>().expect("just converted");
            let width = features.len() / labels.len();
            for (row, labels) in features.chunks_exact(width).zip(&labels) {
                for (rank, voice) in labels.ranked.iter().take(AT_ONCE).enumerate() {
                    for (i, label) in voice.columns.into_iter().enumerate() {
                        let Some(label) = label else { continue };
                        found[4 * rank + i].push(row, label);
                        if labels.ranked.len() == 1 {
                            found[2 + i].push(row, label);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Task for AudioTask<'_> {
    type Module<B: Backend> = AudioLearner<B>;
    type Batch = AudioBatch;

    fn samples(&self) -> [usize; 2] {
        [Split::Train, Split::Val].map(|split| self.scenes.of(split).len())
    }

    fn init<B: Backend>(&self, device: &B::Device, begins: bool) -> Result<AudioLearner<B>, WeightsError> {
        let config = &self.config.model.encoders.audio;
        let encoder = config.init(device);
        let head = |to| LinearConfig::new(config.embedding, to).init(device);
        Ok(AudioLearner {
            encoder: if begins {
                crate::training::load_audio(encoder, &self.config.weights.audio)?
            } else {
                encoder
            },
            presence: head(ATTRIBUTES),
            level: head(ATTRIBUTES),
            ranked: head(AT_ONCE * ATTRIBUTES),
        })
    }

    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<AudioBatch, RunError> {
        let scenes = self.scenes.of(draw.split);
        let some = scenes.choose_multiple(rng, self.config.train.batch_size);
        let mut sounds: Vec<Sound<'_>> = some.map(Sound::plain).collect();
        if draw.split == Split::Train {
            sounds.iter_mut().for_each(|sound| sound.mix(scenes, rng));
        }
        self.read(&sounds)
    }

    fn score<B: Backend>(
        &self,
        module: &AudioLearner<B>,
        batch: AudioBatch,
        device: &B::Device,
    ) -> Scored<B> {
        let AudioBatch { log_mel, labels } = batch;
        let n = labels.len();
        let heard = embed(&module.encoder, log_mel, n, device);
        let target = |of: fn(&AudioLabels) -> &[f32]| {
            let all: Vec<f32> = labels
                .iter()
                .flat_map(|labels| of(labels).iter().copied())
                .collect();
            let columns = all.len() / n;
            upload::<B, 2>(all, [n, columns], device)
        };
        let choices = target(|labels| &labels.choices);
        let presence = bce_among(
            module.presence.forward(heard.clone()),
            target(|labels| &labels.presence),
            choices.clone(),
        );
        let level = squared(
            module.level.forward(heard.clone()) + no_choice(choices.clone()),
            target(|labels| &labels.level) * choices,
        );
        let ranked = module.ranked.forward(heard);
        let mut values = Values::default();
        let mut loss = presence.clone() * PRESENCE + level.clone() * LEVEL;
        let names: [_; AT_ONCE] = [["timbre", "modulation"], ["timbre_2", "modulation_2"]];
        for (rank, names) in names.into_iter().enumerate() {
            let choices: Vec<f32> = labels
                .iter()
                .flat_map(|labels| match labels.ranked.get(rank) {
                    Some(voice) => voice.choices.clone(),
                    None => vec![1.0; ATTRIBUTES],
                })
                .collect();
            let choices = no_choice(upload::<B, 2>(choices, [n, ATTRIBUTES], device));
            let mut from = 0;
            for (a, name) in names.into_iter().enumerate() {
                let count = [Shape::ALL.len(), Surface::ALL.len()][a];
                let own = |labels: &AudioLabels| labels.ranked.get(rank).and_then(|voice| voice.columns[a]);
                let labels: Vec<_> = labels.iter().map(own).collect();
                let logits = ranked.clone().narrow(1, rank * ATTRIBUTES + from, count);
                put_accuracy(&mut values, name, logits.clone(), &labels);
                let shares = upload::<B, 2>(one_hot(&labels, count), [n, count], device);
                let among = logits + choices.clone().narrow(1, from, count);
                loss = loss + cross_entropy(among, shares.clone(), shares.sum_dim(1));
                from += count;
            }
        }
        let [total, presence, level] = read([loss.clone(), presence, level]);
        for (name, value) in [("loss", total), ("presence", presence), ("level", level)] {
            values.put(name, value, n as f64);
        }
        Scored { loss, values }
    }

    /// Of mixtures, the loudest voice's timbre and modulation, and besides those of the next.
    fn gates<B: Backend>(&self, module: &AudioLearner<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let [train, held_out] =
            [Split::Train, Split::Val].map(|split| self.features(&module.encoder, split, device));
        let (train, held_out) = (train?, held_out?);
        let names = [
            ("timbre", Some(0.95)),
            ("modulation", Some(0.95)),
            ("timbre, one voice", None),
            ("modulation, one voice", None),
            ("timbre, softer voice", None),
            ("modulation, softer voice", None),
        ];
        let sets = names.into_iter().zip(train.iter().zip(&held_out));
        let gate = |((name, least), (train, held_out)): ((&str, _), (&_, &_))| Gate {
            name: name.into(),
            value: probe(train, held_out),
            least,
        };
        Ok(sets.map(gate).collect())
    }

    fn state<B: Backend>(&self, module: &AudioLearner<B>) -> State {
        state_of(&module.encoder, keys::vggish)
    }
}

fn embed<B: Backend>(
    encoder: &Vggish<B>,
    log_mel: Vec<f32>,
    examples: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let shape = [examples, VggishConfig::FRAMES, VggishConfig::BANDS];
    encoder.encode_audio(upload(log_mel, shape, device))
}
