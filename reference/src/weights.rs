//! Weights of a normalized checkpoint as libtorch tensors: mapped, not copied, where the dtype is kept.

use std::sync::Arc;

use converter::normalized::{Checkpoint, Config, TorchDtype};
use store::Dtype;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kind::float_kind_of;
use crate::math::{Math, SharedMath};

/// The dtypes that the parts of a model run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartDtypes {
    /// The language model's, which is called the model's.
    pub model: TorchDtype,
    /// The tower's.
    pub vision: TorchDtype,
    /// The projector's: the model's, as the public code casts what it is given.
    pub projector: TorchDtype,
}

/// Changes what a model is loaded from.
pub trait Loading: Send + Sync {
    /// The configuration.
    fn config(&self, _config: &mut Config) {}

    /// The dtypes.
    fn dtypes(&self, _dtypes: &mut PartDtypes) {}

    /// A weight of this name, as it was read; `config` is the checkpoint's own.
    ///
    /// # Errors
    /// Where libtorch cannot change it.
    fn weight(&self, _config: &Config, _name: &str, weight: Tensor) -> Result<Tensor> {
        Ok(weight)
    }
}

/// A place in the tree of a checkpoint's tensor names, with the dtype and device its weights get.
#[derive(Clone)]
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    prefix: String,
    kind: Kind,
    device: Device,
    math: SharedMath,
    changes: Arc<[&'static dyn Loading]>,
}

impl Weights {
    /// The root of a checkpoint.
    ///
    /// The tensors that come from it may point into the checkpoint's mapped files: it must live as long as they do.
    pub fn new(checkpoint: Arc<Checkpoint>, kind: Kind, device: Device, math: Math) -> Self {
        Self {
            checkpoint,
            prefix: String::new(),
            kind,
            device,
            math: SharedMath::new(math, math.attention()),
            changes: Arc::new([]),
        }
    }

    /// The same place, whose weights are changed.
    pub fn changed(self, changes: Vec<&'static dyn Loading>) -> Self {
        Self { changes: changes.into(), ..self }
    }

    /// The place below this one.
    pub fn pp(&self, segment: impl std::fmt::Display) -> Self {
        let prefix =
            if self.prefix.is_empty() { segment.to_string() } else { format!("{}.{segment}", self.prefix) };
        Self { prefix, ..self.clone() }
    }

    /// The same place, with another dtype.
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The dtype that weights from here have.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How the modules of these weights compute.
    pub(crate) fn math(&self) -> SharedMath {
        self.math.clone()
    }

    /// The device that weights from here are on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The tensor of this name below this place.
    ///
    /// # Errors
    /// Where the checkpoint has no such tensor, or one of a dtype that no weight can have.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let name = format!("{}.{name}", self.prefix);
        let view = self.checkpoint.tensor(&name)?;
        let Some(kind) = Dtype::try_from(view.dtype).ok().and_then(float_kind_of) else {
            let found = view.dtype;
            return Err(Error::WeightDtype { dir: self.checkpoint.dir().to_owned(), name, found });
        };
        let size: Vec<i64> = view.shape.iter().map(|&dim| dim as i64).collect();
        let aligned = (view.data.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
        let mut tensor = if aligned {
            let mut strides = vec![1_i64; size.len()];
            for dim in (1..size.len()).rev() {
                strides[dim - 1] = strides[dim] * size[dim].max(1);
            }
            // SAFETY: the bytes are a slice of a mapped file that `checkpoint` keeps alive, of exactly the size that
            // shape and dtype imply (`Checkpoint::open` checked it) and aligned for it; the model that owns this tensor
            // owns the checkpoint too, and no weight is ever written to.
            unsafe { Tensor::f_from_blob(view.data.as_ptr(), &size, &strides, kind, Device::Cpu)? }
        } else {
            Tensor::f_from_data_size(view.data, &size, kind)?
        };
        for change in &*self.changes {
            tensor = change.weight(self.checkpoint.config(), &name, tensor)?;
        }
        Ok(tensor.f_to_device(self.device)?.f_to_kind(self.kind)?)
    }
}
