"""Where a checkpoint is: a folder, or a repository of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .._core import GoldenError, refuse_stand_ins

#: Weights in formats that are not read.
_UNREAD = ("*.bin", "*.pth", "*.gguf", "*.onnx")


@dataclass
class Source:
    """A checkpoint's folder, and what it is called."""

    folder: Path
    name: str
    revision: str | None

    @property
    def origin(self) -> str:
        """The repository and revision, or the folder."""
        return f"{self.name}@{self.revision}" if self.revision else str(self.folder)

    def file(self, name: str) -> Path:
        """A file of it, which is fetched if the checkpoint is on the hub.

        # Errors
        `FileNotFoundError` if it has none of that name; `GoldenError` if it cannot be fetched.
        """
        path = self.folder / name
        if path.is_file():
            return path
        if self.revision is None:
            raise FileNotFoundError(path)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.name, name, revision=self.revision))
        except EntryNotFoundError as error:
            if not isinstance(error, LocalEntryNotFoundError):
                raise FileNotFoundError(path) from error
            raise _not_found(f"`{name}` of `{self.name}`", error) from error
        except Exception as error:
            raise _not_found(f"`{name}` of `{self.name}`", error) from error


def find_source(model: str, *, weights: bool = True) -> Source:
    """A folder, or a hub id with an optional revision, whose files are fetched; `weights`: those with tensors, too.

    # Errors
    `GoldenError` if there is neither, no `config.json` in it, or a pointer of Git LFS in the place of a file.
    """
    folder = Path(model)
    if not folder.is_dir():
        repository, _, revision = model.partition("@")
        if repository.count("/") != 1 or folder.is_absolute() or model.startswith("."):
            raise GoldenError(f"`{model}`: expected a folder or a hub id `owner/name`, found neither")
        folder = Path(_snapshot(repository, revision or None, weights))
        return Source(folder, repository, folder.name)
    if not (folder / "config.json").is_file():
        raise GoldenError(f"`{folder}`: expected a checkpoint with a `config.json`, found none")
    # A clone without Git LFS: each loader has other words for it, none of which say so.
    refuse_stand_ins(folder)
    return Source(folder, folder.resolve().name, None)


def _snapshot(repository: str, revision: str | None, weights: bool) -> str:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        missing = GoldenError(f"`{repository}`: expected `huggingface_hub` to fetch it with, found none")
        missing.hint = "install it, or name a folder"
        raise missing from error
    unread = [*_UNREAD, *([] if weights else ["*.safetensors"])]
    try:
        return snapshot_download(repository, revision=revision, ignore_patterns=unread)
    except Exception as error:
        raise _not_found(f"`{repository}`", error) from error


def _not_found(what: str, error: Exception) -> GoldenError:
    return GoldenError(f"{what}: expected it on the hub or in its cache, found neither: {error}")
