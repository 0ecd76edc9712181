//! Reading a map and checking what can be checked without a dump.

use std::cell::Cell;
use std::path::Path;

use serde::Deserialize;
use store::Content;

use super::builtin;
use super::layout_step::{LayoutStep, OtherSide};
use super::map::{Excuse, Join, NameMap, Rule, RulePlace};
use super::pattern::{Pattern, Template};
use crate::error::{Error, Result};
use measure::tolerance::AnswerPolicy;
use measure::toml_problem;

/// The version of maps that this library reads.
const VERSION: u64 = 1;

/// The most bytes of a file: a map that `nvl-validate names` writes has about a hundred an entry.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The most memory that all expressions of a map may need; those of the ready-made ones need a tenth.
const MAX_BYTES: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapFile {
    version: u64,
    #[serde(default)]
    dtype: DtypeRule,
    #[serde(default)]
    answer: AnswerPolicy,
    #[serde(default)]
    include: Vec<IncludeFile>,
    #[serde(default)]
    rules: Vec<RuleFile>,
    #[serde(default)]
    ignore: Vec<IgnoreFile>,
    #[serde(default)]
    absent: Vec<AbsentFile>,
}

/// What becomes of a dtype that is not the golden one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DtypeRule {
    /// It is not a pass.
    #[default]
    Same,
    /// The values are compared.
    Any,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncludeFile {
    map: String,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    candidate: OneOrMore,
    golden: OneOrMore,
    concat: Option<i64>,
    #[serde(default)]
    add: bool,
    split: Option<i64>,
    sizes: Option<Vec<usize>>,
    #[serde(default)]
    each: Vec<LayoutStep>,
    #[serde(default)]
    steps: Vec<LayoutStep>,
    #[serde(default)]
    pieces: Vec<LayoutStep>,
    #[serde(default)]
    golden_steps: Vec<LayoutStep>,
    dtype: Option<DtypeRule>,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoreFile {
    candidate: OneOrMore,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbsentFile {
    golden: OneOrMore,
    reason: String,
    #[serde(default)]
    alone: bool,
}

impl OneOrMore {
    fn as_slice(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

/// The map of a file, or the ready-made one of a name; a file comes first where there is one.
///
/// # Errors
///
/// [`Error::ReadNames`], [`Error::Content`], [`Error::NamesFile`], [`Error::Names`].
pub(super) fn read(name_or_path: &str) -> Result<NameMap> {
    let path = Path::new(name_or_path);
    match builtin::text(name_or_path) {
        Some(text) if !path.exists() => parse(name_or_path, text),
        _ => {
            let read = store::read_to_string(path, MAX_FILE_BYTES);
            let text = read.map_err(|source| Error::ReadNames { path: path.to_owned(), source })?;
            parse(name_or_path, &text)
        }
    }
}

/// The map that a text describes; `map` is its file or name.
pub(super) fn parse(map: &str, text: &str) -> Result<NameMap> {
    let mut names = NameMap {
        source: map.to_owned(),
        rules: Vec::new(),
        ignored: Vec::new(),
        absent: Vec::new(),
        answer: AnswerPolicy::default(),
    };
    let reader = Reader { map, prefix: "", included: false, spent_bytes: &Cell::new(0) };
    reader.read(text, &mut names, &mut Vec::new())?;
    Ok(names)
}

/// Reads a map into another, or on its own.
struct Reader<'a> {
    map: &'a str,
    /// What stands before all names of the candidate.
    prefix: &'a str,
    included: bool,
    /// The memory of all expressions so far.
    spent_bytes: &'a Cell<usize>,
}

impl Reader<'_> {
    fn read(&self, text: &str, into: &mut NameMap, within: &mut Vec<String>) -> Result<()> {
        let file: MapFile =
            toml::from_str(text).map_err(|error| match Content::stand_in(text.as_bytes()) {
                Some(content) => {
                    Error::Content { path: self.map.into(), expected: "a name map in TOML", content }
                }
                None => Error::NamesFile { map: self.map.to_owned(), message: toml_problem(text, &error) },
            })?;
        if file.version != VERSION {
            return Err(self.wrong("field `version`", VERSION, file.version));
        }
        if !self.included {
            into.answer = file.answer;
        }
        within.push(self.map.to_owned());
        for (index, include) in file.include.into_iter().enumerate() {
            self.include(index, &include, into, within)?;
        }
        within.pop();
        for (index, rule) in file.rules.into_iter().enumerate() {
            into.rules.push(self.rule(index, rule, file.dtype)?);
        }
        for (index, ignore) in file.ignore.into_iter().enumerate() {
            let field = format!("field `ignore[{index}].candidate`");
            let patterns = self.patterns(&field, self.prefix, &ignore.candidate)?;
            self.reasoned(&format!("field `ignore[{index}].reason`"), &ignore.reason)?;
            into.ignored.push(Excuse { patterns, reason: ignore.reason });
        }
        for (index, absent) in file.absent.into_iter().enumerate() {
            let patterns = self.patterns(&format!("field `absent[{index}].golden`"), "", &absent.golden)?;
            self.reasoned(&format!("field `absent[{index}].reason`"), &absent.reason)?;
            if !(self.included && absent.alone) {
                into.absent.push(Excuse { patterns, reason: absent.reason });
            }
        }
        Ok(())
    }

    fn include(
        &self,
        index: usize,
        include: &IncludeFile,
        into: &mut NameMap,
        within: &mut Vec<String>,
    ) -> Result<()> {
        let IncludeFile { map, prefix } = include;
        let field = |name: &str| format!("field `include[{index}].{name}`");
        let Some(text) = builtin::text(map) else {
            let known =
                format!("the name of a ready-made map ({})", builtin::names().collect::<Vec<_>>().join(", "));
            return Err(self.wrong(&field("map"), known, format!("`{map}`")));
        };
        if within.contains(map) {
            return Err(self.wrong(
                &field("map"),
                "another map than the one that includes it",
                format!("`{map}`"),
            ));
        }
        let compiled = Pattern::new("", prefix)
            .map_err(|error| self.wrong(&field("prefix"), "a regular expression", error))?;
        if compiled.captures().len() > 1 {
            let expected = "a regular expression without captures";
            return Err(self.wrong(&field("prefix"), expected, format!("`{prefix}`")));
        }
        let reader = Reader {
            map,
            prefix: &format!("{}(?:{prefix})", self.prefix),
            included: true,
            spent_bytes: self.spent_bytes,
        };
        // Without a prefix, names are shown as they stand in the map.
        let reader = if prefix.is_empty() { Reader { prefix: self.prefix, ..reader } } else { reader };
        reader.read(text, into, within)
    }

    fn rule(&self, index: usize, rule: RuleFile, dtype: DtypeRule) -> Result<Rule> {
        let field = |name: &str| format!("field `rules[{index}].{name}`");
        let candidates = self.patterns(&field("candidate"), self.prefix, &rule.candidate)?;
        let goldens = self.goldens(&field("golden"), &rule.golden, &candidates)?;
        let join = self.join(index, candidates.len(), rule.concat, rule.add)?;
        match (goldens.len(), rule.split) {
            (1, Some(_)) => {
                return Err(self.wrong(&field("golden"), "several names, because there is `split`", "one"));
            }
            (2.., None) => {
                let expected = format!("`split` for the {} names of `golden`", goldens.len());
                return Err(self.wrong(&format!("`rules[{index}]`"), expected, "none"));
            }
            _ => {}
        }
        if let Some(sizes) = &rule.sizes
            && (rule.split.is_none() || sizes.len() != goldens.len() || sizes.contains(&0))
        {
            let expected = "a size above 0 for each piece of a `split`";
            return Err(self.wrong(&field("sizes"), expected, format!("{sizes:?}")));
        }
        let split = rule.split.is_some();
        let unused = |name: &str, steps: &[LayoutStep], used: bool, unless: &str| {
            if used || steps.is_empty() {
                return Ok(());
            }
            let found = format!("{} steps", steps.len());
            Err(self.wrong(&field(name), format!("no steps where there is no `{unless}`"), found))
        };
        unused("each", &rule.each, join != Join::One, "concat` or `add")?;
        unused("pieces", &rule.pieces, split, "split")?;
        self.other_sides(index, &rule, join)?;
        Ok(Rule {
            place: RulePlace { map: self.map.to_owned(), index },
            candidates,
            goldens,
            join,
            split: rule.split,
            sizes: rule.sizes,
            each: rule.each,
            steps: rule.steps,
            pieces: rule.pieces,
            golden_steps: rule.golden_steps,
            any_dtype: rule.dtype.unwrap_or(dtype) == DtypeRule::Any,
            optional: rule.optional,
        })
    }

    /// The golden names of a rule, which may take what the expressions capture.
    fn goldens(&self, field: &str, golden: &OneOrMore, candidates: &[Pattern]) -> Result<Vec<Template>> {
        let mut goldens = Vec::new();
        for written in golden.as_slice() {
            let template = Template::new(written).ok_or_else(|| {
                let expected = "a name in which `$` begins a capture (`$1`, `${name}`) or is doubled";
                self.wrong(field, expected, format!("`{written}`"))
            })?;
            for pattern in candidates {
                if let Some(unknown) = template.captures().find(|name| !pattern.captures().contains(*name)) {
                    let expected = format!("captures of `{}`", pattern.written());
                    return Err(self.wrong(field, expected, format!("`${unknown}`")));
                }
            }
            goldens.push(template);
        }
        if goldens.is_empty() {
            return Err(self.wrong(field, "a name", "none"));
        }
        Ok(goldens)
    }

    /// What becomes of the tensors of a number of expressions.
    fn join(&self, index: usize, count: usize, concat: Option<i64>, add: bool) -> Result<Join> {
        Ok(match (count, concat, add) {
            (1, None, false) => Join::One,
            (2.., Some(dim), false) => Join::Concat(dim),
            (2.., None, true) => Join::Add,
            (0 | 1, ..) => {
                let expected = "several expressions, because there is `concat` or `add`";
                return Err(self.wrong(&format!("field `rules[{index}].candidate`"), expected, "one"));
            }
            (_, None, false) => {
                let expected = format!("`concat` or `add` for the {count} expressions of `candidate`");
                return Err(self.wrong(&format!("`rules[{index}]`"), expected, "neither"));
            }
            (_, Some(_), true) => {
                return Err(self.wrong(&format!("`rules[{index}]`"), "one of `concat` and `add`", "both"));
            }
        })
    }

    /// Refuses steps that take a size from a side that is not known where they are.
    fn other_sides(&self, index: usize, rule: &RuleFile, join: Join) -> Result<()> {
        let split = rule.split.is_some();
        let lists = [
            // Which of several golden tensors would be meant is open before the split.
            ("each", &rule.each, (!split && join != Join::One).then_some(OtherSide::Golden)),
            ("steps", &rule.steps, (!split).then_some(OtherSide::Golden)),
            ("pieces", &rule.pieces, Some(OtherSide::Golden)),
            ("golden_steps", &rule.golden_steps, Some(OtherSide::Candidate)),
        ];
        for (name, steps, side) in lists {
            for (place, step) in steps.iter().enumerate() {
                if let Some(other) = step.others().into_iter().find(|&other| Some(other) != side) {
                    let expected = match side {
                        Some(side) => format!("a number or \"{}\"", side.name()),
                        None => "numbers, because there are several golden tensors".to_owned(),
                    };
                    let place = format!("{name}[{place}].{}", step.name());
                    return Err(self.wrong(
                        &format!("field `rules[{index}].{place}`"),
                        expected,
                        format!("\"{}\"", other.name()),
                    ));
                }
            }
        }
        Ok(())
    }

    fn patterns(&self, field: &str, prefix: &str, written: &OneOrMore) -> Result<Vec<Pattern>> {
        let written = written.as_slice();
        if written.is_empty() {
            return Err(self.wrong(field, "a regular expression", "none"));
        }
        let pattern = |written: &String| {
            let pattern = Pattern::new(prefix, written).map_err(|error| {
                self.wrong(field, "a regular expression", format!("`{written}`: {error}"))
            })?;
            self.spent_bytes.set(self.spent_bytes.get() + pattern.memory_bytes());
            if self.spent_bytes.get() > MAX_BYTES {
                let expected =
                    format!("expressions that need at most {MAX_BYTES} bytes of memory, all together");
                return Err(self.wrong(field, expected, "more"));
            }
            Ok(pattern)
        };
        written.iter().map(pattern).collect()
    }

    fn reasoned(&self, field: &str, reason: &str) -> Result<()> {
        if reason.trim().is_empty() { Err(self.wrong(field, "a reason", "none")) } else { Ok(()) }
    }

    fn wrong(&self, place: &str, expected: impl ToString, found: impl ToString) -> Error {
        Error::Names {
            map: self.map.to_owned(),
            place: place.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

impl NameMap {
    /// Reads a map: a file, or a ready-made one by its name. A file of that name comes first.
    ///
    /// # Errors
    ///
    /// [`crate::Error::ReadNames`] if there is no such file and no such map, [`crate::Error::NamesFile`] if it is no
    /// TOML or has other fields, [`crate::Error::Names`] if a rule makes no sense.
    pub fn read(name_or_path: &str) -> Result<Self> {
        read(name_or_path)
    }

    /// Reads a map from its text; `source` is what messages call it.
    ///
    /// # Errors
    ///
    /// Those of [`NameMap::read`].
    pub fn parse(source: &str, text: &str) -> Result<Self> {
        parse(source, text)
    }
}
