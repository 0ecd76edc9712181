"""Calls of modules that plain hooks do not see, or see under another's name."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Hook = Callable[..., None]


class Places:
    """Where in a model a module runs that stands at several places of it.

    Engines share what has no weights: one activation for all layers, one rotary embedding. Such a module has as many paths,
    and `named_modules` tells the first. Which one it runs at, the module that it runs in says.
    """

    def __init__(self, names: dict[torch.nn.Module, str]) -> None:
        """`names` has every module of a model, with what it is called at its first place."""
        #: Per shared module: its name inside each of its parents.
        self._inside: dict[torch.nn.Module, dict[torch.nn.Module, str]] = {}
        self._running: list[torch.nn.Module] = []
        parents: dict[torch.nn.Module, list[tuple[torch.nn.Module, str]]] = {}
        for parent in names:
            for key, child in parent._modules.items():
                if child is not None and key != "_orig_mod":
                    parents.setdefault(child, []).append((parent, key))
        for child, found in parents.items():
            if len(found) > 1:
                # Under two names in one parent, the first counts.
                self._inside[child] = {parent: _join(names[parent], key) for parent, key in reversed(found)}

    def watch(self) -> list[Any]:
        """Hooks that tell which module runs, on those alone that have shared ones inside; their handles."""
        handles: list[Any] = []
        for parent in {parent: None for found in self._inside.values() for parent in found}:
            handles.append(parent.register_forward_pre_hook(self._enter))
            handles.append(parent.register_forward_hook(self._leave, always_call=True))
        return handles

    def of(self, module: torch.nn.Module, name: str) -> str:
        """The name of a module that is `name` at its first place, where it runs now."""
        inside = self._inside.get(module)
        if inside is None:
            return name
        return next((inside[parent] for parent in reversed(self._running) if parent in inside), name)

    def _enter(self, module: torch.nn.Module, _args: Any) -> None:
        from torch.compiler import is_compiling

        if not is_compiling():
            self._running.append(module)

    def _leave(self, module: torch.nn.Module, _args: Any, _output: Any) -> None:
        from torch.compiler import is_compiling

        if not is_compiling() and module in self._running:
            while self._running.pop() is not module:
                pass


class OwnCall:
    """Stands in for the hooks of a module whose class has a `__call__` of its own, where that goes straight to `forward`.

    vLLM's decorator for compilation does so. Where the class's `__call__` goes on to `torch.nn.Module`'s, the hooks run,
    and this does nothing.
    """

    def __init__(self, module: torch.nn.Module, before: Hook | None, after: Hook) -> None:
        """Puts itself in the place of the module's `forward`, on the instance alone."""
        self._module = module
        self._own = module.__dict__.get("forward")
        self._hooked = 0
        forward = module.forward

        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            from torch.compiler import is_compiling

            if is_compiling():
                return forward(*args, **kwargs)
            if self._hooked:
                self._hooked -= 1
                return forward(*args, **kwargs)
            if before is not None:
                before(module, args, kwargs)
            output = forward(*args, **kwargs)
            after(module, args, kwargs, output)
            return output

        module.forward = run
        self._handle = module.register_forward_pre_hook(self._called)

    @staticmethod
    def may_pass_by_hooks(module: torch.nn.Module) -> bool:
        """Whether the class has a `__call__` of its own, other than `torch.compile`'s and TorchScript's."""
        import torch

        if type(module).__call__ is torch.nn.Module.__call__ or "_orig_mod" in module._modules:
            return False
        return not isinstance(module, torch.jit.ScriptModule)

    def remove(self) -> None:
        """Gives the module its `forward` back."""
        self._handle.remove()
        if self._own is None:
            self._module.__dict__.pop("forward", None)
        else:
            self._module.forward = self._own

    def _called(self, _module: torch.nn.Module, _args: Any) -> None:
        from torch.compiler import is_compiling

        if not is_compiling():
            self._hooked += 1


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
