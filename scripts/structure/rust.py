"""Rust sources as far as the rules need them: tokens, the tree of modules, and where a name is defined.

This is no compiler. It reads `mod` and `use` lines and the paths in the code, and leaves out what is compiled for tests only
(`#[cfg(test)]`, `#[test]`). A call of a method is no arrow: it needs no name from the other file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<string>[bc]?r(?P<hashes>\#*)".*?"(?P=hashes)|[bc]?"(?:\\.|[^"\\])*")
      | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])')
      | (?P<lifetime>'\w+)
      | (?P<name>(?:r\#)?[A-Za-z_]\w*)
      | (?P<number>\d\w*)
      | (?P<sign>::|->|=>|.)""",
    re.VERBOSE | re.DOTALL,
)
_DEFINES = {"struct", "enum", "trait", "type", "fn", "const", "static", "union"}
_OPENS, _CLOSES = "([{", ")]}"


class Token(NamedTuple):
    kind: str
    text: str
    line: int


class Import(NamedTuple):
    path: tuple[str, ...]
    line: int
    public: bool


class Function(NamedTuple):
    name: str
    line: int
    length: int


@dataclass
class Module:
    """One module: a file of its own, or inline in its parent's."""

    file: Path
    parent: "Module | None" = None
    #: Whether code that is compiled for tests only is read too: in a crate of tests.
    tests: bool = False
    children: dict[str, "Module"] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    imports: dict[str, Import] = field(default_factory=dict)
    #: Imports without a name: `use … as _`.
    unnamed: list[Import] = field(default_factory=list)
    globs: list[Import] = field(default_factory=list)
    #: Each path in the code, a lone name too, with its line.
    paths: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    #: Of the crate's root: the file of each macro, which is known by order and not by module.
    macros: dict[str, Path] = field(default_factory=dict)

    @property
    def root(self) -> "Module":
        return self.parent.root if self.parent else self

    def every(self) -> Iterator["Module"]:
        """This module and all below it."""
        yield self
        for child in self.children.values():
            yield from child.every()


@cache
def tokens(file: Path) -> list[Token]:
    """The tokens of a file, without spaces and comments."""
    found, line = [], 1
    for match in _TOKEN.finditer(file.read_text()):
        kind = match.lastgroup if match.lastgroup != "hashes" else "string"
        if kind != "skip":
            found.append(Token(kind, match[0], line))
        line += match[0].count("\n")
    return found


def functions(stream: list[Token]) -> list[Function]:
    """Each function outside tests, from its `fn` to its last brace."""
    found, at = [], 0
    while at < len(stream):
        if _is_attribute(stream, at):
            end = _after(stream, at + 1)
            at = _item_end(stream, end) if _for_tests(stream[at:end]) else end
            continue
        if stream[at].text == "fn" and stream[at + 1].kind == "name":
            body = _body(stream, at)
            if body is not None:
                last = stream[_after(stream, body) - 1].line
                found.append(Function(stream[at + 1].text, stream[at].line, last - stream[at].line + 1))
        at += 1
    return found


def tree(root: Path, tests: bool) -> Module:
    """The modules of a crate, from its root file on; `tests`: with what is compiled for tests only."""
    module = Module(root, tests=tests)
    _read_file(module, root.parent)
    return module


def resolve(module: Module, path: tuple[str, ...], depth: int = 0) -> "Module | Path | None":
    """What a path means as seen from a module: a module, the file that defines the item, or neither (another crate)."""
    if depth > 20 or not path:
        return None
    first, rest = path[0], path[1:]
    if first == "crate":
        return _walk(module.root, rest, depth)
    if first == "self":
        return _walk(module, rest, depth)
    if first == "super":
        return resolve(module.parent, ("self", *rest), depth) if module.parent else None
    return _walk(module, path, depth)


def _walk(module: Module, path: tuple[str, ...], depth: int) -> "Module | Path | None":
    if path and path[0] == "super":
        return _walk(module.parent, path[1:], depth) if module.parent else None
    if not path:
        return module
    name, rest = path[0], path[1:]
    if name in module.children:
        return _walk(module.children[name], rest, depth)
    if name in module.defined:
        return module.file
    if module.parent is None and name in module.macros:
        return module.macros[name]
    if name in module.imports and module.imports[name].path != path:
        found = resolve(module, module.imports[name].path, depth + 1)
        return _walk(found, rest, depth + 1) if isinstance(found, Module) else found
    for glob in module.globs:
        origin = resolve(module, glob.path, depth + 1)
        if isinstance(origin, Module) and origin is not module:
            found = _walk(origin, path, depth + 5)
            if found is not None:
                return found
    return None


def _read_file(module: Module, folder: Path) -> None:
    """Fills a module from its file; `folder` has the files of its children."""
    stream = tokens(module.file)
    _read(module, stream, 0, len(stream), folder)


def _read(module: Module, stream: list[Token], at: int, end: int, folder: Path) -> None:
    depth, public, path_attribute = 0, False, None
    while at < end:
        token = stream[at]
        if _is_attribute(stream, at):
            after = _after(stream, at + 1 + (stream[at + 1].text == "!"))
            if _for_tests(stream[at:after]) and not module.tests:
                at = _item_end(stream, after)
            else:
                inside = stream[at:after]
                if len(inside) > 4 and inside[2].text == "path":
                    path_attribute = inside[4].text.strip('"')
                at = after
            continue
        if token.text == "pub":
            public = True
        elif token.text == "use" and token.kind == "name":
            last = next(i for i in range(at, end) if stream[i].text == ";")
            _uses(module, stream[at + 1 : last], (), public)
            at, public = last, False
        elif token.text == "mod" and depth == 0 and stream[at + 1].kind == "name":
            at = _child(module, stream, at, folder, path_attribute)
            public, path_attribute = False, None
            continue
        elif token.text == "macro_rules" and stream[at + 1].text == "!":
            module.defined.add(stream[at + 2].text)
            module.root.macros[stream[at + 2].text] = module.file
            at += 2
        elif token.text in _DEFINES and depth == 0 and token.kind == "name" and stream[at + 1].kind == "name":
            module.defined.add(stream[at + 1].text)
            at, public = at + 1, False
        elif token.kind == "name" and stream[at - 1].text not in (".", "::"):
            at = _path(module, stream, at)
            continue
        depth += (token.text in _OPENS) - (token.text in _CLOSES) if token.kind == "sign" else 0
        at += 1


def _path(module: Module, stream: list[Token], at: int) -> int:
    """Keeps the path that begins at a name; returns what follows it."""
    line, segments = stream[at].line, [stream[at].text]
    while at + 2 < len(stream) and stream[at + 1].text == "::" and stream[at + 2].kind == "name":
        at += 2
        segments.append(stream[at].text)
    called = len(segments) == 1 and stream[at + 1].text == "!" and stream[at + 2].text in _OPENS
    if called and segments[0] not in module.imports:
        segments.insert(0, "crate")
    module.paths.append((tuple(segments), line))
    return at + 1


def _child(module: Module, stream: list[Token], at: int, folder: Path, path: str | None) -> int:
    """Reads `mod name;` or `mod name { … }`; returns what follows it."""
    name = stream[at + 1].text
    if stream[at + 2].text == "{":
        child = Module(module.file, module, module.tests)
        module.children[name] = child
        end = _after(stream, at + 2)
        _read(child, stream, at + 3, end - 1, folder / name)
        return end
    places = [module.file.parent / path] if path else [folder / f"{name}.rs", folder / name / "mod.rs"]
    for place in places:
        if place.is_file():
            child = Module(place.resolve(), module, module.tests)
            module.children[name] = child
            _read_file(child, place.parent if place.name == "mod.rs" or path else folder / name)
    return at + 3


def _uses(module: Module, stream: list[Token], prefix: tuple[str, ...], public: bool) -> None:
    """Keeps each name of a `use` tree."""
    path, at = list(prefix), 0
    while at < len(stream):
        token = stream[at]
        if token.text == "{":
            inner = stream[at + 1 : _after(stream, at) - 1]
            start = 0
            for index in range(len(inner) + 1):
                if index == len(inner) or (inner[index].text == "," and _level(inner[:index]) == 0):
                    _uses(module, inner[start:index], tuple(path), public)
                    start = index + 1
            return
        if token.text == "*":
            module.globs.append(Import(tuple(path), token.line, public))
            return
        if token.text == "as":
            _keep(module, stream[at + 1].text, Import(tuple(path), token.line, public))
            return
        if token.kind == "name" and not (token.text == "self" and path):
            path.append(token.text)
        at += 1
    if stream and path:
        _keep(module, path[-1], Import(tuple(path), stream[-1].line, public))


def _keep(module: Module, name: str, found: Import) -> None:
    if name == "_":
        module.unnamed.append(found)
    else:
        module.imports[name] = found


def _level(stream: list[Token]) -> int:
    return sum((token.text in _OPENS) - (token.text in _CLOSES) for token in stream if token.kind == "sign")


def _is_attribute(stream: list[Token], at: int) -> bool:
    return stream[at].text == "#" and at + 1 < len(stream) and stream[at + 1].text in ("[", "!")


def _for_tests(attribute: list[Token]) -> bool:
    texts = [token.text for token in attribute]
    return texts == ["#", "[", "test", "]"] or texts[2:6] == ["cfg", "(", "test", ")"]


def _after(stream: list[Token], at: int) -> int:
    """What follows the bracket that opens at `at`."""
    level = 0
    for index in range(at, len(stream)):
        if stream[index].kind == "sign":
            level += (stream[index].text in _OPENS) - (stream[index].text in _CLOSES)
            if level == 0:
                return index + 1
    return len(stream)


def _body(stream: list[Token], at: int) -> int | None:
    """Where the body of the item at `at` opens; none if it ends with `;`."""
    while at < len(stream):
        token = stream[at]
        if token.text == "{" and token.kind == "sign":
            return at
        if token.text == ";" and token.kind == "sign":
            return None
        at = _after(stream, at) if token.kind == "sign" and token.text in "([" else at + 1
    return None


def _item_end(stream: list[Token], at: int) -> int:
    """What follows the item at `at`, and the attributes before it."""
    while _is_attribute(stream, at):
        at = _after(stream, at + 1)
    while at < len(stream):
        token = stream[at]
        if token.kind == "sign" and token.text in ";,)]}":
            return at + (token.text in ";,")
        if token.kind == "sign" and token.text == "{":
            return _after(stream, at)
        at = _after(stream, at) if token.kind == "sign" and token.text in "([" else at + 1
    return at
