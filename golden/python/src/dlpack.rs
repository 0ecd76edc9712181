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

/// More dimensions than any library's tensors have: a larger number is none.
const MAX_DIMENSIONS: i32 = 1024;

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
    if !managed.is_aligned() {
        return Err(PyValueError::new_err("expected a DLPack tensor, found an address that cannot be one's"));
    }
    // SAFETY: a capsule of this name holds a `DLManagedTensor`, whose layout is `ManagedTensor`'s.
    let tensor = unsafe { &managed.as_ref().tensor };
    let (data, len_bytes) = checked_bytes(tensor).map_err(PyValueError::new_err)?;
    // SAFETY: the capsule is valid, and the name is static. From here on the tensor is ours to give back.
    if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), USED.as_ptr()) } != 0 {
        return Err(PyErr::fetch(capsule.py()));
    }
    Ok(Borrowed { managed, data, len_bytes })
}

/// Where the bytes of a tensor begin that is all in one piece, and how many there are; without any, the address is of no use.
fn checked_bytes(tensor: &DlTensor) -> Result<(*const u8, usize), String> {
    if !HOST_DEVICES.contains(&tensor.device.device_type) {
        let found = tensor.device.device_type;
        return Err(format!(
            "expected a tensor in the processor's memory, found one on DLPack's device type {found}"
        ));
    }
    let shape = dimensions(tensor, tensor.shape)?.ok_or("expected a tensor with a shape, found none")?;
    if shape.iter().any(|&size| size < 0) {
        return Err(format!("expected sizes from 0 on, found the shape {shape:?}"));
    }
    let bits = usize::from(tensor.dtype.bits) * usize::from(tensor.dtype.lanes);
    if bits == 0 || bits % 8 != 0 {
        return Err(format!("expected elements of whole bytes, found {bits} bits"));
    }
    if shape.contains(&0) {
        return Ok((std::ptr::null(), 0));
    }
    let too_large = || format!("expected a tensor that fits in memory, found the shape {shape:?}");
    let elements = shape.iter().try_fold(1i64, |product, &size| product.checked_mul(size));
    let len_bytes = elements
        .and_then(|elements| usize::try_from(elements).ok())
        .and_then(|elements| elements.checked_mul(bits / 8))
        .filter(|&len_bytes| isize::try_from(len_bytes).is_ok())
        .ok_or_else(too_large)?;
    if let Some(strides) = dimensions(tensor, tensor.strides)? {
        let mut expected = 1;
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            if size > 1 && stride != expected {
                return Err(format!(
                    "expected a contiguous tensor, found the strides {strides:?} for the shape {shape:?}"
                ));
            }
            expected *= size;
        }
    }
    if tensor.data.is_null() {
        return Err("expected a tensor with memory of its own, found none".to_owned());
    }
    let begin = usize::try_from(tensor.byte_offset).ok().and_then(|by| tensor.data.addr().checked_add(by));
    if begin.and_then(|begin| begin.checked_add(len_bytes)).is_none() {
        return Err(format!("expected an offset inside of memory, found {} bytes", tensor.byte_offset));
    }
    Ok((tensor.data.cast::<u8>().cast_const().wrapping_add(tensor.byte_offset as usize), len_bytes))
}

/// The sizes or strides of a tensor; `None` where there are none, but for a tensor without dimensions.
fn dimensions(tensor: &DlTensor, pointer: *const i64) -> Result<Option<&[i64]>, String> {
    if !(0..=MAX_DIMENSIONS).contains(&tensor.ndim) {
        return Err(format!("expected 0 to {MAX_DIMENSIONS} dimensions, found {}", tensor.ndim));
    }
    if tensor.ndim == 0 {
        return Ok(Some(&[]));
    }
    if pointer.is_null() {
        return Ok(None);
    }
    if !pointer.is_aligned() {
        return Err("expected sizes of 64 bits, found an address that cannot be theirs".to_owned());
    }
    // SAFETY: not null, aligned, and a DLPack tensor has `ndim` dimensions behind the pointer, which live as long as it does.
    Ok(Some(unsafe { std::slice::from_raw_parts(pointer, tensor.ndim as usize) }))
}
