//! The audio encoder on labels of sound mixtures: which classes sound, how loud, and what the loudest is.
//!
//! The encoder learns what a look will be said to sound like, but sees no look: labels come from the scenes' voices.

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
    probe::{Labelled, probe},
    scenes::{Scene, Scenes},
    task::{Draw, Gate, Scored, Task, cross_entropy, index_of, one_hot, put_accuracy, read, squared, upload},
};
use crate::{
    config::Config,
    data::Split,
    samples::Preparer,
    synth::{Class, LEVELS, SECONDS, SceneGraph, Shape, Surface, Voice},
    training::{RunError, Values, bce_with_logits},
};

/// Seconds from one example to the next.
const HOP: f64 = 0.96;
/// Seconds that an example hears.
const LENGTH: f64 = 0.975;
/// Weights of presence and levels, whose losses are means over many columns, beside the loudest voice's cross-entropies.
const PRESENCE: f64 = 4.0;
const LEVEL: f64 = 8.0;
/// Clips whose features fit the probes.
const PROBE_CLIPS: usize = 400;

/// Encoder and heads.
#[derive(Module, Debug)]
pub struct AudioLearner<B: Backend> {
    /// What the stage is for.
    pub encoder: Vggish<B>,
    /// Which classes, timbres and modulations sound.
    presence: Linear<B>,
    /// How loud each class is.
    level: Linear<B>,
    /// Timbre, then modulation, of the loudest voice.
    loudest: Linear<B>,
}

/// The stage.
#[derive(Debug)]
pub struct AudioTask<'a> {
    config: &'a Config,
    preparer: Preparer,
    scenes: Scenes,
    classes: Vec<Class>,
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
    /// For each class, timbre and modulation, the share of the example in which it sounds.
    presence: Vec<f32>,
    /// For each class 0 in silence, 1 at the highest level, the other levels between.
    level: Vec<f32>,
    /// The loudest voice, where all voices sound (almost) all the time or (almost) never.
    loudest: Option<Class>,
    /// Voices that sound.
    voices: usize,
}

impl AudioLabels {
    /// Labels of example `i` of a clip.
    fn new(graph: &SceneGraph, i: usize, classes: &[Class]) -> Self {
        let start = i as f64 * HOP;
        let heard = |voice: &Voice| -> f64 {
            let overlap = |[from, to]: &[u32; 2]| {
                (f64::from(*to).min(start + LENGTH) - f64::from(*from).max(start)).max(0.0)
            };
            voice.intervals.iter().map(overlap).sum::<f64>() / LENGTH
        };
        let voices = graph.voices();
        let heard: Vec<(&Voice, f64)> = voices.iter().map(|voice| (voice, heard(voice))).collect();
        let share = |is: &dyn Fn(Class) -> bool| {
            let own = heard.iter().filter(|(voice, _)| is(voice.class));
            own.map(|(_, share)| *share).fold(0.0, f64::max) as f32
        };
        let level = |class: &Class| {
            let own = heard.iter().filter(|(voice, _)| voice.class == *class);
            let [most, _, least] = LEVELS;
            let loudness = |voice: &Voice| 0.5 + 0.5 * (voice.level_dbfs - least) / (most - least);
            own.map(|(voice, share)| share * loudness(voice))
                .fold(0.0, f64::max) as f32
        };
        let clear = heard.iter().all(|(_, share)| !(0.1..0.9).contains(share));
        let sounding = || heard.iter().filter(|(_, share)| *share >= 0.9);
        let loudest = sounding().max_by(|a, b| a.0.level_dbfs.total_cmp(&b.0.level_dbfs));
        let of_class = classes.iter().map(|class| share(&|other| other == *class));
        let timbres = Shape::ALL
            .iter()
            .map(|shape| share(&|class| class.shape == *shape));
        let modulations = Surface::ALL
            .iter()
            .map(|surface| share(&|class| class.surface == *surface));
        Self {
            presence: of_class.chain(timbres).chain(modulations).collect(),
            level: classes.iter().map(level).collect(),
            loudest: loudest.filter(|_| clear).map(|(voice, _)| voice.class),
            voices: sounding().count(),
        }
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
            classes: seen_classes(),
        })
    }

    /// All examples of some clips.
    fn read(&self, scenes: &[&Scene]) -> Result<AudioBatch, RunError> {
        let clip = |scene: &&Scene| {
            let seconds = SECONDS as usize;
            let sound = self.preparer.sound_file(&self.scenes.sound(scene), seconds)?;
            let labels = (0..seconds).map(|i| AudioLabels::new(&scene.graph, i, &self.classes));
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
                let Some(class) = labels.loudest else { continue };
                let label = [
                    index_of(Shape::ALL, &class.shape),
                    index_of(Surface::ALL, &class.surface),
                ];
                for (i, label) in label.into_iter().flatten().enumerate() {
                    found[i].push(row, label);
                    if labels.voices == 1 {
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
        let (classes, timbres, modulations) = (self.classes.len(), Shape::ALL.len(), Surface::ALL.len());
        Ok(AudioLearner {
            encoder: if begins {
                crate::training::load_audio(encoder, &self.config.weights.audio)?
            } else {
                encoder
            },
            presence: head(classes + timbres + modulations),
            level: head(classes),
            loudest: head(timbres + modulations),
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
        let presence = module.presence.forward(heard.clone());
        let presence = bce_with_logits(presence, target(|labels| &labels.presence));
        let level = squared(
            module.level.forward(heard.clone()),
            target(|labels| &labels.level),
        );
        let logits = module.loudest.forward(heard);
        let timbres = Shape::ALL.len();
        let mut values = Values::default();
        let mut loudest = |name, from: usize, count: usize, label: &dyn Fn(Class) -> Option<usize>| {
            let labels: Vec<_> = labels
                .iter()
                .map(|labels| labels.loudest.and_then(label))
                .collect();
            let logits = logits.clone().narrow(1, from, count);
            let shares = upload::<B, 2>(one_hot(&labels, count), [n, count], device);
            put_accuracy(&mut values, name, logits.clone(), &labels);
            cross_entropy(logits, shares.clone(), shares.sum_dim(1))
        };
        let timbre = loudest("timbre", 0, timbres, &|class| index_of(Shape::ALL, &class.shape));
        let modulation = loudest("modulation", timbres, Surface::ALL.len(), &|class| {
            index_of(Surface::ALL, &class.surface)
        });
        let loss = presence.clone() * PRESENCE + level.clone() * LEVEL + timbre + modulation;
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

/// Classes that training scenes show: there are columns for them alone, so that nothing is learned of the others.
pub(super) fn seen_classes() -> Vec<Class> {
    let all = Shape::ALL.iter().flat_map(|shape| {
        let class = |surface: &Surface| Class {
            shape: *shape,
            surface: *surface,
        };
        Surface::ALL.iter().map(class)
    });
    all.filter(|class| !class.is_held_out()).collect()
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
        synth::{SoundGraph, SynthConfig, scenes},
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

    #[test]
    fn labels_are_what_the_voices_do_in_the_example() {
        let classes = seen_classes();
        assert_eq!(classes.len(), 18);
        let voice = |class: usize, level_dbfs, interval| SoundGraph {
            voice: Voice {
                class: classes[class],
                level_dbfs,
                pitch_hz: 300.0,
                intervals: vec![interval],
            },
            object: None,
        };
        let graph = SceneGraph {
            sounds: vec![voice(0, -28.0, [0, 4]), voice(7, -12.0, [2, 10])],
            ..graph()
        };
        let labels = |i| AudioLabels::new(&graph, i, &classes);
        // 0 to 0.975 s: the first voice alone, at the lowest level.
        let first = labels(0);
        assert_eq!((first.loudest, first.voices), (Some(classes[0]), 1));
        assert_eq!(
            (first.presence[0], first.level[0], first.level[7]),
            (1.0, 0.5, 0.0)
        );
        let timbre = 18 + index_of(Shape::ALL, &classes[0].shape).unwrap();
        let modulation = 24 + index_of(Surface::ALL, &classes[0].surface).unwrap();
        assert_eq!((first.presence[timbre], first.presence[modulation]), (1.0, 1.0));
        assert_eq!(first.presence.iter().sum::<f32>(), 3.0);
        // 1.92 to 2.895 s: both, the second louder.
        let third = labels(2);
        assert_eq!((third.loudest, third.voices), (Some(classes[7]), 2));
        assert!((third.level[7] - 0.895 / 0.975).abs() < 1e-6);
        // 3.84 to 4.815 s: the first ends in it, so it is not clear.
        let fifth = labels(4);
        assert_eq!(fifth.loudest, None);
        assert!((fifth.presence[0] - 0.16 / 0.975).abs() < 1e-6);
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
