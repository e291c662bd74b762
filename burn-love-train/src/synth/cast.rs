//! Casts: how many objects a scene has and how many of them sound, and which expressions that allows.

use rand::{Rng, seq::IndexedRandom};

use super::{
    language::{Hear, Template},
    plan::NullCause,
};

/// How many objects a scene has, and how many of them sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// Objects.
    pub objects: usize,
    /// Objects that sound at some time.
    pub sounding: usize,
}

/// All casts with their weights.
const CASTS: [(Cast, f64); 8] = [
    (
        Cast {
            objects: 2,
            sounding: 1,
        },
        5.0,
    ),
    (
        Cast {
            objects: 2,
            sounding: 2,
        },
        5.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 1,
        },
        15.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 2,
        },
        20.0,
    ),
    (
        Cast {
            objects: 3,
            sounding: 3,
        },
        5.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 1,
        },
        13.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 2,
        },
        22.0,
    ),
    (
        Cast {
            objects: 4,
            sounding: 3,
        },
        15.0,
    ),
];

impl Cast {
    /// Objects that never sound.
    pub fn silent(self) -> usize {
        self.objects - self.sounding
    }

    /// Whether a scene with this cast can have a minimal expression of the template.
    pub fn affords(self, template: Template) -> bool {
        match template.hear {
            None => self.objects > 2 || template.count() < 2,
            Some(Hear::Sounding) if template.has_looks() => self.sounding >= 2 && self.silent() >= 1,
            Some(Hear::Silent) if template.has_looks() => self.silent() >= 2 && self.sounding >= 1,
            Some(Hear::Sounding) => self.sounding == 1,
            Some(Hear::Silent) => self.silent() == 1,
            Some(Hear::Throughout) => self.sounding >= 1,
            Some(_) => self.sounding >= 2,
        }
    }

    /// Whether a scene with this cast can make the template refer to nothing for this cause.
    pub fn affords_null(self, template: Template, cause: NullCause) -> bool {
        match (cause, template.hear) {
            (NullCause::Absent, Some(Hear::Silent)) => self.silent() >= 1,
            (NullCause::Absent, _) => true,
            (NullCause::Silent, Some(Hear::Silent)) if !template.has_looks() => self.silent() == 0,
            (NullCause::Silent, Some(Hear::Throughout)) => self.sounding >= 1,
            (NullCause::Silent, _) => self.sounding >= 2 && self.silent() >= 2,
            (NullCause::Muted | NullCause::Swapped, _) => self.affords(template),
        }
    }
}

/// Draws a cast that fits.
pub fn choose_cast(rng: &mut impl Rng, fits: impl Fn(Cast) -> bool) -> Cast {
    let open: Vec<_> = CASTS.iter().filter(|(cast, _)| fits(*cast)).collect();
    let chosen = open.choose_weighted(rng, |(_, weight)| *weight);
    chosen.map_or(
        Cast {
            objects: 4,
            sounding: 2,
        },
        |(cast, _)| *cast,
    )
}
