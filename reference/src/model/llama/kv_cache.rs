//! Keys and values of the tokens seen so far, in buffers allocated once.

use converter::normalized::TextConfig;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::model::observer::{Counter, Observer};

/// What the entries of a cache are called.
pub(crate) const PAST_KEY_VALUES: &str = "past_key_values";

/// The key-value cache of all layers.
pub struct KvCache {
    /// For each layer, keys and values, both [b, kv, capacity, d].
    layers: Vec<(Tensor, Tensor)>,
    len: i64,
    /// Tokens whose keys and values the attention of the last pass was given.
    seen: i64,
}

impl KvCache {
    pub(super) fn new(
        config: &TextConfig,
        batch: i64,
        capacity: usize,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let shape = [batch, config.num_key_value_heads as i64, capacity as i64, config.head_dim as i64];
        let layers = (0..config.num_hidden_layers)
            .map(|_| Ok((Tensor::f_empty(shape, (kind, device))?, Tensor::f_empty(shape, (kind, device))?)))
            .collect::<Result<_>>()?;
        Ok(Self { layers, len: 0, seen: 0 })
    }

    /// Tokens in the cache.
    pub fn len(&self) -> i64 {
        self.len
    }

    /// Whether no token is in the cache.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keys and values of each layer, as the last attention was given them: oldest position first, the keys rotated.
    ///
    /// # Shapes
    /// [b, kv, k, d]
    pub fn states(&self) -> Result<Vec<[Tensor; 2]>> {
        let seen = |states: &Tensor| -> Result<Tensor> { Ok(states.f_narrow(2, 0, self.seen)?) };
        self.layers.iter().map(|(keys, values)| Ok([seen(keys)?, seen(values)?])).collect()
    }

    /// Adds a layer's keys and values behind those of the tokens before, and gives all of them.
    ///
    /// # Shapes
    /// [b, kv, s, d] → [b, kv, k, d], twice
    pub(super) fn update(
        &mut self,
        layer: usize,
        keys: &Tensor,
        values: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<(Tensor, Tensor)> {
        let sequence = keys.size()[2];
        let (all_keys, all_values) = &self.layers[layer];
        let len = observer.count(Counter::CacheSlot, self.len);
        all_keys.f_narrow(2, len, sequence)?.f_copy_(keys)?;
        all_values.f_narrow(2, len, sequence)?.f_copy_(values)?;
        let total = len + sequence;
        self.seen = total;
        Ok((all_keys.f_narrow(2, 0, total)?, all_values.f_narrow(2, 0, total)?))
    }

    /// Counts the tokens that every layer has added.
    pub(super) fn advance(&mut self, sequence: i64) {
        self.len += sequence;
    }
}
