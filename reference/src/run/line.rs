//! One request of a run, as a line of JSON.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::generate::Sampling;
use crate::prompt::AnsweredTurn;
use crate::request::{ChatRequest, DEFAULT_NUM_FRAMES};

/// A request. `turns` is as in a dump's manifest; a single question may be given as `prompt`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLine {
    /// Name of the request; the line's number where there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// System prompt.
    #[serde(default)]
    pub system: Option<String>,
    /// The question, where there is one turn only.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The conversation: all turns but the last have an answer.
    #[serde(default)]
    pub turns: Vec<RequestTurn>,
    /// Files of the pictures, absolute or relative to the request file's folder.
    #[serde(default)]
    pub images: Vec<PathBuf>,
    /// Videos: folders of pictures, or files for ffmpeg.
    #[serde(default)]
    pub videos: Vec<PathBuf>,
    /// The most frames to take of a video.
    #[serde(default = "default_num_frames")]
    pub num_frames: usize,
    /// The most tokens to generate.
    #[serde(default = "default_max_new_tokens")]
    pub max_new_tokens: usize,
    /// Logits are divided by this; 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// Draw among so many of the most likely tokens only.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Draw among the most likely tokens only, as many as reach this probability.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Makes tokens of the answer so far less likely.
    #[serde(default = "one")]
    pub repetition_penalty: f64,
    /// The same seed draws the same tokens.
    #[serde(default)]
    pub seed: u64,
    /// Tokens that end the answer; the tokenizer's end token where there are none.
    #[serde(default)]
    pub eos_token_ids: Vec<i64>,
    /// Texts that end the answer.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Tell log probabilities of each token, and of so many of the most likely.
    #[serde(default)]
    pub logprobs: Option<usize>,
}

/// A question, and its answer if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestTurn {
    /// The question.
    pub user: String,
    /// The answer.
    #[serde(default)]
    pub assistant: Option<String>,
}

fn default_max_new_tokens() -> usize {
    512
}

fn default_num_frames() -> usize {
    DEFAULT_NUM_FRAMES
}

fn one() -> f64 {
    1.0
}

impl RequestLine {
    /// How tokens are chosen.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        }
    }

    /// The request, its pictures' paths taken from `base`.
    ///
    /// # Errors
    /// [`Error::Request`] where it is not clear what is asked.
    pub fn chat(&self, base: &Path) -> Result<ChatRequest> {
        let (question, history) = match (&self.prompt, self.turns.split_last()) {
            (Some(prompt), None) => (prompt.clone(), None),
            (None, Some((last, earlier))) => (last.user.clone(), history(last, earlier)?),
            (Some(_), Some(_)) => return Err(refuse("expected `prompt` or `turns`, found both")),
            (None, None) => return Err(refuse("expected `prompt` or `turns`, found neither")),
        };
        Ok(ChatRequest {
            system: self.system.clone(),
            history,
            question,
            images: self.images.iter().map(|image| base.join(image)).collect(),
            videos: self.videos.iter().map(|video| base.join(video)).collect(),
            num_frames: self.num_frames,
        })
    }
}

/// The turns in front of the last; none where there are none, since placeholders are put in front of a question only then.
fn history(last: &RequestTurn, earlier: &[RequestTurn]) -> Result<Option<Vec<AnsweredTurn>>> {
    if last.assistant.is_some() {
        return Err(refuse("`turns`: expected a last turn without `assistant`, found one that is answered"));
    }
    let answered = |turn: &RequestTurn| {
        let assistant = turn.assistant.clone();
        let missing = || refuse("`turns`: expected `assistant` in every turn but the last, found none");
        Ok(AnsweredTurn { user: turn.user.clone(), assistant: assistant.ok_or_else(missing)? })
    };
    let turns = earlier.iter().map(answered).collect::<Result<Vec<_>>>()?;
    Ok(if turns.is_empty() { None } else { Some(turns) })
}

fn refuse(problem: &str) -> Error {
    Error::Request(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RequestLine {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_document_has_every_field_and_no_other() {
        let document = include_str!("../../../docs/reference-runs.md");
        let table = document.split("## Requests").nth(1).unwrap().split("## ").next().unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let mut described: Vec<&str> = rows.flat_map(|row| row.trim_end_matches('`').split("`, `")).collect();
        let refusal = serde_json::from_str::<RequestLine>(r#"{"?": 0}"#).unwrap_err().to_string();
        let mut known: Vec<&str> = refusal.split('`').skip(3).step_by(2).collect();
        described.sort_unstable();
        known.sort_unstable();
        assert_eq!(described, known);
        assert_eq!(known.len(), 16, "{refusal}");
    }

    #[test]
    fn turns_become_a_question_and_its_history() {
        let line = parse(
            r#"{"turns": [{"user": "a", "assistant": "b"}, {"user": "c"}], "images": ["x.png", "/y.png"]}"#,
        );
        let chat = line.chat(Path::new("/base")).unwrap();
        assert_eq!(chat.question, "c");
        assert_eq!(chat.history, Some(vec![AnsweredTurn { user: "a".into(), assistant: "b".into() }]));
        assert_eq!(chat.images, [PathBuf::from("/base/x.png"), PathBuf::from("/y.png")]);
    }

    #[test]
    fn a_single_question_has_no_history() {
        for text in [r#"{"prompt": "a"}"#, r#"{"turns": [{"user": "a"}]}"#] {
            let chat = parse(text).chat(Path::new("")).unwrap();
            assert_eq!((chat.question.as_str(), chat.history), ("a", None), "{text}");
        }
    }

    #[test]
    fn what_asks_nothing_clear_is_refused() {
        for (text, expected) in [
            ("{}", "expected `prompt` or `turns`, found neither"),
            (r#"{"prompt": "a", "turns": [{"user": "b"}]}"#, "expected `prompt` or `turns`, found both"),
            (
                r#"{"turns": [{"user": "a", "assistant": "b"}]}"#,
                "`turns`: expected a last turn without `assistant`, found one that is answered",
            ),
            (
                r#"{"turns": [{"user": "a"}, {"user": "b"}]}"#,
                "`turns`: expected `assistant` in every turn but the last, found none",
            ),
        ] {
            assert_eq!(parse(text).chat(Path::new("")).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
