//! Other frequencies of the rotary embedding.

use golden::TensorView;

use super::case::Case;
use super::mistakes::{Diagnosis, Mistake, digits};
use crate::names::Pairing;
use measure::metric::value_at;

/// Frequencies are equal if they are so near to each other.
const EQUAL: f64 = 0.02;

/// The frequencies that explain the cosines or sines of a candidate.
///
/// They are read off both, from row to row: at first from small angles, then from ever larger ones, which tell them better.
pub(super) fn diagnose(pairing: &Pairing<'_>, name: &str, case: &Case<'_>) -> Option<Diagnosis> {
    let stem = name.strip_suffix(".cos").or_else(|| name.strip_suffix(".sin"))?;
    let is_cos = name.ends_with(".cos");
    let (cos, sin) = (format!("{stem}.cos"), format!("{stem}.sin"));
    let (golden_cos, golden_sin) = (pairing.golden(&cos)?, pairing.golden(&sin)?);
    let (cos, sin) = (pairing.candidate(&cos)?, pairing.candidate(&sin)?);
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
    let text = if kept > 0 && stretched > 1 && !near(last, 1.0) {
        format!(
            "its {kept} highest frequencies are the golden ones, its {stretched} lowest ones are {} times these: another \
             scaling of the context, or none",
            digits(last)
        )
    } else if plain {
        format!("its frequencies are those of a base (`rope_theta`) of {}", digits(base))
    } else {
        format!("its frequencies are {} to {} times the golden ones", digits(ratios[0]), digits(last))
    };
    Some(Diagnosis { mistake: Mistake::Frequencies, text, before: case.error, after })
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
