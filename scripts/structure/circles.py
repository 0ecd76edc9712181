"""Arrows between files, and the circles that they form."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import rust

#: file → file that it needs → the lines that say so, as `line: name`.
Arrows = dict[Path, dict[Path, list[str]]]


def crate_roots(manifest: Path) -> list[Path]:
    """The root file of each target of a crate: library, programs, tests, examples, build script."""
    folder = manifest.parent
    table = tomllib.loads(manifest.read_text())
    roots = [folder / "src/lib.rs", folder / "src/main.rs", folder / "build.rs"]
    for pattern in ("src/bin", "tests", "examples", "benches"):
        roots += [*folder.glob(f"{pattern}/*.rs"), *folder.glob(f"{pattern}/*/main.rs")]
    for kind in ("lib", "bin", "test", "example", "bench"):
        targets = table.get(kind, [])
        for target in [targets] if isinstance(targets, dict) else targets:
            if "path" in target:
                roots.append(folder / target["path"])
    return sorted({root.resolve() for root in roots if root.is_file()})


def rust_arrows(root: rust.Module) -> Arrows:
    """The arrows of one crate. A re-export is one only if its file uses the name itself."""
    arrows: Arrows = defaultdict(lambda: defaultdict(list))

    def arrow(module: rust.Module, path: tuple[str, ...], line: int) -> None:
        found = rust.resolve(module, path)
        if isinstance(found, Path) and found != module.file:
            entry = f"{line}: {'::'.join(path)}"
            if entry not in arrows[module.file][found]:
                arrows[module.file][found].append(entry)

    for module in root.every():
        used = {path[0] for path, _ in module.paths}
        for name, found in module.imports.items():
            if not found.public or name in used:
                arrow(module, found.path, found.line)
        for found in module.unnamed:
            arrow(module, found.path, found.line)
        for path, line in module.paths:
            if path[0] not in module.imports or len(path) > 1:
                arrow(module, path, line)
    return arrows


def python_arrows(files: list[Path]) -> Arrows:
    """The arrows between Python files that stand in one folder; imports for the type checker only are none."""
    arrows: Arrows = defaultdict(lambda: defaultdict(list))
    for file in files:
        siblings = {other.stem: other for other in files if other.parent == file.parent}
        for node in _that_run(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level <= 1:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            for name in names:
                if name in siblings and siblings[name] != file:
                    arrows[file][siblings[name]].append(f"{node.lineno}: {name}")
    return arrows


def circles(arrows: Arrows) -> list[list[Path]]:
    """The sets of files of which each needs every other (strongly connected, more than one)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[list[Path]] = []

    def visit(file: Path) -> None:
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in arrows.get(file, {}):
            if other not in index:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], index[other])
        if low[file] == index[file]:
            circle = stack[stack.index(file) :]
            del stack[stack.index(file) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for file in list(arrows):
        if file not in index:
            visit(file)
    return found


def _that_run(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all in it, without what is for the type checker only."""
    if isinstance(node, ast.If):
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", None)
        if name == "TYPE_CHECKING":
            return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _that_run(child)
