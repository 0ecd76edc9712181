//! The tile grid: how many columns and rows a picture is cut into.
//!
//! Why no library does this: the choice between equal grids depends on the order of a Python set, which must be CPython's.

use super::PictureError;

/// The largest `max_num_tiles` whose order of candidates was compared with CPython's own.
pub const MAX_NUM_TILES_LIMIT: usize = 1000;

/// Columns and rows of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Grid {
    /// Tiles side by side.
    pub columns: usize,
    /// Tiles on top of each other.
    pub rows: usize,
}

impl Grid {
    /// Tiles of the grid, the thumbnail not counted.
    pub fn num_tiles(self) -> usize {
        self.columns * self.rows
    }
}

/// The grids of at most `max_num_tiles` tiles, in the order in which the public code tries them.
///
/// The first of several grids that fit equally well is taken, so the order decides. The public code collects the grids
/// in a Python set and sorts them by area, which leaves grids of one area in the set's own order: what CPython's hash
/// of two integers and its way of filling a table make of them ([`python_set_order`]).
///
/// # Errors
/// `max_num_tiles` is zero, or above [`MAX_NUM_TILES_LIMIT`].
///
/// # Source
/// `image_processing.py`, `LlamaNemotronNanoVLImageProcessor.dynamic_preprocess`
pub fn candidates(max_num_tiles: usize) -> Result<Vec<Grid>, PictureError> {
    if max_num_tiles == 0 || max_num_tiles > MAX_NUM_TILES_LIMIT {
        return Err(PictureError::MaxNumTiles { limit: MAX_NUM_TILES_LIMIT, found: max_num_tiles });
    }
    // Each grid where the public code's three nested loops meet it first: at n = max(columns, rows).
    let in_order_of_insertion = (1..=max_num_tiles).flat_map(|n| {
        let widest = (1..n).map(move |columns| Grid { columns, rows: n });
        let tallest = (1..=n).map(move |rows| Grid { columns: n, rows });
        widest.chain(tallest).filter(move |grid| grid.num_tiles() <= max_num_tiles)
    });
    let mut grids = python_set_order(in_order_of_insertion);
    grids.sort_by_key(|grid| grid.num_tiles());
    Ok(grids)
}

/// The grid for a picture of `width` × `height` pixels (those of the enlarged picture), of the `candidates` in order.
///
/// # Source
/// `image_processing.py`, `find_closest_aspect_ratio`
pub fn choose(candidates: &[Grid], width: usize, height: usize, image_size: usize) -> Grid {
    let aspect_ratio = width as f64 / height as f64;
    let area = width as f64 * height as f64;
    let mut best = Grid { columns: 1, rows: 1 };
    let mut best_score = f64::NEG_INFINITY;
    for &grid in candidates {
        let target_aspect_ratio = grid.columns as f64 / grid.rows as f64;
        let tiles_area = (grid.num_tiles() * image_size * image_size) as f64;
        let area_score = (tiles_area / area).min(0.6);
        let score = area_score * (target_aspect_ratio / aspect_ratio).min(aspect_ratio / target_aspect_ratio);
        if score > best_score {
            best_score = score;
            best = grid;
        }
    }
    best
}

/// The order in which a CPython set (3.8 and later, 64-bit) yields distinct `(columns, rows)` tuples inserted in turn.
///
/// # Source
/// CPython, `Objects/setobject.c`: open addressing with runs of [`LINEAR_PROBES`] neighbours, then a jump that mixes
/// in more bits of the hash; the table grows fourfold once three fifths are full.
fn python_set_order(grids: impl Iterator<Item = Grid>) -> Vec<Grid> {
    const SMALLEST_TABLE: usize = 8;
    let mut table: Vec<Option<Grid>> = vec![None; SMALLEST_TABLE];
    let mut used = 0;
    for grid in grids {
        insert(&mut table, grid);
        used += 1;
        if used * 5 >= (table.len() - 1) * 3 {
            let mut size = SMALLEST_TABLE;
            while size <= used * 4 {
                size *= 2;
            }
            let full = std::mem::replace(&mut table, vec![None; size]);
            for grid in full.into_iter().flatten() {
                insert(&mut table, grid);
            }
        }
    }
    table.into_iter().flatten().collect()
}

const LINEAR_PROBES: usize = 9;

fn insert(table: &mut [Option<Grid>], grid: Grid) {
    const PERTURB_SHIFT: u32 = 5;
    let mask = table.len() - 1;
    let hash = python_tuple_hash([grid.columns as u64, grid.rows as u64]);
    let mut perturb = hash;
    let mut index = hash as usize & mask;
    loop {
        let last = if index + LINEAR_PROBES <= mask { index + LINEAR_PROBES } else { index };
        if let Some(free) = table[index..=last].iter_mut().find(|entry| entry.is_none()) {
            *free = Some(grid);
            return;
        }
        perturb >>= PERTURB_SHIFT;
        index = index.wrapping_mul(5).wrapping_add(1).wrapping_add(perturb as usize) & mask;
    }
}

/// `hash((a, b))` of two small non-negative integers, each of which is its own hash.
///
/// # Source
/// CPython, `Objects/tupleobject.c`: xxHash64's accumulation, without its last avalanche.
fn python_tuple_hash(items: [u64; 2]) -> u64 {
    const PRIME_1: u64 = 11_400_714_785_074_694_791;
    const PRIME_2: u64 = 14_029_467_366_897_019_727;
    const PRIME_5: u64 = 2_870_177_450_012_600_261;
    let mut hash = PRIME_5;
    for item in items {
        hash = hash.wrapping_add(item.wrapping_mul(PRIME_2));
        hash = hash.rotate_left(31).wrapping_mul(PRIME_1);
    }
    hash = hash.wrapping_add(items.len() as u64 ^ (PRIME_5 ^ 3_527_539));
    // -1 means "failed" to CPython.
    if hash == u64::MAX { 1_546_275_796 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_hashes_as_in_cpython() {
        // python3 -c 'print(hash((1, 2)), hash((12, 1)))'
        assert_eq!(python_tuple_hash([1, 2]) as i64, -3550055125485641917);
        assert_eq!(python_tuple_hash([12, 1]) as i64, -7907666742645488893);
    }

    #[test]
    fn no_tile_and_too_many_tiles_are_refused() {
        for max_num_tiles in [0, MAX_NUM_TILES_LIMIT + 1, usize::MAX] {
            let error = candidates(max_num_tiles).unwrap_err();
            assert!(matches!(error, PictureError::MaxNumTiles { found, .. } if found == max_num_tiles));
        }
    }
}
