//! Videos in a conversation: their frames are pictures, each with a line of its own.
//!
//! The public `chat` has no path for videos. What stands for one here is what InternVL's recipe, which this model's code
//! comes from, writes: `Frame-1: <image>`, `Frame-2: <image>` and so on.

use super::{AnsweredTurn, PromptError, Result, placeholder_for};

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A picture.
    Image,
    /// A video of so many frames.
    Video {
        /// Pictures that are taken of it.
        frames: usize,
    },
}

impl Medium {
    fn modality(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video { .. } => "video",
        }
    }

    /// The text that puts its pictures into a question, as placeholders of pictures.
    fn text(self) -> String {
        match self {
            Self::Image => "<image>".to_owned(),
            Self::Video { frames } => (1..=frames).map(|frame| format!("Frame-{frame}: <image>\n")).collect(),
        }
    }
}

/// A history and a question in which each `<video>` has become the placeholders of its frames.
///
/// Without a history, and without any placeholder in the question, those of all media go in front of it. A conversation
/// without videos is left as it is.
///
/// # Errors
/// The placeholders are not those of the media, in their order.
pub fn place_videos(
    history: Option<&[AnsweredTurn]>,
    question: &str,
    media: &[Medium],
) -> Result<(Option<Vec<AnsweredTurn>>, String)> {
    let is_video = |medium: &Medium| matches!(medium, Medium::Video { .. });
    if !media.iter().any(is_video) {
        return Ok((history.map(<[AnsweredTurn]>::to_vec), question.to_owned()));
    }
    let (image, video) = (placeholder_for("image")?, placeholder_for("video")?);
    if history.is_none() && !question.contains(image) && !question.contains(video) {
        let end = |medium: &Medium| if is_video(medium) { "" } else { "\n" };
        let front: String = media.iter().map(|medium| medium.text() + end(medium)).collect();
        return Ok((None, front + question));
    }
    let users = || history.unwrap_or_default().iter().map(|turn| turn.user.as_str()).chain([question]);
    for (placeholder, videos) in [(image, false), (video, true)] {
        let expected = media.iter().filter(|medium| is_video(medium) == videos).count();
        let found = users().map(|text| text.matches(placeholder).count()).sum();
        if found != expected {
            return Err(PromptError::ImageCount { placeholder: placeholder.to_owned(), expected, found });
        }
    }
    let mut media = media.iter().copied();
    let mut placed = users().map(|text| place(text, &mut media)).collect::<Result<Vec<String>>>()?;
    let question = placed.pop().unwrap_or_default();
    let turn =
        |(turn, user): (&AnsweredTurn, String)| AnsweredTurn { user, assistant: turn.assistant.clone() };
    Ok((history.map(|history| history.iter().zip(placed).map(turn).collect()), question))
}

fn place(text: &str, media: &mut impl Iterator<Item = Medium>) -> Result<String> {
    let mut rest = text;
    let mut placed = String::with_capacity(text.len());
    let next = |rest: &str| {
        let of = |modality| {
            placeholder_for(modality)
                .ok()
                .and_then(|placeholder| Some((rest.find(placeholder)?, placeholder)))
        };
        [of("image"), of("video")].into_iter().flatten().min()
    };
    while let (Some((start, placeholder)), Some(medium)) = (next(rest), media.next()) {
        if placeholder_for(medium.modality())? != placeholder {
            return Err(PromptError::MediaOrder {
                expected: medium.modality(),
                placeholder: placeholder.to_owned(),
            });
        }
        placed.push_str(&rest[..start]);
        placed.push_str(&medium.text());
        rest = &rest[start + placeholder.len()..];
        if placed.ends_with('\n') {
            // The last frame's line ends already.
            rest = rest.strip_prefix('\n').unwrap_or(rest);
        }
    }
    placed.push_str(rest);
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: Medium = Medium::Video { frames: 2 };

    fn question(question: &str, media: &[Medium]) -> Result<String> {
        place_videos(None, question, media).map(|(_, question)| question)
    }

    #[test]
    fn a_video_becomes_a_line_for_each_frame() {
        let frames = "Frame-1: <image>\nFrame-2: <image>\n";
        assert_eq!(question("What happens?", &[VIDEO]).unwrap(), format!("{frames}What happens?"));
        assert_eq!(question("<video>\nWhat happens?", &[VIDEO]).unwrap(), format!("{frames}What happens?"));
        assert_eq!(question("See <video> here.", &[VIDEO]).unwrap(), format!("See {frames} here."));
    }

    #[test]
    fn pictures_and_videos_keep_their_order() {
        let media = [Medium::Image, VIDEO];
        let expected = "<image>\nFrame-1: <image>\nFrame-2: <image>\nCompare.";
        assert_eq!(question("Compare.", &media).unwrap(), expected);
        assert_eq!(question("<image>\n<video>\nCompare.", &media).unwrap(), expected);
        let error = question("<video>\n<image>\nCompare.", &media).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the conversation has `<video>` where an image is next: expected the placeholders in the order of the files"
        );
    }

    #[test]
    fn a_history_keeps_its_videos() {
        let history = [AnsweredTurn { user: "<video>\nFirst?".to_owned(), assistant: "<video>".to_owned() }];
        let (placed, question) =
            place_videos(Some(&history), "And <image>?", &[VIDEO, Medium::Image]).unwrap();
        let placed = placed.unwrap();
        assert_eq!(placed[0].user, "Frame-1: <image>\nFrame-2: <image>\nFirst?");
        assert_eq!((placed[0].assistant.as_str(), question.as_str()), ("<video>", "And <image>?"));
    }

    #[test]
    fn a_placeholder_too_many_is_refused_with_both_numbers() {
        let error = question("<video> <video>", &[VIDEO]).unwrap_err();
        assert_eq!(error.to_string(), "the conversation has 2 `<video>`: expected 1, one for each file");
        let error = question("<video> <image>", &[VIDEO]).unwrap_err();
        assert!(matches!(error, PromptError::ImageCount { expected: 0, found: 1, .. }), "{error}");
        let error = place_videos(Some(&[]), "No place.", &[VIDEO]).unwrap_err();
        assert!(matches!(error, PromptError::ImageCount { expected: 1, found: 0, .. }), "{error}");
    }

    #[test]
    fn without_videos_nothing_changes() {
        assert_eq!(question("<video> is a tag.", &[Medium::Image]).unwrap(), "<video> is a tag.");
    }
}
