//! The expressions: templates, the predicates they state, their words, and reading them back.

use std::fmt;

use rand::{Rng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use super::class::{Colour, Shape, Surface};

/// Something an object looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Its outline.
    Shape(Shape),
    /// Its pattern.
    Surface(Surface),
    /// Its colour.
    Colour(Colour),
}

/// Something an object sounds like, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hear {
    /// It sounds at some time.
    Sounding,
    /// It never sounds.
    Silent,
    /// Its sound has the highest level.
    Loudest,
    /// Its sound has the lowest level.
    Quietest,
    /// It sounds for the longest time.
    Longest,
    /// It sounds for the shortest time.
    Shortest,
    /// It sounds in every second.
    Throughout,
    /// It begins to sound before all others.
    First,
    /// It begins to sound after all others.
    Last,
}

/// What an expression is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Looks only.
    Vision,
    /// Level or presence of sound only.
    Audio,
    /// A look and presence of sound.
    AudioVision,
    /// Duration of sound: a statistic of the set of sounding seconds.
    Time,
    /// Order of sounds, which a set of seconds does not show.
    Order,
}

/// What an expression states of the object it refers to. An object is meant if it meets every predicate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Meaning {
    /// Looks, at most one of each sort.
    pub looks: Vec<Look>,
    /// At most one thing to hear.
    pub hear: Option<Hear>,
}

/// A kind of [`Meaning`]: which sorts of predicates, but not their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// Whether a shape is stated.
    pub shape: bool,
    /// Whether a surface is stated.
    pub surface: bool,
    /// Whether a colour is stated.
    pub colour: bool,
    /// What is to be heard.
    pub hear: Option<Hear>,
}

impl Template {
    /// Looks only.
    pub const fn vision(shape: bool, surface: bool, colour: bool) -> Self {
        Self {
            shape,
            surface,
            colour,
            hear: None,
        }
    }

    /// Sound only.
    pub const fn sound(hear: Hear) -> Self {
        Self {
            shape: false,
            surface: false,
            colour: false,
            hear: Some(hear),
        }
    }

    /// Looks and sound.
    pub const fn with(self, hear: Hear) -> Self {
        Self {
            hear: Some(hear),
            ..self
        }
    }

    /// How many looks are stated.
    pub fn count(self) -> usize {
        [self.shape, self.surface, self.colour]
            .into_iter()
            .filter(|stated| *stated)
            .count()
    }

    /// Whether a look is stated.
    pub fn has_looks(self) -> bool {
        self.count() > 0
    }

    /// What expressions of this template are about.
    pub fn kind(self) -> Kind {
        match self.hear {
            None => Kind::Vision,
            Some(Hear::Longest | Hear::Shortest | Hear::Throughout) => Kind::Time,
            Some(Hear::First | Hear::Last) => Kind::Order,
            Some(_) if self.has_looks() => Kind::AudioVision,
            Some(_) => Kind::Audio,
        }
    }

    /// The meaning with this template's sorts of predicates and the given looks.
    pub fn fill(self, shape: Shape, surface: Surface, colour: Colour) -> Meaning {
        let mut looks = Vec::new();
        if self.colour {
            looks.push(Look::Colour(colour));
        }
        if self.surface {
            looks.push(Look::Surface(surface));
        }
        if self.shape {
            looks.push(Look::Shape(shape));
        }
        Meaning {
            looks,
            hear: self.hear,
        }
    }
}

impl Meaning {
    /// The template that this meaning fills.
    pub fn template(&self) -> Template {
        let has = |test: fn(&Look) -> bool| self.looks.iter().any(test);
        Template {
            shape: has(|look| matches!(look, Look::Shape(_))),
            surface: has(|look| matches!(look, Look::Surface(_))),
            colour: has(|look| matches!(look, Look::Colour(_))),
            hear: self.hear,
        }
    }

    /// Every way of saying it.
    pub fn phrasings(&self) -> Vec<String> {
        let mut looks = self.looks.clone();
        looks.sort_by_key(|look| match look {
            Look::Colour(_) => 0,
            Look::Surface(_) => 1,
            Look::Shape(_) => 2,
        });
        let words: Vec<&str> = looks
            .iter()
            .map(|look| match look {
                Look::Shape(shape) => shape.word(),
                Look::Surface(surface) => surface.word(),
                Look::Colour(colour) => colour.word(),
            })
            .collect();
        let mut noun = words.join(" ");
        if !matches!(looks.last(), Some(Look::Shape(_))) {
            noun = format!("{noun} object").trim().into();
        }
        match self.hear {
            None => vec![format!("the {noun}")],
            Some(hear) => hear
                .patterns()
                .iter()
                .map(|(before, after)| {
                    format!("the {before} {noun} {after}")
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect(),
        }
    }

    /// One way of saying it.
    pub fn phrase(&self, rng: &mut impl Rng) -> String {
        self.phrasings().choose(rng).cloned().unwrap_or_default()
    }

    /// Reads an expression of this language.
    pub fn parse(expression: &str) -> Option<Self> {
        let words: Vec<&str> = expression.split_whitespace().collect();
        let mut looks = Vec::new();
        looks.extend(
            Colour::ALL
                .iter()
                .filter(|c| words.contains(&c.word()))
                .map(|c| Look::Colour(*c)),
        );
        looks.extend(
            Surface::ALL
                .iter()
                .filter(|s| words.contains(&s.word()))
                .map(|s| Look::Surface(*s)),
        );
        looks.extend(
            Shape::ALL
                .iter()
                .filter(|s| words.contains(&s.word()))
                .map(|s| Look::Shape(*s)),
        );
        std::iter::once(None)
            .chain(Hear::ALL.into_iter().map(Some))
            .map(|hear| Self {
                looks: looks.clone(),
                hear,
            })
            .filter(|meaning| meaning.template().count() == looks.len())
            .find(|meaning| meaning.phrasings().iter().any(|phrasing| phrasing == expression))
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrasings().first().map_or("", String::as_str))
    }
}

impl Hear {
    /// Every value.
    pub const ALL: [Self; 9] = [
        Self::Sounding,
        Self::Silent,
        Self::Loudest,
        Self::Quietest,
        Self::Longest,
        Self::Shortest,
        Self::Throughout,
        Self::First,
        Self::Last,
    ];

    /// Words before and behind the noun, two ways each.
    fn patterns(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Sounding => [("sounding", ""), ("", "making a sound")],
            Self::Silent => [("silent", ""), ("", "making no sound")],
            Self::Loudest => [("loudest", ""), ("", "making the loudest sound")],
            Self::Quietest => [("quietest sounding", ""), ("", "making the quietest sound")],
            Self::Longest => [("", "sounding the longest"), ("", "making the longest sound")],
            Self::Shortest => [("", "sounding the shortest"), ("", "making the shortest sound")],
            Self::Throughout => [("", "sounding throughout"), ("", "making a sound throughout")],
            Self::First => [("first sounding", ""), ("", "making the first sound")],
            Self::Last => [("last sounding", ""), ("", "making the last sound")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrasing_reads_back_and_no_two_meanings_share_one() {
        let mut seen = std::collections::HashMap::new();
        for (shape, surface, colour) in Shape::ALL
            .iter()
            .flat_map(|s| Surface::ALL.iter().map(move |u| (*s, *u)))
            .flat_map(|(s, u)| Colour::ALL.iter().map(move |c| (s, u, *c)))
        {
            for sorts in 0..8 {
                let looks = Template::vision(sorts & 1 > 0, sorts & 2 > 0, sorts & 4 > 0);
                for hear in std::iter::once(None).chain(Hear::ALL.map(Some)) {
                    let meaning = Template { hear, ..looks }.fill(shape, surface, colour);
                    for phrasing in meaning.phrasings() {
                        assert_eq!(Meaning::parse(&phrasing).as_ref(), Some(&meaning), "{phrasing}");
                        let earlier = seen.entry(phrasing).or_insert_with(|| meaning.clone());
                        assert_eq!(*earlier, meaning);
                    }
                }
            }
        }
        assert!(
            seen.contains_key("the sounding star") && seen.contains_key("the red object making no sound")
        );
    }

    #[test]
    fn other_sentences_are_not_understood() {
        for sentence in ["", "the", "NO.", "the loudest", "the green blue star", "a star"] {
            assert_eq!(Meaning::parse(sentence), None, "{sentence}");
        }
    }
}
