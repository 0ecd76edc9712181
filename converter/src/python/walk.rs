//! The calls that a function makes in inference, where a tower or processor is not in training.

use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{BoolOp, Expr, ExprCall, Stmt, UnaryOp};

use super::syntax::is_self;

/// A call on the way of inference.
#[derive(Clone, Copy)]
pub(super) struct ReachedCall<'a> {
    pub(super) call: &'a ExprCall,
    /// Whether a condition, loop or handler decides if it is made.
    pub(super) is_conditional: bool,
}

/// The calls of `body`, in order, without those that only training makes; `decide` tells a condition's truth where it can.
pub(super) fn calls<'a>(body: &'a [Stmt], decide: &dyn Fn(&Expr) -> Option<bool>) -> Vec<ReachedCall<'a>> {
    let mut walk = Walk { decide, calls: Vec::new(), depth: 0 };
    walk.body(body);
    walk.calls
}

/// What is known of a condition in inference: `self.training` is false, and whatever follows from that.
pub(super) fn in_inference(test: &Expr) -> Option<bool> {
    decide_with(test, &|atom| is_self(atom, "training").then_some(false))
}

/// The truth of `test` by that of its atoms.
pub(super) fn decide_with(test: &Expr, atom: &dyn Fn(&Expr) -> Option<bool>) -> Option<bool> {
    match test {
        Expr::BooleanLiteral(literal) => Some(literal.value),
        Expr::UnaryOp(unary) if unary.op == UnaryOp::Not => {
            decide_with(&unary.operand, atom).map(|truth| !truth)
        }
        Expr::BoolOp(operation) => {
            // One operand may settle it; otherwise all must be known.
            let settles = operation.op == BoolOp::Or;
            let mut truths = operation.values.iter().map(|value| decide_with(value, atom));
            if truths.clone().any(|truth| truth == Some(settles)) {
                return Some(settles);
            }
            truths.all(|truth| truth.is_some()).then_some(!settles)
        }
        other => atom(other),
    }
}

struct Walk<'a, 'd> {
    decide: &'d dyn Fn(&Expr) -> Option<bool>,
    calls: Vec<ReachedCall<'a>>,
    depth: usize,
}

impl<'a> Walk<'a, '_> {
    /// Walks statements; whether the rest is certainly not reached.
    fn body(&mut self, body: &'a [Stmt]) -> bool {
        body.iter().any(|statement| self.statement(statement))
    }

    fn nested(&mut self, body: &'a [Stmt]) {
        self.depth += 1;
        self.body(body);
        self.depth -= 1;
    }

    fn statement(&mut self, statement: &'a Stmt) -> bool {
        match statement {
            Stmt::If(branch) => {
                let first = (Some(branch.test.as_ref()), branch.body.as_slice());
                let others = branch
                    .elif_else_clauses
                    .iter()
                    .map(|clause| (clause.test.as_ref(), clause.body.as_slice()));
                return self.branches(std::iter::once(first).chain(others));
            }
            Stmt::With(with) => {
                with.items.iter().for_each(|item| self.visit_expr(&item.context_expr));
                return self.body(&with.body);
            }
            Stmt::For(each) => {
                self.visit_expr(&each.iter);
                self.nested(&each.body);
                self.nested(&each.orelse);
            }
            Stmt::While(each) => {
                self.nested(&each.body);
                self.nested(&each.orelse);
            }
            Stmt::Try(attempt) => {
                self.nested(&attempt.body);
                for handler in &attempt.handlers {
                    let ruff_python_ast::ExceptHandler::ExceptHandler(handler) = handler;
                    self.nested(&handler.body);
                }
                self.nested(&attempt.orelse);
                self.nested(&attempt.finalbody);
            }
            Stmt::Match(choice) => choice.cases.iter().for_each(|case| self.nested(&case.body)),
            // Called from somewhere, or not.
            Stmt::FunctionDef(inner) => self.nested(&inner.body),
            Stmt::ClassDef(inner) => self.nested(&inner.body),
            Stmt::Return(_) | Stmt::Raise(_) => {
                self.visit_stmt(statement);
                return true;
            }
            other => self.visit_stmt(other),
        }
        false
    }

    fn branches(&mut self, branches: impl Iterator<Item = (Option<&'a Expr>, &'a [Stmt])>) -> bool {
        let mut is_open = false;
        for (test, body) in branches {
            match test.map_or(Some(true), |test| (self.decide)(test)) {
                Some(false) => {}
                Some(true) if is_open => {
                    self.nested(body);
                    return false;
                }
                Some(true) => return self.body(body),
                None => {
                    test.into_iter().for_each(|test| self.visit_expr(test));
                    self.nested(body);
                    is_open = true;
                }
            }
        }
        false
    }
}

impl<'a> Visitor<'a> for Walk<'a, '_> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::If(choice) => match (self.decide)(&choice.test) {
                Some(true) => self.visit_expr(&choice.body),
                Some(false) => self.visit_expr(&choice.orelse),
                None => {
                    self.depth += 1;
                    walk_expr(self, expr);
                    self.depth -= 1;
                }
            },
            Expr::BoolOp(_) | Expr::Lambda(_) | Expr::ListComp(_) | Expr::Generator(_) => {
                self.depth += 1;
                walk_expr(self, expr);
                self.depth -= 1;
            }
            _ => {
                walk_expr(self, expr);
                // Behind its arguments, as it is made.
                if let Expr::Call(call) = expr {
                    self.calls.push(ReachedCall { call, is_conditional: self.depth > 0 });
                }
            }
        }
    }
}
