"""What tests of data flow share."""

import nvl_golden
import torch
from conftest import read_back
from torch import nn


class Site(nn.Module):
    """A module that gives what it is given: where it stands, a tensor is recorded."""

    def forward(self, x):
        return x


class Two(nn.Module):
    """Records `left` and `right`, what a function makes of them as `result`, and the function's further outputs behind it."""

    def __init__(self, function):
        super().__init__()
        self.left, self.right, self.result = Site(), Site(), Site()
        self.function = function

    def forward(self, x):
        # Each in a memory of its own.
        return self.result(self.function(self.left(x + 0), self.right(x * 2)))


def flow_of(entry, dump):
    """The inputs of an entry with their rows, and its operations; `None` where nobody recorded them."""
    if entry.inputs is None:
        return None
    names = {other.order: other.name for other in dump}
    return {names[order]: how for order, how in zip(entry.inputs, entry.input_rows, strict=True)}, entry.operations


def flow(model, given, folder, site, *, under=torch.no_grad, **options):
    """What a site of a model was computed from."""
    with under(), nvl_golden.record(model, folder, **options):
        model(given)
    dump = read_back(folder)
    return flow_of(dump.entry(site), dump)
