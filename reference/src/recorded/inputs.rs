//! What a recorded run was given: from its dump, or where that has sketches only, made again from the prompt and the pictures and
//! held against the recorded hashes.

use std::path::PathBuf;

use converter::normalized::Config;
use golden::manifest::Image;
use golden::{Dtype, Dump, Entry};
use tch::{Kind, Tensor};

use super::fail;
use crate::error::{Error, Result};
use crate::generate::ModelInputs;
use crate::kind::float_kind_of;
use crate::pictures::{Preprocessed, preprocess};
use crate::prompt::Tokenizer;
use crate::record::with_bytes;
use crate::scalar::ScalarOps as _;

const INPUT_IDS: &str = "input_ids";
const PIXEL_VALUES: &str = "pixel_values";

/// Where inputs come from that a dump has not in full.
#[derive(Debug, Clone, Copy)]
pub struct InputSource<'a> {
    /// The checkpoint's configuration: how pictures become tiles.
    pub config: &'a Config,
    /// The checkpoint's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The request's pictures, in its order; none where the user named none.
    pub images: &'a [PathBuf],
}

impl InputSource<'_> {
    /// `input_ids` and, where the run had pictures, `pixel_values`, in the dtype that the dump has them in.
    ///
    /// # Errors
    /// [`Error::Golden`] where the dump lacks an input that cannot be made again, or what was made is not what was recorded;
    /// [`Error::NoPictures`] where pictures are needed.
    pub fn inputs_of(&self, dump: &Dump) -> Result<ModelInputs> {
        let input_ids = self.input_ids(dump)?;
        let pictures = self.read_pictures(dump)?;
        let pixel_values = match dump.get(PIXEL_VALUES) {
            Some(view) => Some(tensor_of(dump, PIXEL_VALUES, &view)?),
            None => self.pixel_values(dump, &input_ids, pictures)?,
        };
        dump.check()?;
        Ok(ModelInputs { input_ids, pixel_values })
    }

    fn input_ids(&self, dump: &Dump) -> Result<Tensor> {
        if let Some(view) = dump.get(INPUT_IDS) {
            return tensor_of(dump, INPUT_IDS, &view);
        }
        let Some(entry) = dump.entry(INPUT_IDS) else {
            return Err(fail(dump, "it has no entry `input_ids` to run"));
        };
        let Some(prompt) = &dump.manifest().prompt else {
            let problem =
                "`input_ids` is a sketch: expected the tensor, or a `prompt` to make it from, found neither";
            return Err(fail(dump, problem));
        };
        let input_ids = Tensor::f_from_slice(&self.tokenizer.encode(prompt)?)?.f_view([1, -1])?;
        check(dump, entry, "the prompt", &input_ids)?;
        Ok(input_ids)
    }

    /// The tiles of the user's pictures, each of which must be the file that the request names.
    fn read_pictures(&self, dump: &Dump) -> Result<Option<Preprocessed>> {
        if self.images.is_empty() {
            return Ok(None);
        }
        let pictures = preprocess(self.images, &self.config.image_processor)?;
        let Some(request) = &dump.manifest().request else { return Ok(Some(pictures)) };
        let (expected, found) = (request.images.len(), self.images.len());
        if expected != found {
            let problem = format!("`request.images`: expected {expected} pictures, found {found} `--image`");
            return Err(Error::OtherPictures { dir: dump.path().to_owned(), problem });
        }
        for (place, (image, picture)) in request.images.iter().zip(&pictures.pictures).enumerate() {
            if image.sha256 != picture.sha256 {
                let problem = format!(
                    "picture {} of the request, `{}`: expected SHA-256 {}, found {} in `{}`",
                    place + 1,
                    image.file,
                    image.sha256,
                    picture.sha256,
                    self.images[place].display()
                );
                return Err(Error::OtherPictures { dir: dump.path().to_owned(), problem });
            }
        }
        Ok(Some(pictures))
    }

    /// `pixel_values` of a dump that has no such tensor.
    fn pixel_values(
        &self,
        dump: &Dump,
        input_ids: &Tensor,
        pictures: Option<Preprocessed>,
    ) -> Result<Option<Tensor>> {
        let entry = dump.entry(PIXEL_VALUES);
        let images = dump.manifest().request.as_ref().map_or(&[][..], |request| &request.images);
        let image_token = i64::from(self.config.image_token_id);
        let image_tokens = input_ids.try_eq(image_token)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        if entry.is_none() && image_tokens == 0 {
            return Ok(None);
        }
        let Some(pixel_values) = pictures.and_then(|pictures| pictures.pixel_values) else {
            let what = match entry {
                Some(_) => "`pixel_values` is a sketch".to_owned(),
                None => format!("it has no entry `pixel_values`, and {image_tokens} image tokens"),
            };
            let problem = format!("{what}: expected {} to make it from, found none", files(images));
            return Err(Error::NoPictures { dir: dump.path().to_owned(), problem });
        };
        let Some(entry) = entry else { return Ok(Some(pixel_values)) };
        let kind =
            float_kind_of(entry.dtype).ok_or_else(|| unexpected_dtype(dump, PIXEL_VALUES, entry.dtype))?;
        let pixel_values = pixel_values.f_to_kind(kind)?;
        check(dump, entry, "the pictures", &pixel_values)?;
        Ok(Some(pixel_values))
    }
}

/// The pictures of a request, in words.
fn files(images: &[Image]) -> String {
    if images.is_empty() {
        return "the request's pictures".to_owned();
    }
    let file = |image: &Image| format!("`{}` (SHA-256 {})", image.file, image.sha256);
    images.iter().map(file).collect::<Vec<_>>().join(", ")
}

/// Whether a tensor that was made again is the recorded one.
fn check(dump: &Dump, entry: &Entry, from: &str, made: &Tensor) -> Result<()> {
    let (shape, sha256) = with_bytes(made, |shape, data| Ok((shape.to_vec(), golden::sha256_hex(data))))?;
    let mismatch = |expected: String, found: String| Error::OtherPreprocessing {
        dir: dump.path().to_owned(),
        problem: format!("`{}` made from {from}: expected {expected}, found {found}", entry.name),
    };
    if shape != entry.shape {
        return Err(mismatch(format!("shape {:?}", entry.shape), format!("{shape:?}")));
    }
    if sha256 != entry.sha256 {
        return Err(mismatch(format!("SHA-256 {}", entry.sha256), sha256));
    }
    Ok(())
}

/// The tensor of an input: of token ids, or of pixels in whatever floating-point dtype.
fn tensor_of(dump: &Dump, name: &str, view: &golden::TensorView<'_>) -> Result<Tensor> {
    let kind = match name {
        INPUT_IDS => Some(Kind::Int64).filter(|_| view.dtype() == Dtype::Int64),
        _ => float_kind_of(view.dtype()),
    };
    let kind = kind.ok_or_else(|| unexpected_dtype(dump, name, view.dtype()))?;
    let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

fn unexpected_dtype(dump: &Dump, name: &str, found: Dtype) -> Error {
    let expected = if name == INPUT_IDS { "int64" } else { "float32, bfloat16 or float16" };
    fail(dump, &format!("entry `{name}`: expected dtype {expected}, found {found}"))
}
