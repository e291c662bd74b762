//! Published results on Ref-AVS, which reports print beside their own.

/// Results of one method in percent, S as a fraction. J, F, J&F; `None` where nothing was published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The method.
    pub method: &'static str,
    /// Test split of seen classes.
    pub seen: [Option<f64>; 3],
    /// Test split of unseen classes.
    pub unseen: [Option<f64>; 3],
    /// Mean of both.
    pub mix: [Option<f64>; 3],
    /// Null split, lower is better.
    pub s: Option<f64>,
}

const fn row(
    method: &'static str,
    seen: [f64; 3],
    unseen: [f64; 3],
    mix: [Option<f64>; 3],
    s: Option<f64>,
) -> Published {
    Published {
        method,
        seen: all(seen),
        unseen: all(unseen),
        mix,
        s,
    }
}

const fn all([j, f, jf]: [f64; 3]) -> [Option<f64>; 3] {
    [Some(j), Some(f), Some(jf)]
}

/// The SAM2-LOVE paper's Table 1, and two later methods.
pub const PUBLISHED: &[Published] = &[
    row(
        "AVSBench",
        [21.2, 45.7, 33.5],
        [27.7, 50.9, 39.3],
        all([24.5, 48.3, 36.4]),
        None,
    ),
    row(
        "AVSBench + text",
        [23.2, 51.1, 37.2],
        [32.4, 54.7, 43.5],
        all([27.8, 52.9, 40.3]),
        Some(0.208),
    ),
    row(
        "AVSegFormer",
        [29.2, 42.3, 35.7],
        [32.7, 45.1, 38.9],
        all([30.9, 43.7, 37.3]),
        None,
    ),
    row(
        "AVSegFormer + text",
        [33.5, 47.0, 40.2],
        [36.1, 50.1, 43.1],
        all([34.8, 48.6, 41.7]),
        Some(0.171),
    ),
    row(
        "GAVS",
        [24.8, 45.5, 35.2],
        [27.8, 46.0, 36.9],
        all([26.3, 45.7, 36.0]),
        None,
    ),
    row(
        "GAVS + text",
        [28.9, 49.8, 39.4],
        [29.8, 49.7, 39.8],
        all([29.4, 49.8, 39.6]),
        Some(0.190),
    ),
    row(
        "ReferFormer",
        [27.4, 47.7, 37.5],
        [24.9, 50.4, 37.6],
        all([26.2, 49.1, 37.6]),
        None,
    ),
    row(
        "ReferFormer + audio",
        [31.3, 50.1, 40.7],
        [30.4, 48.8, 39.6],
        all([30.9, 49.5, 40.2]),
        Some(0.176),
    ),
    row(
        "R2VOS",
        [21.3, 30.9, 26.1],
        [23.9, 43.1, 33.5],
        all([22.6, 37.0, 29.8]),
        None,
    ),
    row(
        "R2VOS + audio",
        [25.0, 41.0, 33.0],
        [27.9, 49.8, 38.9],
        all([26.5, 45.4, 35.9]),
        Some(0.183),
    ),
    row(
        "EEMC",
        [34.2, 51.3, 42.8],
        [49.5, 64.8, 57.2],
        all([41.9, 58.1, 50.0]),
        Some(0.007),
    ),
    row(
        "SAM2-LOVE",
        [43.5, 51.9, 47.7],
        [66.5, 72.3, 69.4],
        all([55.0, 62.1, 58.5]),
        Some(0.23),
    ),
    row(
        "OISA-1B (later)",
        [51.7, 58.7, 55.2],
        [58.3, 65.1, 61.7],
        [Some(54.5), Some(61.4), None],
        Some(0.098),
    ),
    row(
        "SimToken, 7B (later)",
        [72.0, 81.3, 76.7],
        [69.8, 79.1, 74.5],
        [None, None, Some(75.6)],
        Some(0.012),
    ),
];
