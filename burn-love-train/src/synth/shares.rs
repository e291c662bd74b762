//! Shares of the templates: how often each sort of expression is to occur.
//!
//! Templates are drawn by how far they lag behind their share, so that a split of any size follows the shares closely.

use rand::{Rng, seq::IndexedRandom};

use super::{
    SynthConfig,
    language::{Hear, Template},
    plan::NullCause,
};

const SHAPE: Template = Template::vision(true, false, false);
const SURFACE: Template = Template::vision(false, true, false);
const COLOUR: Template = Template::vision(false, false, true);

/// Shares of the templates in percent: vision 25, audio 30, audio and vision 30, time 15.
const SHARES: [(Template, f64); 19] = [
    (SHAPE, 5.0),
    (SURFACE, 4.0),
    (COLOUR, 4.0),
    (Template::vision(true, false, true), 4.0),
    (Template::vision(true, true, false), 5.0),
    (Template::vision(false, true, true), 3.0),
    (Template::sound(Hear::Loudest), 9.0),
    (Template::sound(Hear::Quietest), 7.0),
    (Template::sound(Hear::Sounding), 6.0),
    (Template::sound(Hear::Silent), 8.0),
    (SHAPE.with(Hear::Sounding), 6.0),
    (SURFACE.with(Hear::Sounding), 5.4),
    (COLOUR.with(Hear::Sounding), 5.0),
    (SHAPE.with(Hear::Silent), 5.0),
    (SURFACE.with(Hear::Silent), 4.6),
    (COLOUR.with(Hear::Silent), 4.0),
    (Template::sound(Hear::Longest), 5.0),
    (Template::sound(Hear::Shortest), 5.0),
    (Template::sound(Hear::Throughout), 5.0),
];

/// Shares of the order templates beside [`SHARES`], where they are asked for.
const ORDER_SHARES: [(Template, f64); 2] = [
    (Template::sound(Hear::First), 6.0),
    (Template::sound(Hear::Last), 6.0),
];

/// Of the null rows that state a look and a sound, this share names an absent look; the others a look of objects
/// whose sound is not as stated. With it the three sorts of nulls together use each template as positive rows do.
const ABSENT_SHARE: f64 = 0.3;

/// The templates that positive rows are drawn from, with their shares.
pub fn templates(config: &SynthConfig) -> Vec<(Template, f64)> {
    let order = ORDER_SHARES.iter().filter(|_| config.order_expressions);
    SHARES.iter().chain(order).copied().collect()
}

/// Draws templates by how far each lags behind its share.
pub struct Shares {
    entries: Vec<(Template, f64, f64)>,
    drawn: f64,
}

impl Shares {
    /// Shares in proportion to weights.
    pub fn new(weights: impl IntoIterator<Item = (Template, f64)>) -> Self {
        let entries: Vec<_> = weights.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        let sum: f64 = entries.iter().map(|(_, weight)| weight).sum();
        Self {
            entries: entries
                .into_iter()
                .map(|(t, weight)| (t, weight / sum, 0.0))
                .collect(),
            drawn: 0.0,
        }
    }

    /// Those that null rows of a cause are drawn from.
    pub fn of_null(all: &[(Template, f64)], cause: NullCause) -> Self {
        Self::new(all.iter().map(|(template, weight)| {
            let presence =
                matches!(template.hear, Some(Hear::Sounding | Hear::Silent)) && template.has_looks();
            let share = match (cause, template.hear) {
                (NullCause::Absent, None) => 1.0,
                (NullCause::Absent, _) if presence => ABSENT_SHARE,
                (NullCause::Silent, _) if presence => 1.0 - ABSENT_SHARE,
                (NullCause::Silent, Some(Hear::Silent | Hear::Throughout)) => 1.0,
                (NullCause::Muted | NullCause::Swapped, Some(Hear::Silent | Hear::Throughout)) => 0.0,
                (NullCause::Muted | NullCause::Swapped, Some(_)) if !presence => 1.0,
                _ => 0.0,
            };
            (*template, weight * share)
        }))
    }

    /// The templates that can be drawn.
    pub fn templates(&self) -> impl Iterator<Item = Template> + '_ {
        self.entries.iter().map(|(template, ..)| *template)
    }

    /// Draws one of the allowed templates and takes note of it.
    pub fn draw(&mut self, rng: &mut impl Rng, allowed: impl Fn(Template) -> bool) -> Option<Template> {
        const AHEAD: f64 = 6.0;
        let lag = |(_, share, count): &(Template, f64, f64)| {
            (share * (self.drawn + AHEAD) - count).max(1e-3 * share)
        };
        let open: Vec<usize> = (0..self.entries.len())
            .filter(|i| allowed(self.entries[*i].0))
            .collect();
        let chosen = *open.choose_weighted(rng, |i| lag(&self.entries[*i])).ok()?;
        let template = self.entries[chosen].0;
        self.count(template);
        Some(template)
    }

    /// Takes note of a row of the template.
    pub fn count(&mut self, template: Template) {
        for entry in self.entries.iter_mut().filter(|entry| entry.0 == template) {
            entry.2 += 1.0;
            self.drawn += 1.0;
        }
    }
}
