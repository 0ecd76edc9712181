"""scripts/house on small trees: what it finds, what it permits, and what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = '[package]\nname = "made-up"\n'


@pytest.fixture
def house(tmp_path: Path):
    """Writes a tree, and runs the script on it."""

    def run(files: dict[str, str], *arguments: str) -> tuple[int, str]:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        command = [ROOT / "scripts/house", *arguments, tmp_path]
        environment = os.environ | {"PYTHON": sys.executable}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


def crate(**modules: str) -> dict[str, str]:
    root = "".join(f"mod {name};\n" for name in modules)
    files = {f"src/{name}.rs": text for name, text in modules.items()}
    return {"Cargo.toml": MANIFEST, "src/lib.rs": root} | files


def test_a_circle_is_told_with_the_lines_that_make_it(house):
    files = crate(
        a="use crate::b::Second;\npub struct First(Second);\n",
        b="\nuse super::c;\npub struct Second;\nfn f() { c::third() }\n",
        c="pub fn third() -> Option<crate::a::First> { None }\n",
        d="use crate::a::First;\nfn alone(_: First) {}\n",
    )
    status, said = house(files)
    assert status == 1
    assert said.splitlines() == [
        "src/a.rs: a circle of 3 files",
        "  src/a.rs needs src/b.rs (line 1: crate::b::Second)",
        "  src/b.rs needs src/c.rs (line 4: c::third)",
        "  src/c.rs needs src/a.rs (line 1: crate::a::First)",
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("use super::b::*;\nfn f(_: Second) {}\npub struct First;\n", "use crate::{a::{First}};\npub struct Second;\n"),
        ("use crate::Second as Other;\npub struct First;\n", "use crate::a::First as _;\npub struct Second;\n"),
        ("pub struct First;\nfn f() { named!() }\n", "macro_rules! named { () => {} }\nuse crate::a::First;\n"),
        (
            "use crate::b;\npub struct First;\nfn f() { b::inner::g() }\n",
            "pub mod inner { use crate::a::First;\n pub fn g() {} }\n",
        ),
    ],
    ids=["glob", "through a re-export", "macro", "inline module"],
)
def test_each_way_to_name_another_file_is_an_arrow(house, a: str, b: str):
    files = crate(a=a, b=b)
    files["src/lib.rs"] += "pub use b::Second;\n"
    status, said = house(files)
    assert (status, said.splitlines()[0]) == (1, "src/a.rs: a circle of 2 files")


@pytest.mark.parametrize(
    "b",
    [
        "// use crate::a::First;\npub struct Second;\n",
        'pub struct Second;\nconst TEXT: &str = "use crate::a::First;";\n',
        'pub struct Second;\nconst TEXT: &str = r#"" crate::a::First "#;\n',
        "pub struct Second;\n#[cfg(test)]\nmod tests { use crate::a::First; }\n",
        "pub struct Second;\nuse std::a::First;\n",
        "pub struct Second<'a>(&'a str);\nconst QUOTE: char = '\"'; // crate::a::First\n",
    ],
    ids=["comment", "string", "raw string", "tests", "another crate", "lifetime and char"],
)
def test_what_is_no_code_of_the_crate_is_no_arrow(house, b: str):
    assert house(crate(a="use crate::b::Second;\npub struct First;\n", b=b)) == (0, "")


def test_a_file_that_re_exports_its_children_is_in_no_circle(house):
    files = crate(a="mod inner;\npub use inner::Inner;\npub struct Outer;\n")
    files["src/a/inner.rs"] = "use super::Outer;\npub struct Inner(Outer);\n"
    assert house(files) == (0, "")
    files["src/a.rs"] += "fn uses(_: Inner) {}\n"
    assert house(files)[0] == 1


def test_circles_of_python_files_are_found_but_not_of_types_alone(house):
    files = {"p/__init__.py": "", "p/a.py": "from .b import f\n", "p/b.py": "def f():\n    from . import a\n"}
    status, said = house(files)
    assert status == 1
    assert "  p/b.py needs p/a.py (line 2: a)" in said.splitlines()
    files["p/b.py"] = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\n"
    assert house(files) == (0, "")


def function(lines: int) -> str:
    return "fn long() {\n" + "    f();\n" * (lines - 2) + "}\n"


def test_a_long_function_is_told_outside_tests(house):
    assert house(crate(a=function(80), b="#[test]\n" + function(90))) == (0, "")
    assert house(crate(a="\n" + function(81), b="")) == (1, "src/a.rs:2: `long`: expected at most 80 lines, found 81\n")
    python = {"x.py": "def long():\n" + "    f()\n" * 80, "tests/x.py": "def long():\n" + "    f()\n" * 90}
    said = house(crate(a="", b="") | python)
    assert said == (1, "x.py:1: `long`: expected at most 80 lines, found 81\n")


def test_a_long_file_is_told(house):
    assert house(crate(a="// x\n" * 500)) == (0, "")
    assert house(crate(a="// x\n" * 501)) == (1, "src/a.rs: expected at most 500 lines, found 501\n")


def test_a_file_that_no_crate_has_is_told(house):
    status, said = house(crate() | {"src/forgotten.rs": ""})
    assert (status, said) == (1, "src/forgotten.rs: expected a crate that has this file, found none\n")


def test_an_exception_holds_only_as_long_as_it_is_needed(house, tmp_path: Path):
    exceptions = "# why\nfunction src/a.rs:long 90\n"
    files = crate(a=function(90)) | {"scripts/house-exceptions.txt": exceptions}
    assert house(files) == (0, "")
    assert house(files | {"src/a.rs": function(91)})[0] == 1
    status, said = house(files | {"src/a.rs": function(80)})
    assert (status, said.split(":")[1]) == (1, " `function src/a.rs")
    assert house(files | {"src/a.rs": function(80)}, "--drop-stale") == (0, "")
    assert (tmp_path / "scripts/house-exceptions.txt").read_text() == "# why\n"


def test_a_table_is_as_long_as_it_likes(house):
    table = {"scripts/house-exceptions.txt": "table src/a.rs:long one row a line\n"}
    assert house(crate(a=function(300)) | table) == (0, "")


def test_outside_a_work_tree_it_cannot_be_told(tmp_path: Path):
    done = subprocess.run(
        [ROOT / "scripts/house", tmp_path / "none"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHON": sys.executable},
    )
    assert done.returncode == 2
    assert "expected a git work tree" in done.stderr
