//! `modeling.py` and `input_conditioner.py`: the steps around tower and language model.

use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{CmpOp, Expr, Operator, Stmt};

use super::constants::{Constant, constant, literal};
use super::syntax::{Function, Module, has_unpacking, is_self, last_name};
use super::walk::{calls, decide_with, in_inference};
use super::{Judgement, judge, with_module};

const CLASS: &str = "Llama_Nemotron_Nano_VL";
/// PyTorch's own epsilon of a LayerNorm.
const LAYER_NORM_EPS: f64 = 1e-5;

/// What `modeling.py` says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Modeling {
    /// How often the pixel shuffle swaps rows and columns, under the version asked for.
    pub(crate) swaps: Judgement<usize>,
    /// The dtype that the tower's features are cast to.
    pub(crate) features_dtype: Judgement<String>,
    /// Epsilon of the projector's LayerNorm.
    pub(crate) layer_norm_eps: Judgement<f64>,
    /// The text of the token that features replace.
    pub(crate) image_token: Judgement<String>,
}

/// Reads the code of the model, whose configuration has `ps_version`.
///
/// # Source
/// `Llama_Nemotron_Nano_VL`: `pixel_shuffle`, `extract_feature`, `mlp1` of `__init__`, `chat`.
pub(crate) fn modeling(text: &[u8], ps_version: &str) -> Modeling {
    let judged = with_module(text, |module| Modeling {
        swaps: of_method(module, "pixel_shuffle", |module, function| swaps(module, function, ps_version)),
        features_dtype: of_method(module, "extract_feature", features_dtype),
        layer_norm_eps: of_method(module, "__init__", projector),
        image_token: of_method(module, "chat", image_token),
    });
    judged.unwrap_or_else(|reason| Modeling {
        swaps: Judgement::unknown(None, reason.as_str()),
        features_dtype: Judgement::unknown(None, reason.as_str()),
        layer_norm_eps: Judgement::unknown(None, reason.as_str()),
        image_token: Judgement::unknown(None, reason.as_str()),
    })
}

fn of_method<T>(
    module: &Module<'_>,
    name: &str,
    analyse: impl FnOnce(&Module<'_>, Function<'_>) -> Judgement<T>,
) -> Judgement<T> {
    match module.method(CLASS, name) {
        Ok(function) => analyse(module, function),
        Err(reason) => Judgement::unknown(None, reason),
    }
}

fn swaps(module: &Module<'_>, function: Function<'_>, ps_version: &str) -> Judgement<usize> {
    let decide = |test: &Expr| decide_with(test, &|atom| compares_version(atom, ps_version));
    let mut count = 0;
    let mut last = module.line(function.def);
    for reached in calls(&function.def.body, &decide) {
        let call = reached.call;
        let is_swap = match last_name(&call.func) {
            Some("permute") => {
                let axes = match &call.arguments.args[..] {
                    [Expr::Tuple(tuple)] => tuple.elts.as_slice(),
                    axes => axes,
                };
                let axes: Option<Vec<Constant>> = axes.iter().map(literal).collect();
                axes == Some([0, 2, 1, 3].map(Constant::Int).to_vec())
            }
            Some("transpose" | "swapaxes") => {
                let axes: Option<Vec<Constant>> = call.arguments.args.iter().map(literal).collect();
                axes == Some([1, 2].map(Constant::Int).to_vec())
                    || axes == Some([2, 1].map(Constant::Int).to_vec())
            }
            _ => continue,
        };
        last = module.line(call);
        if !is_swap || reached.is_conditional {
            let reason = format!("`{}` is not a plain swap of rows and columns", module.text_of(call));
            return Judgement::unknown(last, reason);
        }
        count += 1;
    }
    let detail = format!("`pixel_shuffle` swaps rows and columns {count} times under `{ps_version}`");
    Judgement::Found { value: count, line: last, detail }
}

/// The truth of `self.ps_version == 'v1'` and its like.
fn compares_version(test: &Expr, ps_version: &str) -> Option<bool> {
    let Expr::Compare(compare) = test else { return None };
    let ([op], [right]) = (&compare.ops[..], &compare.comparators[..]) else { return None };
    let is_version = |expr: &Expr| last_name(expr) == Some("ps_version");
    let texts: Vec<Constant> = match right {
        Expr::Tuple(ruff_python_ast::ExprTuple { elts, .. })
        | Expr::List(ruff_python_ast::ExprList { elts, .. }) => {
            elts.iter().map(literal).collect::<Option<_>>()?
        }
        other if is_version(&compare.left) => vec![literal(other)?],
        other if is_version(other) => vec![literal(&compare.left)?],
        _ => return None,
    };
    if !is_version(&compare.left) && !is_version(right) {
        return None;
    }
    let is_it = texts.contains(&Constant::Text(ps_version.to_string()));
    match op {
        CmpOp::Eq | CmpOp::In => Some(is_it),
        CmpOp::NotEq | CmpOp::NotIn => Some(!is_it),
        _ => None,
    }
}

fn features_dtype(module: &Module<'_>, function: Function<'_>) -> Judgement<String> {
    let mut found = None;
    for reached in calls(&function.def.body, &in_inference) {
        let call = reached.call;
        let line = module.line(call);
        let dtype = match last_name(&call.func) {
            Some("bfloat16") => "bfloat16".to_string(),
            Some("half") => "float16".to_string(),
            Some("float") => "float32".to_string(),
            Some("to") => match call.arguments.find_argument_value("dtype", 0) {
                Some(Expr::Attribute(attribute)) if attribute.attr.as_str().contains("float") => {
                    attribute.attr.to_string()
                }
                _ => return Judgement::unknown(line, format!("`{}` names no dtype", module.text_of(call))),
            },
            _ => continue,
        };
        if found.is_some() || reached.is_conditional {
            return Judgement::unknown(line, "the features may be cast several times");
        }
        found = Some((dtype, line, module.text_of(call)));
    }
    match found {
        Some((value, line, text)) => {
            Judgement::Found { value, line, detail: format!("`{text}` in `extract_feature`") }
        }
        None => Judgement::unknown(module.line(function.def), "`extract_feature` casts nothing"),
    }
}

fn projector(module: &Module<'_>, function: Function<'_>) -> Judgement<f64> {
    let unknown = |line, reason: &str| Judgement::unknown(line, reason);
    let layers = function.def.body.iter().find_map(|statement| match statement {
        Stmt::Assign(assign) if assign.targets.iter().any(|target| is_self(target, "mlp1")) => {
            match assign.value.as_ref() {
                Expr::Call(call) if last_name(&call.func) == Some("Sequential") => Some(call),
                _ => None,
            }
        }
        _ => None,
    });
    let Some(layers) = layers else {
        return unknown(
            module.line(function.def),
            "`__init__` builds no `mlp1` of layers one after the other",
        );
    };
    let line = module.line(layers);
    let calls: Option<Vec<_>> = layers.arguments.args.iter().map(|layer| layer.as_call_expr()).collect();
    let calls = calls.unwrap_or_default();
    let names: Vec<_> = calls.iter().map(|call| last_name(&call.func).unwrap_or_default()).collect();
    if names != ["LayerNorm", "Linear", "GELU", "Linear"] {
        let expected = "a projector of `LayerNorm`, `Linear`, `GELU` and `Linear`";
        return Judgement::Unsupported { line, expected, found: format!("`{}`", names.join("`, `")) };
    }
    let (norm, gelu) = (calls[0], calls[2]);
    if has_unpacking(&norm.arguments) || has_unpacking(&gelu.arguments) {
        return unknown(line, "a layer of `mlp1` has unpacked arguments");
    }
    if let Some(approximate) = gelu.arguments.find_argument_value("approximate", 0)
        && constant(module, function, approximate) != Ok(Constant::Text("none".into()))
    {
        let found = format!("`{}`", module.text_of(gelu));
        return Judgement::Unsupported { line: module.line(gelu), expected: "the exact GELU", found };
    }
    let eps = match norm.arguments.find_argument_value("eps", 1) {
        None => Ok(Constant::Float(LAYER_NORM_EPS)),
        Some(eps) => constant(module, function, eps),
    };
    match eps {
        Ok(Constant::Float(value)) => {
            let (line, detail) = (module.line(norm), format!("`{}` in `mlp1`", module.text_of(norm)));
            Judgement::Found { value, line, detail }
        }
        Ok(_) => unknown(line, "`eps` is not a number with a decimal point"),
        Err(reason) => unknown(line, &reason),
    }
}

fn image_token(module: &Module<'_>, function: Function<'_>) -> Judgement<String> {
    const PARAMETER: &str = "IMG_CONTEXT_TOKEN";
    let parameter = function
        .def
        .parameters
        .iter_non_variadic_params()
        .find(|parameter| parameter.name().as_str() == PARAMETER);
    match parameter
        .and_then(|parameter| parameter.default())
        .map(|value| (literal(value), module.line(value)))
    {
        Some((Some(Constant::Text(value)), line)) => {
            Judgement::Found { value, line, detail: format!("`{PARAMETER}` of `chat`") }
        }
        _ => Judgement::unknown(module.line(function.def), format!("`chat` has no default of `{PARAMETER}`")),
    }
}

/// Whether `input_conditioner.py` takes the mean away and divides by the deviation, and does no more.
///
/// # Source
/// RADIO's `InputConditioner.forward`.
pub(crate) fn conditioner(text: &[u8]) -> Judgement<()> {
    judge(text, |module| {
        let function = match module.method("InputConditioner", "forward") {
            Ok(function) => function,
            Err(reason) => return Judgement::unknown(None, reason),
        };
        let mut arithmetic = Arithmetic(Vec::new());
        function.def.body.iter().for_each(|statement| arithmetic.visit_stmt(statement));
        let line = module.line(function.def);
        match arithmetic.0.as_slice() {
            [Expr::BinOp(quotient)]
                if quotient.op == Operator::Div && is_self(&quotient.right, "norm_std") =>
            {
                let Expr::BinOp(difference) = quotient.left.as_ref() else {
                    return Judgement::unknown(line, "`forward` divides something else");
                };
                let line = module.line(quotient);
                if difference.op == Operator::Sub
                    && difference.left.is_name_expr()
                    && is_self(&difference.right, "norm_mean")
                {
                    Judgement::Found { value: (), line, detail: format!("`{}`", module.text_of(quotient)) }
                } else {
                    Judgement::unknown(line, "`forward` divides something else")
                }
            }
            _ => Judgement::unknown(line, "`forward` is not a single difference and quotient"),
        }
    })
}

/// The arithmetic of a function, each expression once and whole.
struct Arithmetic<'a>(Vec<&'a Expr>);

impl<'a> Visitor<'a> for Arithmetic<'a> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        if expr.is_bin_op_expr() {
            self.0.push(expr);
        } else {
            walk_expr(self, expr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of our own with the steps of the released one.
    const CODE: &str = "\
class Llama_Nemotron_Nano_VL(Base):
    def __init__(self, config):
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(config.width, bias=True),
            nn.Linear(config.width, 8),
            nn.GELU(),
            nn.Linear(8, 8),
        )
    def pixel_shuffle(self, x, scale_factor=0.5):
        x = x.view(1, 2, 3, 4).permute(0, 2, 1, 3)
        if self.ps_version == 'v1':
            warn('transposed')
        else:
            x = x.permute(0, 2, 1, 3).contiguous()
        return x
    def extract_feature(self, pixels):
        features = self.vision_model(pixels).features
        return self.mlp1(features.to(dtype=torch.bfloat16))
    def chat(self, question, IMG_CONTEXT_TOKEN='<image>'):
        return question
";

    fn value<T: Clone>(judgement: &Judgement<T>) -> Option<T> {
        match judgement {
            Judgement::Found { value, .. } => Some(value.clone()),
            _ => None,
        }
    }

    fn with(from: &str, to: &str) -> Modeling {
        assert!(CODE.contains(from));
        modeling(CODE.replace(from, to).as_bytes(), "v2")
    }

    #[test]
    fn tells_every_step() {
        for (version, swaps) in [("v1", 1), ("v2", 2)] {
            let found = modeling(CODE.as_bytes(), version);
            assert_eq!(value(&found.swaps), Some(swaps));
            assert_eq!(value(&found.features_dtype).as_deref(), Some("bfloat16"));
            assert_eq!(value(&found.layer_norm_eps), Some(1e-5));
            assert_eq!(value(&found.image_token).as_deref(), Some("<image>"));
        }
    }

    #[test]
    fn tells_other_spellings_of_the_version() {
        for (test, swaps) in [
            ("self.ps_version != 'v1'", 1),
            ("'v1' == self.ps_version", 2),
            ("self.ps_version in ('v0', 'v1')", 2),
            ("not self.ps_version == 'v2'", 2),
        ] {
            assert_eq!(value(&with("self.ps_version == 'v1'", test).swaps), Some(swaps), "{test}");
        }
        assert_eq!(value(&with("self.ps_version == 'v1'", "self.ps_version < 'v2'").swaps), None);
        assert_eq!(value(&with("x = x.permute(0, 2, 1, 3)", "x = x.transpose(1, 2)").swaps), Some(2));
        assert_eq!(value(&with("x = x.permute(0, 2, 1, 3)", "x = x.permute(0, 3, 1, 2)").swaps), None);
    }

    #[test]
    fn another_projector_is_not_supported_and_another_epsilon_is_taken() {
        assert_eq!(value(&with("bias=True", "eps=1e-6").layer_norm_eps), Some(1e-6));
        assert_eq!(value(&with("bias=True", "eps=config.eps").layer_norm_eps), None);
        for (from, to) in [("nn.GELU()", "nn.GELU(approximate='tanh')"), ("nn.GELU()", "nn.SiLU()")] {
            let judgement = with(from, to).layer_norm_eps;
            assert!(matches!(judgement, Judgement::Unsupported { .. }), "{judgement:?}");
        }
    }

    #[test]
    fn casts_are_told_or_not() {
        let cast = "features.to(dtype=torch.bfloat16)";
        assert_eq!(value(&with(cast, "features.float()").features_dtype).as_deref(), Some("float32"));
        assert_eq!(
            value(&with(cast, "features.to(torch.float16)").features_dtype).as_deref(),
            Some("float16")
        );
        assert_eq!(value(&with(cast, "features.to(self.device)").features_dtype), None);
        assert_eq!(value(&with(cast, "features").features_dtype), None);
    }

    #[test]
    fn the_conditioner_is_a_difference_and_a_quotient() {
        let code = |body: &str| {
            format!(
                "class InputConditioner(Module):\n    def forward(self, x):\n        {body}\n        return y\n"
            )
        };
        let told = |body: &str| value(&conditioner(code(body).as_bytes())).is_some();
        assert!(told("y = (x - self.norm_mean) / self.norm_std"));
        assert!(!told("y = (x + self.norm_mean) / self.norm_std"));
        assert!(!told("y = x / self.norm_std"));
        assert!(!told("y = ((x - self.norm_mean) / self.norm_std) * 2"));
    }
}
