"""The checkpoint that a proof is about."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environment import Environment
from talk import CannotTellError, say

#: Files up to this size are hashed when they are looked at; of larger ones the ledger has every tensor's hash.
_SMALL = 16 << 20


@dataclass
class Source:
    """The checkpoint."""

    #: What the programs are given: the folder, or the hub id with the revision that it had.
    given: str
    #: The list of its code, as `nvl-golden code` gives it.
    code: dict[str, Any]
    #: What of it is compared to tell whether it is as it was.
    signature: dict[str, Any]

    def code_files(self) -> dict[str, str]:
        """The SHA-256 of each file of its code, by a name that says where it is from."""
        return {
            f"{file['repository']}@{file['revision']}/{file['name']}" if file["repository"] else file["name"]: file[
                "sha256"
            ]
            for file in self.code["files"]
        }


def inspect(environment: Environment, given: str) -> dict[str, Any]:
    """What `nvl-convert inspect` tells, of a hub's checkpoint without its weights; `is_local` is whether it must be fetched.

    # Errors
    `CannotTellError` if it is none.
    """
    command = [environment.programs["nvl-convert"], "inspect", "--json", given]
    is_hub = not Path(given).is_dir()
    result = _ask([*command, "--local-files-only"] if is_hub else command)
    is_local = result.returncode == 0 or not is_hub
    if not is_local:
        result = _ask(command)
    if result.returncode:
        raise CannotTellError(f"`{given}`: expected a checkpoint: {_last(result.stderr)}")
    return json.loads(result.stdout) | {"is_local": is_local}


def find_source(environment: Environment, given: str) -> Source:
    """Finds the checkpoint, fetching what is not there, and lists its code without running it.

    # Errors
    `CannotTellError` if that fails.
    """
    model = str(Path(given).absolute()) if Path(given).is_dir() else given
    result = _ask([environment.python, "-m", "nvl_golden.cli", "code", "--json", "--model", model])
    if result.returncode:
        raise CannotTellError(f"`{given}`: expected a checkpoint whose code can be listed: {_last(result.stderr)}")
    code = json.loads(result.stdout.splitlines()[-1])
    if code["revision"]:
        model = f"{code['name']}@{code['revision']}"
    return Source(model, code, signature_of(Path(code["folder"])))


def ask_for_trust(source: Source, trusted: bool) -> None:
    """Shows the code, and asks whether it may run.

    # Errors
    `CannotTellError` if it may not, or nobody can be asked.
    """
    files = source.code["files"]
    if not files:
        return
    say("this checkpoint brings Python code, which runs with your rights:")
    width = max(len(file["name"]) for file in files)
    for file in files:
        say(f"  {file['name']:{width}}  {file['sha256']}  {file['origin']}")
    if trusted:
        return
    refused = CannotTellError(
        "expected your consent to run the checkpoint's code, found none",
        "read the files above; `--trust-remote-code` agrees",
    )
    if not sys.stdin.isatty():
        raise refused
    print("run it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise refused


def signature_of(folder: Path) -> dict[str, Any]:
    """What of a folder's files tells whether they are as they were: the content of small ones, size and times of large ones."""
    files: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        status = path.stat()
        if status.st_size <= _SMALL:
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            files[path.name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return files


def _ask(command: list[Any]) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines[-1:] or ["nothing was said"])[-1]
