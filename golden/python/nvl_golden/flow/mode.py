"""Follows tensors through the operators of a thread, from where they are recorded to where they are used."""

from __future__ import annotations

import itertools
import sys
import threading
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..outputs import tensors_of
from .compiled import CompiledGraphs, pass_by
from .operators import BLANK, COPY, HIGHER, MAKE, OPERATION, PARTS, PRODUCT, Rule, rule_of
from .parts import Parts
from .trace import UNKNOWN, Flow, Source, trace

#: The rules of all operators that were met, by their identity: their own hash takes as long as everything else that is done
#: for one. The operators are kept, so that none has another's.
_RULES: dict[int, Rule] = {}
_MET: list[Any] = []
_NUMBERS = itertools.count()
_PARTS_KEY = torch._C.DispatchKey.CompositeImplicitAutograd
_LISTS = (list, tuple)
#: What tensors raise that have no memory, or not as others have it: sparse ones, wrappers of others, …
_ODD = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError)

#: What a call was given: the state of its memory, the shape, strides and offset with which it was read there, and the argument.
Read = tuple[Any, Any, Any, Any, Any]


class Follower(TorchDispatchMode):
    """While it is on, each memory of a tensor knows the recorded tensors that its values come from.

    What is known is kept on the storage, which all views share, and goes with it: an address that is used again is never
    taken for what was there before. A *state* is what a memory holds: `(origin, shape, stride, offset)`, where `origin` is a
    `Source` (a recorded tensor) or a call `(names, reads)`, and the rest says how the tensor lay in the memory when it was
    written. `reads` are what the call was given: `(state, shape, stride, offset, rows)`. So a call keeps those before it, and
    nothing keeps a tensor.
    """

    # Nothing here changes what is computed: what is compiled is compiled as without it, and functions that run others may run.
    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        #: The attribute of a storage that has its state; each recording has its own.
        self._key = f"_nvl_golden_flow_{next(_NUMBERS)}"
        self._thread = 0

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True

    # --- Switching on and off ---

    def begin(self) -> None:
        """Follows what this thread computes from now on."""
        pass_by(*(sys.modules[f"{__package__}.{name}"] for name in ("mode", "operators", "parts", "rows", "trace")))
        pass_by(Follower, Parts, Flow, Source)
        CompiledGraphs.begin(_run_compiled)
        self._thread = threading.get_ident()
        torch._C._push_on_torch_dispatch_stack(self)

    def end(self) -> None:
        """Follows nothing more. Modes of the user that were switched on since then stay on."""
        if self._thread:
            CompiledGraphs.end()
        here, self._thread = self._thread == threading.get_ident(), 0
        if not here:
            # It stays on in its own thread, and follows nothing any more.
            return
        above = []
        while torch._C._len_torch_dispatch_stack():
            mode = torch._C._pop_torch_dispatch_stack(None)
            if mode is self:
                break
            above.append(mode)
        for mode in reversed(above):
            torch._C._push_on_torch_dispatch_stack(mode)

    def follows(self) -> bool:
        """Whether what this thread computes is followed."""
        return self._thread == threading.get_ident()

    # --- Recorded tensors ---

    def flow_of(self, tensor: Tensor) -> Flow | None:
        """What a tensor was computed from; `None` where nobody knows."""
        if not self.follows():
            return None
        reads: list[Read] = []
        with torch._C.DisableTorchFunction():
            try:
                self._read(reads, tensor, 0)
                view = (tensor.shape, tensor.stride(), tensor.storage_offset())
            except _ODD:
                # It has no memory of its own.
                return None
        return trace([read[0] for read in reads], view)

    def begins(self, key: str, order: int, tensor: Tensor) -> None:
        """Says that a tensor was recorded as an entry: what is computed from it has the entry as its input."""
        with torch._C.DisableTorchFunction():
            self._write(tensor, Source(key, order, tensor.shape))

    def leaves(self, output: Any) -> None:
        """Says that a module has ended: if its thread is not followed, nobody knows what its output was computed from."""
        if not self.follows():
            with torch._C.DisableTorchFunction():
                for _, tensor in tensors_of(output):
                    self._write(tensor, UNKNOWN)

    # --- Operators ---

    def _run(self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        rule = _RULES.get(id(func))
        if rule is None:
            rule = _learn(func)
        kind = rule.kind
        if kind <= MAKE:
            return func._op(*args, **kwargs) if kwargs else func._op(*args)
        if kind == COPY and not rule.writes:
            # Mostly there is nothing to copy: the dtype is what it was.
            result = func._op(*args, **kwargs) if kwargs else func._op(*args)
            if result is not args[0]:
                self._note_copy(rule, args, result)
            return result
        if kind == PARTS or (rule.is_parts is not None and rule.is_parts(args, kwargs or {})):
            return self._run_parts(func, args, kwargs or {})
        if kind == HIGHER:
            return self._run_higher(func, rule, args, kwargs or {})
        key = self._key
        reads: list[Read] = []
        for place, value in enumerate(args):
            kind_of_value = value.__class__
            if kind_of_value is Tensor or kind_of_value is Parameter:
                try:
                    state = value.untyped_storage().__dict__.get(key)
                except _ODD:
                    state = None
                if state is not None:
                    if state.__class__ is Parts:
                        self._read(reads, value, place)
                    else:
                        reads.append((state, value.shape, value.stride(), value.storage_offset(), place))
            elif kind_of_value is list or kind_of_value is tuple:
                self._read_all(reads, value, place)
            elif isinstance(value, Tensor):
                self._read_all(reads, (value,), place)
        if kwargs:
            for name, value in kwargs.items():
                self._read_all(reads, (value,), name)
            result = func._op(*args, **kwargs)
        else:
            result = func._op(*args)
        if not reads and not rule.writes and kind != BLANK:
            return result
        try:
            if result.__class__ is Tensor and (
                rule.is_plain or (kind == PRODUCT and len(reads) == 1 and reads[0][4] == rule.first and not rule.writes)
            ):
                # What most operators are, and `_note` does for all.
                known = result.untyped_storage().__dict__
                if key not in known:
                    known[key] = ((rule.name, reads, rule.rows), result.shape, result.stride(), result.storage_offset())
            else:
                self._note(rule, args, kwargs or {}, reads, result)
        except _ODD:
            # What has no memory, or answers questions in its own way, is left alone.
            pass
        return result

    def _run_parts(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operator as the dispatcher would next: as the others that it is made of, which are followed."""
        torch._C._push_on_torch_dispatch_stack(self)
        try:
            return func._op_dk(_PARTS_KEY, *args, **kwargs)
        finally:
            torch._C._pop_torch_dispatch_stack(None)

    def reads_of(self, values: Any) -> list[Read]:
        """What is known of the tensors that compiled code is given."""
        reads: list[Read] = []
        self._read_all(reads, values, 0)
        return reads

    def note_compiled(self, reads: list[Read], results: Any) -> None:
        """Says that compiled code has written tensors. Their memory may be that of an earlier run."""
        given = {id(read[0]) for read in reads}
        for tensor in results:
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage().__dict__.get(self._key)) not in given:
                self._write(tensor, ("compiled", reads, ()) if reads else None)

    def _run_higher(self, func: Any, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operator that is given functions; what these do is part of it."""
        reads: list[Read] = []
        self._read_all(reads, tree_leaves((args, kwargs)), 0)
        result = func(*args, **kwargs)
        if reads:
            with suppress(*_ODD):
                self._note(rule, args, kwargs, reads, tree_leaves(result))
        return result

    def _read_all(self, reads: list[Read], values: Any, place: Any) -> None:
        """The tensors of a list, whose places in it count if the list is the first argument."""
        for index, value in enumerate(values):
            if isinstance(value, Tensor):
                # A class of the user's own may have something to say to every question.
                with torch._C.DisableTorchFunction():
                    try:
                        self._read(reads, value, place or index)
                    except _ODD:
                        continue

    def _read(self, reads: list[Read], tensor: Tensor, place: Any) -> None:
        state = tensor.untyped_storage().__dict__.get(self._key)
        if state is None:
            return
        view = (tensor.shape, tensor.stride(), tensor.storage_offset())
        for one in state.read(view, tensor.itemsize) if state.__class__ is Parts else [state]:
            reads.append((one, *view, place))

    def _note(self, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any], reads: list[Read], result: Any) -> None:
        """Takes note of an operator that has run."""
        if rule.kind == BLANK:
            self._note_blank(result)
            return
        rows = rule.rows if rule.rows_of is None else rule.rows_of(args, kwargs)
        changed: list[Tensor] = []
        if rule.writes:
            changed, reads = self._changed(rule, args, kwargs, reads)
        call = (_names(rule, args, reads, result), reads, rows) if reads else None
        for tensor in changed:
            self._write(tensor, call)
        if call is None:
            return
        for tensor in result if isinstance(result, _LISTS) else (result,):
            if not isinstance(tensor, Tensor):
                continue
            known = tensor.untyped_storage().__dict__
            # What is there already: it is what was given, in the same memory.
            if self._key not in known:
                shape, stride = tensor.shape, tensor.stride()
                if rule.reduces and len(shape) < len(reads[0][1]):
                    # Its rows are those that it has with the dimension that was reduced.
                    shape, stride = (*shape, 1), (*stride, 1)
                known[self._key] = (call, shape, stride, tensor.storage_offset())

    def _note_copy(self, rule: Rule, args: tuple[Any, ...], result: Any) -> None:
        """Takes note of a copy. The values are the first argument's; another tensor may say which dtype or shape they get."""
        reads: list[Read] = []
        self._read_all(reads, args[:1], 0)
        if reads:
            with suppress(*_ODD):
                self._note(rule, args, {}, reads, result)

    def _changed(
        self, rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any], reads: list[Read]
    ) -> tuple[list[Tensor], list[Read]]:
        """The tensors that an operator has changed, and what of its reads has a part in them."""
        changed: list[Tensor] = []
        for place in rule.writes:
            value = kwargs.get(place) if place.__class__ is str else args[place] if place < len(args) else None
            changed += [one for one in (value if isinstance(value, _LISTS) else [value]) if one is not None]
        kept = []
        for read in reads:
            if read[4] in rule.writes:
                if rule.overwrites:
                    continue
                # The first values of memory that had none, unless they are computed from what is there.
                if read[0][0] is UNKNOWN and not rule.pointwise:
                    continue
            kept.append(read)
        return (changed if kept or reads or rule.overwrites else []), kept

    def _note_blank(self, result: Any) -> None:
        """Memory without values: what reads it before it is written was written by what is not seen here."""
        if isinstance(result, Tensor) and result.numel():
            self._write(result, UNKNOWN)

    def _write(self, tensor: Tensor, origin: Any) -> None:
        """Says what a tensor's memory, or its part of one, holds from now on."""
        try:
            storage = tensor.untyped_storage()
            known = storage.__dict__
            state = (origin, tensor.shape, tensor.stride(), tensor.storage_offset())
            is_whole = storage.nbytes() == tensor.numel() * tensor.itemsize and 0 not in state[2]
        except _ODD:
            return
        if is_whole:
            if origin is not None:
                known[self._key] = state
            else:
                known.pop(self._key, None)
            return
        parts = known.get(self._key)
        if parts is None and origin is None:
            return
        if parts.__class__ is not Parts:
            parts = known[self._key] = Parts(parts)
        parts.write(state, tensor.itemsize)


#: As it is: the class's own would be wrapped in what keeps compilers off, at a cost for every operator.
Follower.__torch_dispatch__ = Follower._run  # type: ignore[method-assign, assignment]


def _names(rule: Rule, args: tuple[Any, ...], reads: list[Read], result: Any) -> str | tuple[str, ...] | None:
    """What a call counts as."""
    if rule.kind == OPERATION:
        if rule.converts and isinstance(result, Tensor) and result.dtype != args[0].dtype:
            return ("aten._to_copy", rule.name)
        return rule.name
    if rule.kind == COPY:
        given = args[1] if rule.writes and len(args) > 1 else args[0]
        return rule.name if isinstance(given, Tensor) and result.dtype != given.dtype else None
    if rule.kind == PRODUCT:
        places = {read[4] for read in reads}
        name = "aten.matmul" if {rule.first, rule.first + 1} <= places else rule.name
        return ("aten.add", name) if rule.first and 0 in places else name
    return rule.name


def _learn(func: Any) -> Rule:
    rule = rule_of(func)
    _MET.append(func)
    _RULES[id(func)] = rule
    return rule


def _run_compiled(original: Any, graph: Any, inputs: Any) -> Any:
    """Runs a compiled graph, unseen by those who follow this thread: to them it is one operation."""
    modes = [torch._C._get_dispatch_stack_at(index) for index in range(torch._C._len_torch_dispatch_stack())]
    followers = [mode for mode in modes if isinstance(mode, Follower) and mode.follows()]
    if not followers:
        return original(graph, inputs)
    reads = [follower.reads_of(inputs) for follower in followers]
    # The graph lets go of its inputs as soon as it can; only what it changes is needed afterwards.
    changed = [inputs[index] for index in getattr(graph, "mutated_input_idxs", None) or ()]
    _set_modes([mode for mode in modes if mode not in followers])
    try:
        results = original(graph, inputs)
    finally:
        _set_modes(modes)
    for follower, found in zip(followers, reads, strict=True):
        for tensor in changed:
            follower._write(tensor, ("compiled", found, ()) if found else None)
        follower.note_compiled(found, results if isinstance(results, _LISTS) else (results,))
    return results


def _set_modes(modes: list[Any]) -> None:
    for _ in range(torch._C._len_torch_dispatch_stack()):
        torch._C._pop_torch_dispatch_stack(None)
    for mode in modes:
        torch._C._push_on_torch_dispatch_stack(mode)
