//! The text encoder on masked tokens of the data set's sentences.
//!
//! RoBERTa's recipe (Liu et al., 2019): 15 % of the tokens are to be guessed; of these, 80 % are masked, 10 % replaced, 10 %
//! left as they are, anew every time. Sentences are short: at least one token of each is to be guessed.

use std::{collections::HashSet, path::Path};

use burn::{
    nn::{Linear, LinearConfig},
    prelude::*,
};
use burn_love::{
    encoders::{TextEncoder, TextTower},
    preprocess::{PreprocessError, Tokens},
    weights::{State, WeightsError, keys, state_of},
};
use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    probe::{Labelled, probe},
    task::{Draw, Gate, Scored, Task, cross_entropy, index_of, one_hot, put_accuracy, read, upload},
};
use crate::{
    config::Config,
    data::{RefAvs, Split},
    samples::{Preparer, SampleError, token_batch},
    synth::{Colour, Hear, Look, Meaning, Shape, Surface},
    training::{RunError, Values},
};

/// Share of the tokens that are to be guessed.
const GUESSED: f64 = 0.15;
/// Of these, the share that is masked, and the share that is masked or replaced.
const MASKED: f64 = 0.8;
const CHANGED: f64 = 0.9;
/// Sentences whose states fit the probes.
const PROBED: usize = 2000;

/// Encoder and head.
#[derive(Module, Debug)]
pub struct TextLearner<B: Backend> {
    /// What the stage is for.
    pub encoder: TextTower<B>,
    /// Which token it is.
    head: Linear<B>,
}

/// A sentence, and what it states where it is of the synthetic scenes' language.
#[derive(Debug)]
struct Sentence {
    tokens: Tokens,
    meaning: Option<Meaning>,
}

/// The stage.
#[derive(Debug)]
pub struct TextTask<'a> {
    config: &'a Config,
    mask_id: u32,
    /// Ids in use; special tokens lie below the mask's and are no replacements.
    ids: u32,
    train: Vec<Sentence>,
    held_out: Vec<Sentence>,
}

/// Sentences with holes.
#[derive(Debug)]
pub struct TextBatch {
    sentences: Vec<Tokens>,
    /// For each position the token to guess.
    guesses: Vec<Option<usize>>,
}

impl<'a> TextTask<'a> {
    /// The stage on the sentences of a data set; held out are those of val that train does not have.
    ///
    /// # Errors
    /// If the data set or the tokenizer cannot be used, the tokenizer has no `<mask>`, or a split is empty.
    pub fn new(config: &'a Config, root: &Path) -> Result<Self, RunError> {
        let preparer = Preparer::new(config)?;
        let tokenizer = preparer.tokenizer();
        let mask_id = tokenizer.mask_id().ok_or_else(|| SampleError::Content {
            path: config.weights.tokenizer.clone(),
            source: PreprocessError::Tokenizer("no `<mask>`, which this stage needs".into()),
        })?;
        let data = RefAvs::open(root).map_err(SampleError::from)?;
        let sentences = |split, kept: &dyn Fn(&str) -> bool| -> Result<Vec<Sentence>, RunError> {
            let rows = data.split(split).into_iter().filter(|row| kept(&row.expression));
            let sentences = rows.map(|row| {
                Ok(Sentence {
                    tokens: preparer.tokens(&row.expression)?,
                    meaning: Meaning::parse(&row.expression),
                })
            });
            sentences.collect()
        };
        let train = sentences(Split::Train, &|_| true)?;
        let known: HashSet<&str> = data
            .split(Split::Train)
            .into_iter()
            .map(|row| row.expression.as_str())
            .collect();
        let mut held_out = sentences(Split::Val, &|text| !known.contains(text))?;
        if held_out.is_empty() {
            held_out = sentences(Split::Val, &|_| true)?;
        }
        for (split, sentences) in [(Split::Train, &train), (Split::Val, &held_out)] {
            if sentences.is_empty() {
                let path = root.into();
                return Err(RunError::NoRows { path, split });
            }
        }
        Ok(Self {
            config,
            mask_id,
            ids: tokenizer.vocabulary() as u32,
            train,
            held_out,
        })
    }

    fn of(&self, split: Split) -> &[Sentence] {
        match split {
            Split::Train => &self.train,
            _ => &self.held_out,
        }
    }

    /// Makes holes in a sentence; gives for each position the token to guess.
    fn punch(&self, tokens: &mut Tokens, rng: &mut ChaCha8Rng) -> Vec<Option<usize>> {
        let mut guesses = vec![None; tokens.ids.len()];
        // The first and the last token are special.
        let inside = 1..tokens.length.saturating_sub(1);
        if inside.is_empty() {
            return guesses;
        }
        let sure = rng.random_range(inside.clone());
        for at in inside {
            if at != sure && !rng.random_bool(GUESSED) {
                continue;
            }
            guesses[at] = Some(tokens.ids[at] as usize);
            match rng.random_range(0.0..1.0) {
                ..MASKED => tokens.ids[at] = self.mask_id,
                ..CHANGED if self.mask_id + 1 < self.ids => {
                    tokens.ids[at] = rng.random_range(self.mask_id + 1..self.ids);
                }
                _ => {}
            }
        }
        guesses
    }

    /// Mean states of whole sentences, each with what it states of sound, shape, surface and colour.
    fn features<B: Backend>(
        &self,
        encoder: &TextTower<B>,
        split: Split,
        device: &B::Device,
    ) -> [Labelled; 4] {
        let mut found: [Labelled; 4] = Default::default();
        let sentences: Vec<(&Tokens, &Meaning)> = self
            .of(split)
            .iter()
            .filter_map(|sentence| Some((&sentence.tokens, sentence.meaning.as_ref()?)))
            .take(PROBED)
            .collect();
        for some in sentences.chunks(64) {
            let tokens: Vec<&Tokens> = some.iter().map(|(tokens, _)| *tokens).collect();
            let batch = token_batch(&tokens, device);
            let kept = batch.padding.clone().bool_not().float().unsqueeze_dim::<3>(2); // [N, L, 1]
            let states = encoder.encode_text(batch);
            let mean = (states * kept.clone()).sum_dim(1) / kept.sum_dim(1);
            let [n, _, d] = mean.dims();
            let mean = mean.reshape([n, d]).into_data().convert::<f32>();
            let rows = mean.as_slice::<f32>().expect("just converted").chunks_exact(d);
            for (row, (_, meaning)) in rows.zip(some) {
                for (i, label) in stated(meaning).into_iter().enumerate() {
                    found[i].push(row, label);
                }
            }
        }
        found
    }
}

/// What a sentence states of sound, shape, surface and colour; 0 stands for nothing.
fn stated(meaning: &Meaning) -> [usize; 4] {
    let hear = meaning.hear.and_then(|hear| index_of(&Hear::ALL, &hear));
    let look = |column: fn(&Look) -> Option<usize>| meaning.looks.iter().find_map(column);
    let shape = |look: &Look| match look {
        Look::Shape(shape) => index_of(Shape::ALL, shape),
        _ => None,
    };
    let surface = |look: &Look| match look {
        Look::Surface(surface) => index_of(Surface::ALL, surface),
        _ => None,
    };
    let colour = |look: &Look| match look {
        Look::Colour(colour) => index_of(Colour::ALL, colour),
        _ => None,
    };
    [hear, look(shape), look(surface), look(colour)].map(|label| label.map_or(0, |i| i + 1))
}

impl Task for TextTask<'_> {
    type Module<B: Backend> = TextLearner<B>;
    type Batch = TextBatch;

    fn samples(&self) -> [usize; 2] {
        [self.train.len(), self.held_out.len()]
    }

    fn init<B: Backend>(&self, device: &B::Device, begins: bool) -> Result<TextLearner<B>, WeightsError> {
        let config = &self.config.model.encoders.text;
        let encoder = config.init(device);
        Ok(TextLearner {
            encoder: if begins {
                crate::training::load_text(encoder, config, &self.config.weights.text)?
            } else {
                encoder
            },
            head: LinearConfig::new(config.width, config.vocabulary).init(device),
        })
    }

    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<TextBatch, RunError> {
        let (mut sentences, mut guesses) = (Vec::new(), Vec::new());
        for _ in 0..self.config.train.batch_size {
            if let Some(sentence) = self.of(draw.split).choose(rng) {
                let mut tokens = sentence.tokens.clone();
                guesses.extend(self.punch(&mut tokens, rng));
                sentences.push(tokens);
            }
        }
        Ok(TextBatch { sentences, guesses })
    }

    fn score<B: Backend>(&self, module: &TextLearner<B>, batch: TextBatch, device: &B::Device) -> Scored<B> {
        let TextBatch { sentences, guesses } = batch;
        let tokens: Vec<&Tokens> = sentences.iter().collect();
        let states = module.encoder.encode_text(token_batch(&tokens, device));
        let [b, l, d] = states.dims();
        let logits = module.head.forward(states.reshape([b * l, d]));
        let [_, vocabulary] = logits.dims();
        let shares = upload::<B, 2>(one_hot(&guesses, vocabulary), [b * l, vocabulary], device);
        let mut values = Values::default();
        put_accuracy(&mut values, "right", logits.clone(), &guesses);
        let loss = cross_entropy(logits, shares.clone(), shares.sum_dim(1));
        let [value] = read([loss.clone()]);
        values.put("loss", value, guesses.iter().flatten().count() as f64);
        Scored { loss, values }
    }

    /// What is stated, read from the mean state: told, but no gate.
    fn gates<B: Backend>(&self, module: &TextLearner<B>, device: &B::Device) -> Result<Vec<Gate>, RunError> {
        let [train, held_out] =
            [Split::Train, Split::Val].map(|split| self.features(&module.encoder, split, device));
        let names = ["sound", "shape", "surface", "colour"];
        let sets = names.into_iter().zip(train.iter().zip(&held_out));
        let gate = |(name, (train, held_out)): (&str, (&_, &_))| Gate {
            name: format!("stated {name}"),
            value: probe(train, held_out),
            least: None,
        };
        Ok(sets.map(gate).collect())
    }

    fn state<B: Backend>(&self, module: &TextLearner<B>) -> State {
        state_of(&module.encoder, keys::text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn holes_are_of_the_stated_shares_and_remember_what_was_there() {
        let config = Config::nano();
        let preparer = Preparer::new(&config).unwrap();
        let text = "the green striped triangle making the quietest sound";
        let sentence = preparer.tokens(text).unwrap();
        let task = TextTask {
            config: &config,
            mask_id: preparer.tokenizer().mask_id().unwrap(),
            ids: preparer.tokenizer().vocabulary() as u32,
            train: Vec::new(),
            held_out: Vec::new(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (mut guessed, mut masked, mut kept) = (0, 0, 0);
        let rounds = 3000;
        for _ in 0..rounds {
            let mut tokens = sentence.clone();
            let guesses = task.punch(&mut tokens, &mut rng);
            assert!(guesses.iter().any(Option::is_some), "nothing to guess");
            for (at, guess) in guesses.iter().enumerate() {
                let inside = (1..sentence.length - 1).contains(&at);
                match guess {
                    Some(id) => {
                        assert!(inside && *id == sentence.ids[at] as usize);
                        guessed += 1;
                        masked += usize::from(tokens.ids[at] == task.mask_id);
                        kept += usize::from(tokens.ids[at] == sentence.ids[at]);
                    }
                    None => assert_eq!(tokens.ids[at], sentence.ids[at]),
                }
            }
        }
        // One for sure, and 15 % of the others.
        let n = (sentence.length - 2) as f64;
        let expected = f64::from(rounds) * (1.0 + (n - 1.0) * GUESSED);
        assert!(
            (f64::from(guessed) / expected - 1.0).abs() < 0.03,
            "{guessed} {expected}"
        );
        assert!((f64::from(masked as u32) / f64::from(guessed) - 0.8).abs() < 0.03);
        assert!((f64::from(kept as u32) / f64::from(guessed) - 0.1).abs() < 0.03);
        assert_eq!(stated(&Meaning::parse(text).unwrap()), [4, 3, 2, 4]);
    }
}
