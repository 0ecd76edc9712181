//! A parsed module: its classes and functions by name, and the lines of its nodes.

use ruff_python_ast::{Arguments, Expr, Stmt, StmtClassDef, StmtFunctionDef};
use ruff_python_parser::parse_module;
use ruff_text_size::Ranged;

/// A parsed module.
pub(super) struct Module<'a> {
    text: &'a str,
    pub(super) body: &'a [Stmt],
}

/// A function or method, and the class that it is in.
#[derive(Clone, Copy)]
pub(super) struct Function<'a> {
    pub(super) class: Option<&'a StmtClassDef>,
    pub(super) def: &'a StmtFunctionDef,
}

impl Module<'_> {
    /// Parses `text` and hands the module on.
    pub(super) fn parse<T>(text: &str, analyse: impl FnOnce(&Module<'_>) -> T) -> Result<T, String> {
        match parse_module(text) {
            Ok(parsed) => Ok(analyse(&Module { text, body: &parsed.syntax().body })),
            Err(error) => {
                let line = line_at(text, error.location.start().to_usize());
                Err(format!("line {line} is not Python that this program can parse: {}", error.error))
            }
        }
    }
}

impl<'a> Module<'a> {
    /// The line of a node, from 1.
    pub(super) fn line(&self, node: &impl Ranged) -> usize {
        line_at(self.text, node.range().start().to_usize())
    }

    /// The text of a node on one line, cut where it is long.
    pub(super) fn text_of(&self, node: &impl Ranged) -> String {
        let text = self.text.get(node.range().to_std_range()).unwrap_or_default();
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(100) {
            Some((cut, _)) => format!("{}…", &line[..cut]),
            None => line,
        }
    }

    /// The classes of the module.
    pub(super) fn classes(&self) -> impl Iterator<Item = &'a StmtClassDef> {
        self.body.iter().filter_map(|statement| match statement {
            Stmt::ClassDef(class) => Some(class),
            _ => None,
        })
    }

    /// The only method of the name in the class `class`, or in the only class that has one.
    pub(super) fn method(&self, class: &str, name: &str) -> Result<Function<'a>, String> {
        let all: Vec<Function<'a>> = self
            .classes()
            .flat_map(|class| class.body.iter().map(move |statement| (class, statement)))
            .filter_map(|(class, statement)| match statement {
                Stmt::FunctionDef(def) if def.name.as_str() == name => {
                    Some(Function { class: Some(class), def })
                }
                _ => None,
            })
            .collect();
        let of_class: Vec<Function<'a>> = all
            .iter()
            .copied()
            .filter(|found| found.class.is_some_and(|c| c.name.as_str() == class))
            .collect();
        match (of_class.as_slice(), all.as_slice()) {
            ([one], _) | ([], [one]) => Ok(*one),
            ([], []) => Err(format!("it has no method `{name}`")),
            _ => Err(format!("it has several methods `{name}`")),
        }
    }
}

/// The last part of what is called: `interpolate` of `torch.nn.functional.interpolate`.
pub(super) fn last_name(callee: &Expr) -> Option<&str> {
    match callee {
        Expr::Attribute(attribute) => Some(attribute.attr.as_str()),
        Expr::Name(name) => Some(name.id.as_str()),
        _ => None,
    }
}

/// Whether `expr` is `self.name`.
pub(super) fn is_self(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Attribute(attribute) if attribute.attr.as_str() == name => {
            matches!(attribute.value.as_ref(), Expr::Name(owner) if owner.id.as_str() == "self")
        }
        _ => false,
    }
}

/// Whether arguments are hidden behind `*` or `**`.
pub(super) fn has_unpacking(arguments: &Arguments) -> bool {
    arguments.args.iter().any(|argument| matches!(argument, Expr::Starred(_)))
        || arguments.keywords.iter().any(|keyword| keyword.arg.is_none())
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}
