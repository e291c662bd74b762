//! Parts of a tensor, put together by all threads.

use burn::tensor::TensorMetadata;

use super::*;

/// Joins parts along the first dimension on the fast road, or hands them back.
pub(in super::super) fn join<B: Backend, const D: usize>(
    parts: Vec<Tensor<B, D>>,
) -> Result<Tensor<B, D>, Vec<Tensor<B, D>>> {
    let like_the_first = |part: &Tensor<B, D>| part.dims()[1..] == parts[0].dims()[1..];
    if parts.is_empty()
        || !parts
            .iter()
            .all(|part| part.dtype() == DType::F32 && like_the_first(part))
    {
        return Err(parts);
    }
    let parts: Vec<Tensor<Flex, D>> = cast(parts)?;
    let parts = parts
        .into_iter()
        .map(|part| contiguous(primitive(part)).expect("the dtype was checked"));
    let parts: Vec<FlexTensor> = parts.collect();
    let mut dims = parts[0].shape().dims::<D>();
    dims[0] = parts.iter().map(|part| part.shape().dims::<D>()[0]).sum();
    let row: usize = dims[1..].iter().product();
    // Where each part's rows are.
    let rows: Vec<&[f32]> = parts
        .iter()
        .flat_map(|part| slice(part).chunks_exact(row.max(1)))
        .collect();
    let joined = if row == 0 {
        zeros(dims)
    } else {
        of_rows(dims, row, |i| rows[i])
    };
    Ok(same_type(cast(wrap::<Flex, D>(joined))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_one_behind_the_other() {
        let all = Tensor::<Flex, 1, Int>::arange(0..60_000, &Default::default())
            .float()
            .reshape([300, 50, 4]);
        let parts = [0..1, 1..200, 200..300].map(|rows| all.clone().slice([rows]));
        join(parts.to_vec())
            .unwrap()
            .into_data()
            .assert_eq(&all.into_data(), true);
    }
}
