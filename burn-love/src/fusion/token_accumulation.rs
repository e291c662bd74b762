//! Token accumulation (Eq. 4): `[his]` gathers the projected `[cls]` of the frames seen so far.

use burn::prelude::*;

use super::History;

/// The tokens of `[his]` at frame `frame`; `None` while there is no history.
///
/// # Shapes
/// - `cls`: `[B, T, D]`, projected; output: `[B, frames so far, D]`
pub(super) fn history<B: Backend>(
    cls: &Tensor<B, 3>,
    frame: usize,
    history: History,
) -> Option<Tensor<B, 3>> {
    let frames = match history {
        History::Previous => frame,
        History::Inclusive => frame + 1,
    };
    (frames > 0).then(|| cls.clone().narrow(1, 0, frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn history_grows_by_one_frame_at_a_time() {
        let cls = Tensor::<B, 3>::zeros([1, 3, 2], &Default::default());
        let lengths = |kind| {
            (0..3)
                .map(|i| history(&cls, i, kind).map_or(0, |tokens| tokens.dims()[1]))
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(History::Previous), [0, 1, 2]);
        assert_eq!(lengths(History::Inclusive), [1, 2, 3]);
    }
}
