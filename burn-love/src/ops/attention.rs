//! Scaled dot-product attention in bounded memory.

use burn::{prelude::*, tensor::activation::softmax};

use super::{MAX_BUFFER, matmul::matmul_floats};

/// `softmax(q·kᵀ / √Dh)·v`, in chunks of queries (and of heads where one query row is still too wide).
///
/// `mask` is true at the keys to ignore. A row whose keys are all ignored attends to all of them equally.
///
/// # Shapes
/// - `query`: `[B, heads, Lq, Dh]`; `key`: `[B, heads, Lk, Dh]`; `value`: `[B, heads, Lk, Dv]`
/// - `mask`: `[B, Lk]`
/// - output: `[B, heads, Lq, Dv]`
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 2, Bool>>,
) -> Tensor<B, 4> {
    attend(query, key, value, mask.map(for_all_queries))
}

/// As [`attention`], and each position attends to itself and earlier ones only.
///
/// # Shapes
/// - `query`, `key`: `[B, heads, L, Dh]`; `value`: `[B, heads, L, Dv]`
/// - `mask`: `[B, L]`
/// - output: `[B, heads, L, Dv]`
pub fn causal_attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 2, Bool>>,
) -> Tensor<B, 4> {
    let [b, _, l, _] = query.dims();
    // True above the diagonal: at keys behind the query.
    let mut later = Tensor::<B, 2, Bool>::tril_mask([l, l], 0, &query.device())
        .reshape([1, 1, l, l])
        .expand([b, 1, l, l]);
    if let Some(mask) = mask {
        later = later.bool_or(for_all_queries(mask).expand([b, 1, l, l]));
    }
    attend(query, key, value, Some(later))
}

/// `[B, Lk] → [B, 1, 1, Lk]`
fn for_all_queries<B: Backend>(mask: Tensor<B, 2, Bool>) -> Tensor<B, 4, Bool> {
    let [b, lk] = mask.dims();
    mask.reshape([b, 1, 1, lk])
}

/// Attention on the backend's road; `mask` is `[B, 1, Lq, Lk]`, or `[B, 1, 1, Lk]` for all queries.
fn attend<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    let (query, key, value, mask) = match super::flex::attention(query, key, value, mask) {
        Ok(attended) => return attended,
        Err(inputs) => inputs,
    };
    #[cfg(feature = "cube")]
    let (query, key, value, mask) = match super::cube::attention(query, key, value, mask) {
        Ok(attended) => return attended,
        Err(inputs) => inputs,
    };
    plain(query, key, value, mask)
}

/// The road of every backend.
pub(super) fn plain<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    chunked(query, key, value, mask, MAX_BUFFER)
}

/// Attention in pieces of at most `limit` weights; `mask` is `[B, 1, Lq, Lk]`, or `[B, 1, 1, Lk]` for all queries.
fn chunked<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
    limit: usize,
) -> Tensor<B, 4> {
    let [b, heads, lq, dh] = query.dims();
    let lk = key.dims()[2];
    let query = query / (dh as f64).sqrt();
    if b * heads * lq * lk <= limit {
        return whole(query, key.swap_dims(2, 3), value, mask);
    }
    // Rows of one head of one batch entry that fit; at least one.
    let rows = (limit / lk).clamp(1, lq);
    let mut batches = Vec::with_capacity(b);
    for i in 0..b {
        let mask = mask.clone().map(|mask| mask.narrow(0, i, 1));
        let mut outputs = Vec::with_capacity(heads);
        for h in 0..heads {
            let pick = |x: &Tensor<B, 4>| x.clone().narrow(0, i, 1).narrow(1, h, 1);
            let (query, key, value) = (pick(&query), pick(&key).swap_dims(2, 3), pick(&value));
            let parts = (0..lq).step_by(rows).map(|start| {
                let rows = rows.min(lq - start);
                let query = query.clone().narrow(2, start, rows);
                let mask = mask.clone().map(|mask| match mask.dims()[2] {
                    1 => mask,
                    _ => mask.narrow(2, start, rows),
                });
                whole(query, key.clone(), value.clone(), mask)
            });
            outputs.push(Tensor::cat(parts.collect(), 2));
        }
        batches.push(Tensor::cat(outputs, 1));
    }
    Tensor::cat(batches, 0)
}

/// Attention with scaled queries and transposed keys, in one piece.
fn whole<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Tensor<B, 4> {
    let mut scores = matmul_floats(query, key); // [B, heads, Lq, Lk]
    if let Some(mask) = mask {
        let mask = mask.expand(scores.dims());
        // Finite, so that a fully ignored row stays finite: softmax subtracts the row's maximum.
        scores = scores.mask_fill(mask, -1e30);
    }
    matmul_floats(softmax(scores, 3), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    type B = burn_flex::Flex;

    fn random(dims: [usize; 4]) -> Tensor<B, 4> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    #[test]
    fn chunks_change_nothing() {
        let (q, k, v) = (random([2, 3, 7, 4]), random([2, 3, 5, 4]), random([2, 3, 5, 6]));
        let mask = Tensor::<B, 2, Bool>::from_data(
            [
                [false, true, false, false, true],
                [false, false, false, true, true],
            ],
            &Default::default(),
        );
        let mask = for_all_queries(mask);
        let each = Tensor::<B, 2, Bool>::tril_mask([7, 5], 1, &Default::default());
        let each = each.reshape([1, 1, 7, 5]).expand([2, 1, 7, 5]);
        for mask in [mask.clone(), mask.expand([2, 1, 7, 5]).bool_or(each)] {
            let full = chunked(q.clone(), k.clone(), v.clone(), Some(mask.clone()), usize::MAX);
            for limit in [1, 11, 35] {
                let parts = chunked(q.clone(), k.clone(), v.clone(), Some(mask.clone()), limit);
                parts
                    .into_data()
                    .assert_approx_eq::<f32>(&full.to_data(), Tolerance::absolute(1e-6));
            }
        }
    }

    #[test]
    fn the_future_has_no_say() {
        let (q, k, v) = (random([1, 2, 4, 4]), random([1, 2, 4, 4]), random([1, 2, 4, 4]));
        let all = causal_attention(q.clone(), k.clone(), v.clone(), None);
        for l in 1..=4 {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(2, 0, l));
            let last = attention(q.narrow(2, l - 1, 1), k, v, None);
            let found = all.clone().narrow(2, l - 1, 1).into_data();
            found.assert_approx_eq::<f32>(&last.into_data(), Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn ignored_keys_have_no_say() {
        let (q, k, v) = (random([1, 2, 3, 4]), random([1, 2, 4, 4]), random([1, 2, 4, 4]));
        let mask = Tensor::<B, 2, Bool>::from_data([[false, false, false, true]], &Default::default());
        let masked = attention(q.clone(), k.clone(), v.clone(), Some(mask));
        let short = attention(q, k.narrow(2, 0, 3), v.narrow(2, 0, 3), None);
        masked
            .into_data()
            .assert_approx_eq::<f32>(&short.into_data(), Tolerance::absolute(1e-6));
    }
}
