//! Sees a run while the model computes it, and can change it.

use tch::{Kind, Tensor};

use crate::error::Result;

/// A place of the model whose output can be observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site<'a> {
    /// Its path in the public `modeling.py`.
    pub name: &'a str,
    /// Its class there.
    pub module: &'a str,
}

impl<'a> Site<'a> {
    /// The site of this path and class.
    pub fn new(name: &'a str, module: &'a str) -> Self {
        Self { name, module }
    }
}

/// What a module is about to compute, and of what.
///
/// Shapes as in the modules' own documentation.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// `input weightᵀ + bias`
    Linear {
        /// `[.., in]`
        input: &'a Tensor,
        /// `[out, in]`
        weight: &'a Tensor,
        /// `[out]`
        bias: Option<&'a Tensor>,
    },
    /// Layer normalization.
    LayerNorm {
        /// `[.., width]`
        input: &'a Tensor,
        /// `[width]`
        weight: &'a Tensor,
        /// `[width]`
        bias: &'a Tensor,
        /// Added to the variance.
        eps: f64,
    },
    /// Root-mean-square normalization.
    RmsNorm {
        /// `[.., width]`
        input: &'a Tensor,
        /// `[width]`
        weight: &'a Tensor,
        /// Added to the mean of the squares.
        eps: f64,
    },
    /// GELU.
    Gelu {
        /// `[.., width]`
        input: &'a Tensor,
    },
    /// SiLU.
    Silu {
        /// `[.., width]`
        input: &'a Tensor,
    },
    /// Pixels to their normalized values.
    Normalise {
        /// As they reach the tower.
        pixels: &'a Tensor,
        /// `[c, 1, 1]` float32
        mean: &'a Tensor,
        /// `[c, 1, 1]` float32
        std: &'a Tensor,
        /// What the result is rounded to.
        kind: Kind,
    },
    /// Attention of the tower, from the fused projection to in front of the last one.
    FusedAttention {
        /// `[t, n, 3w]`: queries, keys and values one behind the other.
        qkv: &'a Tensor,
        /// Heads.
        num_heads: i64,
    },
    /// The rotation of queries or keys by their positions.
    Rotate {
        /// `[b, h, s, d]`
        states: &'a Tensor,
        /// `[1, 1, s, d]`
        cos: &'a Tensor,
        /// `[1, 1, s, d]`
        sin: &'a Tensor,
        /// Keys, and not queries.
        is_key: bool,
    },
    /// The embeddings of text with those of pictures in the places that are kept for them.
    Merge {
        /// `[1, s, w]`
        text_embeds: &'a Tensor,
        /// `[1, s]` bool
        is_image: &'a Tensor,
        /// `[t, language-model tokens a tile, w]`
        image_features: &'a Tensor,
    },
}

/// What the attention of the decoder is computed of.
#[derive(Debug)]
pub struct AttentionInputs {
    /// `[b, h, s, d]`
    pub query: Tensor,
    /// `[b, kv, k, d]`, those of earlier tokens among them.
    pub key: Tensor,
    /// `[b, kv, k, d]`, those of earlier tokens among them.
    pub value: Tensor,
    /// Added to the scores, [1, 1, s, k]; none hides nothing.
    pub mask: Option<Tensor>,
    /// Whether the mask hides later tokens and no others, as in a prompt from its first token on: the fused kernel then needs none.
    pub is_causal: bool,
    /// What scores are multiplied by.
    pub scaling: f64,
    /// Query heads that share a key-value head.
    pub num_key_value_groups: i64,
    /// The dtype of the softmax, where that is an operation of its own.
    pub softmax_kind: Kind,
}

/// What the decoder counts itself, outside any module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// The position of the first token, for the rotary embedding.
    FirstPosition,
    /// The place in the cache of the first token's key and value.
    CacheSlot,
}

/// Sees what a run is given and what each module computes, and can replace what is computed.
///
/// A method changes nothing by default: an observer implements those that it needs.
pub trait Observer {
    /// Sees an input of the whole run.
    ///
    /// # Errors
    /// Where the observer cannot take it.
    fn input(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    /// Sees what a module is about to compute. A tensor that this returns replaces the result.
    ///
    /// # Errors
    /// Where the observer's own computation fails.
    fn operation(&mut self, _site: Site<'_>, _operation: Operation<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Sees what the decoder's attention is about to be computed of, and can change it.
    ///
    /// # Errors
    /// Where the observer's own computation fails.
    fn attention(&mut self, _site: Site<'_>, _inputs: &mut AttentionInputs) -> Result<()> {
        Ok(())
    }

    /// Sees what the decoder has counted. The decoder goes on with what this returns.
    fn count(&mut self, _counter: Counter, count: i64) -> i64 {
        count
    }

    /// Sees what a module has computed. The model goes on with what this returns.
    ///
    /// # Errors
    /// Where the observer cannot take it, or wants the run to end.
    fn output(&mut self, _site: Site<'_>, output: Tensor) -> Result<Tensor> {
        Ok(output)
    }

    /// Called behind each forward pass, the prefill and those that decode, with the keys and values of each layer that are
    /// in the cache then.
    ///
    /// # Shapes
    /// [b, kv, k, d]
    ///
    /// # Errors
    /// Where the observer cannot take it.
    fn end_of_step(&mut self, _past_key_values: &[[Tensor; 2]]) -> Result<()> {
        Ok(())
    }

    /// Whether the logits of the steps are to be kept for [`Observer::step_logits`].
    fn wants_step_logits(&self) -> bool {
        false
    }

    /// Sees the logits from which each token was chosen.
    ///
    /// # Shapes
    /// `[steps, v]` float32, on the CPU
    ///
    /// # Errors
    /// Where the observer cannot take them.
    fn step_logits(&mut self, _logits: &Tensor) -> Result<()> {
        Ok(())
    }
}

impl<'o> dyn Observer + 'o {
    /// The result of an operation: the observer's, if it has one, else that of `compute`.
    ///
    /// # Errors
    /// Of either.
    pub fn instead(
        &mut self,
        site: Site<'_>,
        operation: Operation<'_>,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.operation(site, operation)? {
            Some(output) => Ok(output),
            None => compute(),
        }
    }

    /// The output of a module that is one operation.
    ///
    /// # Errors
    /// Of [`Observer::operation`], `compute` and [`Observer::output`].
    pub fn module(
        &mut self,
        site: Site<'_>,
        operation: Operation<'_>,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let output = self.instead(site, operation, compute)?;
        self.output(site, output)
    }
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn input(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        (**self).input(name, tensor)
    }

    fn operation(&mut self, site: Site<'_>, operation: Operation<'_>) -> Result<Option<Tensor>> {
        (**self).operation(site, operation)
    }

    fn attention(&mut self, site: Site<'_>, inputs: &mut AttentionInputs) -> Result<()> {
        (**self).attention(site, inputs)
    }

    fn count(&mut self, counter: Counter, count: i64) -> i64 {
        (**self).count(counter, count)
    }

    fn output(&mut self, site: Site<'_>, output: Tensor) -> Result<Tensor> {
        (**self).output(site, output)
    }

    fn end_of_step(&mut self, past_key_values: &[[Tensor; 2]]) -> Result<()> {
        (**self).end_of_step(past_key_values)
    }

    fn wants_step_logits(&self) -> bool {
        (**self).wants_step_logits()
    }

    fn step_logits(&mut self, logits: &Tensor) -> Result<()> {
        (**self).step_logits(logits)
    }
}

/// Sees nothing and changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
