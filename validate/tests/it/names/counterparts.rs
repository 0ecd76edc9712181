//! What has no counterpart, and which tensor is whose.

use validate::Note;
use validate::tolerance::Verdict;

use super::{compare, engine, one, rule};
use crate::dumps::{Candidate, Tensor, failing};

#[test]
fn what_has_no_counterpart_is_named_and_what_the_engine_does_not_expose_is_not() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |tensor| {
        if tensor.name.ends_with(".act_fn") || tensor.name.ends_with(".0.mlp") {
            Vec::new()
        } else {
            vec![tensor]
        }
    });
    let map = "version = 1\n[[absent]]\ngolden = '.*\\.act_fn'\nreason = 'fused'";
    let report = compare(name, &candidate, map).unwrap();
    let missing: Vec<&str> = report.not_recorded().map(|entry| entry.entry.name.as_str()).collect();
    assert_eq!(missing, ["language_model.model.layers.0.mlp"]);
    assert_eq!(failing(&report), missing);
    assert_eq!(report.summary().ignored, 4);
}

#[test]
fn tensors_of_no_site_are_extra_unless_the_map_ignores_them() {
    let name = "shapes-text-float32";
    let site = "language_model.model.norm";
    let candidate = || {
        one(name, site, |tensor| {
            let of = |name: &str| Tensor {
                name: name.to_owned(),
                shape: tensor.shape.clone(),
                data: tensor.data.clone(),
                dtype: tensor.dtype,
            };
            vec![of("dropout"), of("unknown"), tensor]
        })
    };
    let map = "version = 1\n[[ignore]]\ncandidate = 'dropout'\nreason = 'does nothing'";
    let report = compare(name, &candidate(), map).unwrap();
    assert_eq!(failing(&report), ["unknown"]);
    let ignored = report.entries.iter().find(|entry| entry.entry.name == "dropout").unwrap();
    assert_eq!(ignored.verdict, Verdict::Ignored { reason: "does nothing".to_owned() });
    // A rule that gives a name that the golden dump lacks says so, and its tensor is extra; unless it is optional.
    let map = rule("candidate = 'unknown|dropout'\ngolden = 'nowhere.$0'");
    let report = compare(name, &candidate(), &map).unwrap();
    assert_eq!(failing(&report), ["dropout", "unknown"]);
    assert!(matches!(&report.notes[..], [Note::NoSuchSite { name, .. }] if name == "nowhere.dropout"));
    let report = compare(name, &candidate(), &(map + "\noptional = true")).unwrap();
    assert!(report.passes() && report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn a_rule_that_matches_nothing_is_reported() {
    let name = "shapes-text-float32";
    let candidate = Candidate::copied(name);
    let map = rule("candidate = 'nothing\\.(\\d+)'\ngolden = 'x.$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert!(report.passes());
    let expressions = vec!["nothing\\.(\\d+)".to_owned()];
    assert_eq!(report.notes, [Note::IdleNames { map: "map.toml".to_owned(), expressions }]);
}

#[test]
fn a_call_of_a_module_keeps_its_number() {
    let name = "shapes-text-float32";
    let candidate = engine(name, |tensor| {
        let renamed = tensor.name.replace("language_model.model.layers.2.mlp", "mlp.two");
        vec![Tensor {
            name: format!("{renamed}{}", if renamed == tensor.name { "" } else { "#1" }),
            ..tensor
        }]
    });
    // The golden names have no call: with the number that the candidate's have, none is found.
    let map = rule("candidate = 'mlp\\.two([.a-z_]*)'\ngolden = 'language_model.model.layers.2.mlp$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert_eq!(report.not_recorded().count(), 5);
    assert!(
        matches!(&report.notes[..], [Note::NoSuchSite { name, .. }] if name.ends_with("#1")),
        "{:?}",
        report.notes
    );
    // An expression that takes the number in has its own way with it.
    let map = rule("candidate = 'mlp\\.two([.a-z_]*)#1'\ngolden = 'language_model.model.layers.2.mlp$1'");
    let report = compare(name, &candidate, &map).unwrap();
    assert_eq!(report.not_recorded().count(), 0);
}
