//! Other frequencies of the rotary embedding.

use golden::TensorView;
use measure::metric::value_at;

use super::case::Case;
use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::{SiteRole, beside};

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "frequencies",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "`rope_theta` 10,000, and not 500,000",
};

/// Frequencies are equal if they are so near to each other.
const EQUAL: f64 = 0.02;

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && matches!(probe.role(), Some(SiteRole::Cos | SiteRole::Sin))
}

/// They are read off cosines and sines, from row to row: at first from small angles, then from ever larger ones, which tell
/// them better.
fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let is_cos = probe.role() == Some(SiteRole::Cos);
    let site = |wanted| beside(probe.entries, probe.entry, wanted);
    let (cos, sin) = (site(SiteRole::Cos)?, site(SiteRole::Sin)?);
    let (golden_cos, golden_sin) = (probe.pairing.golden(&cos)?, probe.pairing.golden(&sin)?);
    let (cos, sin) = (probe.pairing.candidate(&cos)?, probe.pairing.candidate(&sin)?);
    let expected = frequencies(&golden_cos.view()?, &golden_sin.view()?, case)?;
    let found = frequencies(&cos.view()?, &sin.view()?, case)?;
    let half = case.columns / 2;
    let after = case.distance(|row, column| {
        let angle = found[column % half] * row as f64;
        let predicted = if is_cos { angle.cos() } else { angle.sin() };
        Some((predicted, case.candidate(row, column)))
    });
    if !case.explains(after) {
        return None;
    }
    let ratios: Vec<f64> = expected.iter().zip(&found).map(|(expected, found)| found / expected).collect();
    let near = |a: f64, b: f64| (a - b).abs() <= EQUAL * b.abs();
    let last = *ratios.last()?;
    let kept = ratios.iter().take_while(|&&ratio| near(ratio, 1.0)).count();
    let stretched = ratios.iter().rev().take_while(|&&ratio| near(ratio, last)).count();
    // A base b gives the frequencies b^(-2i/d).
    let base = found[half - 1].powf(-(half as f64) / (half - 1) as f64);
    let plain = (0..half).all(|at| near(found[at], base.powf(-(at as f64) / half as f64)));
    if kept > 0 && stretched > 1 && !near(last, 1.0) {
        let pattern = "its {} highest frequencies are the golden ones, its {} lowest ones are {} times these: another \
                       scaling of the context, or none";
        let values = vec![Value::Count(kept), Value::Count(stretched), Value::Number(last)];
        Some(probe.tested(pattern, values, after))
    } else if plain {
        let pattern = "its frequencies are those of a base (`rope_theta`) of {}";
        Some(probe.tested(pattern, vec![Value::Number(base)], after))
    } else {
        let values = vec![Value::Number(ratios[0]), Value::Number(last)];
        Some(probe.tested("its frequencies are {} to {} times the golden ones", values, after))
    }
}

fn frequencies(cos: &TensorView<'_>, sin: &TensorView<'_>, case: &Case<'_>) -> Option<Vec<f64>> {
    let half = case.columns / 2;
    if case.rows < 4 || half < 2 || cos.shape() != sin.shape() || cos.len_elems() != case.rows * case.columns
    {
        return None;
    }
    let angle = |row: usize, column: usize| {
        let at = row * case.columns + column;
        value_at(sin, at).atan2(value_at(cos, at))
    };
    let of = |column: usize| {
        let mut frequency = angle(1, column);
        let mut row = 2;
        while row < case.rows {
            let turn = std::f64::consts::TAU;
            let whole = ((frequency * row as f64 - angle(row, column)) / turn).round();
            frequency = (angle(row, column) + whole * turn) / row as f64;
            row *= 2;
        }
        frequency
    };
    Some((0..half).map(of).collect())
}
