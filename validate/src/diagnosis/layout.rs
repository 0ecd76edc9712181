//! What the rows of a tensor stand for.

use golden::{Dump, Entry};
use measure::model::{CachePart, Model, model_of};

use super::roles::SiteRole;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A class token or register of a tile.
    Prefix {
        /// The tile.
        tile: usize,
        /// The place among the tile's tokens.
        index: usize,
    },
    /// A part of a tile, in a grid.
    Patch {
        /// The tile.
        tile: usize,
        /// The row of the grid.
        row: usize,
        /// The column of the grid.
        column: usize,
    },
    /// A token of the language model that stands for a part of the picture.
    Image {
        /// The place in the prompt.
        index: usize,
    },
    /// A token of the language model that is text.
    Text {
        /// The place in the prompt.
        index: usize,
    },
    /// Nothing is known of it.
    Row {
        /// The place in the tensor.
        index: usize,
    },
}

/// The rows of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// Tile by tile: prefix tokens, then a square grid.
    Tiles { tiles: usize, prefix: usize, side: usize },
    /// The tokens of a prompt: whether each stands for a part of the picture.
    Prompt { image: Vec<bool>, tiles: Option<usize> },
    /// Pixels, tile by tile and channel by channel.
    Pixels { tiles: usize },
    /// What the key-value cache has of each head and position.
    Cache { positions: usize },
    /// Something else.
    Other,
}

impl Layout {
    pub(super) fn of(golden: &Dump, entry: &Entry) -> Self {
        let model = model_of(golden.entries());
        let size = |role, dimension| model.entry(golden, role)?.shape.get(dimension).copied();
        let (tiles, patches) = (size(SiteRole::Pixels, 0), size(SiteRole::Patches, 1));
        let in_tower = model.is_tiled(&entry.name);
        match (entry.shape.as_slice(), tiles) {
            (&[_, _, positions, _], _) if CachePart::of(&entry.name).is_some() => Layout::Cache { positions },
            (&[count, 3, _, _], _) => Layout::Pixels { tiles: count },
            (&[count, tokens, _], Some(tiles)) if in_tower && count == tiles => {
                let prefix = patches.map_or(0, |patches| tokens.saturating_sub(patches));
                let side = (tokens - prefix).isqrt();
                if side * side == tokens - prefix && side > 0 {
                    Layout::Tiles { tiles, prefix, side }
                } else {
                    Layout::Other
                }
            }
            (&[1, tokens, _], _) if !in_tower => match image_tokens(model, golden) {
                Some(image) if image.len() == tokens => Layout::Prompt { image, tiles },
                _ => Layout::Other,
            },
            _ => Layout::Other,
        }
    }

    pub(super) fn token(&self, row: usize) -> Token {
        match self {
            &Layout::Tiles { prefix, side, .. } => {
                let tokens = prefix + side * side;
                let (tile, token) = (row / tokens, row % tokens);
                match token.checked_sub(prefix) {
                    None => Token::Prefix { tile, index: token },
                    Some(patch) => Token::Patch { tile, row: patch / side, column: patch % side },
                }
            }
            Layout::Prompt { image, .. } if image.get(row) == Some(&true) => Token::Image { index: row },
            Layout::Prompt { .. } => Token::Text { index: row },
            Layout::Pixels { .. } | Layout::Cache { .. } | Layout::Other => Token::Row { index: row },
        }
    }
}

/// Which tokens of the prompt stand for the picture: those of the one id that is there as often as there are features.
fn image_tokens(model: &Model, golden: &Dump) -> Option<Vec<bool>> {
    let ids = golden.get("input_ids")?.to_f64_vec();
    let Some(features) = model.image_features(golden) else {
        return Some(vec![false; ids.len()]);
    };
    let count = features.shape.iter().rev().skip(1).product::<usize>();
    let of = |id: f64| ids.iter().filter(|&&other| other == id).count();
    let image = ids.iter().copied().find(|&id| of(id) == count)?;
    Some(ids.iter().map(|&id| id == image).collect())
}
