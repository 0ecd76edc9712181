//! Values that can be told without running anything: literals, and names that are bound once, to a literal.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ExprContext, Number, Stmt, UnaryOp};
use serde_json::Value;

use super::syntax::{Function, Module};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a point.
    Float(f64),
    /// A text.
    Text(String),
}

impl Constant {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
        }
    }
}

/// The value of a literal.
pub(super) fn literal(expr: &Expr) -> Option<Constant> {
    match expr {
        Expr::NoneLiteral(_) => Some(Constant::None),
        Expr::BooleanLiteral(literal) => Some(Constant::Bool(literal.value)),
        Expr::StringLiteral(literal) => Some(Constant::Text(literal.value.to_str().to_string())),
        Expr::NumberLiteral(literal) => match &literal.value {
            Number::Int(value) => value.as_i64().map(Constant::Int),
            Number::Float(value) => Some(Constant::Float(*value)),
            Number::Complex { .. } => None,
        },
        Expr::UnaryOp(unary) => match (unary.op, literal(&unary.operand)?) {
            (UnaryOp::USub, Constant::Int(value)) => value.checked_neg().map(Constant::Int),
            (UnaryOp::USub, Constant::Float(value)) => Some(Constant::Float(-value)),
            (UnaryOp::Not, Constant::Bool(value)) => Some(Constant::Bool(!value)),
            _ => None,
        },
        _ => None,
    }
}

/// The value of an expression inside `function`, or why it cannot be told.
pub(super) fn constant(module: &Module<'_>, function: Function<'_>, expr: &Expr) -> Result<Constant, String> {
    let bound = match expr {
        Expr::Name(_) | Expr::Attribute(_) => bound(module, function, expr)?,
        _ => expr,
    };
    literal(bound).ok_or_else(|| format!("`{}` is not a constant", module.text_of(bound)))
}

/// What a name, or an attribute of `self`, is bound to, if it is bound exactly once.
pub(super) fn bound<'a>(
    module: &Module<'a>,
    function: Function<'a>,
    expr: &Expr,
) -> Result<&'a Expr, String> {
    let unclear = || format!("`{}` may change", module.text_of(expr));
    match expr {
        Expr::Name(name) => {
            let name = name.id.as_str();
            let parameters = &function.def.parameters;
            if parameters.iter().any(|parameter| parameter.name().as_str() == name) {
                return Err(format!("`{name}` is a parameter"));
            }
            let target = Target::Name(name);
            let inside = Bindings::of(&function.def.body, target);
            let found = if inside.count > 0 { inside } else { Bindings::of(module.body, target) };
            found.only().ok_or_else(unclear)
        }
        Expr::Attribute(attribute) if super::syntax::is_self(expr, attribute.attr.as_str()) => {
            let name = attribute.attr.as_str();
            let on_self = Bindings::of(module.body, Target::Attribute(name));
            let class = function.class.map_or(&[][..], |class| class.body.as_slice());
            let found = if on_self.count > 0 { on_self } else { Bindings::directly_in(class, name) };
            found.only().ok_or_else(unclear)
        }
        _ => Err(unclear()),
    }
}

#[derive(Clone, Copy)]
enum Target<'n> {
    Name(&'n str),
    Attribute(&'n str),
}

impl Target<'_> {
    fn is(self, expr: &Expr) -> bool {
        match (self, expr) {
            (Self::Name(name), Expr::Name(found)) => {
                found.id.as_str() == name && !matches!(found.ctx, ExprContext::Load)
            }
            (Self::Attribute(name), Expr::Attribute(found)) => {
                found.attr.as_str() == name && !matches!(found.ctx, ExprContext::Load)
            }
            _ => false,
        }
    }
}

/// Every place that binds a name, wherever it is nested, and the last value that is plainly assigned.
struct Bindings<'a, 'n> {
    target: Target<'n>,
    count: usize,
    value: Option<&'a Expr>,
}

impl<'a, 'n> Bindings<'a, 'n> {
    fn of(body: &'a [Stmt], target: Target<'n>) -> Self {
        let mut bindings = Self { target, count: 0, value: None };
        body.iter().for_each(|statement| bindings.visit_stmt(statement));
        bindings
    }

    /// Of the statements of a class itself, not of its methods.
    fn directly_in(body: &'a [Stmt], name: &'n str) -> Self {
        let mut bindings = Self { target: Target::Name(name), count: 0, value: None };
        for statement in body.iter().filter(|statement| !statement.is_function_def_stmt()) {
            bindings.visit_stmt(statement);
        }
        bindings
    }

    fn only(self) -> Option<&'a Expr> {
        self.value.filter(|_| self.count == 1)
    }
}

impl<'a> Visitor<'a> for Bindings<'a, '_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Assign(assign) => {
                if let [target] = assign.targets.as_slice()
                    && self.target.is(target)
                {
                    self.value = Some(&assign.value);
                }
            }
            Stmt::AnnAssign(assign) if self.target.is(&assign.target) => {
                self.value = assign.value.as_deref();
            }
            // Bound from elsewhere: nobody can count that.
            Stmt::Global(global) => self.count += 2 * usize::from(self.names(&global.names)),
            Stmt::Nonlocal(nonlocal) => self.count += 2 * usize::from(self.names(&nonlocal.names)),
            _ => {}
        }
        walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        self.count += usize::from(self.target.is(expr));
        walk_expr(self, expr);
    }
}

impl Bindings<'_, '_> {
    fn names(&self, names: &[ruff_python_ast::Identifier]) -> bool {
        matches!(self.target, Target::Name(target) if names.iter().any(|name| name.as_str() == target))
    }
}
