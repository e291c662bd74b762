//! Scaled dot-product attention in bounded memory.

use burn::{prelude::*, tensor::activation::softmax};

/// Largest buffer of attention weights, in elements: 128 MiB of f32, WebGPU's default binding limit.
const MAX_WEIGHTS: usize = 32 * 1024 * 1024;

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
    chunked(query, key, value, mask, MAX_WEIGHTS)
}

fn chunked<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 2, Bool>>,
    limit: usize,
) -> Tensor<B, 4> {
    let [b, heads, lq, dh] = query.dims();
    let lk = key.dims()[2];
    let query = query / (dh as f64).sqrt();
    let mask = mask.map(|mask| mask.reshape([b, 1, 1, lk]));
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
                let query = query.clone().narrow(2, start, rows.min(lq - start));
                whole(query, key.clone(), value.clone(), mask.clone())
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
    let mut scores = query.matmul(key); // [B, heads, Lq, Lk]
    if let Some(mask) = mask {
        let mask = mask.expand(scores.dims());
        // Finite, so that a fully ignored row stays finite: softmax subtracts the row's maximum.
        scores = scores.mask_fill(mask, -1e30);
    }
    softmax(scores, 3).matmul(value)
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
        let full = chunked(q.clone(), k.clone(), v.clone(), Some(mask.clone()), usize::MAX);
        for limit in [1, 11, 35] {
            let parts = chunked(q.clone(), k.clone(), v.clone(), Some(mask.clone()), limit);
            parts
                .into_data()
                .assert_approx_eq::<f32>(&full.to_data(), Tolerance::absolute(1e-6));
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
