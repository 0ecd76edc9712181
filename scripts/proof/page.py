"""The proof as one page that needs nothing else: no network, no script, no other file."""

from html import escape
from string import Template
from typing import Any

from talk import duration, size

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --good: #18794e; --bad: #cd2b31; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff6369; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { border-left: 6px solid; padding: .6rem 1rem; font-size: 1.15rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, .hash, pre { font: 12px/1.5 ui-monospace, monospace; } .hash { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .3rem 0; }
</style>
</head>
<body>
<h1>$title</h1>
$verdict
<p>$story</p>
<h2>Requests</h2>
$requests
<h2>The checkpoint</h2>
$source
<h2>How the behaviour is known</h2>
$behaviours
<h2>With what</h2>
$environment
<h2>Commands</h2>
$commands
<h2>Every entry</h2>
$entries
</body>
</html>
""")
_STORY = (
    "Each request was put to the checkpoint's own Python code, and what every module computed was recorded. The same files "
    "were converted, each request was computed again by nvl-reference, and every entry of the two recordings was compared by "
    "the SHA-256 of its bytes. proof.json beside this page has all that is here, for programs."
)


def render(proof: dict[str, Any]) -> str:
    """The page."""
    return _PAGE.substitute(
        title=escape(f"Proof of {proof['source']['name']}"),
        verdict=_verdict(proof),
        story=_STORY,
        requests=_requests(proof),
        source=_source(proof),
        behaviours=_behaviours(proof),
        environment=_environment(proof),
        commands=_commands(proof),
        entries="\n".join(map(_entries, proof["requests"])),
    )


def _verdict(proof: dict[str, Any]) -> str:
    rows = proof["requests"]
    if proof["verdict"] == "proved":
        entries = sum(row["entries"] for row in rows)
        text = f"Proved: {len(rows)} requests, {entries:,} entries, every one equal to the last bit, none missing, none extra."
        return f'<p class="verdict good">{text}</p>'
    items = "".join(f"<li>{escape(difference)}</li>" for difference in proof["differences"])
    return f'<div class="verdict bad">Not equal.<ul>{items}</ul></div>'


def _requests(proof: dict[str, Any]) -> str:
    head = ["configuration", "request", "ran", "tiles", "#entries", "#equal", "#differ", "#missing", "#extra", "ids"]
    head += ["#golden", "#recorded", "#memory", "#replayed", "#memory"]
    rows = []
    for row in proof["requests"]:
        ran = row["producers"]["golden"]
        attention = ", ".join(f"{side} {kind}" for side, kind in (ran.get("attention") or {}).items())
        tiles = ", ".join(str(image.get("tiles", "?")) for image in row["request"]["images"]) or "no picture"
        same = row["generated_ids"]["golden"] == row["generated_ids"]["replay"]
        kind = "good" if row["equal"] else "bad"
        rows.append(
            [
                escape(row["configuration"]),
                f'<a href="#{_anchor(row)}">{escape(row["id"])}</a>',
                escape(f"{ran['dtype']}; {attention}"),
                tiles,
                row["entries"],
                f'<span class="{kind}">{row["bit_equal"]}</span>',
                row["different"],
                row["missing"],
                row["extra"],
                "equal" if same else '<span class="bad">differ</span>',
                size(row["golden"]["bytes"]),
                duration(row["golden"]["seconds"]),
                size(row["golden"]["peak_bytes"]),
                duration(row["replay"]["seconds"]),
                size(row["replay"]["peak_bytes"]),
            ]
        )
    note = "The time of the first request of a recording has the loading of the checkpoint in it."
    return _table(head, rows) + f"<p>{note}</p>"


def _source(proof: dict[str, Any]) -> str:
    source, converted = proof["source"], proof["converted"]
    what = f"{source['name']}{'@' + source['revision'] if source['revision'] else ''}"
    text = f"<p>{escape(what)}: {source['parameters']:,} parameters, {size(source['bytes'])}.</p>"
    ran = {digest for row in proof["requests"] for digest in (row["remote_code"] or {}).values()}
    code = [
        [escape(file["name"]), "ran" if file["sha256"] in ran else "", escape(file["origin"]), _hash(file["sha256"])]
        for file in source["code"]
    ]
    files = [[escape(file["name"]), file["bytes"], _hash(file["sha256"])] for file in source["files"]]
    tensors = [
        [escape(row["source"]), row["dtype"], escape(str(row["shape"])), _hash(row["sha256"])]
        for row in source["tensors"]
    ]
    text += _details(f"Python code: {len(code)} files", _table(["file", "", "from", "SHA-256"], code), True)
    text += _details(f"Files: {len(files)}", _table(["file", "#bytes", "SHA-256"], files))
    text += _details(f"Tensors: {len(tensors)}", _table(["tensor", "dtype", "shape", "SHA-256 of the bytes"], tensors))
    verified = "is what the ledger says" if converted["verify"]["equal"] else "is NOT what the ledger says"
    return (
        text
        + f"<p>The converted checkpoint {verified}; ledger <span class='hash'>{converted['ledger_sha256']}</span>.</p>"
    )


def _behaviours(proof: dict[str, Any]) -> str:
    rows = []
    for row in proof["converted"]["behaviours"]:
        evidence = row["evidence"]
        how = ", ".join(str(evidence[key]) for key in ("how", "file", "detail", "flag", "reason") if key in evidence)
        rows.append([escape(row["name"]), escape(str(row["value"])), escape(f"{evidence['kind']}: {how}")])
    warnings = "".join(f"<p>{escape(str(warning))}</p>" for warning in proof["converted"]["warnings"])
    return _table(["behaviour", "value", "known from"], rows) + warnings


def _environment(proof: dict[str, Any]) -> str:
    found = proof["environment"]
    machine = found["machine"]
    memory = size(machine["memory_bytes"])
    rows = [
        [
            "machine",
            escape(f"{machine['cores']} cores of {machine['cpu']}, {memory} of memory, {machine['system']}"),
            "",
        ],
        ["device", escape(f"{found['device']}, kernels of torch: {found['cpu_capability']}"), ""],
        ["Python", escape(found["python"]), ""],
        ["nvl-golden", escape(found["recorder"]["version"]), _hash(found["recorder"]["sha256"])],
    ]
    rows += [[escape(name), escape(version), ""] for name, version in found["packages"].items()]
    rows += [[escape(name), escape(one["version"]), _hash(one["sha256"])] for name, one in found["programs"].items()]
    rows += [[escape(name), escape(value), ""] for name, value in machine["settings"].items()]
    return _table(["", "version", "SHA-256"], rows)


def _commands(proof: dict[str, Any]) -> str:
    ran = [row["golden"] for row in proof["requests"]]
    ran += [proof["converted"]["convert"], proof["converted"]["verify"]]
    ran += [row["replay"] for row in proof["requests"]]
    rows = [
        [f"<code>{escape(' '.join(one['command']))}</code>", duration(one["seconds"]), size(one["peak_bytes"])]
        for one in ran
    ]
    rows += [[f"<code>{escape(' '.join(row['command']))}</code>", "", ""] for row in proof["requests"]]
    note = f"<p>This run took {duration(proof['seconds'])}, without what was done before. Memory has the files in it that are mapped.</p>"
    return note + _details("All commands", _table(["command", "#time", "#most memory"], rows))


def _entries(row: dict[str, Any]) -> str:
    asked = row["request"]
    turns = "\n".join(
        f"{who}: {turn[who]}" for turn in asked["turns"] for who in ("user", "assistant") if turn.get(who) is not None
    )
    system = f"system: {asked['system']}\n" if asked.get("system") else ""
    pictures = "".join(f"\npicture: {image['file']}, SHA-256 {image['sha256']}" for image in asked["images"])
    ids = row["generated_ids"]
    answer = f"\nanswer: {row['text']}\nids: {ids['golden']}; of the replay: {ids['replay']}"
    rows = [
        [
            escape(entry["name"]),
            f"{entry['dtype']} {entry['shape']}",
            f'<span class="{"good" if entry["verdict"] == "equal" else "bad"}">{entry["verdict"]}</span>',
            _hash(entry["golden"])
            if entry["verdict"] == "equal"
            else f"{_hash(entry['golden'])}<br>{_hash(entry['replay'])}",
        ]
        for entry in row["rows"]
    ]
    body = f"<pre>{escape(system + turns + pictures + answer)}</pre>"
    body += _table(["entry", "what", "verdict", "SHA-256 (golden, replay)"], rows)
    title = f"{row['configuration']}/{row['id']}: {row['bit_equal']} of {row['entries']} equal"
    return f'<div id="{_anchor(row)}">{_details(escape(title), body, not row["equal"])}</div>'


def _anchor(row: dict[str, Any]) -> str:
    return escape(f"{row['configuration']}-{row['asked']['name']}")


def _hash(value: str | None) -> str:
    return f'<span class="hash">{value or "none"}</span>'


def _details(title: str, body: str, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>{body}</details>"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    """A table; a column whose name begins with `#` has numbers."""
    kinds = [' class="number"' if name.startswith("#") else "" for name in head]
    cells = "".join(f"<th{kind}>{escape(name.lstrip('#'))}</th>" for name, kind in zip(head, kinds, strict=True))
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True))
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
