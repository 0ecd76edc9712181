//! Which tiles of the candidate's pictures are the plain run's: found by their pixels.

use std::collections::HashMap;
use std::ops::Range;

use golden::{Dump, Entry};
use measure::model::{SiteRole, model_of};

use super::alignment::AlignedStep;

/// The tiles of the plain run in the candidate's passes.
#[derive(Debug)]
pub(super) struct Tiles {
    /// How many the plain run has.
    plain: usize,
    /// By the candidate's step.
    passes: HashMap<u64, Held>,
}

/// The tiles of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    /// How many there are.
    of: usize,
    /// Those that are the plain run's.
    own: Range<usize>,
    /// Which of the plain run's these are.
    plain: Range<usize>,
}

impl Tiles {
    /// Finds the plain run's pixels among those of each pass; `None` if no pixels are recorded, or none are found.
    pub(super) fn of(plain: &Dump, candidate: &Dump, aligned: &AlignedStep) -> Option<Self> {
        let pixels = model_of(plain.entries()).entry(plain, SiteRole::Pixels)?;
        let (tiles, wanted) = rows(plain, pixels)?;
        let mut passes = HashMap::new();
        for pass in &aligned.passes {
            let is_pixels = |entry: &&Entry| entry.name == pixels.name && entry.step == pass.step;
            let Some(found) = candidate.entries().iter().find(is_pixels) else { continue };
            let Some((of, given)) = rows(candidate, found).filter(|_| found.dtype == pixels.dtype) else {
                continue;
            };
            let tile = wanted.len() / tiles;
            if given.len() / of != tile {
                continue;
            }
            let held = if of >= tiles {
                block(given, wanted, tile).map(|at| Held { of, own: at..at + tiles, plain: 0..tiles })
            } else {
                block(wanted, given, tile).map(|at| Held { of, own: 0..of, plain: at..at + of })
            };
            passes.extend(held.map(|held| (pass.step, held)));
        }
        (!passes.is_empty()).then_some(Tiles { plain: tiles, passes })
    }

    /// Of an entry with these numbers of rows for all tiles: those of the plain run's, and those of the candidate's that are the
    /// same. A tile may have several rows, or several tiles one.
    pub(super) fn rows(&self, step: u64, plain: usize, candidate: usize) -> Option<[Range<usize>; 2]> {
        let Held { of, own, plain: tiles } = self.passes.get(&step)?;
        if plain * of != candidate * self.plain {
            return None;
        }
        let scaled = |range: &Range<usize>, rows: usize, of: usize| {
            let at = |tile: usize| (tile * rows).is_multiple_of(of).then(|| tile * rows / of);
            Some(at(range.start)?..at(range.end)?)
        };
        Some([scaled(tiles, plain, self.plain)?, scaled(own, candidate, *of)?])
    }
}

/// The number of tiles, and the pixels of all.
fn rows<'a>(dump: &'a Dump, pixels: &Entry) -> Option<(usize, &'a [u8])> {
    let data = dump.get(&pixels.key())?.data();
    let tiles = pixels.shape.first().copied().filter(|&tiles| tiles > 0)?;
    (!data.is_empty()).then_some((tiles, data))
}

/// The first row from which on the whole part is in the other.
fn block(whole: &[u8], part: &[u8], row: usize) -> Option<usize> {
    (0..=(whole.len() - part.len()) / row).find(|at| whole[at * row..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scaled_to_what_a_tile_has() {
        let held = Held { of: 5, own: 2..4, plain: 0..2 };
        let tiles = Tiles { plain: 2, passes: HashMap::from([(0, held)]) };
        assert_eq!(tiles.rows(0, 2, 5), Some([0..2, 2..4]));
        assert_eq!(tiles.rows(0, 6, 15), Some([0..6, 6..12]));
        assert_eq!(tiles.rows(0, 2, 4), None);
        assert_eq!(tiles.rows(1, 2, 5), None);
        assert_eq!(block(&[1, 1, 2, 2, 3, 3], &[2, 2, 3, 3], 2), Some(1));
        assert_eq!(block(&[1, 1, 2, 2, 3, 3], &[1, 2], 2), None, "tiles begin at whole rows");
    }
}
