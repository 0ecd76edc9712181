//! libtorch's kinds and the dtypes that they are.

use converter::normalized::TorchDtype;
use store::Dtype;
use tch::Kind;

/// The kind of a dtype that the model runs in.
pub(crate) fn kind_of(dtype: TorchDtype) -> Kind {
    match dtype {
        TorchDtype::Float32 => Kind::Float,
        TorchDtype::Bfloat16 => Kind::BFloat16,
        TorchDtype::Float16 => Kind::Half,
    }
}

/// The kind of a dtype that weights and activations can be read in: floating-point numbers of 16 bits or more.
pub(crate) fn float_kind_of(dtype: Dtype) -> Option<Kind> {
    let kinds = [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double];
    kinds.into_iter().find(|&kind| dtype_of(kind) == Some(dtype))
}

/// The dtype in which tensors of a kind are recorded; none where a dump cannot hold them.
pub(crate) fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::Float32,
        Kind::BFloat16 => Dtype::BFloat16,
        Kind::Half => Dtype::Float16,
        Kind::Double => Dtype::Float64,
        Kind::Int64 => Dtype::Int64,
        Kind::Int => Dtype::Int32,
        Kind::Uint8 => Dtype::UInt8,
        Kind::Bool => Dtype::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Tensor};

    use super::*;

    #[test]
    fn libtorch_has_the_numbers_of_the_table_of_dtypes() {
        use Kind::{BFloat16, Bool, Double, Float, Half, Int, Int64, Uint8};
        for kind in [Float, BFloat16, Half, Double, Int64, Int, Uint8, Bool] {
            let tensor = Tensor::zeros([1], (kind, Device::Cpu));
            // SAFETY: reads the dtype of a tensor that lives until after the call.
            let number = unsafe { torch_sys::at_scalar_type(tensor.as_ptr().cast_mut()) };
            assert_eq!(dtype_of(kind).map(|dtype| i32::from(dtype.torch_number())), Some(number), "{kind:?}");
        }
    }

    #[test]
    fn a_dtype_that_the_model_runs_in_has_one_kind() {
        for dtype in TorchDtype::ALL {
            assert_eq!(float_kind_of(dtype.row()), Some(kind_of(dtype)));
        }
    }
}
