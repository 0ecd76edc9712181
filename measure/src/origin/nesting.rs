//! Entries by the containers that their names tell of, in the order of execution.

use std::collections::{HashMap, VecDeque};

/// How many entries are taken for what a module computes from, where its inputs themselves were not recorded: the nearest.
pub(super) const MOST_SOURCES: usize = 64;

/// The entries so far.
#[derive(Debug, Default)]
pub(super) struct Nesting<'a> {
    /// The modules by the one around them and the last segment of their names; the outermost ones are in module 0.
    modules: HashMap<(usize, &'a str), usize>,
    /// What is inside each module, from module 1 on.
    insides: Vec<Option<Inside>>,
    /// The last entry of all.
    pub(super) last: Option<usize>,
}

/// The entries inside a module.
#[derive(Debug)]
pub(super) struct Inside {
    /// The last one.
    pub(super) last: usize,
    /// The last one before the first of them.
    pub(super) before: Option<usize>,
    /// The last ones that are directly in it.
    pub(super) children: VecDeque<usize>,
}

impl<'a> Nesting<'a> {
    /// Adds the entry of an index, which is above those before it.
    pub(super) fn add(&mut self, name: &'a str, index: usize) {
        let mut module = 0;
        let mut segments = name.split('.').peekable();
        while let Some(segment) = segments.next().filter(|_| segments.peek().is_some()) {
            let next = self.insides.len() + 1;
            module = *self.modules.entry((module, segment)).or_insert(next);
            if module == next {
                self.insides.push(None);
            }
            let inside = self.insides[module - 1].get_or_insert_with(|| Inside {
                last: index,
                before: self.last,
                children: VecDeque::new(),
            });
            inside.last = index;
        }
        if let Some(inside) = module.checked_sub(1).and_then(|module| self.insides[module].as_mut()) {
            if inside.children.len() == MOST_SOURCES {
                inside.children.pop_front();
            }
            inside.children.push_back(index);
        }
        self.last = Some(index);
    }

    /// What is inside a module.
    pub(super) fn inside(&self, name: &str) -> Option<&Inside> {
        let module =
            name.split('.').try_fold(0, |module, segment| self.modules.get(&(module, segment)).copied())?;
        self.insides[module.checked_sub(1)?].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_know_their_first_and_last_entries() {
        let mut nesting = Nesting::default();
        for (index, name) in ["x", "a.b.c", "a.b.d", "a.b", "y", "a.e"].into_iter().enumerate() {
            nesting.add(name, index);
        }
        let of =
            |name| nesting.inside(name).map(|inside| (inside.before, inside.last, inside.children.clone()));
        assert_eq!(of("a"), Some((Some(0), 5, [3, 5].into())));
        assert_eq!(of("a.b"), Some((Some(0), 2, [1, 2].into())));
        assert_eq!((of("x"), of("a.b.c"), of("z")), (None, None, None));
        assert_eq!(nesting.last, Some(5));
    }

    #[test]
    fn of_many_children_the_last_are_kept() {
        let mut nesting = Nesting::default();
        let names: Vec<String> = (0..10 * MOST_SOURCES).map(|number| format!("list.{number}")).collect();
        names.iter().enumerate().for_each(|(index, name)| nesting.add(name, index));
        let children = &nesting.inside("list").unwrap().children;
        assert_eq!((children.len(), children[0]), (MOST_SOURCES, 9 * MOST_SOURCES));
    }
}
