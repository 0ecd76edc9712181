//! Mistakes in what is loaded: weights, their dtypes, and the configuration.

use converter::normalized::Config;
use tch::Tensor;

use super::mistake::{Change, Mistake};
use crate::error::Result;
use crate::weights::{Loading, PartDtypes};

/// The table of positions is cut at the top left, and not resized.
pub const POSITIONS_CUT: Mistake = Mistake {
    name: "positions-cut",
    what: "positions are cut from the table, and not resized",
    change: Change::Loaded(&PositionsCut),
};

/// The projector runs in the dtype of the tower.
pub const FEATURES_NOT_CAST: Mistake = Mistake {
    name: "features-not-cast",
    what: "the features of a float32 tower are not cast to bfloat16",
    change: Change::Loaded(&FeaturesNotCast),
};

/// A table that has a tile's own size is not resized.
struct PositionsCut;

impl Loading for PositionsCut {
    fn config(&self, config: &mut Config) {
        config.vision_config.max_img_size = config.vision_config.image_size;
    }

    fn weight(&self, config: &Config, name: &str, weight: Tensor) -> Result<Tensor> {
        if name != "vision_model.embeddings.position_embedding" {
            return Ok(weight);
        }
        let vision = &config.vision_config;
        let tile = vision.image_size.div_ceil(vision.patch_size) as i64;
        let side = weight.size()[1].isqrt();
        let table = weight.f_reshape([1, side, side, -1])?;
        Ok(table.f_narrow(1, 0, tile)?.f_narrow(2, 0, tile)?.f_flatten(1, 2)?)
    }
}

struct FeaturesNotCast;

impl Loading for FeaturesNotCast {
    fn dtypes(&self, dtypes: &mut PartDtypes) {
        dtypes.projector = dtypes.vision;
    }
}
