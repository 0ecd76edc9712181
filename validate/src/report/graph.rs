//! The data flow of a dump, for programs that draw graphs.

use std::fmt::Write as _;

use clap::ValueEnum;
use cli::escape;
use golden::{Dump, Entry, RowAlignment};
use measure::origin::{DataFlow, SiteFlow, flow_of_dump};

/// What the graph is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz: `… --graph dot | dot -Tsvg > flow.svg`
    Dot,
    /// Mermaid, which GitHub draws in Markdown
    Mermaid,
}

/// What is drawn of an entry.
struct Node<'a> {
    entry: &'a Entry,
    flow: &'a SiteFlow,
}

/// The data flow between the entries of a dump that are kept. What is not is replaced by what it was computed from.
///
/// Without recorded data flow it is that of the model's family, or a guess, and says so.
pub fn graph(dump: &Dump, kept: &[bool], format: GraphFormat) -> String {
    let entries = dump.entries();
    let (source, flows) = flow_of_dump(entries, kept);
    let source = match source {
        DataFlow::Golden | DataFlow::Candidate => "data flow as the run recorded it",
        DataFlow::Family => "data flow as the model's family has it: the dump has none",
        DataFlow::Names => {
            "data flow as names and order suggest it: the dump has none, and the model is not known"
        }
    };
    let nodes: Vec<Node<'_>> = entries
        .iter()
        .zip(&flows)
        .zip(kept)
        .filter_map(|((entry, flow), &kept)| kept.then_some(Node { entry, flow }))
        .collect();
    let edges: Vec<(u64, u64, RowAlignment)> = nodes
        .iter()
        .flat_map(|node| {
            let edge =
                |&(input, rows): &(usize, RowAlignment)| (entries[input].order, node.entry.order, rows);
            node.flow.inputs.iter().map(edge)
        })
        .collect();
    match format {
        GraphFormat::Dot => dot(source, &nodes, &edges),
        GraphFormat::Mermaid => mermaid(source, &nodes, &edges),
    }
}

/// The lines of a node: its key, its class or role, and the operators between its inputs and it.
fn lines(node: &Node<'_>) -> Vec<String> {
    let Node { entry, flow } = node;
    let class = if entry.module.is_empty() { entry.role.name() } else { &entry.module };
    let mut lines = vec![entry.key().into_owned(), class.to_owned()];
    let operator = |(name, &count): (&String, &u64)| {
        let name = name.strip_prefix("aten.").unwrap_or(name);
        if count == 1 { name.to_owned() } else { format!("{name} ×{count}") }
    };
    let operators: Vec<String> = flow.operations.iter().map(operator).collect();
    lines.extend((!operators.is_empty()).then(|| operators.join(", ")));
    lines
}

/// The nodes of each step, one step after the other.
fn by_step<'a>(nodes: &'a [Node<'a>]) -> impl Iterator<Item = (Option<u64>, &'a [Node<'a>])> {
    let has_steps = nodes.iter().any(|node| node.entry.step != 0);
    let steps = nodes.chunk_by(|a, b| a.entry.step == b.entry.step);
    steps.map(move |nodes| (nodes.first().map(|node| node.entry.step).filter(|_| has_steps), nodes))
}

fn dot(source: &str, nodes: &[Node<'_>], edges: &[(u64, u64, RowAlignment)]) -> String {
    let mut out = format!("digraph flow {{\n  label=\"{source}\"\n  node [shape=box, fontname=monospace]\n");
    for (at, (step, nodes)) in by_step(nodes).enumerate() {
        if let Some(step) = step {
            let _ = writeln!(out, "  subgraph cluster_{at} {{\n  label=\"step {step}\"");
        }
        for node in nodes {
            let label: Vec<String> = lines(node).iter().map(|line| escape::dot(line)).collect();
            let _ = writeln!(out, "  n{} [label=\"{}\"]", node.entry.order, label.join("\\n"));
        }
        out.push_str(if step.is_some() { "  }\n" } else { "" });
    }
    for (from, to, rows) in edges {
        let style = match rows {
            RowAlignment::Same => "",
            RowAlignment::FromEnd => " [style=dashed, label=\"from the end\"]",
            RowAlignment::Mixed => " [style=dashed]",
        };
        let _ = writeln!(out, "  n{from} -> n{to}{style}");
    }
    out.push_str("}\n");
    out
}

fn mermaid(source: &str, nodes: &[Node<'_>], edges: &[(u64, u64, RowAlignment)]) -> String {
    let mut out = format!("%% {source}\nflowchart TD\n");
    for (at, (step, nodes)) in by_step(nodes).enumerate() {
        if let Some(step) = step {
            let _ = writeln!(out, "  subgraph s{at}[\"step {step}\"]");
        }
        for node in nodes {
            let label: Vec<String> = lines(node).iter().map(|line| escape::mermaid(line)).collect();
            let _ = writeln!(out, "  n{}[\"{}\"]", node.entry.order, label.join("<br>"));
        }
        out.push_str(if step.is_some() { "  end\n" } else { "" });
    }
    for (from, to, rows) in edges {
        let arrow = match rows {
            RowAlignment::Same => "-->",
            RowAlignment::FromEnd => "-.->|from the end|",
            RowAlignment::Mixed => "-.->",
        };
        let _ = writeln!(out, "  n{from} {arrow} n{to}");
    }
    out
}
