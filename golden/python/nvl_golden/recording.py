"""How a recording begins: `record`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from .outputs import OutputNames
from .recorder import Recorder

if TYPE_CHECKING:
    import torch


def record(
    model: torch.nn.Module,
    out: str | os.PathLike[str],
    *,
    sites: str | Sequence[str] | None = None,
    only: Collection[str] | None = None,
    inputs: bool = False,
    tokens: str | Sequence[int] | None = None,
    steps: str | int | Sequence[int] | None = None,
    kv: bool = False,
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
    - `only`: the names of the entries to record, in every step or with `@` and a step, such as another dump's `names()`; all
      without it.
    - `inputs`: also what each module is given, as `name.input`.
    - `tokens`: the rows of `[tokens, hidden]` and `[batch, tokens, hidden]` to keep: `last:8`, `every:16`, a list.
    - `steps`: the forward passes to record: `0:4`, `every:16`, a list; 0 is the prefill, n decodes for the nth time. Without it,
      all that runs is step 0, until `begin_step` says otherwise.
    - `kv`: whether the key-value cache behind each recorded step is recorded, too; without `steps`, behind step 0.
    - `max_shard_size`: the size at which another tensors file is begun.
    - `overwrite`: whether a dump that is there already is replaced.
    - `prefix`: what stands in front of the modules' paths, if the model is part of the one whose names are wanted.
    - `max_calls`: how many calls of one module are recorded in a step; all without it.
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
        steps=steps,
        kv=kv,
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
