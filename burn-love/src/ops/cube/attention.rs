//! Attention in one pass over the keys, without a matrix of scores. Where too few tiles of queries would leave the device
//! idle, the keys are split, and the parts joined by a second kernel.

#![allow(unsafe_code, reason = "kernels are launched without a check of each index")]

use super::{
    super::{pieces::largest, precision::product_precision},
    attention_kernel::{KEYS, SIDE, Sizes, join, through_softmax, tiles, weigh},
    lanes::{LANES, ROWS},
    product::product,
    *,
};

/// Cubes that keep the largest devices busy.
const ENOUGH: usize = 256;

type Tensors<B> = (
    Tensor<B, 4>,
    Tensor<B, 4>,
    Tensor<B, 4>,
    Option<Tensor<B, 4, Bool>>,
);
/// Query, key, value and what takes the place of scores where it is negative, `[B, Lk]`.
type Inputs<P> = (P, P, P, Option<P>);

/// Attention on the fast road, or the inputs again: with a mask that differs from query to query, heads that are no multiple
/// of four wide or too wide for the device's shared memory, or more of them than a grid has rows. Arguments as of the plain
/// road.
pub(in super::super) fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Result<Tensor<B, 4>, Tensors<B>> {
    let dtypes = [query.dtype(), key.dtype(), value.dtype()];
    let ([b, heads, _, dh], [.., lk, _]) = (query.dims(), key.dims());
    let fits = key.dims() == [b, heads, lk, dh]
        && value.dims()[..3] == [b, heads, lk]
        && mask.as_ref().is_none_or(|mask| mask.dims() == [b, 1, 1, lk]);
    let nothing = [&query, &key, &value]
        .iter()
        .any(|x| x.shape().num_elements() == 0);
    if !is_gpu::<B>() || !fits || nothing || dtypes.iter().any(|dtype| *dtype != DType::F32) {
        return Err((query, key, value, mask));
    }
    // As on the plain road finite, so that a fully ignored row attends to all keys equally.
    let bias = mask.clone().map(|mask| mask.float().reshape([b, lk]) * -1e30);
    let [q, k, v] = [&query, &key, &value].map(|x| primitive(x.clone()));
    let attended = road::<B>((q, k, v, bias.map(primitive::<B, 2>)));
    attended.map(wrap).map_err(|_| (query, key, value, mask))
}

fn road<B: Backend>(
    inputs: Inputs<B::FloatTensorPrimitive>,
) -> Result<B::FloatTensorPrimitive, Inputs<B::FloatTensorPrimitive>> {
    on_each_gpu!(Inputs, inputs, direct, tracked)
}

fn direct<G: Gpu>(
    inputs: Inputs<CubeTensor<G::Runtime>>,
) -> Result<CubeTensor<G::Runtime>, Inputs<CubeTensor<G::Runtime>>> {
    let (query, key, value, bias) = &inputs;
    forward(query, key, value, bias.as_ref()).ok_or(inputs)
}

fn tracked<G: Gpu>(inputs: Inputs<TrackedTensor<G>>) -> Result<TrackedTensor<G>, Inputs<TrackedTensor<G>>> {
    let parts = [&inputs.0, &inputs.1, &inputs.2].map(Clone::clone);
    let [q, k, v] = parts.clone().map(|part| part.primitive);
    let bias = inputs.3.clone().map(|bias| bias.primitive);
    // The backward pass holds all weights.
    let [b, heads, lq, _] = q.meta.shape().dims();
    let [.., lk, _] = k.meta.shape().dims::<4>();
    if b * heads * lq * lk > largest::<G>() {
        return Err(inputs);
    }
    let Some(attended) = forward(&q, &k, &v, bias.as_ref()) else {
        return Err(inputs);
    };
    let prep = Backward::<G, 3>::prepare::<NoCheckpointing>(Attention, parts.map(|part| part.node));
    Ok(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let state = State {
                query: q,
                key: k,
                value: v,
                bias,
            };
            prep.finish(state, attended)
        }
        OpsKind::UnTracked(prep) => prep.finish(attended),
    })
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct State<R: CubeRuntime> {
    query: CubeTensor<R>,
    key: CubeTensor<R>,
    value: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
}

impl<G: Gpu> Backward<G, 3> for Attention {
    type State = State<G::Runtime>;

    /// Weights are computed again, and their gradients go through products and softmax; nothing of the forward pass is used
    /// but its inputs, since products are less exact there on CUDA, and gradients that should vanish would not.
    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = wrap::<G, 4>(grads.consume::<G>(&ops.node));
        let State {
            query,
            key,
            value,
            bias,
        } = ops.state;
        let [query, key, value] = [query, key, value].map(wrap::<G, 4>);
        let scale = 1.0 / (query.dims()[3] as f32).sqrt();
        let scores = into_contiguous(times(query.clone(), key.clone().swap_dims(2, 3)));
        let weights = wrap::<G, 4>(weights(scores, bias.as_ref(), scale));
        let [of_query, of_key, of_value] = ops.parents;
        if let Some(parent) = of_value {
            let of_value = times(weights.clone().swap_dims(2, 3), grad.clone());
            grads.register::<G>(parent.id, of_value);
        }
        if of_query.is_none() && of_key.is_none() {
            return;
        }
        let of_weights = into_contiguous(times(grad, value.swap_dims(2, 3)));
        let of_scores = of_scores(of_weights, primitive(weights), bias.as_ref(), scale);
        let of_scores = wrap::<G, 4>(of_scores);
        if let Some(parent) = of_query {
            grads.register::<G>(parent.id, times(of_scores.clone(), key));
        }
        if let Some(parent) = of_key {
            grads.register::<G>(parent.id, times(of_scores.swap_dims(2, 3), query));
        }
    }
}

/// A product that is never rounded to 16 bits.
fn times<G: Gpu>(left: Tensor<G, 4>, right: Tensor<G, 4>) -> CubeTensor<G::Runtime> {
    let precision = product_precision().of_floats();
    product(primitive(left), primitive(right), precision)
}

/// A tensor in the place of a bias that is not there.
fn bias_or_any<R: CubeRuntime>(bias: Option<&CubeTensor<R>>, other: &CubeTensor<R>) -> CubeTensor<R> {
    bias.cloned().unwrap_or_else(|| empty(other, [1, 1]))
}

/// The weights of `scores`, in their place; nobody else holds them.
fn weights<R: CubeRuntime>(scores: CubeTensor<R>, bias: Option<&CubeTensor<R>>, scale: f32) -> CubeTensor<R> {
    let [n, heads, lq, lk] = scores.meta.shape().dims();
    // SAFETY: rows behind the last are not touched.
    unsafe {
        weigh::launch_unchecked::<R>(
            &scores.client,
            cubes((n * heads * lq).div_ceil(ROWS)),
            CubeDim::new_2d(LANES as u32, ROWS as u32),
            scores.clone().into_array_arg(),
            bias_or_any(bias, &scores).into_tensor_arg(),
            scale,
            lk as u32,
            (n * heads * lq) as u32,
            (heads * lq) as u32,
            bias.is_some(),
        );
    }
    scores
}

/// The gradients of the scores in the place of `of_weights`, which nobody else holds.
fn of_scores<R: CubeRuntime>(
    of_weights: CubeTensor<R>,
    weights: CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    scale: f32,
) -> CubeTensor<R> {
    let [n, heads, lq, lk] = of_weights.meta.shape().dims();
    // SAFETY: as above.
    unsafe {
        through_softmax::launch_unchecked::<R>(
            &of_weights.client,
            cubes((n * heads * lq).div_ceil(ROWS)),
            CubeDim::new_2d(LANES as u32, ROWS as u32),
            of_weights.clone().into_array_arg(),
            weights.into_array_arg(),
            bias_or_any(bias, &of_weights).into_tensor_arg(),
            scale,
            lk as u32,
            (n * heads * lq) as u32,
            (heads * lq) as u32,
            bias.is_some(),
        );
    }
    of_weights
}

/// `softmax(q·kᵀ / √Dh)·v`, with a [`bias`]; `None` where the kernel does not apply.
fn forward<R: CubeRuntime>(
    query: &CubeTensor<R>,
    key: &CubeTensor<R>,
    value: &CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
) -> Option<CubeTensor<R>> {
    let [b, heads, lq, dh] = query.meta.shape().dims();
    let [.., lk, dv] = value.meta.shape().dims::<4>();
    let client = query.client.clone();
    let hardware = &client.properties().hardware;
    let sizes = Sizes::fit(dh, dv, bias.is_some(), hardware.max_shared_memory_size)?;
    let fits = SIDE * SIDE <= hardware.max_units_per_cube as usize
        && b * heads <= (hardware.max_cube_count.1 as usize).min(65_535);
    if !fits || ![query, key, value].into_iter().all(in_vectors) {
        return None;
    }
    let tiles_of_queries = lq.div_ceil(sizes.tile());
    let tiles_of_keys = lk.div_ceil(KEYS);
    let parts = (ENOUGH / (tiles_of_queries * b * heads)).clamp(1, tiles_of_keys.div_ceil(4).min(16));
    let of_a_part = tiles_of_keys.div_ceil(parts);
    let parts = tiles_of_keys.div_ceil(of_a_part);
    let partial = parts > 1;
    let sizes = Sizes { partial, ..sizes };

    let mut output = empty(query, [b, heads, lq, dv]);
    // As `[B, L, heads, D]`: joining the heads behind attention moves nothing.
    let strides = [lq * heads * dv, dv, heads * dv, 1];
    output.meta.strides_mut().copy_from_slice(&strides);
    let (written, sums) = if partial {
        let rows = b * heads * lq;
        (
            empty(query, [parts * b, heads, lq, dv]),
            empty(query, [parts, 2, rows]),
        )
    } else {
        (output.clone(), empty(query, [1]))
    };
    // SAFETY: each access is within the shapes, by the comparisons in the kernel.
    unsafe {
        tiles::launch_unchecked::<R>(
            &client,
            CubeCount::Static(tiles_of_queries as u32, (b * heads) as u32, parts as u32),
            CubeDim::new_2d(SIDE as u32, SIDE as u32),
            WIDE,
            query.clone().into_tensor_arg(),
            key.clone().into_tensor_arg(),
            value.clone().into_tensor_arg(),
            bias_or_any(bias, query).into_tensor_arg(),
            written.clone().into_tensor_arg(),
            sums.clone().into_array_arg(),
            1.0 / (dh as f32).sqrt(),
            of_a_part as u32,
            sizes,
        );
    }
    if partial {
        // SAFETY: a thread behind the last vector does nothing.
        unsafe {
            join::launch_unchecked::<R>(
                &client,
                cubes((b * heads * lq * dv / WIDE).div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                WIDE,
                written.into_array_arg(),
                sums.into_array_arg(),
                output.clone().into_tensor_arg(),
                parts as u32,
            );
        }
    }
    Some(output)
}
