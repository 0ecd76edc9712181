//! Which rules of a policy match a name: all of them are asked at once, so that many rules cost little more than one.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// The globs of all rules, as they are read.
pub(super) struct Globs {
    builder: GlobSetBuilder,
    rules: Vec<usize>,
}

/// What tells the rules that match a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Matcher {
    set: GlobSet,
    /// The rule of each glob.
    rules: Vec<usize>,
}

impl Globs {
    pub(super) fn new() -> Self {
        Globs { builder: GlobSetBuilder::new(), rules: Vec::new() }
    }

    /// Adds the globs of a rule.
    ///
    /// # Errors
    ///
    /// The glob that is none, and why.
    pub(super) fn add(&mut self, rule: usize, globs: &[String]) -> Result<(), (String, globset::Error)> {
        for glob in globs {
            self.builder.add(Glob::new(glob).map_err(|source| (glob.clone(), source))?);
            self.rules.push(rule);
        }
        Ok(())
    }

    /// What matches them.
    ///
    /// # Errors
    ///
    /// All of them together need more memory than globs may.
    pub(super) fn build(self) -> Result<Matcher, globset::Error> {
        Ok(Matcher { set: self.builder.build()?, rules: self.rules })
    }
}

impl Matcher {
    /// The rules that match a name, in their order.
    pub(super) fn matching(&self, name: &str) -> Vec<usize> {
        let mut rules: Vec<usize> = self.set.matches(name).into_iter().map(|glob| self.rules[glob]).collect();
        rules.dedup();
        rules
    }
}
