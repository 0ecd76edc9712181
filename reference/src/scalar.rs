//! libtorch's operations with a number, whose failure is an error.
//!
//! tch's own (`f_mul_scalar` and its kind) panic where libtorch fails: they free the number before they ask for libtorch's
//! error, and freeing takes that error for its own. Memory that is not there is then the end of the program. `clippy.toml`
//! forbids them.

use std::ffi::CStr;

use tch::{TchError, Tensor};
use torch_sys::{C_scalar, C_tensor};

type Result = std::result::Result<Tensor, TchError>;

/// A whole or a floating-point number, as Python tells them apart.
pub(crate) trait Number {
    /// A new number of libtorch's.
    fn to_c(self) -> *mut C_scalar;
}

impl Number for i64 {
    fn to_c(self) -> *mut C_scalar {
        // SAFETY: takes any number, and gives a pointer or null.
        unsafe { torch_sys::ats_int(self) }
    }
}

impl Number for f64 {
    fn to_c(self) -> *mut C_scalar {
        // SAFETY: as above.
        unsafe { torch_sys::ats_float(self) }
    }
}

/// A number of libtorch's, freed when dropped.
struct Scalar(*mut C_scalar);

impl Drop for Scalar {
    fn drop(&mut self) {
        // SAFETY: made by libtorch, and freed once.
        unsafe { torch_sys::ats_free(self.0) }
    }
}

/// An operation of a tensor and a number.
type Operation = unsafe extern "C" fn(*mut *mut C_tensor, *mut C_tensor, *mut C_scalar);

/// The operations, named as tch names them.
pub(crate) trait ScalarOps {
    /// `self + number`
    fn try_add_scalar(&self, number: impl Number) -> Result;
    /// `self - number`
    fn try_sub_scalar(&self, number: impl Number) -> Result;
    /// `number - self`
    fn try_rsub_scalar(&self, number: impl Number) -> Result;
    /// `self * number`
    fn try_mul_scalar(&self, number: impl Number) -> Result;
    /// `self *= number`, in the memory of `self`
    fn try_mul_scalar_(&mut self, number: impl Number) -> Result;
    /// `self / number`
    fn try_div_scalar(&self, number: impl Number) -> Result;
    /// `self ** number`
    fn try_pow_scalar(&self, number: impl Number) -> Result;
    /// `number ** self`
    fn try_exp_of(&self, number: impl Number) -> Result;
    /// `self == number`
    fn try_eq(&self, number: impl Number) -> Result;
    /// `self > number`
    fn try_gt(&self, number: impl Number) -> Result;
    /// `self < number`
    fn try_lt(&self, number: impl Number) -> Result;
    /// No less than one number, no more than another.
    fn try_clamp(&self, least: impl Number, most: impl Number) -> Result;
}

impl ScalarOps for Tensor {
    fn try_add_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_add_scalar, self, number)
    }

    fn try_sub_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_sub_scalar, self, number)
    }

    fn try_rsub_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_rsub_scalar, self, number)
    }

    fn try_mul_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_mul_scalar, self, number)
    }

    fn try_mul_scalar_(&mut self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_mul_scalar_, self, number)
    }

    fn try_div_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_div_scalar, self, number)
    }

    fn try_pow_scalar(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_pow_tensor_scalar, self, number)
    }

    fn try_exp_of(&self, number: impl Number) -> Result {
        let number = Scalar(number.to_c());
        // SAFETY: as in `apply`.
        taken(|result| unsafe { torch_sys::c_generated::atg_pow_scalar(result, number.0, pointer(self)) })
    }

    fn try_eq(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_eq, self, number)
    }

    fn try_gt(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_gt, self, number)
    }

    fn try_lt(&self, number: impl Number) -> Result {
        apply(torch_sys::c_generated::atg_lt, self, number)
    }

    fn try_clamp(&self, least: impl Number, most: impl Number) -> Result {
        let (least, most) = (Scalar(least.to_c()), Scalar(most.to_c()));
        // SAFETY: as in `apply`.
        taken(|result| unsafe {
            torch_sys::c_generated::atg_clamp(result, pointer(self), least.0, most.0);
        })
    }
}

fn apply(operation: Operation, tensor: &Tensor, number: impl Number) -> Result {
    let number = Scalar(number.to_c());
    // SAFETY: tensor and number are libtorch's own and outlive the call, which writes one tensor, or none and an error.
    taken(|result| unsafe { operation(result, pointer(tensor), number.0) })
}

/// As libtorch's C functions take it; none of these writes to the handle.
fn pointer(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut()
}

/// The tensor that a call writes, or libtorch's error.
fn taken(call: impl FnOnce(*mut *mut C_tensor)) -> Result {
    let mut result = [std::ptr::null_mut()];
    call(result.as_mut_ptr());
    // SAFETY: gives null, or a text of libtorch's that is the caller's to free.
    let error = unsafe { torch_sys::get_and_reset_last_err() };
    if !error.is_null() {
        // SAFETY: the text ends with a zero, and `strdup` made it.
        let message = unsafe {
            let message = CStr::from_ptr(error).to_string_lossy().into_owned();
            libc::free(error.cast());
            message
        };
        return Err(TchError::Torch(message));
    }
    // SAFETY: without an error there is a tensor, and nothing else owns it.
    Ok(unsafe { Tensor::from_ptr(result[0]) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn values(tensor: Result) -> Vec<f64> {
        Vec::try_from(tensor.unwrap().to_kind(Kind::Double)).unwrap()
    }

    #[test]
    fn each_is_what_its_name_says() {
        let tensor = || Tensor::from_slice(&[1.0_f32, 2.0, 4.0]);
        assert_eq!(values(tensor().try_add_scalar(0.5)), [1.5, 2.5, 4.5]);
        assert_eq!(values(tensor().try_sub_scalar(0.5)), [0.5, 1.5, 3.5]);
        assert_eq!(values(tensor().try_rsub_scalar(1)), [0.0, -1.0, -3.0]);
        assert_eq!(values(tensor().try_mul_scalar(3)), [3.0, 6.0, 12.0]);
        assert_eq!(values(tensor().try_div_scalar(2.0)), [0.5, 1.0, 2.0]);
        assert_eq!(values(tensor().try_pow_scalar(2)), [1.0, 4.0, 16.0]);
        assert_eq!(values(tensor().try_exp_of(2.0)), [2.0, 4.0, 16.0]);
        assert_eq!(values(tensor().try_eq(2)), [0.0, 1.0, 0.0]);
        assert_eq!(values(tensor().try_gt(2.0)), [0.0, 0.0, 1.0]);
        assert_eq!(values(tensor().try_lt(2.0)), [1.0, 0.0, 0.0]);
        assert_eq!(values(tensor().try_clamp(1.5, 3.0)), [1.5, 2.0, 3.0]);
        let mut tensor = tensor();
        assert_eq!(values(tensor.try_mul_scalar_(2.0)), [2.0, 4.0, 8.0]);
        assert_eq!(values(Ok(tensor)), [2.0, 4.0, 8.0]);
    }

    #[test]
    fn a_whole_number_keeps_the_dtype_of_whole_numbers() {
        let tensor = Tensor::from_slice(&[1_i64]);
        assert_eq!(tensor.try_mul_scalar(2).unwrap().kind(), Kind::Int64);
        assert_eq!(tensor.try_mul_scalar(2.0).unwrap().kind(), Kind::Float);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_and_the_next_operation_works() {
        // One number seen 2⁵⁰ times: the result would need as many.
        let endless = Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand([1 << 50], false);
        for result in [
            endless.try_add_scalar(1.0),
            endless.try_sub_scalar(1.0),
            endless.try_rsub_scalar(1.0),
            endless.try_mul_scalar(1.0),
            endless.try_div_scalar(1.0),
            endless.try_pow_scalar(2),
            endless.try_exp_of(2.0),
            endless.try_eq(1),
            endless.try_gt(1.0),
            endless.try_lt(1.0),
            endless.try_clamp(0.0, 1.0),
        ] {
            let said = result.unwrap_err().to_string();
            assert!(said.contains("memory"), "{said}");
            assert_eq!(values(Tensor::from_slice(&[1.0_f32]).try_add_scalar(1)), [2.0]);
        }
    }
}
