//! What the formats for CI servers and readers say.

use insta::assert_snapshot;
use validate::report::{Options, format};

use crate::dumps::{Candidate, compare, compare_by};
use crate::policies::policy;

pub const NAME: &str = "shapes-describe-bfloat16";
pub const SITE: &str = "vision_model.radio_model.model.blocks.1.attn.qkv";

/// A candidate with an error at one site, which says that it generated nothing.
pub fn faulty() -> Candidate {
    Candidate::with(
        NAME,
        |head| {
            head.generated_ids = None;
            head.text = None;
            head.request.as_mut().unwrap().max_new_tokens = Some(0);
        },
        |entry, tensor| {
            if entry.name == SITE {
                let row_len = tensor.row_len();
                tensor.map(|index, value| if index / row_len == 40 { 1.5 * value } else { value });
            }
            entry.name != "step_logits"
        },
    )
}

/// A candidate whose names are markup of several kinds.
fn hostile() -> Candidate {
    Candidate::of(NAME, |tensor| {
        if tensor.name == "mlp1.2" {
            tensor.name.push_str("</script><b>&|`x`{data}\u{1b}[31m\u{0}]]>");
        }
        true
    })
}

pub fn render(name: &str, candidate: &Candidate) -> String {
    let mut report = compare(NAME, candidate);
    // They are not the same from run to run.
    report.golden.path = "golden".into();
    report.candidate.path = "candidate".into();
    format(name).unwrap().render(&report, Options::default())
}

#[test]
fn junit_has_a_case_for_each_entry_and_part_of_the_answer() {
    let xml = render("junit", &faulty());
    assert!(xml.contains(r#"tests="108" skipped="3" failures="1""#), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 108);
    let failure = xml.lines().skip_while(|line| !line.contains("<failure")).collect::<Vec<_>>().join("\n");
    let failure = failure.split("</failure>").next().unwrap();
    assert_snapshot!(failure.trim(), @r#"
    <failure message="relative L2: expected at most 2.0e-2, found 5.7e-2" type="fresh">relative L2: expected at most 2.0e-2, found 5.7e-2
    largest difference 2.9e0 at [0, 40, 39]: expected 5.8125, found 8.75
    288 of 20736 elements differ
    1 of 64 patch tokens is off: tile 0, row 4, column 0
    diagnosis: each row that is off is the golden one times 1.5; undone, it leaves a relative L2 of 3.2e-4 of 5.7e-2
    made here: its input vision_model.radio_model.model.blocks.1.norm1 is bit-equal
    last agreement: vision_model.radio_model.model.blocks.1.norm1 (LayerNorm, order 17), bit-equal
    "#);
    let all = render("junit", &Candidate::copied(NAME));
    assert!(all.contains(r#"tests="108" skipped="0" failures="0""#), "{all}");
}

#[test]
fn markdown_has_the_divergence_above_a_table() {
    assert_snapshot!(render("markdown", &faulty()), @r"
    ## Activations: ❌ fail

    | | dump | made by |
    |---|---|---|
    | golden | <code>golden</code> | Hugging Face modeling.py, bfloat16, cpu |
    | candidate | <code>candidate</code> | Hugging Face modeling.py, bfloat16, cpu |

    **First divergence: vision\_model.radio\_model.model.blocks.1.attn.qkv (Linear, order 18)**

    - relative L2: expected at most 2.0e-2, found 5.7e-2
    - largest difference 2.9e0 at \[0, 40, 39\]: expected 5.8125, found 8.75
    - 288 of 20736 elements differ
    - 1 of 64 patch tokens is off: tile 0, row 4, column 0
    - diagnosis: each row that is off is the golden one times 1.5; undone, it leaves a relative L2 of 3.2e-4 of 5.7e-2
    - made here: its input vision\_model.radio\_model.model.blocks.1.norm1 is bit-equal
    - last agreement: vision\_model.radio\_model.model.blocks.1.norm1 (LayerNorm, order 17), bit-equal

    105 entries: 103 pass, 103 bit-equal, 1 fail, 1 fresh, 1 ignored

    prompt: equal

    generated ids: not compared, the candidate generated nothing

    text: not compared, the candidate generated nothing

    <details><summary>Entries that fail</summary>

    | order | site | relative L2 | worst row | max abs | verdict |
    |---:|---|---:|---:|---:|---|
    | 18 | <code>vision\_model.radio\_model.model.blocks.1.attn.qkv</code> | 5.7e-2 | 5.0e-1 | 2.9e0 | fresh |

    </details>
    ");
}

#[test]
fn annotations_are_of_the_first_divergence_and_a_pass() {
    assert_snapshot!(render("github", &faulty()), @"::error title=Activations%3A first divergence at vision_model.radio_model.model.blocks.1.attn.qkv (Linear%2C order 18)::relative L2: expected at most 2.0e-2, found 5.7e-2%0Alargest difference 2.9e0 at [0, 40, 39]: expected 5.8125, found 8.75%0A288 of 20736 elements differ%0A1 of 64 patch tokens is off: tile 0, row 4, column 0%0Adiagnosis: each row that is off is the golden one times 1.5; undone, it leaves a relative L2 of 3.2e-4 of 5.7e-2%0Amade here: its input vision_model.radio_model.model.blocks.1.norm1 is bit-equal%0Alast agreement: vision_model.radio_model.model.blocks.1.norm1 (LayerNorm, order 17), bit-equal%0A105 entries: 103 pass, 103 bit-equal, 1 fail, 1 fresh, 1 ignored");
    assert_snapshot!(render("github", &Candidate::copied(NAME)), @"::notice title=Activations%3A pass::105 entries: 105 pass, 105 bit-equal, 0 fail%0Aprompt: equal%0Agenerated ids: equal%0Atext: equal%0Astep logits: 8 steps, the same probabilities");
}

#[test]
fn annotations_are_of_introduced_errors_and_no_more_than_github_shows() {
    // The norms, as none of them is given what another one computes.
    let norms = |mut count: usize| {
        Candidate::of(NAME, move |tensor| {
            let name = tensor.name.as_str();
            let is_norm = [".norm1", ".norm2", "_layernorm"].iter().any(|end| name.ends_with(end));
            if is_norm && count > 0 {
                count -= 1;
                tensor.map(|_, value| 1.5 * value);
            }
            true
        })
    };
    let of = |sites: usize, kind: &str| {
        let text = render("github", &norms(sites));
        assert!(text.lines().all(|line| line.starts_with("::")), "{text}");
        text.lines().filter(|line| line.starts_with(kind)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((of(3, "::error").len(), of(3, "::warning").len()), (1, 2));
    assert_eq!((of(11, "::error").len(), of(11, "::warning").len()), (1, 10));
    let many = of(13, "::warning");
    assert_eq!(many.len(), 10);
    assert!(many[9].starts_with("::warning title=Activations%3A 3 more introduced errors::"), "{many:?}");
    let ignoring =
        policy("version = 1\n[[rules]]\nsites = [\"*norm*\"]\nignore = true\nreason = \"fused\"\n");
    let report = compare_by(NAME, &norms(3), &ignoring);
    assert!(report.passes());
    let text = format("github").unwrap().render(&report, Options::default());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("::notice title=Activations%3A pass::"), "{text}");
}

#[test]
fn nothing_that_a_dump_says_is_markup() {
    for name in ["junit", "markdown", "html", "github"] {
        let text = render(name, &hostile());
        for forbidden in ["<b>", "\u{1b}", "\u{0}", "]]>"] {
            let found = text.find(forbidden).map(|at| &text[at.saturating_sub(60)..at + 20]);
            // The data of the page may have it in a script that the sign for its end cannot be in.
            assert!(found.is_none() || name == "html" && forbidden == "]]>", "{name}: {found:?}");
        }
    }
    assert_eq!(render("html", &hostile()).matches("</script>").count(), 2);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = render("html", &faulty());
    for elsewhere in ["http://", "https://", "//cdn", "@import", "src=\"/", "url("] {
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(elsewhere), "{elsewhere}");
    }
    assert!(page.contains("default-src 'none'"));
    for place in
        ["{style}", "{script}", "{data}", "{rows}", "{sides}", "{summary}", "{divergence}", "{verdict}"]
    {
        assert!(!page.contains(place), "{place}");
    }
    // Without scripts a reader still has the divergence and all entries.
    let body = page.split("<script").next().unwrap();
    assert!(body.contains(&format!("<p class=\"headline\">{SITE} (Linear, order 18)</p>")));
    assert_eq!(body.matches("<tr data-index=").count(), 105);
}
