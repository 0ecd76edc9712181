"""Checks how the sources are laid out: no circle of files, no long function, no long file.

  scripts/house [--drop-stale] [FOLDER]     FOLDER: another tree than this one

- No circle: no two files need each other, directly or through others. A file needs another if a `use`, an `import` or a
  path in its code names it. Each crate and each folder of Python files is checked. Code that is compiled for tests only
  does not count.
- No function has more than 80 lines, from its first line to its last brace, outside tests.
- No file has more than 500 lines.

`scripts/house-exceptions.txt` has the exceptions. A line there that no longer holds is an error; `--drop-stale` removes
such lines. Exit status: 0 all is well, 1 something is not, 2 the check could not run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import circles
import rust
from exceptions import Exceptions, Excess

FUNCTION_LINES = 80
FILE_LINES = 500


def sources(root: Path) -> list[Path]:
    """The Rust and Python files of a tree, those that git ignores left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [root / name for name in sorted(set(listed)) if name]
    return [file for file in files if file.is_file() and (file.suffix in (".rs", ".py") or is_python(file))]


def is_python(file: Path) -> bool:
    """Whether a file without an ending is a Python program."""
    if file.suffix or not file.stat().st_mode & 0o100:
        return False
    with file.open("rb") as opened:
        return opened.read(64).startswith((b"#!/usr/bin/env python", b"#!/usr/bin/python"))


def is_test(file: Path) -> bool:
    return "tests" in file.parts


def long_files(files: list[Path], root: Path) -> Iterator[Excess]:
    for file in files:
        lines = len(file.read_text().splitlines())
        if lines > FILE_LINES:
            place = str(file.relative_to(root))
            yield Excess("file", place, lines, f"{place}: expected at most {FILE_LINES} lines, found {lines}")


def functions(file: Path) -> list[rust.Function]:
    if file.suffix == ".rs":
        return rust.functions(rust.tokens(file))
    return [
        rust.Function(node.name, node.lineno, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def long_functions(files: list[Path], root: Path) -> Iterator[Excess]:
    for file in files:
        if is_test(file.relative_to(root)):
            continue
        for function in functions(file):
            if function.length > FUNCTION_LINES:
                place = file.relative_to(root)
                yield Excess(
                    "function",
                    f"{place}:{function.name}",
                    function.length,
                    f"{place}:{function.line}: `{function.name}`: expected at most {FUNCTION_LINES} lines, "
                    f"found {function.length}",
                )


def crates(files: list[Path], root: Path) -> list[Path]:
    """The manifests of the crates that the files belong to."""
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
    manifests = sorted(folder / "Cargo.toml" for folder in folders)
    return [manifest for manifest in manifests if manifest.is_file() and "[package]" in manifest.read_text()]


def all_circles(files: list[Path], root: Path) -> Iterator[Excess]:
    read: set[Path] = set()
    for target in sorted({target for manifest in crates(files, root) for target in circles.crate_roots(manifest)}):
        tree = rust.tree(target, tests=is_test(target.relative_to(root)))
        read |= {module.file for module in tree.every()}
        yield from circles_of(circles.rust_arrows(tree), root)
    yield from circles_of(circles.python_arrows([file for file in files if file.suffix != ".rs"]), root)
    for file in files:
        if file.suffix == ".rs" and file not in read:
            place = str(file.relative_to(root))
            yield Excess("circle", place, 0, f"{place}: expected a crate that has this file, found none")


def circles_of(arrows: circles.Arrows, root: Path) -> Iterator[Excess]:
    for circle in circles.circles(arrows):
        lines = [f"{circle[0].relative_to(root)}: a circle of {len(circle)} files"]
        for file in circle:
            for other in (other for other in circle if other in arrows[file]):
                said = arrows[file][other]
                line = ", ".join(said[:3]) + (", …" if len(said) > 3 else "")
                lines.append(f"  {file.relative_to(root)} needs {other.relative_to(root)} (line {line})")
        for file in circle:
            yield Excess("circle", str(file.relative_to(root)), 0, "\n".join(lines))


def main(arguments: list[str]) -> int:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return 0
    drop = "--drop-stale" in arguments
    folders = [argument for argument in arguments if argument != "--drop-stale"]
    if len(folders) > 1 or any(folder.startswith("-") for folder in folders):
        print(f"house: unknown argument `{folders[-1]}`; try --help", file=sys.stderr)
        return 2
    root = Path(folders[0] if folders else Path(__file__).resolve().parents[2]).resolve()
    try:
        files = sources(root)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"house: `{root}`: expected a git work tree: {error}", file=sys.stderr)
        return 2
    exceptions = Exceptions(root / "scripts/house-exceptions.txt")
    found = [*all_circles(files, root), *long_functions(files, root), *long_files(files, root)]
    # A circle has one message for all its files.
    wrong = list(dict.fromkeys([excess.message for excess in found if not exceptions.allow(excess)]))
    if drop:
        exceptions.drop_stale()
    else:
        wrong += [
            f"house-exceptions.txt: `{line}` no longer holds: remove it (--drop-stale)" for line in exceptions.stale()
        ]
    for message in wrong:
        print(message)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
