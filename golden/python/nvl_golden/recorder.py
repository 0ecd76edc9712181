"""The recorder: hooks on any `torch.nn.Module`, and the dump that they fill."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ._core import GoldenError, Sites, Writer
from .calls import CallNumbers, OwnCall, Places, takes_hooks
from .copies import unobserved
from .identities import is_identity
from .observed import Observer
from .outputs import OUTPUT_NAMES, OutputNames, name_outputs, tensors_of
from .passes import Passes
from .past_key_values import NAME as CACHE
from .past_key_values import Found, cache_entries
from .producer import describe_producer, with_commit
from .rows import Rows
from .sizes import parse_size
from .staging import Destination, Staging
from .steps import Steps, key_of
from .texts import as_json, check_name

if TYPE_CHECKING:
    import torch

    from .flow import Flow, Follower


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
        steps: str | int | Sequence[int] | None,
        kv: bool,
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
        #: Whether calls of the model are told apart as steps; otherwise somebody says where one begins, or all is step 0.
        self.tells_steps = steps is not None or kv
        self._steps = Steps(0 if steps is None else steps)
        self._kv = kv
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
        ended = self._pass_ended if kv else None
        self._passes = Passes(automatic=self.tells_steps, began=self._numbers.restart, ended=ended)
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
        if kind is None and self._is_here():
            self._passes.flush()
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
                self._writer.finish(as_json(self._head()))
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
        step: int = 0,
    ) -> None:
        """Records a tensor that is no module's output, such as `input_ids` or `step_logits`, as it is now.

        Anything that `torch.as_tensor` takes is a tensor. A name that `sites` leaves out is not recorded.

        # Errors
        `GoldenError` outside the context, for a name that is taken, or as the hooks.
        """
        import torch

        if self._process and not self._is_here():
            return
        check_name(name)
        with self._lock:
            staging = self._check_running(f"entry `{name}`")
            destination = Destination(name, role, module, step)
            if destination.key in self._names:
                raise GoldenError(f"entry `{destination.key}`: expected a unique name, found the name a second time")
            if not self._chosen(destination.key, name):
                return
            self._names.add(destination.key)
        given, tensor = tensor, torch.as_tensor(tensor)
        # Numbers in a list come from nowhere that can be seen.
        flow = self._flow_of(tensor) if given is tensor and role != "input" else None
        self._push(staging, destination, tensor, None, flow)
        if name == "pixel_values" and self._observer is not None:
            self._observer.pictures(tensor)

    @property
    def step(self) -> int:
        """The step that runs."""
        return self._passes.number

    def begin_step(self, number: int | None = None) -> None:
        """Says that what runs from here on belongs to a step: the one of this number, or the next.

        For engines that do not run a step as one call of the model: a prompt in pieces is one step, 0. From the first such call on,
        no call of the model begins a step by itself.

        # Errors
        `GoldenError` for a step before the one that runs.
        """
        if self._process and not self._is_here():
            return
        self._check_running(f"step {'' if number is None else number}".rstrip())
        self._passes.begin(number)

    def add_past_key_values(self, cache: Any, positions: Sequence[int] | None = None) -> None:
        """Records a key-value cache as it stands behind the step that runs: of any class of transformers, or for each layer its
        keys and values `[batch, kv heads, positions, head width]`, oldest first.

        `positions`: those of the keys, where they are not 0, 1, 2, …

        # Errors
        `GoldenError` for a cache that cannot be read.
        """
        if self._process and not self._is_here():
            return
        self._check_running(f"entry `{CACHE}`")
        if self._is_recording():
            self._keep_cache(Found(cache, None), positions)

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

    def _check_running(self, what: str) -> Staging:
        if self._staging is None:
            raise GoldenError(f"{what}: expected a running recording, found one that has not started or has ended")
        return self._staging

    def _is_recording(self) -> bool:
        return self._staging is not None and not self._paused and self._passes.number in self._steps

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
        self._passes.watch(self._model, names)
        seen: set[str] = set()
        for module, base in names.items():
            if base in seen:
                continue
            seen.add(base)
            after, before = self._hooks(base)
            begins = [self._passes.enter] if module in self._passes.modules else []
            before = [*begins, before] if self._inputs else begins
            after = [after, self._passes.leave] if begins else [after]
            if OwnCall.may_pass_by_hooks(module):
                self._handles.append(OwnCall(module, self._places, before, after))
            if not takes_hooks(module):
                continue
            for hook in before:
                self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            for hook in after:
                always = self._inputs or hook == self._passes.leave
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True, always_call=always))

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
            self._passes.runs(name)
            if self._observer is not None:
                self._observer.saw(module, name, args, kwargs, output, recorded=self._is_recording())
            call = self._numbers.end(name, counts=self._is_recording())
            if call is None or not self._is_within(call):
                return
            if not self._identities and is_identity(module, args, output):
                return
            kind = _class_of(module)
            named = name_outputs(kind, output, self._output_names)
            # Of all, before one is recorded: they may share a memory.
            flows = [self._flow_of(tensor) for _, tensor in named]
            for (suffix, tensor), flow in zip(named, flows, strict=True):
                self._keep(name or "output", suffix, call, "activation", kind, tensor, flow)

        def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if is_compiling() or not self._is_here():
                return
            name = self._places.of(module, base)
            self._passes.runs(name)
            if not self._is_recording():
                return
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
        check_name(name)
        with self._lock:
            staging = self._staging
            # A module's output may have the name of a module inside it, or of a plain entry: it then counts as another call.
            step = self._passes.number
            full = name if call == 0 else f"{name}#{call}"
            while key_of(full, step) in self._names:
                call += 1
                full = f"{name}#{call}"
            if staging is None or not self._chosen(key_of(full, step), full, name, base):
                return
            self._names.add(key_of(full, step))
        output = suffix if role == "activation" and kind else ""
        module = f"{kind} {output}" if output else kind
        self._push(staging, Destination(full, role, module, step), tensor, self._rows, flow)

    def _pass_ended(self, found: Found | None, name: str) -> None:
        if not self._is_here() or not self._is_recording():
            return
        if found is None:
            expected = f"expected a key-value cache in what `{name}` was given or has returned"
            error = GoldenError(f"step {self._passes.number}: {expected}, found none")
            error.hint = "call it with `use_cache=True`, or give the cache to `recorder.add_past_key_values`"
            raise error
        self._keep_cache(found, None)

    def _keep_cache(self, found: Found, positions: Sequence[int] | None) -> None:
        # What is followed must see how a cache is taken apart.
        with unobserved() if self._follower is None else nullcontext():
            tensors = cache_entries(found, positions)
        flows = [self._flow_of(tensor) for _, tensor in tensors]
        for (path, tensor), flow in zip(tensors, flows, strict=True):
            self._keep(CACHE, path, 0, "activation", "", tensor, flow)

    def _chosen(self, key: str, full: str, *others: str) -> bool:
        """Whether an entry is recorded: `sites` may also match its name without the number of the call, or its module's."""
        if self._only is not None and key not in self._only and full not in self._only:
            return False
        return self._sites is None or any(self._sites.matches(name) for name in (key, full, *others))


def _class_of(module: torch.nn.Module) -> str:
    """The class of a module, or of the one that `torch.compile` has wrapped."""
    return type(getattr(module, "_orig_mod", module)).__name__
