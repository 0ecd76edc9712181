//! Another activation function.

use measure::metric::value_at;
use measure::origin::Step;

use super::explanation::{Explanation, Value, best};
use super::kind::Diagnosis;
use super::probe::Probe;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "activation",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "GELU by tanh, and not by the error function",
};

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && probe.is_step(Step::Activation)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let inputs = probe.inputs();
    let [input] = inputs.as_slice() else { return None };
    let key = input.entry.key();
    let (candidate, golden) = (probe.pairing.candidate(&key)?, probe.pairing.golden(&key)?);
    let (candidate, golden) = (candidate.view()?, golden.view()?);
    if candidate.shape() != probe.entry.entry.shape {
        return None;
    }
    best(functions().into_iter().filter_map(|(function, of)| {
        let left = case.distance(|row, column| {
            let given = value_at(&candidate, row * case.columns + column);
            Some((of(given), case.candidate(row, column)))
        });
        // What the golden run has is no mistake.
        let right = case.distance(|row, column| {
            let given = value_at(&golden, row * case.columns + column);
            Some((of(given), case.golden(row, column)))
        });
        (!case.explains(right))
            .then(|| probe.explain("it is {} of its input", vec![Value::Name(function)], left))
            .flatten()
    }))
}

type Function = (&'static str, fn(f64) -> f64);

/// Activation functions by their names.
fn functions() -> [Function; 5] {
    [
        ("the exact GELU", |x| 0.5 * x * (1.0 + error_function(x / std::f64::consts::SQRT_2))),
        ("the GELU with tanh", |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }),
        ("the GELU with a sigmoid", |x| x / (1.0 + (-1.702 * x).exp())),
        ("the SiLU", |x| x / (1.0 + (-x).exp())),
        ("the ReLU", |x| x.max(0.0)),
    ]
}

/// erf, by its series near zero and its continued fraction further out.
fn error_function(x: f64) -> f64 {
    let magnitude = x.abs();
    if magnitude < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let mut fraction = magnitude;
    for n in (1..40).rev() {
        fraction = magnitude + f64::from(n) / 2.0 / fraction;
    }
    let rest = (-magnitude * magnitude).exp() / (fraction * std::f64::consts::PI.sqrt());
    (1.0 - rest).copysign(x)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    #[test]
    fn the_error_function_is_that_of_the_tables() {
        for (x, erf) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813), (1.0, 0.842_700_792_950), (-2.0, -0.995_322_265_019)]
        {
            assert_abs_diff_eq!(error_function(x), erf, epsilon = 1e-12);
        }
        assert_abs_diff_eq!(error_function(2.4999), error_function(2.5001), epsilon = 1e-5);
        assert_abs_diff_eq!(error_function(3.0), 0.999_977_909_503, epsilon = 1e-12);
    }
}
