//! What stands in a question where a picture or a video belongs.

use super::{PromptError, Result};

/// The placeholder of a modality: `<image>` for `image`, `<video>` for `video`.
///
/// # Errors
/// The modality is neither.
pub fn placeholder_for(modality: &str) -> Result<&'static str> {
    match modality {
        "image" => Ok("<image>"),
        "video" => Ok("<video>"),
        _ => Err(PromptError::Modality { found: modality.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_videos_have_one_and_nothing_else_has() {
        assert_eq!(placeholder_for("image").unwrap(), "<image>");
        assert_eq!(placeholder_for("video").unwrap(), "<video>");
        let error = placeholder_for("audio").unwrap_err();
        assert_eq!(error.to_string(), "only image or video modality is supported, found `audio`");
    }
}
