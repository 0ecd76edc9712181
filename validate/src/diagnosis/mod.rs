//! Says where in a tensor an error is, and what known mistake it is.
//!
//! A mistake is named only if undoing it makes the candidate match: every diagnosis is tested against the data. A diagnosis is a
//! file of this folder, declared here, and a line of the list below; `docs/diff-report.md` and its schema have its name.

mod activation;
mod align_corners;
mod attention;
mod attention_core;
mod attention_scale;
mod bfloat16;
mod bias;
mod case;
mod colour_order;
mod colours;
mod decoding;
mod epsilon;
mod explanation;
mod frequencies;
mod head_layout;
mod head_order;
mod interleaved;
mod kind;
mod kv_heads;
mod lacking;
mod layout;
mod mask;
mod missing_rows;
mod missing_tiles;
mod norm_input;
mod normalisation;
mod not_rotated;
mod other_site;
mod patch_order;
mod pixel_rounding;
mod place;
mod probe;
mod qkv_order;
mod roles;
mod row_scale;
mod scale;
mod shift;
mod tile_order;
mod transposed;
mod unit_offset;

use std::sync::OnceLock;

use golden::Dump;

use crate::entry::EntryReport;
use crate::names::Pairing;
use case::Case;
use layout::Layout;
use probe::Probe;

pub use explanation::{Explanation, Value};
pub use kind::Diagnosis;
pub use layout::Token;
pub(crate) use pixel_rounding::dtypes as pixel_dtypes;
pub use place::{Place, TokensOff};

/// How many explanations are told.
const MOST_TOLD: usize = 3;

/// Makes the kinds of diagnoses and the list of them, in the order in which equally good ones are told.
macro_rules! diagnoses {
    ($($(#[$doc:meta])* $kind:ident: $($diagnosis:path),+;)*) => {
        /// The kind of a diagnosis: the mistake that it names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DiagnosisKind {
            $($(#[$doc])* $kind,)*
        }

        impl DiagnosisKind {
            /// The name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(DiagnosisKind::$kind => [$(&$diagnosis),+][0].name,)*
                }
            }
        }

        /// All diagnoses, with what they tell.
        pub const DIAGNOSES: &[(DiagnosisKind, &Diagnosis)] = &[$($((DiagnosisKind::$kind, &$diagnosis)),+),*];
    };
}

diagnoses! {
    /// Rows and columns of the picture's parts are exchanged.
    Transposed: transposed::DIAGNOSIS;
    /// The tiles come in another order.
    TileOrder: tile_order::DIAGNOSIS;
    /// The rows are those of the neighbours.
    Shift: shift::DIAGNOSIS;
    /// Queries, keys and values are exchanged.
    QkvOrder: qkv_order::DIAGNOSIS;
    /// All numbers are multiplied by one factor.
    Scale: scale::DIAGNOSIS;
    /// The heads come in another order.
    HeadOrder: head_order::DIAGNOSIS;
    /// The halves of each head are interleaved, or the other way round.
    Interleaved: interleaved::DIAGNOSIS, interleaved::IN_ATTENTION;
    /// The parts of a patch come in another order.
    PatchOrder: patch_order::DIAGNOSIS;
    /// Each row is multiplied by a factor of its own.
    RowScale: row_scale::DIAGNOSIS;
    /// The pixels are rounded before they are normalised, and those of the golden run are not, or the other way round.
    PixelRounding: pixel_rounding::DIAGNOSIS;
    /// The colours come in another order.
    ColourOrder: colour_order::DIAGNOSIS;
    /// Normalised once more, or not.
    Normalisation: normalisation::DIAGNOSIS;
    /// Another activation function.
    Activation: activation::DIAGNOSIS;
    /// The numbers of another site.
    OtherSite: other_site::DIAGNOSIS;
    /// The numbers were rounded to bfloat16.
    Bfloat16: bfloat16::DIAGNOSIS;
    /// The position embeddings were resized with the other value of `align_corners`.
    AlignCorners: align_corners::DIAGNOSIS;
    /// One vector is added to every row.
    Bias: bias::DIAGNOSIS;
    /// Another epsilon in a norm.
    Epsilon: epsilon::DIAGNOSIS;
    /// The weight of a norm is applied as 1 + weight, or is too small by 1.
    UnitOffset: unit_offset::DIAGNOSIS;
    /// Other frequencies of the rotary embedding.
    Frequencies: frequencies::DIAGNOSIS;
    /// What is kept from one step of decoding to the next.
    Decoding: decoding::DIAGNOSIS;
    /// An attention sees tokens that are to be hidden, or does not see all others.
    Mask: mask::DIAGNOSIS;
    /// Scores are scaled otherwise.
    AttentionScale: attention_scale::DIAGNOSIS;
    /// Queries or keys are not rotated, or the other way.
    NotRotated: not_rotated::DIAGNOSIS;
    /// Query heads belong to other key-value heads.
    KvHeads: kv_heads::DIAGNOSIS;
    /// The channels of a fused projection belong to other heads.
    HeadLayout: head_layout::DIAGNOSIS;
    /// Only one side has some of the tiles.
    MissingTiles: missing_tiles::DIAGNOSIS;
    /// Only one side has some of the tokens.
    MissingRows: missing_rows::DIAGNOSIS;
}

/// What was found in an entry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// The index of the entry.
    pub index: usize,
    /// Which tokens and channels are off.
    pub places: Vec<Place>,
    /// The mistakes that explain the error, the best first.
    pub diagnoses: Vec<Finding>,
}

/// A mistake that explains an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its kind.
    pub kind: DiagnosisKind,
    /// What was found, and how well it explains the error.
    pub explanation: Explanation,
}

/// Looks into an entry that both dumps have.
pub(crate) fn findings(
    golden: &Dump,
    pairing: &Pairing<'_>,
    entries: &[EntryReport],
    index: usize,
) -> Option<Findings> {
    let entry = entries.get(index)?;
    let key = entry.entry.key();
    let (expected, found) = (pairing.golden(&key)?, pairing.candidate(&key)?);
    let tensors = [expected.view()?, found.view()?];
    let same_shape = tensors[0].shape() == tensors[1].shape();
    if same_shape && entry.measurement.as_ref()?.rows.is_empty() {
        return None;
    }
    let case = if same_shape { Some(Case::new(tensors[0], tensors[1], entry)?) } else { None };
    let variants = DIAGNOSES
        .iter()
        .flat_map(|(_, diagnosis)| diagnosis.variants.iter().map(move |variant| (diagnosis.name, variant)));
    let layout = Layout::of(golden, &entry.entry);
    let variants = variants.collect();
    let probe = Probe {
        golden,
        pairing,
        entries,
        entry,
        tensors,
        case,
        layout,
        variants,
        attention: OnceLock::new(),
    };
    let diagnoses = diagnose(&probe);
    let places = match &probe.case {
        Some(case) => place::places(case, entry, &probe.layout, roles::head_dim(golden)),
        None if diagnoses.is_empty() => return None,
        None => Vec::new(),
    };
    Some(Findings { index, places, diagnoses })
}

/// Tests all known mistakes on a site; the best explanations first.
fn diagnose(probe: &Probe<'_>) -> Vec<Finding> {
    let tested = |last: bool| {
        let asked = DIAGNOSES.iter().filter(move |(_, diagnosis)| diagnosis.last == last);
        let asked = asked.filter(|(_, diagnosis)| (diagnosis.asks)(probe));
        let test = |&(kind, diagnosis): &(DiagnosisKind, &Diagnosis)| {
            Some(Finding { kind, explanation: (diagnosis.test)(probe)? })
        };
        asked.filter_map(test).collect::<Vec<Finding>>()
    };
    let mut found = tested(false);
    if found.is_empty() {
        found = tested(true);
    }
    supersede(&mut found);
    found.sort_by(|a, b| a.explanation.after.total_cmp(&b.explanation.after));
    found.truncate(MOST_TOLD);
    found
}

/// Removes the explanations that another one supersedes, if that one leaves at most twice as much of the error as any other.
fn supersede(found: &mut Vec<Finding>) {
    for &(kind, diagnosis) in DIAGNOSES.iter().filter(|(_, diagnosis)| !diagnosis.supersedes.is_empty()) {
        let Some(own) = found.iter().find(|finding| finding.kind == kind) else { continue };
        let after = own.explanation.after;
        if found.iter().all(|other| after <= 2.0 * other.explanation.after || other.kind == kind) {
            found.retain(|other| !diagnosis.supersedes.contains(&other.kind.name()));
        }
    }
}
