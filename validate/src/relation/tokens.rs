//! What a forward pass was given: ids, and where recorded positions, the mask and the bounds of packed requests.

use golden::{Dump, Entry};
use measure::metric::integer_value;

/// How recorders call the bounds of packed requests.
const BOUNDS: [&str; 4] = ["cu_seqlens", "cu_seqlens_q", "cu_seq_lens_q", "query_start_loc"];

/// How they call positions.
const POSITIONS: [&str; 3] = ["position_ids", "positions", "cache_position"];

/// The tokens of a forward pass.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// [batch, width].
    pub(super) ids: Vec<i64>,
    pub(super) batch: usize,
    pub(super) width: usize,
    /// Which tokens are no padding, [batch, width].
    mask: Option<Vec<bool>>,
    /// [batch, width].
    positions: Option<Vec<i64>>,
    /// Where the requests of a packed sequence begin, and its end.
    bounds: Option<Vec<usize>>,
}

impl Given {
    /// What a dump says of a step; `None` without ids.
    ///
    /// Ids are [batch, tokens], or [tokens] of one sequence.
    pub(super) fn of(dump: &Dump, step: u64) -> Option<Self> {
        let (shape, ids) = integers(dump, step, &["input_ids"])?;
        let (batch, width) = match *shape.as_slice() {
            [width] => (1, width),
            [batch, width] => (batch, width),
            _ => return None,
        };
        let mask = integers(dump, step, &["attention_mask"]).filter(|(of, _)| *of == [batch, width]);
        let positions = integers(dump, step, &POSITIONS).and_then(|(_, positions)| {
            let rows = (batch * width).checked_div(positions.len())?;
            let fits = rows * positions.len() == batch * width && (rows == 1 || positions.len() == width);
            fits.then(|| positions.repeat(rows))
        });
        let bounds = integers(dump, step, &BOUNDS).filter(|_| batch == 1).and_then(|(_, bounds)| {
            let bounds: Vec<usize> =
                bounds.into_iter().map(usize::try_from).collect::<Result<_, _>>().ok()?;
            let grows = bounds.is_sorted_by(|a, b| a < b);
            (grows && bounds.first() == Some(&0) && bounds.last() == Some(&width)).then_some(bounds)
        });
        let mask = mask.map(|(_, mask)| mask.into_iter().map(|value| value != 0).collect());
        Some(Given { ids, batch, width, mask, positions, bounds })
    }

    /// The ids of a sequence.
    pub(super) fn row(&self, row: usize) -> &[i64] {
        &self.ids[row * self.width..(row + 1) * self.width]
    }

    /// The positions of a sequence, where recorded.
    pub(super) fn positions(&self, row: usize) -> Option<&[i64]> {
        Some(&self.positions.as_ref()?[row * self.width..(row + 1) * self.width])
    }

    /// Which tokens of a sequence are no padding, where recorded.
    pub(super) fn mask(&self, row: usize) -> Option<&[bool]> {
        Some(&self.mask.as_ref()?[row * self.width..(row + 1) * self.width])
    }

    /// Where the requests of a packed sequence begin, and its end: as recorded, or where positions start anew.
    pub(super) fn bounds(&self) -> Option<Vec<usize>> {
        if let Some(bounds) = &self.bounds {
            return Some(bounds.clone());
        }
        let positions = self.positions(0).filter(|_| self.batch == 1)?;
        let begins = |&at: &usize| at == 0 || positions[at] != positions[at - 1] + 1;
        Some((0..self.width).filter(begins).chain([self.width]).collect())
    }
}

/// The steps of a dump that have entries, in order.
pub(super) fn steps_of(dump: &Dump) -> Vec<u64> {
    let mut steps: Vec<u64> = dump.entries().iter().map(|entry| entry.step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Whole numbers of a step, by the last part of their name: of several, those with the shortest.
fn integers(dump: &Dump, step: u64, names: &[&str]) -> Option<(Vec<usize>, Vec<i64>)> {
    let is_wanted = |entry: &&Entry| {
        let last = entry.name.rsplit('.').next().unwrap_or_default();
        entry.step == step && names.contains(&last) && !entry.dtype.is_float()
    };
    let entry = dump.entries().iter().filter(is_wanted).min_by_key(|entry| entry.name.len())?;
    let tensor = dump.get(&entry.key())?;
    let bytes = tensor.data().chunks_exact(entry.dtype.size_bytes());
    let numbers = bytes.map(|bytes| i64::try_from(integer_value(entry.dtype, bytes)));
    Some((entry.shape.clone(), numbers.collect::<Result<_, _>>().ok()?))
}
