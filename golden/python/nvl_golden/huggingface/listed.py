"""Runs the code of a checkpoint that was listed, as it was when it was listed, and no other."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .._core import GoldenError
from .code import ROOT, CodeFile

#: What of transformers finds a file of code and loads a class from it.
_FIND, _LOAD = "get_cached_module_file", "get_class_in_module"


class UnlistedCodeError(GoldenError, OSError):
    """Code that was not listed before was asked for. An `OSError` too, which transformers takes for a file that is not there."""


class ListedCode:
    """The code that may run: its bytes in memory, whatever becomes of the files."""

    def __init__(self, files: Sequence[CodeFile], checkpoint: Path, folder: Path) -> None:
        """`checkpoint` is the folder that the checkpoint is loaded from, `folder` the one that has copies of the code to look
        at."""
        self._files = {file.module: file for file in files}
        if len(self._files) < len(files):
            names = [file.module for file in files]
            twice = next(name for name in names if names.count(name) > 1)
            raise GoldenError(f"`{twice}`: expected one file of code of this name, found two")
        self._checkpoint = checkpoint.resolve()
        self._folder = folder
        self._importer = _Importer(self._files, folder)

    def write(self) -> None:
        """Writes the copies for a person, or a traceback, to look at: what runs is not read from them."""
        for file in self._files.values():
            path = _path_of(self._folder, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.source)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, transformers loads classes from this code only, and nothing else can be imported as a checkpoint's."""
        from transformers import dynamic_module_utils

        before = _take_modules()
        undo: list[Callable[[], None]] = []
        try:
            for name, own in ((_FIND, self._find), (_LOAD, self._load)):
                undo.append(_replace(dynamic_module_utils, name, own))
            sys.meta_path.insert(0, self._importer)
            undo.append(lambda: sys.meta_path.remove(self._importer))
            yield
        finally:
            for step in undo:
                step()
            _take_modules()
            sys.modules.update(before)

    def ran(self) -> dict[str, str]:
        """The SHA-256 of each file that has run, by file name.

        # Errors
        `GoldenError` if a checkpoint's code was loaded in another way than from what was listed.
        """
        for name, module in list(sys.modules.items()):
            loader = getattr(getattr(module, "__spec__", None), "loader", None)
            if name.startswith(f"{ROOT}.") and loader is not self._importer:
                path = getattr(module, "__file__", name)
                raise GoldenError(f"`{path}`: expected code that was listed before, found other code")
        ran: dict[str, str] = {}
        for file in self._importer.ran:
            key = Path(file.name).name
            # Two repositories may each have a `modeling.py`.
            if ran.get(key, file.sha256) != file.sha256:
                key = file.module.removeprefix(f"{ROOT}.").replace(".", "/") + ".py"
            ran[key] = file.sha256
        return ran

    def _find(self, where: str | os.PathLike[str], module_file: str, **options: Any) -> str:
        """Stands for transformers' function: where a listed file is in the folder of modules."""
        from transformers.dynamic_module_utils import check_imports

        place = os.fspath(where)
        repository = None if Path(place).is_dir() and Path(place).resolve() == self._checkpoint else place
        for file in self._files.values():
            if (file.repository, file.name) != (repository, os.path.normpath(module_file)):
                continue
            if repository is not None and options.get("revision") not in (None, "main", file.revision):
                break
            check_imports(_path_of(self._folder, file))
            return os.path.join(*file.module.split(".")) + ".py"
        error = UnlistedCodeError(
            f"`{module_file}` of `{place}`: expected code that was listed before, found other code"
        )
        error.hint = "only code that an `auto_map` names, or that this imports, is listed and run"
        raise error

    def _load(self, class_name: str, module_path: str | os.PathLike[str], **_options: Any) -> Any:
        """Stands for transformers' function: a class of the file that `_find` has found."""
        name = os.path.normpath(module_path).removesuffix(".py").replace(os.path.sep, ".")
        return getattr(importlib.import_module(name), class_name)


class _Importer:
    """Finds and loads modules of checkpoints, from memory."""

    def __init__(self, files: dict[str, CodeFile], folder: Path) -> None:
        self._files = files
        self._folder = folder
        parents = [name.split(".")[:-1] for name in files]
        self._packages = {ROOT} | {".".join(parts[:count]) for parts in parents for count in range(1, len(parts) + 1)}
        #: The files that have run, in order.
        self.ran: list[CodeFile] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != ROOT and not name.startswith(f"{ROOT}."):
            return None
        if (file := self._files.get(name)) is not None:
            path = str(_path_of(self._folder, file))
            # With a location, so that a traceback shows the lines.
            return importlib.util.spec_from_file_location(name, path, loader=self)  # type: ignore[arg-type]
        if name in self._packages:
            return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        raise ModuleNotFoundError(
            f"`{name}`: expected code that was listed before, found other code or none", name=name
        )

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if (file := self._files.get(module.__name__)) is None:
            return
        self.ran.append(file)
        code = compile(file.source, str(_path_of(self._folder, file)), "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def get_source(self, name: str) -> str | None:
        file = self._files.get(name)
        return None if file is None else importlib.util.decode_source(file.source)


def _path_of(folder: Path, file: CodeFile) -> Path:
    return folder.joinpath(*file.module.split(".")).with_suffix(".py")


def _take_modules() -> dict[str, ModuleType]:
    """Takes the modules of checkpoints that are loaded out of the interpreter's table."""
    names = [name for name in sys.modules if name == ROOT or name.startswith(f"{ROOT}.")]
    return {name: sys.modules.pop(name) for name in names}


def _replace(holder: ModuleType, name: str, own: Callable[..., Any]) -> Callable[[], None]:
    """Puts a function in the place of transformers' own, wherever that was imported to; what undoes it."""
    original = getattr(holder, name, None)
    if not callable(original):
        found = f"`{holder.__name__}` without `{name}`"
        error = GoldenError(f"expected a release of transformers whose loading of code is known, found {found}")
        error.hint = "4.53 to 4.57 and 5.0 to 5.13 are known"
        raise error
    is_active = True

    # What imports it meanwhile, and keeps it, has the original again afterwards.
    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return own(*args, **kwargs) if is_active else original(*args, **kwargs)

    def put(old: Any, new: Any) -> None:
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("transformers.") and vars(module).get(name) is old:
                setattr(module, name, new)

    def undo() -> None:
        nonlocal is_active
        is_active = False
        put(replacement, original)

    put(original, replacement)
    return undo
