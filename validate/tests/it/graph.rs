//! The data flow of a dump as a graph.

use assert_cmd::Command;
use golden::{Dtype, Dump};
use validate::report::{GraphFormat, graph};

use crate::dumps::bundled;
use crate::synthetic::{How, decoder, two_towers, written};

const RECORDED: How<'_> = How { dtype: Dtype::Float32, otherwise: false, wrong: None, row: None, flow: true };

fn all(dump: &Dump, format: GraphFormat) -> String {
    graph(dump, &vec![true; dump.entries().len()], format)
}

#[test]
fn recorded_inputs_are_its_edges() {
    let dump = written(RECORDED, two_towers).open();
    let text = all(&dump, GraphFormat::Dot);
    assert!(text.contains("label=\"data flow as the run recorded it\""), "{text}");
    let inputs: usize = dump.entries().iter().flat_map(|entry| &entry.inputs).map(Vec::len).sum();
    assert_eq!(text.matches(" -> ").count(), inputs);
    let order = |name: &str| dump.entry(name).unwrap().order;
    let queries = format!("  n{} -> n{} [style=dashed]\n", order("s06"), order("s11"));
    let head = format!("  n{} -> n{} [style=dashed, label=\"from the end\"]\n", order("s19"), order("s20"));
    let sum = format!("  n{} -> n{}\n", order("s02"), order("s08"));
    for edge in [&queries, &head, &sum] {
        assert!(text.contains(edge), "{edge}: {text}");
    }
    assert!(text.contains("[label=\"s17\\nactivation\\nmul, linear\"]"), "{text}");
    let mermaid = all(&dump, GraphFormat::Mermaid);
    assert!(mermaid.starts_with("%% data flow as the run recorded it\nflowchart TD\n"), "{mermaid}");
    assert_eq!(mermaid.matches("-->").count() + mermaid.matches("-.->").count(), inputs);
}

#[test]
fn what_is_left_out_is_bridged() {
    let dump = written(RECORDED, two_towers).open();
    let kept: Vec<bool> =
        dump.entries().iter().map(|entry| ["s01", "s02", "s08"].contains(&entry.name.as_str())).collect();
    let text = graph(&dump, &kept, GraphFormat::Dot);
    assert_eq!(text.matches("[label=").count(), 3);
    let order = |name: &str| dump.entry(name).unwrap().order;
    let edges: Vec<&str> = text.lines().filter(|line| line.contains("->")).collect();
    assert_eq!(edges, [format!("  n{} -> n{}", order("s02"), order("s08"))]);
}

#[test]
fn steps_are_apart_and_the_cache_joins_them() {
    let dump = written(RECORDED, decoder).open();
    let text = all(&dump, GraphFormat::Dot);
    assert_eq!(text.matches("subgraph cluster_").count(), 5);
    let order = |key: &str| dump.entry(key).unwrap().order;
    let edge = format!("n{} -> n{}", order("past_key_values.0.keys@2"), order("past_key_values.0.keys@3"));
    assert!(text.contains(&edge), "{text}");
    assert_eq!(all(&dump, GraphFormat::Mermaid).matches("  subgraph s").count(), 5);
}

#[test]
fn a_graph_that_nobody_recorded_says_where_it_comes_from() {
    let known = all(&Dump::open(bundled("shapes-text-float32")).unwrap(), GraphFormat::Dot);
    assert!(known.contains("as the model's family has it: the dump has none"), "{known}");
    assert!(known.contains(" -> "));
    let guessed = all(&written(How { flow: false, ..RECORDED }, two_towers).open(), GraphFormat::Mermaid);
    assert!(
        guessed.starts_with("%% data flow as names and order suggest it: the dump has none"),
        "{guessed}"
    );
}

#[test]
fn a_name_ends_no_label() {
    let wicked = written(RECORDED, |run| {
        two_towers(run);
        run.rename("s01", "a\"]; n9 -> n1 [label=\"\\n<b>#35;");
    });
    let dot = all(&wicked.open(), GraphFormat::Dot);
    assert!(dot.contains(r#"[label="a\"]; n9 -> n1 [label=\"\\n<b>#35;\n"#), "{dot}");
    let mermaid = all(&wicked.open(), GraphFormat::Mermaid);
    assert!(
        mermaid.contains("[\"a#34;#93;#59; n9 -#62; n1 #91;label=#34;#92;n#60;b#62;#35;35#59;<br>"),
        "{mermaid}"
    );
}

#[test]
fn the_program_prints_it() {
    let dump = written(RECORDED, two_towers);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nvl-validate"));
        let output = command.arg("show").arg(dump.path()).args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let open = dump.open();
    assert_eq!(run(&["--graph"]), (Some(0), all(&open, GraphFormat::Dot), String::new()));
    assert_eq!(run(&["--graph", "mermaid"]), (Some(0), all(&open, GraphFormat::Mermaid), String::new()));
    let (status, table, _) = run(&["--sites", "s1*"]);
    assert_eq!(status, Some(0));
    assert_eq!(table.split("\n\n").nth(1).unwrap().lines().count(), 1 + 10, "{table}");
    assert!(table.contains("data flow    recorded; --graph prints it\n"), "{table}");
    let (status, _, message) = run(&["--graph", "--sites", "x*"]);
    assert_eq!(status, Some(2));
    assert!(message.contains("`x*`"), "{message}");
}
