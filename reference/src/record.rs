//! Keeps what each site computes, for a dump.

use globset::{Glob, GlobSet, GlobSetBuilder};
use golden::{DumpWriter, NewEntry, Role};
use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::kind::dtype_of;
use crate::model::ATTN_WEIGHTS;
use crate::model::observer::{Observer, Site};

/// Writes the chosen activations to a dump, or none.
pub struct Recorder {
    sites: Option<Box<Sites>>,
    /// Whether the user has asked to stop: a prefill can take minutes, and gives no token before its end.
    is_stopped: Option<fn() -> bool>,
}

struct Sites {
    writer: DumpWriter,
    sites: Option<GlobSet>,
    attn_weights: bool,
    /// The seed of the sketches that stand for the tensors; none keeps the tensors.
    sketch_seed: Option<u64>,
    /// Off while decoding: the activations of a dump are those of the prefill.
    active: bool,
}

impl Recorder {
    /// A recorder that keeps nothing.
    pub fn off() -> Self {
        Self { sites: None, is_stopped: None }
    }

    /// A recorder that writes each site whose name one of the globs matches; every site where there are none.
    ///
    /// # Errors
    /// [`Error::Sites`] where a glob is malformed.
    pub fn new(writer: DumpWriter, sites: &[String]) -> Result<Self> {
        let sites = if sites.is_empty() { None } else { Some(glob_set(sites)?) };
        let sites = Sites { writer, sites, attn_weights: false, sketch_seed: None, active: true };
        Ok(Self { sites: Some(Box::new(sites)), is_stopped: None })
    }

    /// The same recorder, which also writes the attention weights of the decoder, or does not: they are as large as the square
    /// of the prompt.
    pub fn with_attn_weights(mut self, wanted: bool) -> Self {
        if let Some(sites) = &mut self.sites {
            sites.attn_weights = wanted;
        }
        self
    }

    /// The same recorder, which writes [sketches](golden::Sketch) of this seed in place of tensors.
    pub fn with_sketches(mut self, seed: Option<u64>) -> Self {
        if let Some(sites) = &mut self.sites {
            sites.sketch_seed = seed;
        }
        self
    }

    /// The same recorder, which ends the computation at the next module once `is_stopped` says so.
    pub fn stopping(self, is_stopped: fn() -> bool) -> Self {
        Self { is_stopped: Some(is_stopped), ..self }
    }

    /// The dump's writer, to be finished with a manifest.
    pub fn into_writer(self) -> Option<DumpWriter> {
        self.sites.map(|sites| sites.writer)
    }

    fn push(&mut self, name: &str, role: Role, module: &str, tensor: &Tensor) -> Result<()> {
        match &mut self.sites {
            Some(sites) => sites.push(name, role, module, tensor),
            None => Ok(()),
        }
    }
}

impl Observer for Recorder {
    fn input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        self.push(name, Role::Input, "", tensor)
    }

    fn output(&mut self, site: Site<'_>, output: Tensor) -> Result<Tensor> {
        if self.is_stopped.is_some_and(|is_stopped| is_stopped()) {
            return Err(Error::Interrupted);
        }
        if let Some(sites) = self.sites.as_mut().filter(|sites| sites.active && sites.wants(site.name)) {
            sites.push(site.name, Role::Activation, site.module, &output)?;
        }
        Ok(output)
    }

    fn end_of_prefill(&mut self) {
        if let Some(sites) = &mut self.sites {
            sites.active = false;
        }
    }

    fn wants_step_logits(&self) -> bool {
        self.sites.is_some()
    }

    fn step_logits(&mut self, logits: &Tensor) -> Result<()> {
        self.push("step_logits", Role::Output, "", logits)
    }
}

impl Sites {
    fn wants(&self, site: &str) -> bool {
        self.attn_weights || site.strip_suffix(ATTN_WEIGHTS).is_none_or(|attention| !attention.ends_with('.'))
    }

    fn push(&mut self, name: &str, role: Role, module: &str, tensor: &Tensor) -> Result<()> {
        if self.sites.as_ref().is_some_and(|sites| !sites.is_match(name)) {
            return Ok(());
        }
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::RecordDtype { name: name.to_owned(), found: tensor.kind() })?;
        with_bytes(tensor, |shape, data| {
            let entry = NewEntry::new(name, role, module);
            self.writer.push_entry(entry, dtype, shape, data, self.sketch_seed)?;
            Ok(())
        })
    }
}

/// Calls a function with the shape and the bytes of a tensor.
pub(crate) fn with_bytes<T>(tensor: &Tensor, call: impl FnOnce(&[usize], &[u8]) -> Result<T>) -> Result<T> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let shape: Vec<usize> = tensor.size().iter().map(|&dim| dim as usize).collect();
    let len_bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    let data: &[u8] = if len_bytes == 0 {
        &[]
    } else {
        // SAFETY: `tensor` is contiguous and on the CPU, holds exactly `len_bytes` bytes from `data_ptr` on, and
        // outlives the slice; nothing writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), len_bytes) }
    };
    call(&shape, data)
}

fn glob_set(patterns: &[String]) -> Result<GlobSet> {
    let fail = |pattern: &str, error: &globset::Error| Error::Sites {
        pattern: pattern.to_owned(),
        problem: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| fail(pattern, &error))?);
    }
    set.build().map_err(|error| fail("", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_stop_ends_the_computation_at_the_next_module() {
        let at_a_module =
            |mut recorder: Recorder| recorder.output(Site::new("mlp1", "Sequential"), Tensor::new());
        assert!(at_a_module(Recorder::off()).is_ok());
        assert!(at_a_module(Recorder::off().stopping(|| false)).is_ok());
        assert!(matches!(at_a_module(Recorder::off().stopping(|| true)), Err(Error::Interrupted)));
    }
}
