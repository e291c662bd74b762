//! What `--precision` says.

use burn_love::ops::ProductPrecision;
use clap::ValueEnum;

/// Numbers that a GPU multiplies matrices in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floats; on CUDA without tensor cores
    F32,
    /// Rounded to 19 bits by the tensor cores of CUDA
    Tf32,
    /// 16 bits with the range of 32, on CUDA
    Bf16,
    /// 16 bits up to 65,504, on CUDA and where a device of WGPU has them
    F16,
}

impl Precision {
    /// As the library has it.
    pub fn products(self) -> ProductPrecision {
        match self {
            Self::F32 => ProductPrecision::F32,
            Self::Tf32 => ProductPrecision::Tf32,
            Self::Bf16 => ProductPrecision::Bf16,
            Self::F16 => ProductPrecision::F16,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value().expect("none is skipped");
        f.write_str(value.get_name())
    }
}
