//! Attention in one pass over the keys, without a matrix of scores. Where too few tiles of queries would leave the device
//! idle, the keys are split, and the parts joined by a second kernel.

#![allow(unsafe_code, reason = "kernels are launched without a check of each index")]

use super::{
    attention_kernel::{KEYS, SIDE, Sizes, dot_rows, join, through_softmax, tiles, weigh},
    *,
};

/// Cubes that keep the largest devices busy.
const ENOUGH: usize = 256;

type Inputs<B> = (
    Tensor<B, 4>,
    Tensor<B, 4>,
    Tensor<B, 4>,
    Option<Tensor<B, 4, Bool>>,
);

/// Attention on the fast road, or the inputs again: with a mask that differs from query to query, or where
/// heads are no multiple of four wide or too wide for the device's shared memory. Arguments as of the plain road.
pub(in super::super) fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: Option<Tensor<B, 4, Bool>>,
) -> Result<Tensor<B, 4>, Inputs<B>> {
    let dtypes = [query.dtype(), key.dtype(), value.dtype()];
    let of_each_query = mask.as_ref().is_some_and(|mask| mask.dims()[2] > 1);
    let nothing = [&query, &key, &value]
        .iter()
        .any(|x| x.shape().num_elements() == 0);
    if of_each_query || nothing || dtypes.iter().any(|dtype| *dtype != DType::F32) {
        return Err((query, key, value, mask));
    }
    on_each_gpu!(Inputs, (query, key, value, mask), direct, tracked)
}

fn direct<G: Gpu>(inputs: Inputs<G>) -> Result<Tensor<G, 4>, Inputs<G>> {
    let (query, key, value, mask) = inputs;
    let bias = mask.clone().map(bias);
    let [q, k, v] = [&query, &key, &value].map(|x| primitive(x.clone()));
    match forward(&q, &k, &v, bias.as_ref(), false) {
        Some(attended) => Ok(wrap(attended.output)),
        None => Err((query, key, value, mask)),
    }
}

fn tracked<G: Gpu>(inputs: Inputs<Tracked<G>>) -> Result<Tensor<Tracked<G>, 4>, Inputs<Tracked<G>>> {
    let (query, key, value, mask) = inputs;
    let bias = mask.clone().map(|mask| bias::<G>(mask.inner()));
    let parts = [&query, &key, &value].map(|x| primitive(x.clone()));
    let [q, k, v] = parts.clone().map(|part| part.primitive);
    let Some(attended) = forward(&q, &k, &v, bias.as_ref(), true) else {
        return Err((query, key, value, mask));
    };
    let prep = Backward::<G, 3>::prepare::<NoCheckpointing>(Attention, parts.map(|part| part.node));
    Ok(wrap(match prep.compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let output = attended.output.clone();
            let state = State {
                query: q,
                key: k,
                value: v,
                bias,
                attended,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(attended.output),
    }))
}

/// What is added to the scores, `[B, Lk]`; as on the plain road finite, so that a fully ignored row attends to all keys
/// equally.
fn bias<G: Gpu>(mask: Tensor<G, 4, Bool>) -> CubeTensor<G::Runtime> {
    let [b, .., lk] = mask.dims();
    primitive(mask.float().reshape([b, lk]) * -1e30)
}

#[derive(Debug)]
struct Attention;

#[derive(Clone, Debug)]
struct State<R: CubeRuntime> {
    query: CubeTensor<R>,
    key: CubeTensor<R>,
    value: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    attended: Attended<R>,
}

impl<G: Gpu> Backward<G, 3> for Attention {
    type State = State<G::Runtime>;

    /// Weights are computed again from the rows' maxima and sums; then as through two products and a softmax.
    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<G>(&ops.node);
        let grad = if in_vectors(&grad) {
            grad
        } else {
            into_contiguous(grad)
        };
        let state = ops.state;
        let [query, key, value, output] =
            [&state.query, &state.key, &state.value, &state.attended.output].map(|x| wrap::<G, 4>(x.clone()));
        let scale = 1.0 / (query.dims()[3] as f32).sqrt();
        let scores = primitive(query.clone().matmul(key.clone().swap_dims(2, 3)));
        let weights = wrap::<G, 4>(weights(scores, &state, scale));
        let [of_query, of_key, of_value] = ops.parents;
        let slope = wrap::<G, 4>(grad);
        if let Some(parent) = of_value {
            let of_value = weights.clone().swap_dims(2, 3).matmul(slope.clone());
            grads.register::<G>(parent.id, primitive(of_value));
        }
        if of_query.is_none() && of_key.is_none() {
            return;
        }
        let of_weights = primitive(slope.clone().matmul(value.swap_dims(2, 3)));
        let dots = dots(primitive(slope), primitive(output));
        let of_scores = wrap::<G, 4>(of_scores(
            of_weights,
            primitive(weights),
            dots,
            &state.bias,
            scale,
        ));
        if let Some(parent) = of_query {
            grads.register::<G>(parent.id, primitive(of_scores.clone().matmul(key)));
        }
        if let Some(parent) = of_key {
            grads.register::<G>(parent.id, primitive(of_scores.swap_dims(2, 3).matmul(query)));
        }
    }
}

/// Threads of a cube whose threads each do one element or row.
const UNITS: usize = SIDE * SIDE;

fn weights<R: CubeRuntime>(scores: CubeTensor<R>, state: &State<R>, scale: f32) -> CubeTensor<R> {
    let scores = into_contiguous(scores);
    let [n, heads, lq, lk] = scores.meta.shape().dims();
    let bias = state.bias.clone();
    let biased = bias.is_some();
    // SAFETY: a thread behind the last element does nothing.
    unsafe {
        weigh::launch_unchecked::<R>(
            &scores.client,
            cubes(scores.meta.num_elements().div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            scores.clone().into_array_arg(),
            state.attended.norms.clone().into_array_arg(),
            bias.unwrap_or_else(|| empty(&scores, [1, 1])).into_tensor_arg(),
            scale,
            lk as u32,
            (n * heads * lq) as u32,
            (heads * lq) as u32,
            biased,
        );
    }
    scores
}

fn of_scores<R: CubeRuntime>(
    of_weights: CubeTensor<R>,
    weights: CubeTensor<R>,
    dots: CubeTensor<R>,
    bias: &Option<CubeTensor<R>>,
    scale: f32,
) -> CubeTensor<R> {
    let of_weights = into_contiguous(of_weights);
    let [_, heads, lq, lk] = of_weights.meta.shape().dims();
    // SAFETY: as above.
    unsafe {
        through_softmax::launch_unchecked::<R>(
            &of_weights.client,
            cubes(of_weights.meta.num_elements().div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            of_weights.clone().into_array_arg(),
            weights.into_array_arg(),
            dots.into_array_arg(),
            bias.clone()
                .unwrap_or_else(|| empty(&of_weights, [1, 1]))
                .into_tensor_arg(),
            scale,
            lk as u32,
            (heads * lq) as u32,
            bias.is_some(),
        );
    }
    of_weights
}

fn dots<R: CubeRuntime>(a: CubeTensor<R>, b: CubeTensor<R>) -> CubeTensor<R> {
    let [n, heads, l, _] = a.meta.shape().dims();
    let dots = empty(&a, [n * heads * l]);
    let client = a.client.clone();
    // SAFETY: as above.
    unsafe {
        dot_rows::launch_unchecked::<R>(
            &client,
            cubes((n * heads * l).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            WIDE,
            a.into_tensor_arg(),
            b.into_tensor_arg(),
            dots.clone().into_array_arg(),
        );
    }
    dots
}

/// What attention gives.
#[derive(Clone, Debug)]
struct Attended<R: CubeRuntime> {
    /// `[B, heads, Lq, Dv]`.
    output: CubeTensor<R>,
    /// Maximum of each query's scores and the sum of its weights, `[2, B·heads·Lq]`; only where they were asked for.
    norms: CubeTensor<R>,
}

/// `softmax(q·kᵀ / √Dh + bias)·v`, `bias` `[B, Lk]`; `None` where the kernel does not apply.
fn forward<R: CubeRuntime>(
    query: &CubeTensor<R>,
    key: &CubeTensor<R>,
    value: &CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    kept: bool,
) -> Option<Attended<R>> {
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
    let sizes = Sizes {
        partial,
        kept,
        ..sizes
    };
    let norms = empty(query, [if kept { 2 * b * heads * lq } else { 1 }]);

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
            bias.cloned()
                .unwrap_or_else(|| empty(query, [1, 1]))
                .into_tensor_arg(),
            written.clone().into_tensor_arg(),
            sums.clone().into_array_arg(),
            norms.clone().into_array_arg(),
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
                cubes((b * heads * lq * dv / WIDE).div_ceil(SIDE * SIDE)),
                CubeDim::new_1d((SIDE * SIDE) as u32),
                WIDE,
                written.into_array_arg(),
                sums.into_array_arg(),
                output.clone().into_tensor_arg(),
                norms.clone().into_array_arg(),
                parts as u32,
                kept,
            );
        }
    }
    Some(Attended { output, norms })
}
