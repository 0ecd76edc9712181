"""The recorder: hooks on any `torch.nn.Module`, and the dump that they fill."""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ._core import GoldenError, Sites, Writer
from .calls import CallNumbers, OwnCall, Places, takes_hooks
from .observed import Observer
from .outputs import OUTPUT_NAMES, OutputNames, name_outputs, tensors_of
from .producer import describe_producer, with_commit
from .rows import Rows
from .sizes import parse_size
from .staging import Destination, Staging
from .talk import visible

if TYPE_CHECKING:
    import torch

    from .flow import Flow, Follower

#: Modules that pass on what they are given, by class; the others of them while they do not train.
_ALWAYS_IDENTITY = frozenset({"Identity"})
_IDENTITY_IN_EVALUATION = frozenset({"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "DropPath"})


def record(
    model: torch.nn.Module,
    out: str | os.PathLike[str],
    *,
    sites: str | Sequence[str] | None = None,
    only: Collection[str] | None = None,
    inputs: bool = False,
    tokens: str | Sequence[int] | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    prefix: str = "",
    max_calls: int | None = None,
    identities: bool = True,
    output_names: OutputNames | None = None,
    sketch: bool = False,
    sketch_seed: int = 0,
    flow: bool = True,
    max_queue_size: int | str = "512MiB",
) -> Recorder:
    """A context manager that records what every module of a model computes, while it is entered, as a dump in `out`.

    - `sites`: globs over the entries' names or the modules' paths (`layers.*.mlp`); every module without them.
    - `only`: the names of the entries to record, such as another dump's `names()`; all without it.
    - `inputs`: also what each module is given, as `name.input`.
    - `tokens`: the rows of `[tokens, hidden]` and `[batch, tokens, hidden]` to keep: `last:8`, `every:16`, a list.
    - `max_shard_size`: the size at which another tensors file is begun.
    - `overwrite`: whether a dump that is there already is replaced.
    - `prefix`: what stands in front of the modules' paths, if the model is part of the one whose names are wanted.
    - `max_calls`: how many calls of one module are recorded; all without it.
    - `identities`: whether `Identity`, and `Dropout` where it does nothing, are recorded.
    - `output_names`: what the outputs of a class are called, by globs over class names.
    - `sketch`: whether the dump gets sketches of the tensors instead of the tensors, so that it is small; `sketch_seed`: only
      sketches of the same seed can be compared.
    - `flow`: whether each entry says what it was computed from. This thread is followed; entries of others do not say it.
    - `max_queue_size`: how much memory may hold tensors that wait for the disk.

    The dump appears under its name when the context is left without an exception; otherwise nothing is left.

    # Errors
    `GoldenError`: when it is entered, for a target that exists or a malformed glob; when a tensor cannot be recorded; and
    when it is left, if the disk has failed.
    """
    return Recorder(
        model,
        out,
        sites=sites,
        only=only,
        inputs=inputs,
        tokens=tokens,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        prefix=prefix,
        max_calls=max_calls,
        identities=identities,
        output_names=output_names,
        sketch=sketch,
        sketch_seed=sketch_seed,
        flow=flow,
        max_queue_size=max_queue_size,
    )


class Recorder:
    """A recording under way: what `record` returns.

    The attributes below become the manifest's fields of the same names; set them while the context is open.
    """

    #: What ran. Filled in when the recording begins; change what you know better.
    producer: dict[str, Any]
    #: The weights: `{"name": …, "revision": …}`.
    checkpoint: dict[str, Any] | None
    #: The SHA-256 of each Python file that ran, by file name.
    remote_code: dict[str, str] | None
    #: What was asked: `turns`, `system`, `images`, `max_new_tokens`, `do_sample`.
    request: dict[str, Any] | None
    #: The text that was tokenised.
    prompt: str | None
    #: The generated token ids.
    generated_ids: list[int] | None
    #: The answer.
    text: str | None

    def __init__(
        self,
        model: torch.nn.Module,
        out: str | os.PathLike[str],
        *,
        sites: str | Sequence[str] | None,
        only: Collection[str] | None,
        inputs: bool,
        tokens: str | Sequence[int] | None,
        max_shard_size: int | str,
        overwrite: bool,
        prefix: str,
        max_calls: int | None,
        identities: bool,
        output_names: OutputNames | None,
        sketch: bool,
        sketch_seed: int,
        flow: bool,
        max_queue_size: int | str,
    ) -> None:
        self.path = Path(out)
        self._model = model
        self._sites = None if sites is None else Sites([sites] if isinstance(sites, str) else list(sites))
        self._only = None if only is None else frozenset(only)
        self._inputs = inputs
        self._rows = None if tokens is None else Rows(tokens)
        self._max_shard_bytes = parse_size(max_shard_size, "max_shard_size")
        self._max_queued_bytes = parse_size(max_queue_size, "max_queue_size")
        self._overwrite = overwrite
        self._prefix = prefix
        self._max_calls = max_calls
        self._identities = identities
        given = output_names or {}
        self._output_names: OutputNames = {
            **given,
            **{kind: names for kind, names in OUTPUT_NAMES.items() if kind not in given},
        }
        self._sketch = sketch_seed if sketch else None
        self._flow = flow
        self._follower: Follower | None = None
        self._paused = 0
        self._staging: Staging | None = None
        self._writer: Writer | None = None
        self._abandon: weakref.finalize | None = None
        self._handles: list[Any] = []
        self._observer: Observer | None = None
        #: Modules run on several threads; this is held while names and numbers are given, never while tensors are copied.
        self._lock = threading.RLock()
        self._process = 0
        self._names: set[str] = set()
        self._numbers = CallNumbers()
        self.checkpoint = self.remote_code = self.request = self.prompt = self.generated_ids = self.text = None

    def __enter__(self) -> Recorder:
        if self._writer is not None:
            raise GoldenError(f"`{self.path}`: expected a recording that has not started, found one that has")
        self.producer = describe_producer(self._model)
        self._process = os.getpid()
        self._writer = Writer(
            self.path,
            replace=self._overwrite,
            max_shard_bytes=self._max_shard_bytes,
            max_queued_bytes=self._max_queued_bytes,
        )
        # At the end of the interpreter too, while its threads can still be waited for.
        self._abandon = weakref.finalize(self, self._writer.abandon)
        self._staging = Staging(self._writer, self._max_queued_bytes, self._sketch)
        try:
            self._add_hooks()
            self._follow()
        except BaseException:
            self._stop()
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._stop()
        if not self._is_here():
            # This process was forked from the one that records: the dump is that one's.
            return False
        with self._lock:
            staging, self._staging = self._staging, None
        assert self._writer is not None and self._abandon is not None and staging is not None
        try:
            staging.close(discard=kind is not None)
            if kind is None:
                if not self._names:
                    warnings.warn(f"`{self.path}`: nothing was recorded: no module ran that was chosen", stacklevel=2)
                self._writer.finish(_as_json(self._head()))
        finally:
            self._abandon()
        return False

    @property
    def bytes_recorded(self) -> int:
        """What was recorded so far, in bytes."""
        staging = self._staging
        return 0 if staging is None else staging.bytes_recorded

    @property
    def observed(self) -> dict[str, Any]:
        """What the modules that ran so far were seen to do: the manifest's `producer` gets these fields when the context is left.

        `attention`, `pixel_values_dtype` and `dtypes`, as docs/activation-dump.md has them; what was not seen is left out.
        """
        return {} if self._observer is None else self._observer.producer()

    def add(
        self,
        name: str,
        tensor: Any,
        *,
        role: Literal["input", "activation", "output"] = "activation",
        module: str = "",
    ) -> None:
        """Records a tensor that is no module's output, such as `input_ids` or `step_logits`, as it is now.

        Anything that `torch.as_tensor` takes is a tensor. A name that `sites` leaves out is not recorded.

        # Errors
        `GoldenError` outside the context, for a name that is taken, or as the hooks.
        """
        import torch

        if self._process and not self._is_here():
            return
        _check_name(name)
        with self._lock:
            staging = self._staging
            if staging is None:
                raise GoldenError(
                    f"entry `{name}`: expected a running recording, found one that has not started or has ended"
                )
            if name in self._names:
                raise GoldenError(f"entry `{name}`: expected a unique name, found the name a second time")
            if not self._chosen(name):
                return
            self._names.add(name)
        given, tensor = tensor, torch.as_tensor(tensor)
        # Numbers in a list come from nowhere that can be seen.
        flow = self._flow_of(tensor) if given is tensor and role != "input" else None
        self._push(staging, Destination(name, role, module), tensor, None, flow)
        if name == "pixel_values" and self._observer is not None:
            self._observer.pictures(tensor)

    def pause(self) -> None:
        """Records no module from here on, in any thread, until `resume` is called as often. `add` goes on."""
        self._count_pauses(+1)

    def resume(self) -> None:
        """Takes back one `pause`."""
        self._count_pauses(-1)

    def _count_pauses(self, by: int) -> None:
        if self._process and not self._is_here():
            return
        with self._lock:
            self._paused = max(0, self._paused + by)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Records no module inside."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def _head(self) -> dict[str, Any]:
        # What the caller says of the run has precedence: it may know better.
        told = {field: value for field, value in self.observed.items() if field not in self.producer}
        head: dict[str, Any] = {"producer": with_commit(self.producer | told)}
        for field in ("checkpoint", "remote_code", "request", "prompt", "generated_ids", "text"):
            if (value := getattr(self, field)) is not None:
                head[field] = value
        return head

    def _is_here(self) -> bool:
        """Whether this process is the one that has begun to record. One that was forked from it leaves it alone: it has none of
        its threads, and a lock may be held for ever by one of those."""
        return os.getpid() == self._process

    def _is_recording(self) -> bool:
        return self._staging is not None and not self._paused

    def _is_within(self, call: int) -> bool:
        return self._max_calls is None or call < self._max_calls

    def _follow(self) -> None:
        if not self._flow:
            return
        from .flow import Follower

        self._follower = Follower()
        self._follower.begin()

    def _flow_of(self, tensor: torch.Tensor) -> Flow | None:
        return None if self._follower is None else self._follower.flow_of(tensor)

    def _push(
        self, staging: Staging, to: Destination, tensor: torch.Tensor, rows: Rows | None, flow: Flow | None
    ) -> None:
        """Records a tensor, from which others then are computed."""
        order = staging.push(to, tensor, rows, flow)
        # What a module is given is somebody's output already, which is not to be hidden behind it.
        if self._follower is None or order is None or (to.role == "input" and flow is not None and flow.inputs):
            return
        self._follower.begins(to.key, order, tensor)

    def _stop(self) -> None:
        if self._follower is not None:
            self._follower.end()
        if self._observer is not None:
            self._observer.end()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _add_hooks(self) -> None:
        names: dict[torch.nn.Module, str] = {}
        for path, module in self._model.named_modules():
            # `torch.compile` wraps a module in another, which is not part of the model's names.
            parts = [part for part in path.split(".") if part and part != "_orig_mod"]
            names[module] = ".".join(filter(None, [self._prefix, *parts]))
        self._places = Places(names)
        self._handles.extend(self._places.watch())
        self._observer = Observer(self._model, names)
        self._observer.begin()
        seen: set[str] = set()
        for module, base in names.items():
            if base in seen:
                continue
            seen.add(base)
            output_hook, input_hook = self._hooks(base)
            if OwnCall.may_pass_by_hooks(module):
                self._handles.append(OwnCall(module, self._places, input_hook if self._inputs else None, output_hook))
            if not takes_hooks(module):
                continue
            if self._inputs:
                self._handles.append(module.register_forward_pre_hook(input_hook, with_kwargs=True))
            self._handles.append(module.register_forward_hook(output_hook, with_kwargs=True, always_call=self._inputs))

    def _hooks(self, base: str) -> tuple[Any, Any]:
        from torch.compiler import is_compiling

        # A compiler that traces through a hook takes its first line for a constant and drops the rest: compiled code stays as
        # it would be without a recorder, to the last bit, and only what runs eagerly is recorded.
        def after(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if is_compiling() or not self._is_here():
                return
            if self._follower is not None:
                self._follower.leaves(output)
            name = self._places.of(module, base)
            if self._observer is not None:
                self._observer.saw(module, name, args, kwargs, output, recorded=not self._paused)
            call = self._numbers.end(name, counts=self._is_recording())
            if call is None or not self._is_within(call):
                return
            if not self._identities and _is_identity(module, args, output):
                return
            kind = _class_of(module)
            named = name_outputs(kind, output, self._output_names)
            # Of all, before one is recorded: they may share a memory.
            flows = [self._flow_of(tensor) for _, tensor in named]
            for (suffix, tensor), flow in zip(named, flows, strict=True):
                self._keep(name or "output", suffix, call, "activation", kind, tensor, flow)

        def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if is_compiling() or not self._is_here() or not self._is_recording():
                return
            name = self._places.of(module, base)
            call = self._numbers.begin(name)
            if not self._is_within(call):
                return
            given: dict[str, Any] = {str(index): value for index, value in enumerate(args)} | kwargs
            tensors = tensors_of(given)
            for path, tensor in tensors:
                suffix = "input" if len(tensors) == 1 else f"input.{path}"
                self._keep(name, suffix, call, "input", _class_of(module), tensor, self._flow_of(tensor))

        return after, before

    def _keep(
        self, base: str, suffix: str, call: int, role: str, kind: str, tensor: torch.Tensor, flow: Flow | None
    ) -> None:
        name = f"{base}.{suffix}" if base and suffix else base or suffix
        _check_name(name)
        with self._lock:
            staging = self._staging
            # A module's output may have the name of a module inside it, or of a plain entry: it then counts as another call.
            full = name if call == 0 else f"{name}#{call}"
            while full in self._names:
                call += 1
                full = f"{name}#{call}"
            if staging is None or not self._chosen(full, name, base):
                return
            self._names.add(full)
        output = suffix if role == "activation" else ""
        module = f"{kind} {output}" if output else kind
        self._push(staging, Destination(full, role, module), tensor, self._rows, flow)

    def _chosen(self, full: str, *others: str) -> bool:
        """Whether an entry is recorded: `sites` may also match its name without the number of the call, or its module's."""
        if self._only is not None and full not in self._only:
            return False
        return self._sites is None or any(self._sites.matches(name) for name in (full, *others))


#: What is no Unicode: half of a character, or Python's stand-in for a byte of a file's name that is not UTF-8.
_NO_UNICODE = re.compile("[\ud800-\udfff]")


def _check_name(name: str) -> None:
    if _NO_UNICODE.search(name):
        raise GoldenError(f"entry `{visible(name)}`: expected a name in Unicode, found something else in it")


def _as_json(head: dict[str, Any]) -> str:
    """A manifest's head; what is no Unicode, as in the name of a picture's file, is replaced."""
    return _NO_UNICODE.sub("\ufffd", json.dumps(head, ensure_ascii=False))


def _class_of(module: torch.nn.Module) -> str:
    """The class of a module, or of the one that `torch.compile` has wrapped."""
    return type(getattr(module, "_orig_mod", module)).__name__


def _is_identity(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> bool:
    kind = type(module).__name__
    passes_on = kind in _ALWAYS_IDENTITY or (kind in _IDENTITY_IN_EVALUATION and not module.training)
    return passes_on and len(args) > 0 and output is args[0]
