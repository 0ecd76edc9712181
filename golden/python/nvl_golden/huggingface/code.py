"""Which Python code a checkpoint brings, before any of it runs."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from .._core import GoldenError
from ..talk import visible

#: The package that transformers puts the code of checkpoints in.
ROOT = "transformers_modules"

#: What transformers runs without being told by a configuration.
_CUSTOM_GENERATE = "custom_generate/generate.py"

#: A module and a class, in the checkpoint or in a repository of the hub. Neither leads out of it, and nothing is invisible.
_REFERENCE = re.compile(
    r"(?:(?P<repository>[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?)--)?"
    r"(?!.*--)(?P<module>\w[\w-]*(?:/\w[\w-]*)*)\.[^\W\d]\w*"
)

#: The most that is read of a Python file: published ones have some ten thousand bytes.
_MAX_BYTES = 8 << 20


class CodeFile(NamedTuple):
    """A Python file that the checkpoint's configuration asks to run, as it was when it was read: once."""

    #: Its place in the checkpoint or the repository: `modeling.py`.
    name: str
    #: What it is imported as: `transformers_modules.checkpoint.modeling`.
    module: str
    source: bytes
    sha256: str
    #: The repository and its revision, or the folder.
    origin: str
    #: The repository as the configuration calls it; none for the checkpoint's own code.
    repository: str | None
    revision: str | None


def find_code(folder: Path, origin: str, package: str, configurations: Mapping[str, bytes]) -> list[CodeFile]:
    """The Python files that loading a checkpoint runs: those of every `auto_map`, and what they import beside themselves.

    - `folder`, `origin`: the checkpoint, and what it is called.
    - `package`: the name of its code's package.
    - `configurations`: the contents of its configuration files.

    Files of other repositories are fetched, or found in the hub's cache, all at one revision; nothing is run.

    # Errors
    `GoldenError` for a file that is missing or cannot be parsed, and for a reference that leads out of the checkpoint.
    """
    checkpoint = _Folder(None, folder, origin, f"{ROOT}.{sanitized(package)}")
    places: dict[str | None, _Place] = {None: checkpoint}
    found: dict[tuple[str | None, str], CodeFile] = {}
    for file, configuration in configurations.items():
        for reference in _named_in(folder / file, configuration, _auto_maps):
            repository, name = _parse(reference, folder / file)
            if repository not in places:
                assert repository is not None
                places[repository] = _place_of(repository)
            _follow(places[repository], name, True, found)
            if (repository, name) not in found:
                where = f"`{repository}`" if repository else f"`{folder}`"
                raise GoldenError(f"`{name}` of {where}: expected the code that the `auto_map` names, found none")
    _follow(checkpoint, _CUSTOM_GENERATE, False, found)
    return list(found.values())


def refuse_kernels(folder: Path, configurations: Mapping[str, bytes]) -> None:
    """Refuses a configuration whose attention is a kernel of the hub: compiled code, which transformers fetches and runs unasked.

    # Errors
    `GoldenError` that names the kernel.
    """
    for file, configuration in configurations.items():
        for kernel in _named_in(folder / file, configuration, _attentions):
            if "/" in kernel:
                error = GoldenError(f"`{folder / file}`: expected attention of torch or transformers, found `{kernel}`")
                error.hint = "that is compiled code of the hub, which cannot be listed: choose another by `--attention`"
                raise error


def describe_code(files: list[CodeFile]) -> str:
    """A table of the files, for a person to judge."""
    names = [file.name.encode("ascii", "backslashreplace").decode() for file in files]
    width = max(map(len, names))
    rows = [f"  {name:{width}}  {file.sha256}  {visible(file.origin)}" for name, file in zip(names, files, strict=True)]
    return "\n".join([f"  {'file':{width}}  {'SHA-256':64}  from", *rows])


def code_sha256(files: list[CodeFile]) -> str:
    """The SHA-256 of a list of code: of a JSON list of `[repository, name, sha256]`, sorted."""
    rows = sorted([file.repository or "", file.name, file.sha256] for file in files)
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def sanitized(name: str) -> str:
    """A name as transformers makes part of a module's of it."""
    name = re.sub(r"\W", "_", name.replace(".", "_dot_").replace("-", "_hyphen_"), flags=re.ASCII)
    return f"_{name}" if name[:1].isdigit() else name


class _Place(Protocol):
    """Where code is read from."""

    repository: str | None

    def read(self, name: str, certain: bool) -> CodeFile | None:
        """A file; `None` where there is none. `certain`: whether it is known to be a file, and not another kind of name."""
        ...


class _Folder:
    """A folder on this machine."""

    def __init__(self, repository: str | None, folder: Path, origin: str, package: str) -> None:
        self.repository = repository
        self._folder = folder
        self._origin = origin
        self._package = package

    def read(self, name: str, certain: bool) -> CodeFile | None:
        path = self._folder / name
        if not path.is_file():
            return None
        origin = self._origin if self._holds(path) else str(path.resolve())
        return _code_file(name, self._package, _read(path), origin, self.repository, None)

    def _holds(self, path: Path) -> bool:
        """Whether a file is the folder's own, or the hub cache's where the folder is in that; a link may lead anywhere."""
        real, folder = path.resolve(), self._folder.resolve()
        blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
        return real.is_relative_to(folder) or real.is_relative_to(blobs)


class _Hub:
    """A repository of the hub, or of its cache, at the revision that its `main` has when it is read first."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self._revision: str | None = None

    def read(self, name: str, certain: bool) -> CodeFile | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(self.repository, name, revision=self._revision))
        except EntryNotFoundError as error:
            if not certain or not isinstance(error, LocalEntryNotFoundError):
                return None
            raise self._missing(name, error) from error
        except Exception as error:
            raise self._missing(name, error) from error
        # The cache keeps a file under `snapshots/<revision>`.
        revisions = re.findall(r"/snapshots/([0-9a-f]{40})/", path.as_posix())
        if not revisions:
            raise self._missing(name, f"`{path}`, which names no revision")
        self._revision = revisions[-1]
        package = ".".join([ROOT, *map(sanitized, self.repository.split("/")), sanitized(self._revision)])
        origin = f"{self.repository}@{self._revision}"
        return _code_file(name, package, _read(path), origin, self.repository, self._revision)

    def _missing(self, name: str, found: object) -> GoldenError:
        expected = "expected it on the hub or in its cache, found neither"
        return GoldenError(f"`{name}` of `{self.repository}`: {expected}: {found}")


def _place_of(repository: str) -> _Place:
    # As transformers has it: a folder of that name comes first.
    if not Path(repository).is_dir():
        return _Hub(repository)
    package = ".".join([ROOT, *map(sanitized, repository.split("/"))])
    return _Folder(repository, Path(repository), os.path.abspath(repository), package)


def _code_file(
    name: str, package: str, source: bytes, origin: str, repository: str | None, revision: str | None
) -> CodeFile:
    module = f"{package}.{name.removesuffix('.py').replace('/', '.')}"
    return CodeFile(name, module, source, hashlib.sha256(source).hexdigest(), origin, repository, revision)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            source = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise GoldenError(f"`{path}`: expected Python code, found none: {error}") from error
    if len(source) > _MAX_BYTES:
        raise GoldenError(f"`{path}`: expected Python code of at most {_MAX_BYTES} bytes, found more")
    return source


def _named_in(path: Path, configuration: bytes, what: Callable[[Any], Iterator[str]]) -> list[str]:
    """What of a kind a configuration names, in order."""
    try:
        return list(what(json.loads(configuration)))
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"`{path}`: expected JSON, found: {error}") from error


def _auto_maps(value: Any) -> Iterator[str]:
    """The classes that a configuration maps to code."""
    for item in _under(("auto_map",), value):
        if not isinstance(item, dict):
            yield from _auto_maps(item)
            continue
        for classes in item.values():
            yield from (c for c in (classes if isinstance(classes, list) else [classes]) if isinstance(c, str))


def _attentions(value: Any) -> Iterator[str]:
    """The implementations of attention that a configuration names."""
    for item in _under(("attn_implementation", "_attn_implementation"), value):
        names = item.values() if isinstance(item, dict) else [item]
        yield from (name for name in names if isinstance(name, str))


def _under(keys: tuple[str, ...], value: Any) -> Iterator[Any]:
    """What a configuration has under some keys, for parts of the model too."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in keys:
                yield item
            else:
                yield from _under(keys, item)
    elif isinstance(value, list):
        for item in value:
            yield from _under(keys, item)


def _parse(reference: str, configuration: Path) -> tuple[str | None, str]:
    """The repository, if it is another one, and the file that a reference names."""
    match = _REFERENCE.fullmatch(reference) if ".." not in reference and reference.count("--") < 2 else None
    if match is None:
        error = GoldenError(
            f"`{configuration}`: auto_map: expected `module.Class` or `owner/name--module.Class`, found `{reference}`"
        )
        error.hint = "the code of a checkpoint is inside of it, or in a repository that it names"
        raise error
    return match["repository"], f"{match['module']}.py"


def _follow(place: _Place, name: str, certain: bool, found: dict[tuple[str | None, str], CodeFile]) -> None:
    if (place.repository, name) in found:
        return
    file = place.read(name, certain)
    if file is None:
        # The import may be in a `try`.
        return
    found[place.repository, name] = file
    try:
        tree = ast.parse(file.source, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GoldenError(f"`{name}` of `{file.origin}`: expected Python code, found: {error}") from error
    for inner, certain in _relative_imports(tree, name).items():
        _follow(place, inner, certain, found)


def _relative_imports(tree: ast.Module, name: str) -> dict[str, bool]:
    """The files that a file of some name imports relatively, and whether each is one: `from . import it` may name another thing."""
    files: dict[str, bool] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        above = list(PurePosixPath(name).parents)
        if node.level > len(above):
            # It leads out, where nothing can be imported from.
            continue
        inside = above[node.level - 1]
        names = [node.module] if node.module else [alias.name for alias in node.names]
        for module in names:
            file = str(inside / (module.replace(".", "/") + ".py"))
            files[file] = files.get(file, False) or bool(node.module)
    return files
