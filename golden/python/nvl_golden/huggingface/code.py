"""Which Python code a checkpoint brings, before any of it runs, and which ran."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .._core import GoldenError

_CONFIGURATIONS = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
)


class CodeFile(NamedTuple):
    """A Python file that the checkpoint's configuration asks to run."""

    path: Path
    name: str
    sha256: str
    #: The repository and its revision, or the folder.
    origin: str


def find_code(folder: Path, origin: str) -> list[CodeFile]:
    """The Python files that loading a checkpoint runs: those of every `auto_map`, and what they import beside themselves.

    Files of other repositories are fetched, or found in the hub's cache; nothing is run.

    # Errors
    `GoldenError` for a file that is missing or cannot be parsed.
    """
    found: dict[Path, CodeFile] = {}
    for reference in dict.fromkeys(_references(folder)):
        repository, _, module = reference.rpartition("--")
        name = module.rpartition(".")[0].replace(".", "/") + ".py"
        start, from_origin = (folder / name, origin) if not repository else _fetch(repository, name)
        _follow(start, name, from_origin, repository, found)
    return list(found.values())


def describe_code(files: list[CodeFile]) -> str:
    """A table of the files, for a person to judge."""
    width = max(len(file.name) for file in files)
    rows = [f"  {file.name:{width}}  {file.sha256}  {file.origin}" for file in files]
    return "\n".join([f"  {'file':{width}}  {'SHA-256':64}  from", *rows])


def code_that_ran(listed: list[CodeFile]) -> dict[str, str]:
    """The SHA-256 of each file that transformers has loaded from a checkpoint in this process, by file name.

    # Errors
    `GoldenError` for a file that was not listed.
    """
    known = {file.sha256 for file in listed}
    ran: dict[str, str] = {}
    for module in list(sys.modules.values()):
        name, path = getattr(module, "__name__", ""), getattr(module, "__file__", None)
        if not name.startswith("transformers_modules.") or path is None or Path(path).name == "__init__.py":
            continue
        digest = _sha256(Path(path))
        if digest not in known:
            raise GoldenError(f"`{path}`: expected code that was listed before, found a file with SHA-256 `{digest}`")
        key = Path(path).name
        # Two repositories may each have a `modeling.py`.
        if ran.get(key, digest) != digest:
            key = "/".join(name.split(".")[1:]) + ".py"
        ran[key] = digest
    return ran


def _references(folder: Path) -> Iterator[str]:
    for name in _CONFIGURATIONS:
        path = folder / name
        if not path.is_file():
            continue
        try:
            configuration = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise GoldenError(f"`{path}`: expected JSON, found: {error}") from error
        yield from _auto_maps(configuration)


def _auto_maps(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "auto_map" and isinstance(item, dict):
                for classes in item.values():
                    yield from (c for c in (classes if isinstance(classes, list) else [classes]) if isinstance(c, str))
            else:
                yield from _auto_maps(item)
    elif isinstance(value, list):
        for item in value:
            yield from _auto_maps(item)


def _fetch(repository: str, name: str) -> tuple[Path, str]:
    """A file of another repository, and the revision that its `main` is at."""
    from huggingface_hub import hf_hub_download

    if Path(repository).is_dir():
        return Path(repository) / name, repository
    try:
        path = Path(hf_hub_download(repository, name))
    except Exception as error:
        raise GoldenError(
            f"`{name}` of `{repository}`: expected it on the hub or in its cache, found neither: {error}"
        ) from error
    # The cache keeps a file under `snapshots/<revision>`.
    parts = path.parts
    revision = parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown revision"
    return path, f"{repository}@{revision}"


def _follow(path: Path, name: str, origin: str, repository: str, found: dict[Path, CodeFile]) -> None:
    if path in found:
        return
    try:
        source = path.read_bytes()
        tree = ast.parse(source, str(path))
    except OSError as error:
        raise GoldenError(
            f"`{path}`: expected the code that the checkpoint's `auto_map` names, found none: {error}"
        ) from error
    except (SyntaxError, ValueError) as error:
        raise GoldenError(f"`{path}`: expected Python code, found: {error}") from error
    found[path] = CodeFile(path, name, hashlib.sha256(source).hexdigest(), origin)
    for module in _relative_imports(tree):
        inner = str(Path(name).parent / module).removeprefix("./") + ".py"
        beside = path.parent / f"{module}.py"
        if repository and not Path(repository).is_dir():
            beside, origin = _fetch(repository, inner)
        elif not beside.is_file():
            # `from . import name` may name something other than a module.
            continue
        _follow(beside, inner, origin, repository, found)


def _relative_imports(tree: ast.Module) -> list[str]:
    modules: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            modules |= dict.fromkeys(name.replace(".", "/") for name in names)
    return list(modules)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
