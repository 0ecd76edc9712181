//! `image_processing.py`: by how much a picture is enlarged before it is cut into tiles.

use ruff_python_ast::{Expr, ExprCall, Operator, Stmt};

use super::constants::{Constant, bound, constant};
use super::syntax::{Function, Module, has_unpacking, last_name};
use super::walk::{calls, in_inference};
use super::{Judgement, judge};

const CLASS: &str = "LlamaNemotronNanoVLImageProcessor";
const METHOD: &str = "_process_image";
/// The largest factor that this program takes.
const MAX_FACTOR: usize = 64;

/// By how much the code enlarges a picture in both directions.
///
/// # Source
/// `LlamaNemotronNanoVLImageProcessor._process_image`: the only `resize` there, bilinear, to a multiple of the picture's
/// size.
pub(crate) fn upscale_factor(text: &[u8]) -> Judgement<usize> {
    judge(text, |module| {
        let function = match module.method(CLASS, METHOD) {
            Ok(function) => function,
            Err(reason) => return Judgement::unknown(None, reason),
        };
        let reached = calls(&function.def.body, &in_inference);
        let resizes: Vec<_> = reached
            .iter()
            .filter(|reached| {
                matches!(last_name(&reached.call.func), Some("resize" | "thumbnail" | "interpolate"))
            })
            .collect();
        match resizes.as_slice() {
            [] => {
                let line = module.line(function.def);
                Judgement::Found { value: 1, line, detail: format!("`{METHOD}` resizes nothing") }
            }
            [one] if one.is_conditional => Judgement::unknown(
                module.line(one.call),
                "a condition decides whether the picture is resized",
            ),
            [one] => resize(module, function, one.call),
            [_, second, ..] => {
                Judgement::unknown(module.line(second.call), "the picture is resized several times")
            }
        }
    })
}

fn resize(module: &Module<'_>, function: Function<'_>, call: &ExprCall) -> Judgement<usize> {
    let line = module.line(call);
    if last_name(&call.func) != Some("resize") || has_unpacking(&call.arguments) {
        return Judgement::unknown(line, format!("`{}` is not a plain `resize`", module.text_of(call)));
    }
    let Some(size) = call.arguments.find_argument_value("size", 0) else {
        return Judgement::unknown(line, "`resize` has no size");
    };
    let size = bound(module, function, size).unwrap_or(size);
    let (Expr::Tuple(ruff_python_ast::ExprTuple { elts, .. })
    | Expr::List(ruff_python_ast::ExprList { elts, .. })) = size
    else {
        return Judgement::unknown(
            line,
            format!("`{}` is not a pair of width and height", module.text_of(size)),
        );
    };
    let [width, height] = elts.as_slice() else {
        return Judgement::unknown(line, "the new size has not two numbers");
    };
    let factors = factor(module, function, width).and_then(|w| Ok([w, factor(module, function, height)?]));
    let [(of_width, by_width), (of_height, by_height)] = match factors {
        Ok(factors) => factors,
        Err(reason) => return Judgement::unknown(line, reason),
    };
    let found = format!("`{}`", module.text_of(call));
    let in_range = (1..=MAX_FACTOR).contains(&by_width);
    if (of_width, of_height) != (Side::Width, Side::Height) || by_width != by_height || !in_range {
        let expected = "a picture enlarged by one whole number from 1 to 64 in both directions";
        return Judgement::Unsupported { line, expected, found };
    }
    match resample(module, function, call) {
        Ok(true) => Judgement::Found { value: by_width, line, detail: format!("{found} in `{METHOD}`") },
        Ok(false) => {
            Judgement::Unsupported { line, expected: "a picture that is enlarged bilinearly", found }
        }
        Err(reason) => Judgement::unknown(line, reason),
    }
}

/// Whether Pillow's bilinear filter is asked for; left out, it would be another.
fn resample(module: &Module<'_>, function: Function<'_>, call: &ExprCall) -> Result<bool, String> {
    let Some(filter) = call.arguments.find_argument_value("resample", 1) else { return Ok(false) };
    let filter = match filter {
        Expr::Name(_) => bound(module, function, filter)?,
        other => other,
    };
    match filter {
        // `Image.BILINEAR`, `Image.Resampling.BILINEAR`.
        Expr::Attribute(attribute) => Ok(attribute.attr.as_str() == "BILINEAR"),
        // Its number.
        other => Ok(constant(module, function, other)? == Constant::Int(2)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Width,
    Height,
}

/// A side of the picture times a whole number.
fn factor(module: &Module<'_>, function: Function<'_>, expr: &Expr) -> Result<(Side, usize), String> {
    if let Some(side) = side(module, function, expr) {
        return Ok((side, 1));
    }
    let unclear = || format!("`{}` is not a multiple of the picture's width or height", module.text_of(expr));
    match expr {
        Expr::Call(call) if matches!(last_name(&call.func), Some("int" | "round")) => {
            match &call.arguments.args[..] {
                [inner] if call.arguments.keywords.is_empty() => factor(module, function, inner),
                _ => Err(unclear()),
            }
        }
        Expr::BinOp(product) if product.op == Operator::Mult => {
            let (left, right) = (product.left.as_ref(), product.right.as_ref());
            let (side, times) = match (side(module, function, left), side(module, function, right)) {
                (Some(side), None) => (side, right),
                (None, Some(side)) => (side, left),
                _ => return Err(unclear()),
            };
            match constant(module, function, times)? {
                Constant::Int(times) => Ok((side, usize::try_from(times).map_err(|_| unclear())?)),
                Constant::Float(times) if times.fract() == 0.0 && (0.0..1e6).contains(&times) => {
                    Ok((side, times as usize))
                }
                _ => Err(unclear()),
            }
        }
        Expr::Name(_) => factor(module, function, bound(module, function, expr)?),
        _ => Err(unclear()),
    }
}

/// `image.width`, `image.size[0]`, or a name for one of them.
fn side(module: &Module<'_>, function: Function<'_>, expr: &Expr) -> Option<Side> {
    match expr {
        Expr::Attribute(attribute) => match attribute.attr.as_str() {
            "width" => Some(Side::Width),
            "height" => Some(Side::Height),
            _ => None,
        },
        Expr::Subscript(subscript) => {
            let Expr::Attribute(owner) = subscript.value.as_ref() else { return None };
            match (owner.attr.as_str(), super::constants::literal(&subscript.slice)?) {
                ("size", Constant::Int(0)) => Some(Side::Width),
                ("size", Constant::Int(1)) => Some(Side::Height),
                _ => None,
            }
        }
        Expr::Name(name) => {
            if let Ok(value) = bound(module, function, expr) {
                return match value {
                    Expr::Attribute(_) | Expr::Subscript(_) => side(module, function, value),
                    _ => None,
                };
            }
            unpacked(function, name.id.as_str())
        }
        _ => None,
    }
}

/// The side that `width, height = image.size` gives a name to, if that is the name's only assignment at the top.
fn unpacked(function: Function<'_>, name: &str) -> Option<Side> {
    let mut found = None;
    for statement in &function.def.body {
        let Stmt::Assign(assign) = statement else { continue };
        for target in &assign.targets {
            match target {
                Expr::Name(other) if other.id.as_str() == name => return None,
                Expr::Tuple(pair) => {
                    let place = pair.elts.iter().position(
                        |target| matches!(target, Expr::Name(target) if target.id.as_str() == name),
                    );
                    let Some(place) = place else { continue };
                    let is_size =
                        matches!(assign.value.as_ref(), Expr::Attribute(a) if a.attr.as_str() == "size");
                    if found.is_some() || !is_size || pair.elts.len() != 2 {
                        return None;
                    }
                    found = Some(if place == 0 { Side::Width } else { Side::Height });
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(body: &str) -> Judgement<usize> {
        let body = body.replace('\n', "\n        ");
        let text = format!(
            "TIMES = 2\nclass LlamaNemotronNanoVLImageProcessor(Base):\n    \
             def tiles(self, image):\n        return self.resize(image, self.size)\n    \
             def _process_image(self, image, **kwargs):\n        {body}\n        \
             return super()._process_image(image, **kwargs)\n"
        );
        upscale_factor(text.as_bytes())
    }

    #[test]
    fn tells_the_factor_however_the_size_is_written() {
        for (body, expected) in [
            ("image = image.resize((image.width * 2, image.height * 2), Image.BILINEAR)", 2),
            (
                "image = image.resize((3 * image.width, 3 * image.height), resample=Image.Resampling.BILINEAR)",
                3,
            ),
            ("image = image.resize(resample=2, size=[image.size[0] * 2, image.size[1] * 2])", 2),
            ("w, h = image.size\nimage = image.resize((w * 2, h * 2), Image.BILINEAR)", 2),
            (
                "w = image.width\nh = image.height\nnew = (int(w * 4.0), int(h * 4.0))\nimage = image.resize(new, 2)",
                4,
            ),
            ("image = image.resize((image.width * TIMES, image.height * TIMES), Image.BILINEAR)", 2),
            ("image = image.resize((image.width, image.height), Image.BILINEAR)", 1),
            ("pass", 1),
            ("if self.training:\n    image = image.resize((1, 1))", 1),
        ] {
            match judged(body) {
                Judgement::Found { value, .. } => assert_eq!(value, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_resize_is_not_supported() {
        for body in [
            "image = image.resize((image.width * 2, image.height * 2), Image.BICUBIC)",
            // Pillow's own default is bicubic.
            "image = image.resize((image.width * 2, image.height * 2))",
            "image = image.resize((image.width * 2, image.height * 3), Image.BILINEAR)",
            "image = image.resize((image.height * 2, image.width * 2), Image.BILINEAR)",
            "image = image.resize((image.width * 65, image.height * 65), Image.BILINEAR)",
        ] {
            let judgement = judged(body);
            assert!(matches!(judgement, Judgement::Unsupported { line: 6, .. }), "{body}: {judgement:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        for (body, expected) in [
            (
                "if image.width < 9:\n    image = image.resize((image.width * 2, image.height * 2), Image.BILINEAR)",
                "a condition decides whether the picture is resized",
            ),
            ("image = image.resize((image.width * n, image.height * n), Image.BILINEAR)", "`n` may change"),
            (
                "image = image.resize(self.new_size(image), Image.BILINEAR)",
                "is not a pair of width and height",
            ),
            ("image = image.resize((512, 512), Image.BILINEAR)", "is not a multiple of the picture's width"),
            (
                "image = image.resize((image.width * 1.5, image.height * 1.5), Image.BILINEAR)",
                "is not a multiple of the picture's width",
            ),
            ("image = image.resize((1, 1))\nimage = image.resize((2, 2))", "is resized several times"),
            ("image.thumbnail((9, 9))", "is not a plain `resize`"),
            (
                "w, h = image.size\nw, h = h, w\nimage = image.resize((w * 2, h * 2), Image.BILINEAR)",
                "is not a multiple of the picture's width",
            ),
        ] {
            match judged(body) {
                Judgement::Unknown { reason, .. } => assert!(reason.contains(expected), "{body}: {reason}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert!(matches!(upscale_factor(b"x = 1\n"), Judgement::Unknown { line: None, .. }));
    }
}
