//! What can go wrong while a model is loaded, run or recorded.

use std::path::PathBuf;

/// What takes the memory, in [`Error::Memory`], where attention that keeps its scores needs the most.
pub(crate) const EAGER_SCORES: &str = "the scores of eager attention";

/// An error of the reference runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is not a normalized one, or is damaged.
    #[error(transparent)]
    Checkpoint(Box<converter::Error>),

    /// A dump could not be read or written.
    #[error(transparent)]
    Dump(Box<golden::Error>),

    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),

    /// A tensor of the checkpoint has a dtype that no weight can have.
    #[error("{}: tensor `{name}`: expected a floating-point dtype, found {found:?}", dir.display())]
    WeightDtype {
        /// Folder of the checkpoint.
        dir: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Its dtype.
        found: safetensors::Dtype,
    },

    /// An activation has a dtype that a dump cannot hold.
    #[error("site `{name}`: a dump cannot hold dtype {found:?}")]
    RecordDtype {
        /// Name of the site.
        name: String,
        /// Its dtype in libtorch.
        found: tch::Kind,
    },

    /// The device was not understood.
    #[error("device `{0}`: expected `auto`, `cpu`, `cuda` or `cuda:N`")]
    Device(String),

    /// The way to compute was not understood.
    #[error("math `{0}`: expected `exact` or `fast`")]
    Math(String),

    /// The device is not there.
    #[error("device `{device}`: libtorch sees {found} CUDA devices")]
    NoSuchDevice {
        /// The device that was asked for.
        device: String,
        /// How many libtorch sees.
        found: i64,
    },

    /// The pictures and the prompt do not belong together. The public code truncates in silence here.
    #[error("`input_ids` has {actual} image tokens, but the pictures give {expected} features")]
    ImageTokens {
        /// Features that the projector gives.
        expected: i64,
        /// Image tokens in the prompt.
        actual: i64,
    },

    /// `pixel_values` does not have the shape that the tower takes.
    #[error("`pixel_values`: expected [tiles, {channels}, {side}, {side}], found {found:?}")]
    PixelShape {
        /// Channels of a picture.
        channels: usize,
        /// Side of a tile in pixels.
        side: usize,
        /// The shape that was given.
        found: Vec<i64>,
    },

    /// An id that the embedding has no row for.
    #[error("`input_ids`: expected ids from 0 to {}, found {found}", vocab_size - 1)]
    TokenId {
        /// Rows of the embedding.
        vocab_size: usize,
        /// The id.
        found: i64,
    },

    /// The prompt and the answer together are longer than the model was made for.
    #[error(
        "the prompt has {prompt} tokens and {max_new_tokens} more were asked for: the model's context is {limit} tokens"
    )]
    Context {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        max_new_tokens: usize,
        /// The longest sequence.
        limit: usize,
    },

    /// There is too little memory for a request.
    #[error(
        "{what} would take {:.1} GB of memory: expected at most {:.1} GB, all that is free",
        *.needed as f64 / 1e9,
        *.available as f64 / 1e9
    )]
    Memory {
        /// What takes the most.
        what: &'static str,
        /// Bytes that it takes at least.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },

    /// Logits from which no token can be chosen.
    #[error(
        "the logits of step {step}: expected {of} finite numbers, found {count} that are not, the first of them {found}"
    )]
    Logits {
        /// Counted from 1: the first is the prompt's.
        step: usize,
        /// The first that is not finite.
        found: f32,
        /// How many are not finite.
        count: usize,
        /// Logits of the step.
        of: usize,
    },

    /// A request cannot be made of what was given.
    #[error("{0}")]
    Request(String),

    /// A history could not be read.
    #[error("{}: expected a list of turns with `user` and `assistant`: {problem}", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A golden lacks what a replay needs.
    #[error("{}: {problem}", dir.display())]
    Golden {
        /// Folder of the golden.
        dir: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },

    /// A dump has no pixels, and no picture was named to make them from.
    #[error("{}: {problem}", dir.display())]
    NoPictures {
        /// Folder of the dump.
        dir: PathBuf,
        /// What is missing, and the pictures.
        problem: String,
    },

    /// The pictures that were named are not those of a dump's request.
    #[error("{}: {problem}", dir.display())]
    OtherPictures {
        /// Folder of the dump.
        dir: PathBuf,
        /// Which picture, what was expected and what was found.
        problem: String,
    },

    /// This checkpoint makes other inputs of the same prompt and pictures than were recorded.
    #[error("{}: {problem}", dir.display())]
    OtherPreprocessing {
        /// Folder of the dump.
        dir: PathBuf,
        /// Which input, what was expected and what was found.
        problem: String,
    },

    /// A run cannot be isolated, since its dump has sketches in place of tensors.
    #[error(
        "{}: {found} of its entries are sketches, `{name}` first: expected tensors, which take the place of what the model computes",
        dir.display()
    )]
    SketchedRun {
        /// Folder of the dump.
        dir: PathBuf,
        /// The first of them.
        name: String,
        /// How many.
        found: usize,
    },

    /// Two dumps could not be compared.
    #[error(transparent)]
    Comparison(Box<measure::Error>),

    /// A golden is not what this model computes.
    #[error("{}: {problem}", dir.display())]
    NotTheModel {
        /// Folder of the golden.
        dir: PathBuf,
        /// Folder of the checkpoint.
        model: PathBuf,
        /// What differs.
        problem: String,
    },

    /// A glob of `--sites` was not understood.
    #[error("`--sites {pattern}`: {problem}")]
    Sites {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The attention that is to run returns no weights.
    #[error("`--attn-weights`: expected an attention that returns weights, found `{attention}`")]
    AttnWeights {
        /// Its name.
        attention: &'static str,
    },

    /// A picture could not be read or cut into tiles.
    #[error(transparent)]
    Picture(Box<crate::pictures::PictureError>),

    /// The prompt could not be built.
    #[error(transparent)]
    Prompt(Box<crate::prompt::PromptError>),

    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// A file of requests or answers is not what a run can go on from.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A file of answers has those of another run.
    #[error("{}: {problem}", path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// Which line, and which field.
        problem: String,
    },

    /// The program itself failed at one request.
    #[error("the program failed at this request; what it said on stderr is a defect of its own")]
    Defect,

    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,

    /// The answer could not be written out.
    #[error("writing the answer: {0}")]
    Output(#[source] std::io::Error),
}

/// The errors of other rooms are boxed: they are large, and a result is passed on often.
macro_rules! boxed {
    ($($variant:ident: $error:ty),+) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )+};
}

boxed! {
    Checkpoint: converter::Error,
    Comparison: measure::Error,
    Dump: golden::Error,
    Picture: crate::pictures::PictureError,
    Prompt: crate::prompt::PromptError
}

impl Error {
    /// What to try, where there is something known to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchDevice { found: 0, .. } => Some(
                "libtorch's CUDA part needs NVIDIA's libraries beside it: `scripts/setup --cuda` installs them; then build again"
                    .to_owned(),
            ),
            Self::Checkpoint(error) => error
                .hint()
                .or_else(|| Some("`nvl-convert convert` makes a normalized checkpoint of a Hugging Face one".to_owned())),
            Self::NotTheModel { model, .. } => Some(format!(
                "`--model` must be the golden run's own checkpoint; `{}` gives other numbers",
                model.display()
            )),
            Self::AttnWeights { .. } => Some("say `--attention eager`".to_owned()),
            Self::NoPictures { .. } => {
                Some("`--image FILE` names a picture; once for each, in this order".to_owned())
            }
            Self::OtherPictures { .. } => Some(
                "`--image` takes the very files of the request, once for each, in the order of `request.images` in its manifest"
                    .to_owned(),
            ),
            Self::OtherPreprocessing { .. } => Some(
                "`--model` must be the recorded run's own checkpoint, with its tokenizer and its settings of the image processor"
                    .to_owned(),
            ),
            Self::SketchedRun { .. } => Some(
                "record the candidate without `--sketch`; the golden may be sketched".to_owned(),
            ),
            Self::Dump(error) => error.hint().map(str::to_owned),
            Self::Picture(error) => error.hint().map(str::to_owned),
            Self::Prompt(error) => error.hint().map(str::to_owned),
            Self::Memory { what: EAGER_SCORES, .. } => {
                Some("`--attention sdpa` keeps no scores in memory".to_owned())
            }
            Self::Memory { .. } => Some("ask about fewer pictures, frames or words at a time".to_owned()),
            Self::Logits { .. } => Some(
                "a weight that is not finite gives such logits, and so do a wrong `rope_scaling` and numbers above 65504 in \
                 float16: `--dtype float32` tells the last from the others"
                    .to_owned(),
            ),
            Self::OtherRun { .. } => Some(
                "`--force` removes all answers and starts again; to answer one request again, delete its row"
                    .to_owned(),
            ),
            Self::Context { prompt, limit, .. } if prompt < limit => {
                Some(format!("ask for at most `--max-new-tokens {}`", limit - prompt))
            }
            _ => None,
        }
    }
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

/// libtorch appends a C++ backtrace of dozens of lines to its message.
fn first_line(error: &tch::TchError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("Internal torch error: ")
        .to_owned()
}
