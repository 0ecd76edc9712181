//! Keeps what each site computes, for a dump.

use globset::{Glob, GlobSet, GlobSetBuilder};
use golden::{DumpWriter, NewEntry, Role, Steps};
use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::flow::Tracker;
use crate::kind::dtype_of;
use crate::math::AttnImplementation;
use crate::model::llama::attention_of;
use crate::model::observer::{Observer, Site};
use crate::model::{ATTN_WEIGHTS, PAST_KEY_VALUES};

const STEP_LOGITS: &str = "step_logits";

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
    /// The steps whose activations are kept.
    steps: Steps,
    /// Whether the key-value cache behind each of them is.
    kv: bool,
    /// The step that runs.
    step: u64,
    /// Finds out what each entry was computed from.
    tracker: Option<Tracker>,
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
        let sites = Sites {
            writer,
            sites,
            attn_weights: false,
            sketch_seed: None,
            steps: Steps::prefill(),
            kv: false,
            step: 0,
            tracker: None,
        };
        Ok(Self { sites: Some(Box::new(sites)), is_stopped: None })
    }

    /// The same recorder, which writes the activations of these steps, and with `kv` the key-value cache behind each.
    pub fn with_steps(mut self, steps: Steps, kv: bool) -> Self {
        if let Some(sites) = &mut self.sites {
            (sites.steps, sites.kv) = (steps, kv);
        }
        self
    }

    /// The same recorder, which also writes what each entry was computed from by a model with this attention; `None` does not.
    pub fn with_flow(mut self, attention: Option<AttnImplementation>) -> Self {
        if let Some(sites) = &mut self.sites {
            sites.tracker = attention.and_then(Tracker::new);
        }
        self
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
}

impl Observer for Recorder {
    fn input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let Some(sites) = &mut self.sites else { return Ok(()) };
        let followed = sites.tracker.as_mut().map(|tracker| tracker.input(name));
        sites.push_if_chosen(NewEntry::new(name, Role::Input, ""), tensor, followed)
    }

    fn output(&mut self, site: Site<'_>, output: Tensor) -> Result<Tensor> {
        if self.is_stopped.is_some_and(|is_stopped| is_stopped()) {
            return Err(Error::Interrupted);
        }
        if let Some(sites) = self.sites.as_mut().filter(|sites| sites.has_more()) {
            let followed = sites.tracker.as_mut().and_then(|tracker| tracker.output(site, output.kind()));
            if sites.steps.contains(sites.step) && sites.wants(site.name) {
                let entry = NewEntry::new(site.name, Role::Activation, site.module);
                sites.push_if_chosen(entry, &output, followed)?;
            }
        }
        Ok(output)
    }

    fn end_of_step(&mut self, past_key_values: &[[Tensor; 2]]) -> Result<()> {
        let Some(sites) = &mut self.sites else { return Ok(()) };
        if sites.kv && sites.steps.contains(sites.step) {
            sites.push_cache(past_key_values)?;
        }
        if let Some(tracker) = sites.tracker.as_mut() {
            tracker.end_of_step();
        }
        sites.step += 1;
        Ok(())
    }

    fn wants_step_logits(&self) -> bool {
        self.sites.is_some()
    }

    fn step_logits(&mut self, logits: &Tensor) -> Result<()> {
        let Some(sites) = &mut self.sites else { return Ok(()) };
        sites.push_step_logits(logits)
    }
}

impl Sites {
    fn wants(&self, site: &str) -> bool {
        self.attn_weights || site.strip_suffix(ATTN_WEIGHTS).is_none_or(|attention| !attention.ends_with('.'))
    }

    /// Whether an entry of this pass or one behind it is written: the logits of all are, unless they are not chosen.
    fn has_more(&self) -> bool {
        self.steps.reach(self.step) || self.tracker.is_some() && self.is_chosen(STEP_LOGITS, 0)
    }

    /// Whether the user has chosen an entry, by its name or its key.
    fn is_chosen(&self, name: &str, step: u64) -> bool {
        let Some(sites) = &self.sites else { return true };
        sites.is_match(name) || step > 0 && sites.is_match(format!("{name}@{step}"))
    }

    /// Writes an entry of the step that runs, if it is chosen; `followed` is its tensor in the tracker.
    fn push_if_chosen(&mut self, entry: NewEntry, tensor: &Tensor, followed: Option<usize>) -> Result<()> {
        if !self.is_chosen(&entry.name, self.step) {
            return Ok(());
        }
        let entries = self.writer.entries();
        let computed = self.tracker.as_ref().zip(followed).filter(|_| entry.role != Role::Input);
        let flow = computed.and_then(|(tracker, followed)| tracker.flow(followed, entries));
        let order = entries.len() as u64;
        self.push(NewEntry { step: self.step, flow, ..entry }, tensor)?;
        if let Some((tracker, followed)) = self.tracker.as_mut().zip(followed) {
            tracker.recorded(followed, order);
        }
        Ok(())
    }

    /// Writes the keys and values of every layer.
    fn push_cache(&mut self, past_key_values: &[[Tensor; 2]]) -> Result<()> {
        for (layer, states) in past_key_values.iter().enumerate() {
            for (which, (kind, tensor)) in ["keys", "values"].into_iter().zip(states).enumerate() {
                let name = format!("{PAST_KEY_VALUES}.{layer}.{kind}");
                if !self.is_chosen(&name, self.step) {
                    continue;
                }
                let (attention, entries) = (attention_of(layer), self.writer.entries());
                let flow =
                    self.tracker.as_mut().and_then(|tracker| tracker.cached(&attention, which, entries));
                let entry = NewEntry::new(name, Role::Activation, "");
                self.push(NewEntry { step: self.step, flow, ..entry }, tensor)?;
            }
        }
        Ok(())
    }

    /// Writes the logits of all steps.
    fn push_step_logits(&mut self, logits: &Tensor) -> Result<()> {
        let entry = NewEntry::new(STEP_LOGITS, Role::Output, "");
        if !self.is_chosen(STEP_LOGITS, 0) {
            return Ok(());
        }
        let entries = self.writer.entries();
        let flow = self.tracker.as_mut().and_then(|tracker| tracker.step_logits(entries));
        self.push(NewEntry { flow, ..entry }, logits)
    }

    fn push(&mut self, entry: NewEntry, tensor: &Tensor) -> Result<()> {
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::RecordDtype { name: entry.name.clone(), found: tensor.kind() })?;
        with_bytes(tensor, |shape, data| {
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
