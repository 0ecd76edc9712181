//! What a class takes for a field that a configuration file doesn't write.

use std::collections::BTreeMap;

use ruff_python_ast::{Expr, Stmt};

use super::constants::{Constant, literal};
use super::with_module;

/// The defaults of a class by field, each with its line; `None` for one that is no literal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ClassDefaults(BTreeMap<String, (Option<Constant>, usize)>);

impl ClassDefaults {
    /// The default of `field` and its line.
    pub(crate) fn get(&self, field: &str) -> Option<(&Constant, usize)> {
        let (value, line) = self.0.get(field)?;
        Some((value.as_ref()?, *line))
    }
}

/// The defaults of the class `name`: of the parameters of `__init__`, and of the class's own attributes.
pub(crate) fn class_defaults(text: &[u8], name: &str) -> Result<ClassDefaults, String> {
    with_module(text, |module| {
        let classes: Vec<_> = module.classes().filter(|class| class.name.as_str() == name).collect();
        let [class] = classes.as_slice() else {
            return Err(format!("it has {} classes `{name}`", classes.len()));
        };
        let mut defaults = BTreeMap::new();
        let mut add = |field: &str, value: &Expr| {
            let known = defaults.insert(field.to_string(), (literal(value), module.line(value)));
            // Assigned again: the last one need not be the one that counts.
            if let Some((_, line)) = known {
                defaults.insert(field.to_string(), (None, line));
            }
        };
        for statement in &class.body {
            match statement {
                Stmt::Assign(assign) => {
                    for target in &assign.targets {
                        if let Expr::Name(target) = target {
                            add(target.id.as_str(), &assign.value);
                        }
                    }
                }
                Stmt::AnnAssign(assign) => {
                    if let (Expr::Name(target), Some(value)) = (assign.target.as_ref(), &assign.value) {
                        add(target.id.as_str(), value);
                    }
                }
                _ => {}
            }
        }
        for statement in &class.body {
            let Stmt::FunctionDef(def) = statement else { continue };
            if def.name.as_str() == "__init__" {
                for parameter in def.parameters.iter_non_variadic_params() {
                    if let Some(value) = parameter.default() {
                        let field = parameter.name().to_string();
                        defaults.insert(field, (literal(value), module.line(value)));
                    }
                }
            }
        }
        Ok(ClassDefaults(defaults))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parameters_and_attributes_of_one_class() {
        let code = b"\
class Other:
    size = 1
class Config(Base):
    do_rescale = True
    twice = 1
    twice = 2
    typed: float = -0.5
    size = 7
    def __init__(self, vision=None, size=512, *, version='v1', made=make(), needed, **kwargs):
        self.late = 3
";
        let defaults = class_defaults(code, "Config").unwrap();
        assert_eq!(defaults.get("size"), Some((&Constant::Int(512), 9)));
        assert_eq!(defaults.get("version"), Some((&Constant::Text("v1".into()), 9)));
        assert_eq!(defaults.get("do_rescale"), Some((&Constant::Bool(true), 4)));
        assert_eq!(defaults.get("typed"), Some((&Constant::Float(-0.5), 7)));
        assert_eq!(defaults.get("vision"), Some((&Constant::None, 9)));
        for unknown in ["twice", "made", "needed", "late", "kwargs"] {
            assert_eq!(defaults.get(unknown), None, "{unknown}");
        }
        assert_eq!(class_defaults(code, "Config2"), Err("it has 0 classes `Config2`".to_string()));
    }
}
