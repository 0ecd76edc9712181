//! Known mistakes, each undone and compared.

use golden::{Dump, TensorView};

use super::case::Case;
use super::layout::Layout;
use super::order::{head_order, is_by_heads, shifted, tile_order};
use super::position::other_align_corners;
use super::{attention, decoding, norm, pixels, rotary};
use crate::entry::EntryReport;
use crate::names::Pairing;
pub(super) use crate::report::digits;
use measure::metric::value_at;
use measure::origin::Step;

/// How many explanations are told.
const TOLD: usize = 3;

/// How many sites around one are looked at for the candidate's numbers.
const NEAR: usize = 16;

/// A kind of mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// All numbers are multiplied by one factor.
    Scale,
    /// Each row is multiplied by a factor of its own.
    RowScale,
    /// One vector is added to every row.
    Bias,
    /// The rows are those of the neighbours.
    Shift,
    /// The tiles come in another order.
    TileOrder,
    /// Rows and columns of the picture's parts are exchanged.
    Transposed,
    /// Queries, keys and values are exchanged.
    QkvOrder,
    /// The halves of each head are interleaved, or the other way round.
    Interleaved,
    /// Another activation function.
    Activation,
    /// The numbers of another site.
    OtherSite,
    /// The colours come in another order.
    ColourOrder,
    /// The parts of a patch come in another order.
    PatchOrder,
    /// Normalised once more, or not.
    Normalisation,
    /// The pixels are rounded before they are normalised, and those of the golden run are not, or the other way round.
    PixelRounding,
    /// The position embeddings were resized with the other value of `align_corners`.
    AlignCorners,
    /// The numbers were rounded to bfloat16.
    Bfloat16,
    /// An attention sees tokens that are to be hidden, or does not see all others.
    Mask,
    /// Scores are scaled otherwise.
    AttentionScale,
    /// Queries or keys are not rotated, or the other way.
    NotRotated,
    /// The heads come in another order.
    HeadOrder,
    /// Query heads belong to other key-value heads.
    KvHeads,
    /// The channels of a fused projection belong to other heads.
    HeadLayout,
    /// Another epsilon in a norm.
    Epsilon,
    /// Other frequencies of the rotary embedding.
    Frequencies,
    /// Only one side has some of the tiles.
    MissingTiles,
    /// Only one side has some of the tokens.
    MissingRows,
    /// What is kept from one step of decoding to the next.
    Decoding,
}

impl Mistake {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Mistake::Scale => "scale",
            Mistake::RowScale => "row_scale",
            Mistake::Bias => "bias",
            Mistake::Shift => "shift",
            Mistake::TileOrder => "tile_order",
            Mistake::Transposed => "transposed",
            Mistake::QkvOrder => "qkv_order",
            Mistake::Interleaved => "interleaved",
            Mistake::Activation => "activation",
            Mistake::OtherSite => "other_site",
            Mistake::ColourOrder => "colour_order",
            Mistake::PatchOrder => "patch_order",
            Mistake::Normalisation => "normalisation",
            Mistake::PixelRounding => "pixel_rounding",
            Mistake::AlignCorners => "align_corners",
            Mistake::Bfloat16 => "bfloat16",
            Mistake::Mask => "mask",
            Mistake::AttentionScale => "attention_scale",
            Mistake::NotRotated => "not_rotated",
            Mistake::HeadOrder => "head_order",
            Mistake::KvHeads => "kv_heads",
            Mistake::HeadLayout => "head_layout",
            Mistake::Epsilon => "epsilon",
            Mistake::Frequencies => "frequencies",
            Mistake::MissingTiles => "missing_tiles",
            Mistake::MissingRows => "missing_rows",
            Mistake::Decoding => "decoding",
        }
    }
}

/// A mistake that explains an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// Its kind.
    pub mistake: Mistake,
    /// What it is, in words.
    pub text: String,
    /// The error as it is, relative to the length of the golden tensor.
    pub before: f64,
    /// What is left of it if the mistake is undone.
    pub after: f64,
}

/// Tests all known mistakes on an entry; the best explanations first.
pub(super) fn diagnose(
    golden: &Dump,
    pairing: &Pairing<'_>,
    entries: &[EntryReport],
    entry: &EntryReport,
    case: &Case<'_>,
    layout: &Layout,
) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let mut test = |mistake: Mistake, text: String, after: f64| {
        if case.explains(after) {
            found.push(Diagnosis { mistake, text, before: case.error, after });
        }
    };
    let name = entry.entry.name.as_str();

    moved(case, layout, name, &head_dim(golden), &mut test);
    scaled(case, &mut test);
    let bias = added(case);
    pixels::test(golden, case, layout, &mut test);

    let inputs: Vec<&EntryReport> = entry.origin.inputs.iter().map(|&input| &entries[input]).collect();
    if let (Step::Activation, [input]) = (entry.origin.step, inputs.as_slice())
        && let Some(before) = pairing.candidate(&input.entry.name)
        && let Some(before) = before.view()
        && let Some(golden_before) = pairing.golden(&input.entry.name)
        && let Some(golden_before) = golden_before.view()
        && before.shape() == entry.entry.shape
    {
        for (function, of) in activations() {
            let left = case.distance(|row, column| {
                let given = value_at(&before, row * case.columns + column);
                Some((of(given), case.candidate(row, column)))
            });
            // What the golden run has is no mistake.
            let right = case.distance(|row, column| {
                let given = value_at(&golden_before, row * case.columns + column);
                Some((of(given), case.golden(row, column)))
            });
            if !case.explains(right) {
                test(Mistake::Activation, format!("it is {function} of its input"), left);
            }
        }
    }
    if let Some((other, left)) = other_site(golden, entries, entry, case) {
        test(Mistake::OtherSite, format!("it has the golden numbers of {other}"), left);
    }
    let bfloat16 = |value: f64| half::bf16::from_f64(value).to_f64();
    if entry.entry.dtype == golden::Dtype::Float32 {
        let all = case.sample().all(|row| {
            (0..case.columns).all(|column| {
                let value = case.candidate(row, column);
                value.is_nan() || bfloat16(value) == value
            })
        });
        let after = case
            .distance(|row, column| Some((bfloat16(case.golden(row, column)), case.candidate(row, column))));
        if all && after <= 0.01 && case.error <= 0.01 {
            let text = "every number is one of bfloat16: it was computed or kept in that".to_owned();
            found.push(Diagnosis { mistake: Mistake::Bfloat16, text, before: case.error, after });
        }
    }
    if name.ends_with(".cls_token")
        && let Some(embedded) = inputs.first().and_then(|input| golden.get(&input.entry.name))
        && embedded.shape().last() == Some(&case.columns)
        && let Some((after, nearer)) =
            other_align_corners(case, layout, |row, column| value_at(&embedded, row * case.columns + column))
    {
        let (golden, candidate) = if nearer { ("true", "false") } else { ("false", "true") };
        let text = format!(
            "the position embeddings changed as they do if they are resized with `align_corners` {candidate} and not \
             {golden}"
        );
        found.push(Diagnosis { mistake: Mistake::AlignCorners, text, before: case.error, after });
    }
    found.extend(bias);
    let by_rows = |mistake| matches!(mistake, Mistake::RowScale | Mistake::Scale);
    let epsilon = norm::diagnose(golden, entries, entry, case);
    if epsilon.as_ref().is_some_and(|epsilon| found.iter().all(|other| epsilon.after <= 2.0 * other.after)) {
        // One number that explains as much as a factor for each row is the better explanation.
        found.retain(|diagnosis| !by_rows(diagnosis.mistake));
    }
    found.extend(epsilon);
    found.extend(rotary::diagnose(pairing, name, case));
    found.extend(decoding::diagnose(pairing, entry));
    if found.is_empty() {
        found.extend(attention::diagnose(golden, entries, entry, case));
    }
    found.sort_by(|a, b| a.after.total_cmp(&b.after));
    found.truncate(TOLD);
    found
}

pub(super) type Test<'t> = &'t mut dyn FnMut(Mistake, String, f64);

/// Mistakes that put right numbers in wrong places.
fn moved(case: &Case<'_>, layout: &Layout, name: &str, head_dim: &Option<usize>, test: Test<'_>) {
    let (rows, columns) = (case.rows, case.columns);
    if let &Layout::Tiles { tiles, prefix, side } = layout {
        let tokens = prefix + side * side;
        if side > 1 {
            let transposed = |row: usize| match (row % tokens).checked_sub(prefix) {
                None => row,
                Some(patch) => row - patch + (patch % side) * side + patch / side,
            };
            let text = if name.starts_with("mlp1") {
                "rows and columns of the picture are exchanged, as pixel shuffle `v1` does and `v2` does not"
            } else {
                "rows and columns of the picture's patches are exchanged"
            };
            test(Mistake::Transposed, text.to_owned(), case.moved(|row, column| (transposed(row), column)));
        }
        let whole: Vec<usize> = (0..rows).collect();
        tile_order(case, tiles, tokens, &whole, test);
    } else if let &Layout::Pixels { tiles } = layout {
        let whole: Vec<usize> = (0..rows).collect();
        tile_order(case, tiles, rows / tiles.max(1), &whole, test);
    } else if let Layout::Prompt { image, tiles: Some(tiles) } = layout {
        let image: Vec<usize> = (0..rows).filter(|&row| image[row]).collect();
        tile_order(case, *tiles, image.len() / tiles, &image, test);
    }
    shifted(case, layout, test);
    if name.ends_with(".qkv") && columns.is_multiple_of(3) {
        let part = columns / 3;
        let names = ["queries", "keys", "values"];
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let after = case.moved(|row, column| (row, order[column / part] * part + column % part));
            let places: Vec<String> = (0..3)
                .filter(|&place| order[place] != place)
                .map(|place| format!("its {} are the golden {}", names[order[place]], names[place]))
                .collect();
            test(Mistake::QkvOrder, places.join(", "), after);
        }
    }
    if name.ends_with(".qkv") && columns.is_multiple_of(3) {
        part_scaled(case, test);
    }
    if let Some(head) = head_dim.filter(|&head| is_by_heads(name) && columns.is_multiple_of(head)) {
        head_order(case, head, test);
    }
    let rotated = ["q_proj", "k_proj", "cos", "sin"].iter().any(|end| name.ends_with(end));
    if let Some(head) =
        head_dim.filter(|&head| rotated && columns.is_multiple_of(head) && head.is_multiple_of(2))
    {
        let half = head / 2;
        let split = |column: usize| column - column % head + (column % head % 2) * half + column % head / 2;
        let interleaved =
            |column: usize| column - column % head + (column % head % half) * 2 + column % head / half;
        let text = "the numbers of each head are interleaved for another rotary embedding: halves and pairs are exchanged";
        for from in [&split as &dyn Fn(usize) -> usize, &interleaved] {
            test(Mistake::Interleaved, text.to_owned(), case.moved(|row, column| (row, from(column))));
        }
    }
    if name.ends_with(".im_to_patches")
        && columns.is_multiple_of(3)
        && (columns / 3).isqrt().pow(2) == columns / 3
    {
        let (plane, side) = (columns / 3, (columns / 3).isqrt());
        let last = case.moved(|row, column| (row, column % plane * 3 + column / plane));
        test(Mistake::PatchOrder, "each patch has its colours last, and not first".to_owned(), last);
        let transposed = case.moved(|row, column| {
            let pixel = column % plane;
            (row, column - pixel + pixel % side * side + pixel / side)
        });
        test(Mistake::PatchOrder, "rows and columns inside each patch are exchanged".to_owned(), transposed);
    }
}

/// One of queries, keys and values multiplied by a factor.
fn part_scaled(case: &Case<'_>, test: Test<'_>) {
    let part = case.columns / 3;
    for (place, name) in ["queries", "keys", "values"].into_iter().enumerate() {
        let within = |column: usize| column / part == place;
        let (mut products, mut squares) = (0.0, 0.0);
        for row in case.sample() {
            for column in (0..case.columns).filter(|&column| within(column)) {
                let golden = case.golden(row, column);
                products += golden * case.candidate(row, column);
                squares += golden * golden;
            }
        }
        let factor = if squares > 0.0 { products / squares } else { 1.0 };
        let after = case.distance(|row, column| {
            let (golden, candidate) = (case.golden(row, column), case.candidate(row, column));
            Some((golden, if within(column) { golden + candidate - factor * golden } else { candidate }))
        });
        test(Mistake::Scale, format!("its {name} are {} times the golden ones", digits(factor)), after);
    }
}

/// Mistakes that multiply or add.
fn scaled(case: &Case<'_>, test: Test<'_>) {
    let pairs = |row: usize| {
        (0..case.columns)
            .map(move |column| (case.golden(row, column), case.candidate(row, column)))
            .filter(|(golden, candidate)| golden.is_finite() && candidate.is_finite())
    };
    let fit = |rows: &mut dyn Iterator<Item = usize>| {
        let (mut products, mut squares) = (0.0, 0.0);
        for (golden, candidate) in rows.flat_map(pairs) {
            products += golden * candidate;
            squares += golden * golden;
        }
        if squares > 0.0 { products / squares } else { 1.0 }
    };
    let factor = fit(&mut case.sample());
    let whole = case.distance(|row, column| {
        let golden = case.golden(row, column);
        Some((golden, golden + case.candidate(row, column) - factor * golden))
    });
    test(Mistake::Scale, format!("it is {} times the golden numbers", digits(factor)), whole);

    // Of few columns or rows a fit would explain anything.
    if case.columns >= 16 && case.rows >= 4 {
        let factors: Vec<f64> = (0..case.rows).map(|row| fit(&mut std::iter::once(row))).collect();
        let rows = case.distance(|row, column| {
            let golden = case.golden(row, column);
            Some((golden, golden + case.candidate(row, column) - factors[row] * golden))
        });
        let others: Vec<f64> =
            factors.iter().copied().filter(|factor| (factor - 1.0).abs() > 2.0 * case.rounding).collect();
        let (least, most) =
            others.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &f| (a.min(f), b.max(f)));
        if !case.explains(whole) && !others.is_empty() {
            let which = if 2 * others.len() > case.rows { "each row" } else { "each row that is off" };
            let range = if most - least <= 0.01 * most.abs() {
                digits((least + most) / 2.0)
            } else {
                format!("{} to {}, as with another epsilon or norm", digits(least), digits(most))
            };
            let text = format!("{which} is the golden one times {range}");
            test(Mistake::RowScale, text, rows);
        }
    }
}

/// One vector that is added to every row.
fn added(case: &Case<'_>) -> Option<Diagnosis> {
    // Of few rows their mean would explain anything.
    if case.rows < 4 {
        return None;
    }
    let mut mean = vec![0.0; case.columns];
    let mut count = 0.0;
    for row in case.sample() {
        count += 1.0;
        for (column, mean) in mean.iter_mut().enumerate() {
            *mean += case.candidate(row, column) - case.golden(row, column);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= count);
    let after = case
        .distance(|row, column| Some((case.golden(row, column), case.candidate(row, column) - mean[column])));
    let length = digits(mean.iter().map(|mean| mean * mean).sum::<f64>().sqrt());
    let text = format!("one vector, of length {length}, is added to every row: a bias is missing or wrong");
    case.explains_half(after).then_some(Diagnosis { mistake: Mistake::Bias, text, before: case.error, after })
}

/// The nearest site around an entry whose golden numbers the candidate has, and how near they are.
fn other_site(
    golden: &Dump,
    entries: &[EntryReport],
    entry: &EntryReport,
    case: &Case<'_>,
) -> Option<(String, f64)> {
    let own = entries.iter().position(|other| other.entry.name == entry.entry.name)?;
    let near = own.saturating_sub(NEAR)..(own + NEAR + 1).min(entries.len());
    let others = entries[near].iter().filter(|other| {
        other.entry.name != entry.entry.name
            && other.entry.shape == entry.entry.shape
            && other.entry.name != "pixel_values"
    });
    others
        .filter_map(|other| {
            let tensor: TensorView<'_> = golden.get(&other.entry.name)?;
            let of = |row: usize, column: usize| value_at(&tensor, row * case.columns + column);
            Some((
                other.entry.name.clone(),
                case.distance(|row, column| Some((of(row, column), case.candidate(row, column)))),
            ))
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The size of a head of the language model, as its rotary embedding has it.
pub(super) fn head_dim(golden: &Dump) -> Option<usize> {
    golden.entry("language_model.model.rotary_emb.cos").and_then(|entry| entry.shape.last().copied())
}

type Function = (&'static str, fn(f64) -> f64);

/// Activation functions by their names.
fn activations() -> [Function; 5] {
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
