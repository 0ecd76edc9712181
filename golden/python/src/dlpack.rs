//! Tensors of other libraries, taken over without a copy.
//!
//! # Source
//!
//! DLPack's `dlpack.h`, version 0.8: the layout of `DLManagedTensor`, and the protocol of the capsules `dltensor` and
//! `used_dltensor`.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyCapsule};

const UNUSED: &CStr = c"dltensor";
const USED: &CStr = c"used_dltensor";

/// `kDLCPU` and `kDLCUDAHost`: memory that the processor can read.
const HOST_DEVICES: [i32; 2] = [1, 3];

#[repr(C)]
struct Device {
    device_type: i32,
    device_id: i32,
}

#[repr(C)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct ManagedTensor {
    tensor: DlTensor,
    manager_context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedTensor)>,
}

/// The bytes of a tensor of another library, which are given back when this is dropped.
#[derive(Debug)]
struct Borrowed {
    managed: NonNull<ManagedTensor>,
    data: *const u8,
    len_bytes: usize,
}

// SAFETY: the bytes are only read, by one thread at a time, and DLPack's deleters may be called from any thread: those of
// torch and numpy take the interpreter's lock themselves if they need it.
unsafe impl Send for Borrowed {}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        if self.len_bytes == 0 {
            return &[];
        }
        // SAFETY: `new` has checked that the tensor is in the processor's memory and without gaps, so that its bytes lie
        // behind one another; they live until the deleter is called, in `drop`. Who hands a tensor over promises not to
        // write to it any more.
        unsafe { std::slice::from_raw_parts(self.data, self.len_bytes) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: the capsule was marked as used, so that this is the only owner, and this is the only call.
        unsafe {
            if let Some(deleter) = self.managed.as_ref().deleter {
                deleter(self.managed.as_ptr());
            }
        }
    }
}

/// Takes the bytes of a tensor: `bytes`, a DLPack capsule, or something that gives one.
///
/// # Errors
///
/// `TypeError` for anything else; `ValueError` for a tensor that is not in the processor's memory or has gaps.
pub(crate) fn take(data: &Bound<'_, PyAny>) -> PyResult<Box<dyn AsRef<[u8]> + Send>> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(Box::new(PyBackedBytes::from(bytes.clone())));
    }
    if let Ok(capsule) = data.cast::<PyCapsule>() {
        return Ok(Box::new(borrow(capsule)?));
    }
    let capsule = data.getattr("__dlpack__").and_then(|method| method.call0());
    let not_a_tensor = || {
        let found = data.get_type();
        PyTypeError::new_err(format!("expected a tensor with `__dlpack__`, or bytes, found `{found}`"))
    };
    let capsule = match capsule {
        Ok(capsule) => capsule,
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(data.py()) => {
            return Err(not_a_tensor());
        }
        Err(error) => return Err(error),
    };
    Ok(Box::new(borrow(capsule.cast::<PyCapsule>().map_err(|_| not_a_tensor())?)?))
}

fn borrow(capsule: &Bound<'_, PyCapsule>) -> PyResult<Borrowed> {
    let pointer = capsule.pointer_checked(Some(UNUSED)).map_err(|_| {
        PyValueError::new_err("expected a DLPack capsule `dltensor` that nobody has used, found another")
    })?;
    let managed = pointer.cast::<ManagedTensor>();
    // SAFETY: a capsule of this name holds a `DLManagedTensor`, whose layout is `ManagedTensor`'s.
    let tensor = unsafe { &managed.as_ref().tensor };
    let len_bytes = checked_len_bytes(tensor)?;
    let data = tensor.data.cast::<u8>().cast_const().wrapping_add(tensor.byte_offset as usize);
    // SAFETY: the capsule is valid, and the name is static. From here on the tensor is ours to give back.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    Ok(Borrowed { managed, data, len_bytes })
}

/// The size of a tensor that is all in one piece.
fn checked_len_bytes(tensor: &DlTensor) -> PyResult<usize> {
    if !HOST_DEVICES.contains(&tensor.device.device_type) {
        return Err(PyValueError::new_err(format!(
            "expected a tensor in the processor's memory, found one on DLPack's device type {}",
            tensor.device.device_type
        )));
    }
    let ndim = usize::try_from(tensor.ndim).unwrap_or(0);
    let dimensions = |pointer: *mut i64| -> &[i64] {
        if pointer.is_null() || ndim == 0 {
            return &[];
        }
        // SAFETY: a DLPack tensor has `ndim` dimensions behind the pointer.
        unsafe { std::slice::from_raw_parts(pointer, ndim) }
    };
    let (shape, strides) = (dimensions(tensor.shape), dimensions(tensor.strides));
    let elements: i64 = shape.iter().product();
    let mut expected = 1;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size > 1 && stride != expected && elements > 0 {
            return Err(PyValueError::new_err(format!(
                "expected a contiguous tensor, found the strides {strides:?} for the shape {shape:?}"
            )));
        }
        expected *= size;
    }
    let bits = usize::from(tensor.dtype.bits) * usize::from(tensor.dtype.lanes);
    if bits % 8 != 0 {
        return Err(PyValueError::new_err(format!("expected elements of whole bytes, found {bits} bits")));
    }
    Ok(usize::try_from(elements).unwrap_or(0) * (bits / 8))
}
