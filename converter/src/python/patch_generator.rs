//! `vit_patch_generator.py`: how the position table is resized in inference.

use super::constants::{Constant, constant};
use super::syntax::{Function, Module, has_unpacking, last_name};
use super::walk::{ReachedCall, calls, in_inference};
use super::{Judgement, judge};

const CLASS: &str = "ViTPatchGenerator";
const METHOD: &str = "_get_pos_embeddings";
/// Places of the arguments of PyTorch's `interpolate`.
const MODE: usize = 3;
const ALIGN_CORNERS: usize = 4;
const ANTIALIAS: usize = 6;

/// Whether the code resizes positions with corners aligned.
///
/// # Source
/// RADIO's `ViTPatchGenerator._get_pos_embeddings`: every `interpolate` that inference can reach must agree.
pub(crate) fn align_corners(text: &[u8]) -> Judgement<bool> {
    judge(text, |module| {
        let function = match module.method(CLASS, METHOD) {
            Ok(function) => function,
            Err(reason) => return Judgement::unknown(None, reason),
        };
        let mut found: Option<(bool, usize, String)> = None;
        for ReachedCall { call, .. } in calls(&function.def.body, &in_inference) {
            let line = module.line(call);
            match last_name(&call.func) {
                Some("grid_sample") => {
                    return Judgement::unknown(line, "`grid_sample` may be reached in inference");
                }
                Some("interpolate") => {}
                _ => continue,
            }
            let value = match one(module, function, call) {
                Judgement::Found { value, .. } => value,
                other => return other,
            };
            match &found {
                Some((first, first_line, _)) if *first != value => {
                    let reason = format!("`align_corners` is {first} in line {first_line} and {value} here");
                    return Judgement::unknown(line, reason);
                }
                Some(_) => {}
                None => found = Some((value, line, module.text_of(call))),
            }
        }
        match found {
            Some((value, line, call)) => {
                Judgement::Found { value, line, detail: format!("`{call}` in `{METHOD}`") }
            }
            None => {
                Judgement::unknown(module.line(function.def), format!("`{METHOD}` calls no `interpolate`"))
            }
        }
    })
}

/// What a single call of `interpolate` does.
fn one(module: &Module<'_>, function: Function<'_>, call: &ruff_python_ast::ExprCall) -> Judgement<bool> {
    let line = module.line(call);
    if has_unpacking(&call.arguments) {
        return Judgement::unknown(line, "`interpolate` is called with unpacked arguments");
    }
    let argument = |name: &str, place: usize, default: Constant| {
        let found = call.arguments.find_argument_value(name, place);
        found.map_or(Ok(default), |expr| constant(module, function, expr))
    };
    let arguments = argument("mode", MODE, Constant::Text("nearest".into())).and_then(|mode| {
        let align_corners = argument("align_corners", ALIGN_CORNERS, Constant::None)?;
        Ok((mode, align_corners, argument("antialias", ANTIALIAS, Constant::Bool(false))?))
    });
    let (mode, align_corners, antialias) = match arguments {
        Ok(arguments) => arguments,
        Err(reason) => return Judgement::unknown(line, reason),
    };
    if mode != Constant::Text("bilinear".into()) || antialias != Constant::Bool(false) {
        let found = format!("`{}`", module.text_of(call));
        return Judgement::Unsupported { line, expected: "a bilinear resize of positions", found };
    }
    match align_corners {
        Constant::Bool(value) => Judgement::Found { value, line, detail: String::new() },
        // PyTorch takes it for false.
        Constant::None => Judgement::Found { value: false, line, detail: String::new() },
        _ => Judgement::unknown(line, "`align_corners` is neither true nor false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patch generator of our own, whose resize in inference is `body`.
    fn generator(body: &str) -> String {
        let body = body.replace('\n', "\n                ");
        format!(
            "import torch.nn.functional as F\n\
             class ViTPatchGenerator:\n    \
                 def _get_pos_embeddings(self, size):\n        \
                     table = self.table()\n        \
                     if self.enlarged:\n            \
                         if self.training:\n                \
                             table = F.grid_sample(table, self.random_grid(), align_corners=True)\n            \
                         else:\n                \
                             {body}\n        \
                     return table.flatten(2)\n"
        )
    }

    fn value(body: &str) -> Option<bool> {
        match align_corners(generator(body).as_bytes()) {
            Judgement::Found { value, .. } => Some(value),
            _ => None,
        }
    }

    fn reason(body: &str) -> String {
        match align_corners(generator(body).as_bytes()) {
            Judgement::Unknown { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tells_keywords_in_any_order_places_and_defaults() {
        for (body, expected) in [
            ("table = F.interpolate(table, size=(9, 9), align_corners=True, mode='bilinear')", true),
            ("table = F.interpolate(table, mode='bilinear', align_corners=False, size=(9, 9))", false),
            (
                "table = torch.nn.functional.interpolate(table.float(), (9, 9), None, \"bilinear\", True)",
                true,
            ),
            ("table = interpolate(input=table, size=9, mode='bilinear')", false),
            ("table = F.interpolate(table, size=9, mode='bilinear', align_corners=None)", false),
            ("table = F.interpolate(table, size=9, mode='bilinear', align_corners=not True)", false),
            (
                "align = True\ntable = F.interpolate(table, size=9, mode='bilinear', align_corners=align)",
                true,
            ),
            (
                "return F.interpolate(table, size=9, mode='bilinear', align_corners=True).to(table.dtype)",
                true,
            ),
        ] {
            assert_eq!(value(body), Some(expected), "{body}");
        }
    }

    #[test]
    fn names_line_and_code() {
        let text = generator("table = F.interpolate(table, size=9, mode='bilinear',\n  align_corners=True)");
        let Judgement::Found { line, detail, .. } = align_corners(text.as_bytes()) else { panic!("found") };
        assert_eq!(line, 9);
        assert_eq!(
            detail,
            "`F.interpolate(table, size=9, mode='bilinear', align_corners=True)` in `_get_pos_embeddings`"
        );
    }

    #[test]
    fn follows_constants_of_the_module_and_of_the_object() {
        let call = "table = F.interpolate(table, size=9, mode=MODE, align_corners=self.align)";
        let with = |more: &str| format!("MODE = 'bilinear'\n{}{more}", generator(call));
        let found = |text: &str| match align_corners(text.as_bytes()) {
            Judgement::Found { value, .. } => Some(value),
            _ => None,
        };
        let once = "    def __init__(self):\n        self.align = True\n";
        assert_eq!(found(&with(once)), Some(true));
        assert_eq!(found(&with("    align = False\n")), Some(false));
        assert_eq!(found(&with(&format!("{once}    def other(self):\n        self.align = False\n"))), None);
        assert_eq!(found(&with("    def __init__(self, align=True):\n        self.align = align\n")), None);
        assert_eq!(found(&with(&format!("{once}MODE = 'nearest'\n"))), None);
    }

    #[test]
    fn what_only_training_does_is_left_out_however_it_is_written() {
        let call = |align: bool| {
            let align = if align { "True" } else { "False" };
            format!("F.interpolate(table, size=9, mode='bilinear', align_corners={align})")
        };
        let (yes, no) = (call(true), call(false));
        for body in [
            format!("if not self.training:\n    table = {no}\nelse:\n    table = {yes}"),
            format!("if self.training and self.enlarged:\n    table = {yes}\nelse:\n    table = {no}"),
            format!("if self.training:\n    return {yes}\nreturn {no}"),
            format!("if not self.training or self.enlarged:\n    return {no}\nreturn {yes}"),
            format!("table = {yes} if self.training else {no}"),
            format!("with torch.no_grad():\n    table = {no}"),
        ] {
            assert_eq!(value(&body), Some(false), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        let call = |align: &str| {
            format!("table = F.interpolate(table, size=9, mode='bilinear', align_corners={align})")
        };
        assert_eq!(
            reason(&call("True if size > 3 else False")),
            "`True if size > 3 else False` is not a constant"
        );
        assert_eq!(reason(&call("size")), "`size` is a parameter");
        assert_eq!(reason(&call("self.align")), "`self.align` may change");
        assert_eq!(reason(&call("1")), "`align_corners` is neither true nor false");
        let twice = format!("align = True\nif size > 3:\n    align = False\n{}", call("align"));
        assert_eq!(reason(&twice), "`align` may change");
        let both = format!("if size > 3:\n    {}\nelse:\n    {}", call("True"), call("False"));
        assert_eq!(reason(&both), "`align_corners` is true in line 10 and false here");
        assert_eq!(
            reason("table = F.interpolate(table, **self.options)"),
            "`interpolate` is called with unpacked arguments"
        );
        assert_eq!(reason("table = F.grid_sample(table, grid)"), "`grid_sample` may be reached in inference");
        assert_eq!(reason("table = self.resize(table)"), "`_get_pos_embeddings` calls no `interpolate`");
        let of = |text: &str| align_corners(text.as_bytes());
        let unknown = |line, reason: &str| Judgement::<bool>::unknown(line, reason);
        assert_eq!(of("x = 1\n"), unknown(None, "it has no method `_get_pos_embeddings`"));
        let other = generator(&call("True")).replace("ViTPatchGenerator", "Other");
        assert_eq!(
            of(&format!("{other}{}", other.replace("Other", "Another"))),
            unknown(None, "it has several methods `_get_pos_embeddings`")
        );
        let Judgement::Unknown { reason, .. } = of("def f(:\n") else { panic!("unknown") };
        assert!(reason.starts_with("line 1 is not Python that this program can parse: "), "{reason}");
        assert_eq!(align_corners(b"\xff"), unknown(None, "it is not UTF-8"));
    }

    #[test]
    fn another_way_to_resize_is_not_supported() {
        for body in [
            "table = F.interpolate(table, size=9, mode='bicubic', align_corners=True)",
            "table = F.interpolate(table, size=9)",
            "table = F.interpolate(table, size=9, mode='bilinear', antialias=True)",
        ] {
            let judgement = align_corners(generator(body).as_bytes());
            assert!(matches!(judgement, Judgement::Unsupported { line: 9, .. }), "{judgement:?}");
        }
    }

    #[test]
    fn hostile_code_ends_in_a_sentence() {
        let repeat = |text: &str| text.repeat(100_000 / text.len());
        for text in [
            repeat("("),
            repeat("-"),
            format!("x = {}1", repeat("not ")),
            format!("x = a{}", repeat(".b")),
            format!("x = {}", repeat("a if b else ")),
            format!("x = {}1", repeat("1+")),
            repeat("[{"),
            repeat("lambda: "),
            repeat("f'{"),
            format!("x = a{}", repeat("()")),
            (0..500).map(|depth| format!("{}if a:\n", " ".repeat(depth))).collect(),
        ] {
            let judgement = align_corners(text.as_bytes());
            assert!(matches!(judgement, Judgement::Unknown { .. }), "{judgement:?}");
        }
        assert!(matches!(align_corners(&vec![b' '; 2 << 20]), Judgement::Unknown { .. }));
    }

    #[test]
    fn brackets_inside_each_other_are_counted_before_anything_is_parsed() {
        let unknown = Judgement::unknown(None, "it has more than 200 nested brackets");
        for nested in ["f'{", "(", "[", "a{", "print(("] {
            let text = format!("x = {}", nested.repeat(1000));
            assert_eq!(align_corners(text.as_bytes()), unknown, "{nested}");
        }
        let call = "table = F.interpolate(table, size=9, mode='bilinear', align_corners=True)";
        let beside = format!("{}{}", "x = ((1))\n".repeat(1000), generator(call));
        assert!(matches!(align_corners(beside.as_bytes()), Judgement::Found { value: true, .. }));
    }
}
