//! Attention in tiles, forward and backward: scores of a few queries and keys at a time, their softmax in passing, and
//! products. There is no matrix of all scores.
//!
//! Online softmax after Milakov and Gimelshein (2018), backward pass after FlashAttention (Dao et al. 2022). A tile's size
//! does not depend on the number of threads, so neither do results.

use std::ops::Range;

use burn::tensor::TensorMetadata;
use multiversion::multiversion;

use super::{
    matrix::Matrix,
    permute::permuted,
    product::{Right, product},
    *,
};

/// Queries of a tile. With [`KEYS`]: a tile of scores about fits the second cache of a core.
const QUERIES: usize = 256;
/// Keys of a tile.
const KEYS: usize = 512;
/// Score of an ignored key: finite, so that a row whose keys are all ignored attends to all of them equally.
const IGNORED: f32 = -1e30;

type Inputs<B> = (
    Tensor<B, 4>,
    Tensor<B, 4>,
    Tensor<B, 4>,
    Option<Tensor<B, 4, Bool>>,
);

/// Attends on the fast road, or hands the inputs back. `mask` is `[B, 1, Lq, Lk]`, or `[B, 1, 1, Lk]` for all queries.
pub(in super::super) fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Result<Tensor<B, 4>, Inputs<B>> {
    let usable = |x: &Tensor<B, 4>| x.dtype() == DType::F32 && x.dims().iter().all(|size| *size > 0);
    if ![&query, &key, &value].into_iter().all(usable) {
        return Err((query, key, value, mask));
    }
    let inputs = match cast::<Inputs<B>, Inputs<Flex>>((query, key, value, mask)) {
        Ok((query, key, value, mask)) => {
            let inputs = [query, key, value].map(|x| positive(primitive(x)));
            let attended = forward(&inputs, mask.map(ignored).as_ref());
            return Ok(same_type(cast(wrap::<Flex, 4>(attended.out))));
        }
        Err(inputs) => inputs,
    };
    let (query, key, value, mask) = cast::<Inputs<B>, Inputs<AutodiffFlex>>(inputs)?;
    let tensors = [query, key, value].map(primitive);
    let nodes = tensors.each_ref().map(|tensor| tensor.node.clone());
    let inputs = tensors.map(|tensor| positive(tensor.primitive));
    let mask = mask.map(|mask| ignored(mask.inner()));
    let attended = forward(&inputs, mask.as_ref());
    let out = match Attention
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let state = State {
                inputs,
                mask,
                moments: attended.moments,
                out: attended.out.clone(),
            };
            prep.finish(state, attended.out)
        }
        OpsKind::UnTracked(prep) => prep.finish(attended.out),
    };
    Ok(same_type(cast(wrap::<AutodiffFlex, 4>(out))))
}

/// Which keys are ignored, one byte each.
#[derive(Clone, Debug)]
struct Ignored {
    keys: Vec<bool>,
    /// `[B, Lq or 1, Lk]`.
    dims: [usize; 3],
}

impl Ignored {
    /// The keys ignored by a query of a batch entry.
    fn row(&self, batch: usize, query: usize) -> &[bool] {
        let [_, queries, keys] = self.dims;
        let start = (batch * queries + if queries == 1 { 0 } else { query }) * keys;
        &self.keys[start..start + keys]
    }
}

fn ignored(mask: Tensor<Flex, 4, Bool>) -> Ignored {
    let [batch, _, queries, keys] = mask.dims();
    Ignored {
        keys: mask.into_data().iter::<bool>().collect(),
        dims: [batch, queries, keys],
    }
}

struct Attended {
    /// `[B, heads, Lq, Dv]`, stored as `[B, Lq, heads, Dv]`: whoever merges heads need not copy.
    out: FlexTensor,
    /// Largest score of each `[B, Lq, heads]`, and the reciprocal sum of the exponentials below it.
    moments: Vec<[f32; 2]>,
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct State {
    inputs: [FlexTensor; 3],
    mask: Option<Ignored>,
    moments: Vec<[f32; 2]>,
    out: FlexTensor,
}

impl Backward<Flex, 3> for Attention {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = positive(grads.consume::<Flex>(&ops.node));
        let found = backward(ops.state, &grad);
        for (parent, grad) in ops.parents.into_iter().zip(found) {
            if let Some(parent) = parent {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

fn forward(inputs: &[FlexTensor; 3], mask: Option<&Ignored>) -> Attended {
    let [query, key, value] = inputs;
    let [batch, heads, queries, width] = dims(query);
    let [_, _, keys, values] = dims(value);
    let scale = 1.0 / (width as f32).sqrt();
    let mut out = zeros([batch, queries, heads, values]);
    let mut moments = vec![[0.0; 2]; batch * queries * heads];
    let row = heads * values;
    let key_tiles = keys.div_ceil(KEYS);
    out.storage_mut::<f32>()
        .par_chunks_mut(queries * row)
        .zip(moments.par_chunks_mut(queries * heads))
        .enumerate()
        .for_each(|(b, (out, moments))| {
            let tiles: Vec<KeyTile<'_>> = (0..heads * key_tiles)
                .into_par_iter()
                .map(|i| {
                    let start = i % key_tiles * KEYS;
                    let keys = start..keys.min(start + KEYS);
                    let [key, value] =
                        [key, value].map(|x| Matrix::head(x, b, i / key_tiles).rows(keys.clone()));
                    let packed = queries > QUERIES && query.layout().strides()[3] == 1;
                    KeyTile {
                        keys,
                        key: Right::new(key.transposed(), scale, packed),
                        value: Right::new(value, 1.0, packed),
                    }
                })
                .collect();
            out.par_chunks_mut(QUERIES * row)
                .zip(moments.par_chunks_mut(QUERIES * heads))
                .enumerate()
                .for_each(|(tile, (out, moments))| {
                    let start = tile * QUERIES;
                    let rows = start..start + out.len() / row;
                    // A few queries, too, are work for several threads.
                    let attended: Vec<_> = tiles
                        .par_chunks_exact(key_tiles)
                        .enumerate()
                        .map(|(h, tiles)| {
                            let query = Matrix::head(query, b, h).rows(rows.clone());
                            attend(query, tiles, values, mask.map(|mask| (mask, b)), start)
                        })
                        .collect();
                    for (h, (attended, found)) in attended.into_iter().enumerate() {
                        for (i, (attended, found)) in attended.chunks_exact(values).zip(found).enumerate() {
                            let place = i * row + h * values;
                            out[place..place + values].copy_from_slice(attended);
                            moments[i * heads + h] = found;
                        }
                    }
                });
        });
    Attended {
        out: out.permute(&[0, 2, 1, 3]),
        moments,
    }
}

/// Keys that meet a tile of queries at once.
struct KeyTile<'a> {
    keys: Range<usize>,
    /// Transposed and scaled: what queries are multiplied with.
    key: Right<'a>,
    value: Right<'a>,
}

/// A tile of queries, the first of which is number `start`, over all keys of a head: output rows and moments.
fn attend(
    query: Matrix<'_>,
    tiles: &[KeyTile<'_>],
    values: usize,
    mask: Option<(&Ignored, usize)>,
    start: usize,
) -> (Vec<f32>, Vec<[f32; 2]>) {
    let mut out = vec![0.0; query.rows * values];
    let mut moments = vec![[f32::NEG_INFINITY, 0.0]; query.rows];
    let mut scores = vec![0.0; query.rows * tiles.first().map_or(0, |tile| tile.keys.len())];
    for KeyTile { keys, key, value } in tiles {
        let scores = &mut scores[..query.rows * keys.len()];
        key.multiply(query, scores, false);
        if let Some((mask, batch)) = mask {
            for (i, scores) in scores.chunks_exact_mut(keys.len()).enumerate() {
                ignore(scores, &mask.row(batch, start + i)[keys.clone()], IGNORED);
            }
        }
        exponentials(scores, &mut moments, &mut out, values);
        let scores = Matrix::dense(scores, query.rows, keys.len());
        value.multiply(scores, &mut out, true);
    }
    for (out, [_, sum]) in out.chunks_exact_mut(values).zip(&mut moments) {
        *sum = 1.0 / *sum;
        out.iter_mut().for_each(|x| *x *= *sum);
    }
    (out, moments)
}

/// Gradients of queries, keys and values: `[B, heads, L, D]`, stored as `[B, L, heads, D]`.
fn backward(state: State, grad: &FlexTensor) -> [FlexTensor; 3] {
    let State {
        inputs,
        mask,
        moments,
        out,
    } = state;
    let [batch, heads, queries, width] = dims(&inputs[0]);
    let [_, _, keys, values] = dims(&inputs[2]);
    let scale = 1.0 / (width as f32).sqrt();
    let zeros = |rows, columns| zeros([batch, heads, rows, columns]);
    let mut found = [zeros(queries, width), zeros(keys, width), zeros(keys, values)];
    let [dq, dk, dv] = &mut found;
    dq.storage_mut::<f32>()
        .par_chunks_mut(queries * width)
        .zip(dk.storage_mut::<f32>().par_chunks_mut(keys * width))
        .zip(dv.storage_mut::<f32>().par_chunks_mut(keys * values))
        .enumerate()
        .for_each(|(i, ((dq, dk), dv))| {
            let (b, h) = (i / heads, i % heads);
            let [query, key, value] = inputs.each_ref().map(|x| Matrix::head(x, b, h));
            let (grad, out) = (Matrix::head(grad, b, h), Matrix::head(&out, b, h));
            let largest = QUERIES.min(queries) * KEYS.min(keys);
            let (mut weights, mut slopes) = (vec![0.0; largest], vec![0.0; largest]);
            for rows in tiles(queries, QUERIES) {
                let (query, grad) = (query.rows(rows.clone()), grad.rows(rows.clone()));
                let along: Vec<f32> = rows
                    .clone()
                    .map(|row| grad.dot(row - rows.start, &out, row))
                    .collect();
                for keys in tiles(keys, KEYS) {
                    let size = rows.len() * keys.len();
                    let (weights, slopes) = (&mut weights[..size], &mut slopes[..size]);
                    let (key, value) = (key.rows(keys.clone()), value.rows(keys.clone()));
                    product(query, key.transposed(), scale, weights, false);
                    product(grad, value.transposed(), 1.0, slopes, false);
                    let tile = weights
                        .chunks_exact_mut(keys.len())
                        .zip(slopes.chunks_exact_mut(keys.len()));
                    for ((row, (weights, slopes)), along) in rows.clone().zip(tile).zip(&along) {
                        let mask = mask.as_ref().map(|mask| &mask.row(b, row)[keys.clone()]);
                        if let Some(mask) = mask {
                            ignore(weights, mask, IGNORED);
                        }
                        score_gradients(weights, slopes, moments[(b * queries + row) * heads + h], *along);
                        if let Some(mask) = mask {
                            ignore(slopes, mask, 0.0);
                        }
                    }
                    let weights = Matrix::dense(weights, rows.len(), keys.len());
                    let slopes = Matrix::dense(slopes, rows.len(), keys.len());
                    let part = |size: usize| keys.start * size..keys.end * size;
                    product(weights.transposed(), grad, 1.0, &mut dv[part(values)], true);
                    product(slopes.transposed(), query, scale, &mut dk[part(width)], true);
                    let dq = &mut dq[rows.start * width..rows.end * width];
                    product(slopes, key, scale, dq, true);
                }
            }
        });
    // As heads come from a projection, whose backward pass follows.
    found.map(|gradient| permuted(gradient, &[0, 2, 1, 3]).permute(&[0, 2, 1, 3]))
}

fn dims(tensor: &FlexTensor) -> [usize; 4] {
    tensor.shape().dims()
}

fn tiles(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(size)
        .map(move |start| start..length.min(start + size))
}

fn ignore(values: &mut [f32], mask: &[bool], value: f32) {
    for (x, ignored) in values.iter_mut().zip(mask) {
        if *ignored {
            *x = value;
        }
    }
}

/// Turns a tile of scores into exponentials below the largest score so far, adds them to the rows' sums, and brings sums
/// and output to the new largest score.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn exponentials(scores: &mut [f32], moments: &mut [[f32; 2]], out: &mut [f32], values: usize) {
    let keys = scores.len() / moments.len();
    let rows = scores
        .chunks_exact_mut(keys)
        .zip(moments)
        .zip(out.chunks_exact_mut(values));
    for ((scores, [largest, sum]), out) in rows {
        let most = maximum(scores).max(*largest);
        if *sum > 0.0 && most > *largest {
            let factor = exp::<{ fused!() }>(*largest - most);
            *sum *= factor;
            out.iter_mut().for_each(|x| *x *= factor);
        }
        *largest = most;
        let mut lanes = [0.0f32; LANES];
        let mut chunks = scores.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (x, lane) in chunk.iter_mut().zip(&mut lanes) {
                *x = exp::<{ fused!() }>(*x - most);
                *lane += *x;
            }
        }
        for (x, lane) in chunks.into_remainder().iter_mut().zip(&mut lanes) {
            *x = exp::<{ fused!() }>(*x - most);
            *lane += *x;
        }
        *sum += lanes.iter().sum::<f32>();
    }
}

/// Turns a row of scores into weights, and the gradients of its weights into those of its scores; `along` is the product of
/// the row's output and that output's gradient.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn score_gradients(scores: &mut [f32], slopes: &mut [f32], [largest, inverse]: [f32; 2], along: f32) {
    for (x, slope) in scores.iter_mut().zip(slopes) {
        *x = exp::<{ fused!() }>(*x - largest) * inverse;
        *slope = *x * (*slope - along);
    }
}

#[inline(always)]
fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks.chain(std::iter::once(rest)) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attention::plain;
    use burn::tensor::{Distribution, Tolerance};

    fn random(dims: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.5), &Default::default())
    }

    /// Keys that are ignored: each third one from a different start in each row, and all of them in the last row.
    fn some_ignored([batch, queries, keys]: [usize; 3]) -> Tensor<Flex, 4, Bool> {
        let data = (0..batch * queries * keys)
            .map(|i| (i / keys + i % keys) % 3 == 1 || i / keys == batch * queries - 1)
            .collect();
        Tensor::from_data(
            TensorData::new::<bool, _>(data, [batch, 1, queries, keys]),
            &Default::default(),
        )
    }

    #[test]
    fn output_and_gradients_equal_the_plain_road() {
        // Batch, heads, queries, keys, widths of heads and of values: one and several tiles of each.
        let cases = [
            ([1, 1, 1, 1, 1, 1], None),
            ([3, 2, 9, 7, 5, 6], Some(9)),
            ([2, 3, 64, 64, 24, 24], None),
            ([2, 2, 130, 20, 8, 8], Some(1)),
            ([1, 2, 300, 1100, 16, 24], Some(300)),
            ([1, 8, 8, 1030, 16, 16], None),
        ];
        for ([batch, heads, queries, keys, width, values], masked) in cases {
            // As heads come from a projection: not one behind the other.
            let split = |rows, width| random([batch, rows, heads, width]).swap_dims(1, 2);
            let inputs = [split(queries, width), split(keys, width), split(keys, values)];
            let upstream = random([batch, heads, queries, values]);
            let run = |fast: bool| {
                let inputs = inputs
                    .clone()
                    .map(|x| Tensor::<AutodiffFlex, 4>::from_inner(x).require_grad());
                let [q, k, v] = inputs.clone();
                let mask = masked.map(|rows| Tensor::from_inner(some_ignored([batch, rows, keys])));
                let out = if fast {
                    attention(q, k, v, mask).expect("f32 on the CPU")
                } else {
                    plain(q, k, v, mask)
                };
                let grads = (out.clone() * Tensor::from_inner(upstream.clone()))
                    .sum()
                    .backward();
                let mut found = vec![out.inner()];
                found.extend(inputs.iter().map(|x| x.grad(&grads).expect("a gradient")));
                found
            };
            for (i, (fast, plain)) in run(true).into_iter().zip(run(false)).enumerate() {
                let (difference, size) = ((fast - plain.clone()).abs().max(), plain.abs().max());
                let error = difference.into_scalar() / size.into_scalar().max(1e-3);
                assert!(
                    error < 5e-6,
                    "{queries} queries, {keys} keys, result {i}: {error:.1e}"
                );
            }
            let mask = masked.map(|rows| some_ignored([batch, rows, keys]));
            let [q, k, v] = inputs.clone();
            let direct = attention(q, k, v, mask).expect("f32 on the CPU");
            direct.into_data().assert_eq(&run(true)[0].to_data(), true);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let one = Tensor::<Flex, 4>::ones([1, 1, 1, 1], &Default::default());
        let keys = Tensor::<Flex, 1>::from_floats([-3e4, 3e4, 3e4, -1e30], &Default::default())
            .reshape([1, 1, 4, 1]);
        let values =
            Tensor::<Flex, 1>::from_floats([7.0, 1.0, 2.0, 9.0], &Default::default()).reshape([1, 1, 4, 1]);
        let out = attention(one, keys, values, None).unwrap().into_data();
        out.assert_approx_eq::<f32>(&TensorData::from([[[[1.5f32]]]]), Tolerance::absolute(1e-6));
    }

    #[test]
    fn what_is_not_a_number_stays_none() {
        let ones = |rows| Tensor::<Flex, 4>::ones([1, 1, rows, 2], &Default::default());
        let bad = Tensor::cat(vec![ones(40), ones(1) * f32::NAN], 2);
        for [q, k, v] in [
            [bad.clone(), ones(50), ones(50)],
            [ones(41), bad.clone(), ones(41)],
            [ones(41), ones(41), bad],
        ] {
            let out = attention(q, k, v, None).unwrap().narrow(2, 40, 1);
            assert!(out.sum().into_scalar().is_nan());
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        for [batch, heads, queries] in [[2, 3, 300], [1, 8, 9]] {
            let (q, k, v) = (
                random([batch, heads, queries, 16]),
                random([batch, heads, 700, 16]),
                random([batch, heads, 700, 16]),
            );
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| {
                    attention(q.clone(), k.clone(), v.clone(), None)
                        .unwrap()
                        .into_data()
                })
            };
            run(1).assert_eq(&run(3), true);
        }
    }
}
