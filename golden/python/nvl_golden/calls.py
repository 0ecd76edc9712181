"""Calls of modules that plain hooks do not see, or see under another's name."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Hook = Callable[..., None]


class Places:
    """Where in a model a module runs that stands at several places of it.

    Engines share what has no weights: one activation for all layers, one rotary embedding. Such a module has as many paths, and
    so has each module inside of it; `named_modules` tells the first. Which one it runs at, the module that it runs in says: the
    innermost of those that run in the same thread.
    """

    def __init__(self, names: dict[torch.nn.Module, str]) -> None:
        """`names` has every module of a model, with what it is called at its first place."""
        self._names = names
        #: Per shared module, and per module inside of one: what each of its parents calls it.
        self._keys: dict[torch.nn.Module, dict[torch.nn.Module, str]] = {}
        self._threads = threading.local()
        parents: dict[torch.nn.Module, list[tuple[torch.nn.Module, str]]] = {}
        for parent in names:
            for key, child in _children(parent):
                parents.setdefault(child, []).append((parent, key))
        moving = [child for child, found in parents.items() if len(found) > 1]
        while moving:
            child = moving.pop()
            if child not in self._keys:
                # Under two names in one parent, the first counts.
                self._keys[child] = {parent: key for parent, key in reversed(parents[child])}
                moving.extend(inner for _, inner in _children(child))

    @property
    def _running(self) -> list[tuple[torch.nn.Module, str]]:
        """The modules that run in this thread with their names there, the innermost last."""
        try:
            return self._threads.running
        except AttributeError:
            running: list[tuple[torch.nn.Module, str]] = []
            self._threads.running = running
            return running

    def watch(self) -> list[Any]:
        """Hooks that tell which module runs, on those alone that have shared ones inside; their handles."""
        handles: list[Any] = []
        for parent in {parent: None for keys in self._keys.values() for parent in keys}:
            if not takes_hooks(parent):
                continue
            handles.append(parent.register_forward_pre_hook(self._enter))
            handles.append(parent.register_forward_hook(self._leave, always_call=True))
        return handles

    def of(self, module: torch.nn.Module, name: str) -> str:
        """The name of a module that is `name` at its first place, where it runs now."""
        keys = self._keys.get(module)
        if keys is None:
            return name
        return next((_join(place, keys[parent]) for parent, place in reversed(self._running) if parent in keys), name)

    @contextmanager
    def inside(self, module: torch.nn.Module) -> Iterator[None]:
        """Tells that a module runs whose hooks do not."""
        self._enter(module, ())
        try:
            yield
        finally:
            self._leave(module, (), None)

    def _enter(self, module: torch.nn.Module, _args: Any) -> None:
        from torch.compiler import is_compiling

        if not is_compiling():
            self._running.append((module, self.of(module, self._names[module])))

    def _leave(self, module: torch.nn.Module, _args: Any, _output: Any) -> None:
        from torch.compiler import is_compiling

        running = self._running
        if not is_compiling() and any(module is one for one, _ in running):
            while running.pop()[0] is not module:
                pass


class CallNumbers:
    """Numbers the calls of each module, from 0 on, whatever threads they are made in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Counter[str] = Counter()
        self._begun = _Begun()

    def restart(self) -> None:
        """Numbers the calls that begin from here on from 0 again."""
        with self._lock:
            self._next.clear()

    def begin(self, name: str) -> int:
        """The number of a call that begins."""
        number = self._take(name)
        self._begun.calls[name].append(number)
        return number

    def end(self, name: str, counts: bool) -> int | None:
        """The number of a call that has ended: that of its beginning, which was in the same thread.

        Where beginnings are not told, calls are numbered as they end, and those that do not count get none.
        """
        begun = self._begun.calls[name]
        number = begun.popleft() if begun else None
        if not counts:
            return None
        return self._take(name) if number is None else number

    def _take(self, name: str) -> int:
        with self._lock:
            number = self._next[name]
            self._next[name] += 1
        return number


class _Begun(threading.local):
    """The calls that a thread has begun and not ended, by name. If one is inside another, the first to begin is the first to
    end, so that the numbers are the same as where beginnings are not told."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, deque[int]] = defaultdict(deque)


def takes_hooks(module: torch.nn.Module) -> bool:
    """Whether a module can be hooked: one that `torch.jit.script` has made refuses it."""
    import torch

    return not isinstance(module, torch.jit.RecursiveScriptModule)


class _Calls(threading.local):
    """How many calls of this thread are between the module's hooks and its `forward`."""

    hooked = 0


class OwnCall:
    """Stands in for the hooks of a module whose class has a `__call__` of its own, where that goes straight to `forward`.

    vLLM's decorator for compilation does so. Where the class's `__call__` goes on to `torch.nn.Module`'s, the hooks run,
    and this does nothing. It also stands in for those of a module that takes none.
    """

    def __init__(self, module: torch.nn.Module, places: Places, before: Sequence[Hook], after: Sequence[Hook]) -> None:
        """Puts itself in the place of the module's `forward`, on the instance alone."""
        self._module = module
        self._own = module.__dict__.get("forward")
        self._calls = _Calls()
        forward = module.forward

        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            from torch.compiler import is_compiling

            if is_compiling():
                return forward(*args, **kwargs)
            if self._calls.hooked:
                self._calls.hooked -= 1
                return forward(*args, **kwargs)
            for hook in before:
                hook(module, args, kwargs)
            try:
                with places.inside(module):
                    output = forward(*args, **kwargs)
            except BaseException:
                # What has begun has ended, without an output.
                for hook in after if before else ():
                    hook(module, args, kwargs, None)
                raise
            for hook in after:
                hook(module, args, kwargs, output)
            return output

        module.forward = run
        self._handle = module.register_forward_pre_hook(self._called) if takes_hooks(module) else None

    @staticmethod
    def may_pass_by_hooks(module: torch.nn.Module) -> bool:
        """Whether the class has a `__call__` of its own, other than `torch.compile`'s and TorchScript's, or takes no hooks."""
        import torch

        if not takes_hooks(module):
            return True
        if type(module).__call__ is torch.nn.Module.__call__ or "_orig_mod" in module._modules:
            return False
        return not isinstance(module, torch.jit.ScriptModule)

    def remove(self) -> None:
        """Gives the module its `forward` back."""
        if self._handle is not None:
            self._handle.remove()
        if self._own is None:
            self._module.__dict__.pop("forward", None)
        else:
            self._module.forward = self._own

    def _called(self, _module: torch.nn.Module, _args: Any) -> None:
        from torch.compiler import is_compiling

        if not is_compiling():
            self._calls.hooked += 1


def _children(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The modules directly inside of one; what `torch.compile` has wrapped has the name of its wrapper."""
    return [(key, child) for key, child in module._modules.items() if child is not None and key != "_orig_mod"]


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
