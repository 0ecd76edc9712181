//! Which dimension of an entry counts tokens, told from the shapes on both sides together.
//!
//! A hidden width never changes from one run to the other, so that what differs between two shapes is what is to be explained: the
//! batch, the tokens, or the positions of a cache.

use super::alignment::{AlignedStep, Pass};

/// What a dimension of an entry counts, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// The same on both sides.
    Same,
    /// Sequences: one in the plain run.
    Sequences,
    /// Requests that are packed one after the other, one row each.
    Requests,
    /// Tokens.
    Tokens,
    /// Tokens of all sequences of the batch, one after the other.
    AllTokens,
    /// Positions of the cache, or of the keys that a token attends to.
    Keys,
    /// The plain run has all tokens, the candidate the last one.
    LastOfPlain,
    /// The candidate has all tokens, the plain run the last one.
    LastOfCandidate,
}

impl Axis {
    /// Whether an entry has one such dimension at most.
    fn kind(self) -> Option<usize> {
        match self {
            Axis::Same => None,
            Axis::Sequences | Axis::Requests => Some(0),
            Axis::Tokens | Axis::AllTokens | Axis::LastOfPlain | Axis::LastOfCandidate => Some(1),
            Axis::Keys => Some(2),
        }
    }
}

/// What each dimension of an entry counts; `None` if the shapes cannot belong together so.
pub(super) fn axes(plain: &[usize], candidate: &[usize], of: &AlignedStep, pass: &Pass) -> Option<Vec<Axis>> {
    if plain.len() != candidate.len() {
        return None;
    }
    let mut taken = [false; 3];
    let mut axes = Vec::with_capacity(plain.len());
    for (&plain, &candidate) in plain.iter().zip(candidate) {
        let fits = |axis: &Axis| {
            axis.kind().is_none_or(|kind| !taken[kind]) && explains(*axis, plain, candidate, of, pass)
        };
        let axis = ORDER.into_iter().find(fits)?;
        if let Some(kind) = axis.kind() {
            taken[kind] = true;
        }
        axes.push(axis);
    }
    // The tokens of all sequences stand for the batch, too.
    let both = axes.contains(&Axis::AllTokens) && axes.contains(&Axis::Sequences);
    (!both).then_some(axes)
}

/// In this order they are tried.
const ORDER: [Axis; 8] = [
    Axis::Same,
    Axis::Sequences,
    Axis::Requests,
    Axis::Tokens,
    Axis::AllTokens,
    Axis::Keys,
    Axis::LastOfPlain,
    Axis::LastOfCandidate,
];

fn explains(axis: Axis, plain: usize, candidate: usize, of: &AlignedStep, pass: &Pass) -> bool {
    match axis {
        // Of as many tokens that are not all the plain run's, a part is wanted.
        Axis::Same => {
            let is_part = pass.columns != (0..pass.width) || pass.tokens != (0..of.tokens);
            plain == candidate && !(is_part && plain == of.tokens && candidate == pass.width && plain > 1)
        }
        Axis::Sequences => plain == 1 && pass.batch > 1 && candidate == pass.batch,
        Axis::Requests => plain == 1 && pass.packed.is_some_and(|(_, requests)| candidate == requests),
        Axis::Tokens => plain == of.tokens && candidate == pass.width,
        Axis::AllTokens => pass.batch > 1 && plain == of.tokens && candidate == pass.batch * pass.width,
        Axis::Keys => plain == of.keys && candidate == pass.keys_of,
        Axis::LastOfPlain => plain == of.tokens && candidate == 1,
        Axis::LastOfCandidate => plain == 1 && candidate == pass.width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(tokens: usize, pass: Pass) -> AlignedStep {
        AlignedStep { step: 0, tokens, keys: tokens, passes: vec![pass] }
    }

    fn of(plain: &[usize], candidate: &[usize], tokens: usize, pass: Pass) -> Option<Vec<Axis>> {
        let aligned = aligned(tokens, pass);
        axes(plain, candidate, &aligned, &aligned.passes[0])
    }

    /// The second of three sequences, four padding tokens before it.
    fn padded() -> Pass {
        let columns = 4..13;
        Pass { batch: 3, row: 1, keys: vec![4..13; 1], columns, ..Pass::alone(0, 13, 0..9, 13) }
    }

    #[test]
    fn what_differs_tells_what_a_dimension_counts() {
        use Axis::{AllTokens, Keys, LastOfCandidate, LastOfPlain, Same, Sequences, Tokens};
        let batch = |plain: &[usize], candidate: &[usize]| of(plain, candidate, 9, padded());
        assert_eq!(batch(&[1, 9], &[3, 13]), Some(vec![Sequences, Tokens]));
        assert_eq!(batch(&[1, 9, 13], &[3, 13, 13]), Some(vec![Sequences, Tokens, Same]));
        assert_eq!(batch(&[1, 9, 9], &[3, 13, 9]), Some(vec![Sequences, Tokens, Same]), "nine channels");
        assert_eq!(batch(&[1, 4, 9, 9], &[3, 4, 13, 13]), Some(vec![Sequences, Same, Tokens, Keys]));
        assert_eq!(batch(&[9, 1, 8], &[13, 3, 8]), Some(vec![Tokens, Sequences, Same]), "tokens first");
        assert_eq!(batch(&[9, 8], &[39, 8]), Some(vec![AllTokens, Same]));
        assert_eq!(batch(&[1, 1, 8], &[3, 1, 8]), Some(vec![Sequences, Same, Same]));
        assert_eq!(batch(&[1, 1, 8], &[3, 13, 8]), Some(vec![Sequences, LastOfCandidate, Same]));
        assert_eq!(batch(&[1, 9, 8], &[3, 1, 8]), Some(vec![Sequences, LastOfPlain, Same]));
        assert_eq!(batch(&[1, 9, 8], &[3, 12, 8]), None);
        assert_eq!(batch(&[1, 9, 8], &[3, 13, 7]), None);
        assert_eq!(batch(&[9, 8], &[3, 13, 8]), None);
    }

    #[test]
    fn the_end_of_a_prompt_has_its_own_tokens_and_all_keys() {
        use Axis::{Keys, Same, Tokens};
        let end = Pass::alone(0, 4, 5..9, 9);
        let end = |plain: &[usize], candidate: &[usize]| of(plain, candidate, 9, end.clone());
        assert_eq!(end(&[1, 9, 4], &[1, 4, 4]), Some(vec![Same, Tokens, Same]), "four channels");
        assert_eq!(end(&[1, 2, 9, 16], &[1, 2, 9, 16]), Some(vec![Same; 4]), "the cache");
        assert_eq!(end(&[1, 2, 9, 9], &[1, 2, 4, 9]), Some(vec![Same, Same, Tokens, Same]));
        // The cache behind a piece before the last.
        let second = of(&[1, 9, 16], &[1, 7, 16], 9, Pass::alone(1, 3, 4..7, 7));
        assert_eq!(second, Some(vec![Same, Keys, Same]), "a part of the cache");
        assert_eq!(of(&[1, 7, 16], &[1, 7, 16], 7, Pass::alone(1, 3, 4..7, 7)), Some(vec![Same; 3]));
    }

    #[test]
    fn as_many_tokens_that_are_not_the_same_ones_are_cut() {
        // Four tokens of nine, padded to nine.
        let padded_end = Pass { columns: 0..4, ..Pass::alone(0, 9, 5..9, 9) };
        assert_eq!(
            of(&[1, 9, 8], &[1, 9, 8], 9, padded_end),
            Some(vec![Axis::Same, Axis::Tokens, Axis::Same])
        );
    }
}
