//! The HTML report in a browser: that it draws itself, can be read in both colour schemes, and needs no mouse.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::browser::{Browser, program};
use crate::dumps::Candidate;
use crate::reports::{NAME, SITE, faulty, render};

/// A candidate with errors of every kind that the page has a colour for.
fn wrong_in_every_way() -> Candidate {
    Candidate::of(NAME, |tensor| {
        match tensor.name.as_str() {
            SITE => tensor.set(4000, 64.0),
            "vision_model.radio_model.model.blocks.2.norm1" => tensor.set(0, f64::NAN),
            "mlp1.2" => tensor.name = "own".to_owned(),
            "language_model.model.norm" => tensor.shape = vec![tensor.len()],
            _ => {}
        }
        tensor.name != "mlp1.0"
    })
}

/// The page of a candidate, opened.
fn open(candidate: &Candidate) -> (TempDir, Browser) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    fs::write(&file, render("html", candidate)).unwrap();
    let browser = Browser::open(&file);
    (folder, browser)
}

#[test]
fn every_text_can_be_read_in_both_colour_schemes() {
    let candidates = [faulty(), wrong_in_every_way(), Candidate::copied(NAME)];
    for candidate in &candidates {
        let (_folder, mut browser) = open(candidate);
        let mut papers = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            let page = browser.run(include_str!("page/contrast.js"));
            let found = page["found"].as_array().unwrap();
            assert!(found.len() > 500, "{}", found.len());
            let faint: Vec<&Value> =
                found.iter().filter(|text| text["contrast"].as_f64().unwrap() < 4.5).collect();
            assert!(faint.is_empty(), "{scheme}: {faint:#?}");
            papers.push(page["paper"][0].as_u64().unwrap());
        }
        assert!(papers[0] > 200 && papers[1] < 50, "the schemes are light and dark: {papers:?}");
    }
}

#[test]
fn everything_is_reached_by_keyboard_and_seen_to_have_the_focus() {
    let (_folder, mut browser) = open(&faulty());
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        browser.run("document.activeElement.blur(), scrollTo(0, 0)");
        let mut reached = Vec::new();
        loop {
            browser.press("Tab");
            let focus = browser.run(include_str!("page/focus.js"));
            // After the last one the browser itself has it.
            if focus.is_null() || reached.len() > 50 {
                break;
            }
            assert!(focus["outline"].as_f64().unwrap() >= 2.0, "{scheme}: {focus}");
            assert!(focus["contrast"].as_f64().unwrap() >= 3.0, "{scheme}: {focus}");
            assert_eq!(focus["inView"], true, "{scheme}: {focus}");
            reached.push(focus["what"].as_str().unwrap().to_owned());
        }
        for what in [
            "svg#depth",
            "button",
            "select#group",
            "input#layers",
            "canvas#heat",
            "input#opacity",
            "input#filter",
            "tr",
        ] {
            assert!(
                reached.iter().any(|reached| reached == what),
                "{scheme}: {what} is not among {reached:?}"
            );
        }
        let missed = browser.run(
            "[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex=\"0\"]')]\
             .filter((one) => one.checkVisibility() && !one.hasAttribute('data-seen')).map((one) => one.outerHTML)",
        );
        assert_eq!(missed, Value::Array(Vec::new()), "{scheme}");
        browser.run(
            "document.querySelectorAll('[data-seen]').forEach((one) => one.removeAttribute('data-seen'))",
        );
    }
}

#[test]
fn the_drawings_and_the_table_obey_keys() {
    let (_folder, mut browser) = open(&faulty());
    let site = |browser: &mut Browser| browser.run("document.querySelector('#site h3').textContent");
    let focus = |browser: &mut Browser, selector: &str| {
        browser.run(&format!("document.querySelector('{selector}').focus()"));
    };
    assert_eq!(site(&mut browser), SITE);
    focus(&mut browser, "#depth");
    browser.press("ArrowLeft");
    assert_eq!(site(&mut browser), "vision_model.radio_model.model.blocks.1.norm1");
    browser.press("n");
    assert_eq!(site(&mut browser), SITE);
    browser.press("End");
    assert_eq!(site(&mut browser), "step_logits");
    browser.press("p");
    assert_eq!(site(&mut browser), SITE);

    focus(&mut browser, "#heat");
    let cell = browser.run("document.querySelector('#cell').textContent");
    browser.press("ArrowRight");
    let next = browser.run("document.querySelector('#cell').textContent");
    assert_eq!(next, format!("{SITE}, tile 0, row 4, column 1: 0"), "{cell}");

    // The link to what it computes from; the focus is not lost with the link.
    focus(&mut browser, "#site button.link");
    browser.press("Enter");
    assert_eq!(site(&mut browser), "vision_model.radio_model.model.blocks.1.norm1");
    assert_eq!(browser.run("document.querySelector('#site').contains(document.activeElement)"), true);

    focus(&mut browser, "#filter");
    for key in ["m", "l", "p", "1"] {
        browser.press(key);
    }
    let shown = "[...document.querySelectorAll('tr[data-index]')].filter((row) => row.checkVisibility())";
    assert_eq!(browser.run(&format!("{shown}.length")), 5);
    // The table has one stop, and arrows from there.
    browser.press("Tab");
    assert_eq!(browser.run(&format!("document.activeElement === {shown}[0]")), true);
    browser.press("ArrowDown");
    assert_eq!(browser.run(&format!("document.activeElement === {shown}[1]")), true);
    let name = browser.run("document.activeElement.querySelector('code').textContent");
    assert_eq!(site(&mut browser), name);
    browser.press("End");
    assert_eq!(browser.run(&format!("document.activeElement === {shown}[4]")), true);
}

#[test]
fn the_page_draws_itself_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    fs::write(&file, render("html", &faulty())).unwrap();
    let output = Command::new(program())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"])
        .args(["--enable-logging=stderr", "--window-size=1200,900"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!log.contains("CONSOLE"), "{log}");
    assert!(dom.contains("class=\"curve l2\""), "the curve is drawn");
    assert!(
        dom.contains("<h3>vision_model.radio_model.model.blocks.1.attn.qkv</h3>"),
        "the divergence is chosen"
    );
    // Row 40 of 72 with 8 prefix tokens, in a grid of 8 by 8.
    assert!(dom.contains("tile 0, row 4, column 0: 5.0e-1"), "the token that is off is chosen");
    assert!(dom.contains("<figcaption>tile 0: at most 5.0e-1</figcaption>"), "the picture has its errors");
}
