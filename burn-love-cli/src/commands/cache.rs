//! The folder of cached features that `train` and `eval` share.

use std::sync::Arc;

use burn_love_train::features::{CachePrecision, FeatureCache};

use crate::{
    args::{CacheArgs, CachePrecisionArg},
    error::CliError,
};

/// Opens the folder, where one is given.
pub fn open(args: &CacheArgs) -> Result<Option<Arc<FeatureCache>>, CliError> {
    let Some(folder) = &args.cache_features else {
        return Ok(None);
    };
    let precision = match args.cache_precision {
        CachePrecisionArg::F32 => CachePrecision::F32,
        CachePrecisionArg::F16 => CachePrecision::F16,
    };
    let cache = FeatureCache::open(folder, precision, args.cache_limit)?;
    Ok(Some(Arc::new(cache)))
}
