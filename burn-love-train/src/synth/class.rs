//! What an object looks like, and what its look says about its sound.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that expressions use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// Outline of an object. It decides the spectrum of the object's sound.
    Shape {
        /// Filled circle; a pure tone.
        Disc = "disc",
        /// Odd harmonics.
        Square = "square",
        /// A sawtooth.
        Triangle = "triangle",
        /// Five points; a frequency-modulated bell.
        Star = "star",
        /// Circle with a hole; a band of noise.
        Ring = "ring",
        /// Plus sign; a plucked string, again and again.
        Cross = "cross",
    }
}

words! {
    /// Pattern of an object. It decides the amplitude modulation of the object's sound.
    Surface {
        /// One colour; no modulation.
        Plain = "plain",
        /// Stripes; 2 Hz.
        Stripes = "striped",
        /// Dots; 5 Hz.
        Dots = "dotted",
        /// Checkerboard; 9 Hz.
        Checker = "checkered",
    }
}

words! {
    /// Colour of an object. It says nothing about the object's sound.
    Colour {
        /// Red.
        Red = "red",
        /// Orange.
        Orange = "orange",
        /// Yellow.
        Yellow = "yellow",
        /// Green.
        Green = "green",
        /// Cyan.
        Cyan = "cyan",
        /// Blue.
        Blue = "blue",
        /// Purple.
        Purple = "purple",
        /// White.
        White = "white",
    }
}

impl Surface {
    /// Frequency of the amplitude modulation, in Hz.
    pub fn modulation_hz(self) -> f64 {
        match self {
            Self::Plain => 0.0,
            Self::Stripes => 2.0,
            Self::Dots => 5.0,
            Self::Checker => 9.0,
        }
    }
}

/// The class of an object: what sounds and looks the same, but for pitch, colour and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Class {
    /// Outline and spectrum.
    pub shape: Shape,
    /// Pattern and modulation.
    pub surface: Surface,
}

impl Class {
    /// The six classes that only the unseen test split shows: one of each shape, at most two of each surface.
    pub const HELD_OUT: [Self; 6] = [
        Self {
            shape: Shape::Disc,
            surface: Surface::Checker,
        },
        Self {
            shape: Shape::Square,
            surface: Surface::Dots,
        },
        Self {
            shape: Shape::Triangle,
            surface: Surface::Stripes,
        },
        Self {
            shape: Shape::Star,
            surface: Surface::Checker,
        },
        Self {
            shape: Shape::Ring,
            surface: Surface::Plain,
        },
        Self {
            shape: Shape::Cross,
            surface: Surface::Dots,
        },
    ];

    /// Whether the class is kept for the unseen test split.
    pub fn is_held_out(self) -> bool {
        Self::HELD_OUT.contains(&self)
    }

    /// Name of the class in uids.
    pub fn name(self) -> String {
        format!("{}-{}", self.surface.word(), self.shape.word())
    }
}
