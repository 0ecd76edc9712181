"""What `nvl-golden record` does: checks what was asked, shows the checkpoint's code, loads it once, and records each request."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._core import GoldenError, Sites
from .requests import Request, dump_name, read_history, read_requests
from .rows import Rows
from .sizes import parse_size
from .steps import Steps
from .talk import say

if TYPE_CHECKING:
    from .huggingface.listed import ListedCode
    from .huggingface.private import PrivateCopy
    from .huggingface.source import Source


@dataclass(frozen=True)
class Task:
    """A request, and where its dump goes."""

    request: Request
    out: Path


def record(arguments: argparse.Namespace, done: list[Path]) -> int:
    """Runs the command; `done` gets each dump as soon as it is there.

    # Errors
    `GoldenError`, and whatever the checkpoint's own code raises.
    """
    # What can be refused at once is, before gigabytes are loaded.
    _check_texts(arguments)
    parse_size(arguments.max_shard_size, "--max-shard-size")
    if arguments.tokens is not None:
        Rows(arguments.tokens)
    if arguments.steps is not None:
        Steps(arguments.steps)
    if arguments.sites:
        Sites(arguments.sites)
    tasks = _tasks(arguments)
    for task in tasks:
        task.request.check_images()
        _check_out(task.out, arguments.force)
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        # One that is there can refuse, too: the version of another library, say.
        found = f"no `{error.name}`" if error.name else str(error)
        missing = GoldenError(f"expected torch and transformers to run the checkpoint with, found {found}")
        missing.hint = "install the ones that the checkpoint is to be run with: this package brings none"
        raise missing from error

    from .huggingface.code import refuse_kernels
    from .huggingface.private import PrivateCopy
    from .huggingface.source import find_source

    _check_device(torch, arguments.device)
    source = find_source(arguments.model)
    with PrivateCopy(source.folder, source.origin) as copy:
        if arguments.attention is None:
            refuse_kernels(source.folder, copy.configurations)
        _record_copy(arguments, source, copy, tasks, done)
    return 0


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    """What is recorded: the one request of the arguments, or each of a file."""
    if arguments.requests is None:
        if arguments.prompt is None:
            error = GoldenError("expected `--prompt`, or `--requests` with a file of several, found neither")
            error.hint = "`nvl-golden record --help` lists the arguments"
            raise error
        history = read_history(arguments.history) if arguments.history else []
        request = Request(arguments.prompt, arguments.image, arguments.system, history, arguments.max_new_tokens)
        return [Task(request, arguments.out)]
    for name in ("prompt", "image", "system", "history"):
        if getattr(arguments, name):
            raise GoldenError(f"expected `--{name}` or `--requests`, found both: a file's rows have their own")
    requests = read_requests(arguments.requests, arguments.max_new_tokens)
    return [Task(request, arguments.out / dump_name(request.id or "")) for request in requests]


def _record_copy(
    arguments: argparse.Namespace, source: Source, copy: PrivateCopy, tasks: Sequence[Task], done: list[Path]
) -> None:
    """Loads a checkpoint from the copy of it whose code was listed, asks it, and records what it computes."""
    from dataclasses import replace

    import torch

    from .huggingface.checkpoint import load
    from .huggingface.hazards import neutralised
    from .huggingface.listed import ListedCode

    code = ListedCode(copy.code, copy.checkpoint, copy.code_folder)
    if copy.code:
        code.write()
        _ask_for_trust(copy, arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    dtype = getattr(torch, arguments.dtype)
    deviations: list[str] = []
    say(f"loading {source.origin}")
    with code.alone():
        with neutralised(arguments.device, dtype, deviations):
            loaded = load(
                replace(source, folder=copy.checkpoint),
                dtype,
                arguments.device,
                arguments.attention,
                bool(copy.code),
                deviations,
                pictures=any(task.request.images for task in tasks),
            )
        for number, task in enumerate(tasks, 1):
            if arguments.requests is not None:
                say(f"recording {task.request.id} ({number} of {len(tasks)})")
            # What loading met is true of each dump; what one request meets is not true of the next.
            _record_one(arguments, source, code, loaded, task, [*deviations])
            done.append(task.out)


def _record_one(
    arguments: argparse.Namespace, source: Source, code: ListedCode, loaded: Any, task: Task, deviations: list[str]
) -> None:
    import torch

    from .huggingface.chat import ask
    from .huggingface.hazards import neutralised
    from .recording import record as recording

    recorder = recording(
        loaded.model,
        task.out,
        sites=arguments.sites,
        inputs=arguments.inputs,
        tokens=arguments.tokens,
        steps=arguments.steps,
        kv=arguments.kv,
        max_shard_size=arguments.max_shard_size,
        sketch=arguments.sketch,
        flow=not arguments.no_flow,
        overwrite=arguments.force,
        # As the published goldens have them: no modules that do nothing, and of RADIO's two outputs the one that is used.
        identities=False,
        output_names={"RADIOModel": (None, "")},
    )
    with recorder:
        with neutralised(arguments.device, getattr(torch, arguments.dtype), deviations):
            text = ask(loaded, task.request, recorder, deviations)
        recorder.remote_code = code.ran() or None
        recorder.checkpoint = {"name": source.name} | ({"revision": source.revision} if source.revision else {})
        recorder.producer["name"] = "nvl-golden record"
        recorder.producer["dtype"] = arguments.dtype
        ran = recorder.observed.get("attention", {}).get("text")
        if arguments.attention is not None and ran not in (None, arguments.attention):
            deviations.append(f"{arguments.attention} attention was asked for, and the language model ran {ran}")
        if deviations:
            recorder.producer["deviations"] = deviations
        size = recorder.bytes_recorded
    if arguments.requests is None:
        print(text, flush=True)
    else:
        print(json.dumps({"id": task.request.id, "dump": task.out.name, "text": text}), flush=True)
    say(f"recorded {size / 1e6:,.1f} MB in {task.out}")
    for deviation in deviations:
        say(f"deviation: {deviation}")


def _ask_for_trust(copy: PrivateCopy, arguments: argparse.Namespace) -> None:
    from .huggingface.code import code_sha256, describe_code

    print("this checkpoint brings Python code, which runs with your rights:", file=sys.stderr)
    print(describe_code(copy.code), file=sys.stderr, flush=True)
    if arguments.trust_remote_code:
        return
    if arguments.trust_code is not None:
        if (found := code_sha256(copy.code)) != arguments.trust_code:
            raise GoldenError(f"--trust-code: expected the code of the list `{arguments.trust_code}`, found `{found}`")
        return
    refused = GoldenError("expected your consent to run the checkpoint's code, found none")
    refused.hint = "read the files above; `--trust-remote-code` agrees"
    if not sys.stdin.isatty():
        raise refused
    print(f"it was copied as it is now, and runs as it was copied: {copy.code_folder}", file=sys.stderr)
    print("run it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise refused


def _check_texts(arguments: argparse.Namespace) -> None:
    """Refuses arguments that are no text. Paths may be any bytes, and `--model` is one, or is refused as a hub id."""
    for name, value in vars(arguments).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name != "model" and (bad := re.search("[\ud800-\udfff]", text)):
                where = f"at character {bad.start()} of `{text}`"
                raise GoldenError(f"--{name.replace('_', '-')}: expected text in UTF-8, found another byte {where}")


def _check_out(out: Path, force: bool) -> None:
    if not force and out.exists() and (not out.is_dir() or any(out.iterdir())):
        error = GoldenError(f"`{out}`: expected no file and no folder with content, found one")
        error.hint = "choose another folder, or `--force` to replace a dump"
        raise error


def _check_device(torch: Any, device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise GoldenError(f"device: expected `cpu` or `cuda:N`, found `{device}`") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise GoldenError(f"device: expected a CUDA device for `{device}`, found none")
