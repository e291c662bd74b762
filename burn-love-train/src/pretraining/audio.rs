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
    weights::{State, WeightsError, keys, state_of},
};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    classes::{class_columns, never_with},
    probe::{Labelled, probe},
    scenes::{Scene, Scenes},
    task::{
        Draw, Gate, Scored, Task, bce_among, cross_entropy, no_choice, one_hot, put_accuracy, read, squared,
        upload,
    },
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{AT_ONCE, LEVELS, SECONDS, SceneGraph, Shape, Surface, Voice},
    training::{RunError, Values},
};

/// Seconds from one example to the next.
const HOP: f64 = 0.96;
/// Seconds that an example hears.
const LENGTH: f64 = 0.975;
/// Weights of presence and levels, whose losses are means over many columns, beside the ranked voices' cross-entropies.
const PRESENCE: f64 = 4.0;
const LEVEL: f64 = 8.0;
/// Clips whose features fit the probes.
const PROBE_CLIPS: usize = 400;

/// Timbres, then modulations.
const ATTRIBUTES: usize = Shape::ALL.len() + Surface::ALL.len();

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

/// What one example lets hear.
#[derive(Debug, Clone, PartialEq)]
struct AudioLabels {
    /// For each timbre and modulation the share of the example in which it sounds.
    presence: Vec<f32>,
    /// For each of them 0 in silence, 1 at the highest level, the other levels between.
    level: Vec<f32>,
    /// 0 for each that training never lets hear together with the other attribute of a voice that sounds, 1 for the rest.
    choices: Vec<f32>,
    /// Voices that sound, the loudest first, where all sound (almost) all the time or (almost) never.
    ranked: Vec<Ranked>,
}

/// What is to be told of a voice.
#[derive(Debug, Clone, PartialEq)]
struct Ranked {
    /// Timbre and modulation; none for what has no name.
    columns: [Option<usize>; 2],
    /// 0 for each timbre that training never lets hear with its modulation, and the other way round; 1 for the rest.
    choices: Vec<f32>,
}

impl AudioLabels {
    /// Labels of example `i` of a clip.
    fn new(graph: &SceneGraph, i: usize) -> Self {
        let start = i as f64 * HOP;
        let share = |voice: &Voice| -> f64 {
            let overlap = |[from, to]: &[u32; 2]| {
                (f64::from(*to).min(start + LENGTH) - f64::from(*from).max(start)).max(0.0)
            };
            voice.intervals.iter().map(overlap).sum::<f64>() / LENGTH
        };
        let mut heard: Vec<Heard> = graph
            .voices()
            .into_iter()
            .map(|voice| Heard::new(share(&voice), voice))
            .collect();
        heard.sort_by(|a, b| b.voice.level_dbfs.total_cmp(&a.voice.level_dbfs));
        let [mut presence, mut level] = [(); 2].map(|()| vec![0.0f32; ATTRIBUTES]);
        let mut choices = vec![1.0; ATTRIBUTES];
        for one in heard.iter().filter(|one| one.share > 0.0) {
            let [most, _, least] = LEVELS;
            let loudness = 0.5 + 0.5 * (one.voice.level_dbfs - least) / (most - least);
            let [timbre, modulation] = one.columns;
            let modulation = modulation.map(|column| Shape::ALL.len() + column);
            for column in timbre.into_iter().chain(modulation) {
                presence[column] = presence[column].max(one.share as f32);
                level[column] = level[column].max((one.share * loudness) as f32);
            }
            one.never().for_each(|column| choices[column] = 0.0);
        }
        let clear = heard.iter().all(|one| !(0.1..0.9).contains(&one.share));
        let sounding = heard.iter().filter(|one| clear && one.share >= 0.9);
        Self {
            presence,
            level,
            choices,
            ranked: sounding.map(Heard::ranked).collect(),
        }
    }
}

/// A voice in an example.
struct Heard {
    voice: Voice,
    /// The share of the example in which it sounds.
    share: f64,
    /// Timbre and modulation, but for what has no name.
    columns: [Option<usize>; 2],
}

impl Heard {
    fn new(share: f64, voice: Voice) -> Self {
        Self {
            share,
            columns: class_columns(voice.class, voice.unnamed),
            voice,
        }
    }

    fn ranked(&self) -> Ranked {
        let mut choices = vec![1.0; ATTRIBUTES];
        self.never().for_each(|column| choices[column] = 0.0);
        Ranked {
            columns: self.columns,
            choices,
        }
    }

    /// Timbres, then modulations, that training never lets hear together with its own.
    fn never(&self) -> impl Iterator<Item = usize> {
        never_with(self.voice.class, self.voice.unnamed, Shape::ALL.len())
    }
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

    /// All examples of some clips.
    fn read(&self, scenes: &[&Scene]) -> Result<AudioBatch, RunError> {
        let clip = |scene: &&Scene| {
            let seconds = SECONDS as usize;
            let sound = self.preparer.sound_file(&self.scenes.sound(scene), seconds)?;
            let labels = (0..seconds).map(|i| AudioLabels::new(&scene.graph, i));
            Ok((sound.values, labels.collect::<Vec<_>>()))
        };
        let clips: Vec<_> = scenes.par_iter().map(clip).collect::<Result<_, RunError>>()?;
        let (sounds, labels): (Vec<_>, Vec<_>) = clips.into_iter().unzip();
        Ok(AudioBatch {
            log_mel: sounds.concat(),
            labels: labels.concat(),
        })
    }

    /// Features of clear examples with the loudest voice's timbre and modulation: of all, and where it is alone.
    fn features<B: Backend>(
        &self,
        encoder: &Vggish<B>,
        split: Split,
        device: &B::Device,
    ) -> Result<[Labelled; 4], RunError> {
        let mut found: [Labelled; 4] = Default::default();
        let scenes: Vec<&Scene> = self.scenes.of(split).iter().take(PROBE_CLIPS).collect();
        for some in scenes.chunks(16) {
            let AudioBatch { log_mel, labels } = self.read(some)?;
            let features = embed(encoder, log_mel, labels.len(), device)
                .into_data()
                .convert::<f32>();
            let features = features.as_slice::<f32>().expect("just converted");
            let width = features.len() / labels.len();
            for (row, labels) in features.chunks_exact(width).zip(&labels) {
                let Some(loudest) = labels.ranked.first() else {
                    continue;
                };
                for (i, label) in loudest.columns.into_iter().enumerate() {
                    let Some(label) = label else { continue };
                    found[i].push(row, label);
                    if labels.ranked.len() == 1 {
                        found[2 + i].push(row, label);
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
        self.read(&some.collect::<Vec<_>>())
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

    /// Of mixtures, the loudest voice's timbre and modulation.
    fn gates<B: Backend>(&self, module: &AudioLearner<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let [train, held_out] =
            [Split::Train, Split::Val].map(|split| self.features(&module.encoder, split, device));
        let (train, held_out) = (train?, held_out?);
        let names = [
            ("timbre", Some(0.95)),
            ("modulation", Some(0.95)),
            ("timbre, one voice", None),
            ("modulation, one voice", None),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Source,
        synth::{Attribute, Class, SoundGraph, SynthConfig, Unnamed, scenes},
    };

    fn graph() -> SceneGraph {
        let config = SynthConfig {
            train: 1,
            val: 0,
            test_seen: 0,
            test_unseen: 0,
            test_null: 0,
            ..SynthConfig::default()
        };
        scenes(&config).unwrap().remove(0)
    }

    fn voice(class: Class, level_dbfs: f64, interval: [u32; 2]) -> SoundGraph {
        SoundGraph {
            voice: Voice {
                class,
                unnamed: None,
                level_dbfs,
                pitch_hz: 300.0,
                intervals: vec![interval],
            },
            object: None,
        }
    }

    fn labels(sounds: &[SoundGraph], i: usize) -> AudioLabels {
        let sounds = sounds.to_vec();
        AudioLabels::new(&SceneGraph { sounds, ..graph() }, i)
    }

    const SQUARE: Class = Class {
        shape: Shape::Square,
        surface: Surface::Checker,
    };
    const DISC: Class = Class {
        shape: Shape::Disc,
        surface: Surface::Plain,
    };

    #[test]
    fn labels_are_what_the_voices_do_in_the_example() {
        let sounds = [voice(SQUARE, -28.0, [0, 4]), voice(DISC, -12.0, [2, 10])];
        let columns =
            |labels: &AudioLabels| -> Vec<_> { labels.ranked.iter().map(|voice| voice.columns).collect() };
        let (square, disc) = ([Some(1), Some(3)], [Some(0), Some(0)]);
        // 0 to 0.975 s: the first voice alone, at the lowest level.
        let first = labels(&sounds, 0);
        assert_eq!(columns(&first), [square]);
        assert_eq!(first.presence, [0., 1., 0., 0., 0., 0., 0., 0., 0., 1.]);
        assert_eq!(first.level, [0., 0.5, 0., 0., 0., 0., 0., 0., 0., 0.5]);
        // 1.92 to 2.895 s: both, the second louder.
        let third = labels(&sounds, 2);
        assert_eq!(columns(&third), [disc, square]);
        assert!((third.level[0] - 0.895 / 0.975).abs() < 1e-6);
        // 3.84 to 4.815 s: the first ends in it, so it is not clear.
        let fifth = labels(&sounds, 4);
        assert_eq!(columns(&fifth), [[None; 2]; 0]);
        assert!((fifth.presence[1] - 0.16 / 0.975).abs() < 1e-6);
    }

    #[test]
    fn what_never_goes_together_is_no_choice_and_what_has_no_name_no_label() {
        let never = |columns: &[usize]| -> Vec<f32> {
            let choice = |column| f32::from(u8::from(!columns.contains(&column)));
            (0..ATTRIBUTES).map(choice).collect()
        };
        // Held out: checkered discs and stars, dotted squares, plain rings. The disc begins within the example.
        let both = labels(&[voice(SQUARE, -12.0, [0, 10]), voice(DISC, -20.0, [4, 10])], 4);
        assert_eq!(both.choices, never(&[0, 3, 4, 6 + 2, 6 + 3]));
        assert!((both.presence[0] - 0.815 / 0.975).abs() < 1e-6);
        let both = labels(&[voice(SQUARE, -12.0, [0, 10]), voice(DISC, -20.0, [4, 10])], 6);
        assert_eq!(both.ranked[0].choices, never(&[0, 3, 6 + 2]));
        assert_eq!(both.ranked[1].choices, never(&[4, 6 + 3]));

        let mut sound = voice(SQUARE, -12.0, [0, 10]);
        sound.voice.unnamed = Some(Unnamed {
            attribute: Attribute::Surface,
            seed: 0,
        });
        let one = labels(&[sound], 4);
        assert_eq!(one.presence, never(&[0, 2, 3, 4, 5, 6, 7, 8, 9]));
        assert_eq!(one.presence, one.level);
        assert_eq!(one.ranked[0].columns, [Some(1), None]);
        assert_eq!(one.ranked[0].choices, never(&[6 + 2]));
    }

    #[test]
    fn the_stages_config_is_valid() {
        for stage in super::super::Stage::ALL {
            let config = crate::config::resolve(&[stage.preset()]).unwrap();
            assert!(config.train.steps > 0);
            assert!(matches!(stage.preset(), Source::Embedded { .. }));
        }
    }
}
