//! Named values of steps, averaged.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Named values, each with a weight: sums from which means are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values {
    /// For each name the weighted sum, and the sum of the weights.
    sums: BTreeMap<String, [f64; 2]>,
}

impl Values {
    /// Adds a value that counts `weight` times; without weight, it is nothing.
    pub fn put(&mut self, name: &str, value: f64, weight: f64) {
        if weight > 0.0 {
            let [sum, weights] = self.sums.entry(name.to_owned()).or_default();
            *sum += value * weight;
            *weights += weight;
        }
    }

    /// Adds all of another's values.
    pub fn add(&mut self, other: &Self) {
        for (name, [sum, weights]) in &other.sums {
            self.put(name, sum / weights, *weights);
        }
    }

    /// The mean of the values called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.sums.get(name).map(|[sum, weights]| sum / weights)
    }

    /// Names and means, by name.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        let sums = self.sums.iter();
        sums.map(|(name, [sum, weights])| (name.as_str(), sum / weights))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

impl fmt::Display for Values {
    /// Two spaces, a name and a mean, for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.means().try_for_each(|(name, mean)| match mean.abs() {
            0.0 | 1e-3..1e5 => write!(f, "  {name} {mean:.4}"),
            _ => write!(f, "  {name} {mean:.1e}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighted_and_survive_toml() {
        let (mut a, mut b) = (Values::default(), Values::default());
        a.put("loss", 1.0 / 3.0, 3.0);
        b.put("loss", 1.0, 1.0);
        b.put("J", 0.5, 0.0);
        a.add(&b);
        assert!((a.get("loss").unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(a.get("J"), None, "a value without weight was put");
        assert_eq!(a.to_string(), "  loss 0.5000");
        let text = toml::to_string(&a).unwrap();
        assert_eq!(toml::from_str::<Values>(&text).unwrap(), a);
    }
}
