//! The five splits of Ref-AVS.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training rows.
    Train,
    /// Validation rows.
    Val,
    /// Test rows on classes that training has seen.
    TestS,
    /// Test rows on classes that training has not seen.
    TestU,
    /// Test rows whose expression refers to nothing.
    TestN,
}

/// A split name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected a split (train, val, test_s, test_u, test_n), found \"{found}\"")]
pub struct UnknownSplit {
    /// The name as given.
    pub found: String,
    /// The known name that is nearest to it.
    pub nearest: Split,
}

impl UnknownSplit {
    /// Names the nearest known split.
    pub fn hint(&self) -> String {
        format!("did you mean {}?", self.nearest)
    }
}

impl Split {
    /// Every split, in the order in which they are written and reported.
    pub const ALL: [Self; 5] = [Self::Train, Self::Val, Self::TestS, Self::TestU, Self::TestN];

    /// The name in `metadata.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::TestS => "test_s",
            Self::TestU => "test_u",
            Self::TestN => "test_n",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> Result<Self, UnknownSplit> {
        if let Some(split) = Self::ALL.into_iter().find(|split| split.name() == name) {
            return Ok(split);
        }
        let distance = |split: &Self| strsim::damerau_levenshtein(&name.to_lowercase(), split.name());
        let nearest = Self::ALL.into_iter().min_by_key(distance).unwrap_or(Self::Train);
        Err(UnknownSplit {
            found: name.into(),
            nearest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_an_unknown_name_points_at_its_neighbour() {
        for split in Split::ALL {
            assert_eq!(split.to_string().parse(), Ok(split));
        }
        let error = "tests_u".parse::<Split>().unwrap_err();
        assert_eq!(
            (error.nearest, error.hint().as_str()),
            (Split::TestU, "did you mean test_u?")
        );
        assert!(error.to_string().contains("tests_u"));
    }
}
