"""Tensors that have no memory, or none that can be read: refused by name, whatever they are."""

import ctypes
import os

import nvl_golden
import pytest
import torch
from conftest import read_back
from nvl_golden import _core
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode


class Wrapper(torch.Tensor):
    """A tensor whose elements are another's, as quantisers and compilers have them."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        plain = [arg.inner if isinstance(arg, Wrapper) else arg for arg in args]
        result = function(*plain, **(kwargs or {}))
        return Wrapper(result) if isinstance(result, torch.Tensor) else result


class Returns(nn.Module):
    """Gives what a function makes of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def freed(x):
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def quantized(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


def nested(x):
    return torch.nested.nested_tensor([x[0], x[1, :2]])


def jagged(x):
    return torch.nested.nested_tensor([x[0], x[1, :2]], layout=torch.jagged)


def functional(x):
    return torch._to_functional_tensor(x)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x.to("meta"), "a meta one"),
        (lambda x: x.to_sparse(), "layout torch.sparse_coo"),
        (lambda x: x.to_sparse_csr(), "layout torch.sparse_csr"),
        (lambda x: x.to_mkldnn(), "layout torch._mkldnn"),
        (quantized, "a quantized one"),
        (nested, "a nested one"),
        (jagged, "layout torch.jagged"),
        (Wrapper, "a Wrapper, which has no memory"),
        (functional, "one inside `torch.func.functionalize`"),
        (freed, "one whose memory was given back"),
    ],
    ids=["meta", "coo", "csr", "mkldnn", "quantized", "nested", "jagged", "wrapper", "functional", "freed"],
)
@pytest.mark.parametrize("inputs", [False, True])
def test_a_tensor_without_memory_is_refused_with_its_site(function, found, inputs, tmp_path):
    model = nn.Sequential(Returns(function), Returns(lambda x: torch.ones(1)))
    with (
        pytest.raises(nvl_golden.GoldenError) as error,
        nvl_golden.record(model, tmp_path / "dumps/dump", sites=["1.input"] if inputs else None, inputs=inputs),
    ):
        model(torch.eye(4))
    name = "1.input" if inputs else "0"
    assert str(error.value) == f"tensor `{name}`: expected a tensor with strided elements, found {found}"
    assert error.value.hint == "choose sites that leave it out"
    assert os.listdir(tmp_path / "dumps") == []


@pytest.mark.parametrize("rows", [None, "last:1"])
def test_a_fake_tensor_is_refused_with_its_site(rows, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    with (
        pytest.raises(
            nvl_golden.GoldenError, match=r"^tensor `0`: expected .*, found a FakeTensor, which has no memory$"
        ),
        nvl_golden.record(model, tmp_path / "dumps/dump", tokens=rows),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        model(torch.ones(2, 4))
    assert os.listdir(tmp_path / "dumps") == []


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_a_tensor_inside_a_transform_of_a_function_is_refused_with_its_site(transform, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    x = torch.ones(3, 4)
    run = {
        "vmap": lambda: torch.func.vmap(model)(x),
        "grad": lambda: torch.func.grad(lambda x: model(x).sum())(x),
        "jvp": lambda: torch.func.jvp(model, (x,), (x,)),
    }
    found = "`torch.func.vmap`" if transform == "vmap" else "`torch.func.grad` or `jvp`"
    with (
        pytest.raises(nvl_golden.GoldenError, match=f"^tensor `0`: expected .*, found one inside {found}$"),
        nvl_golden.record(model, tmp_path / "dumps/dump"),
    ):
        run[transform]()
    assert os.listdir(tmp_path / "dumps") == []


def test_what_torch_cannot_copy_is_told_with_its_site(tmp_path):
    class Stubborn(Wrapper):
        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            raise RuntimeError("not today")

    model = nn.Sequential(Returns(Stubborn))
    with (
        pytest.raises(nvl_golden.GoldenError, match=r"^tensor `0`: expected one that can be copied, found: not today$"),
        nvl_golden.record(model, tmp_path / "dump"),
    ):
        model(torch.ones(2))


def test_what_is_left_out_may_have_no_memory(tmp_path):
    model = nn.Sequential(nn.Tanh(), Returns(lambda x: x.to("meta")))
    with nvl_golden.record(model, tmp_path / "dump", sites="0"):
        model(torch.ones(2))
    assert read_back(tmp_path / "dump").names() == ["0"]


class Marked(torch.Tensor):
    """A subclass that has memory, as torchvision's."""


def test_tensors_of_odd_kinds_that_have_memory_are_recorded(tmp_path):
    odd = {
        "subclass": torch.arange(4.0).as_subclass(Marked),
        "parameter": nn.Parameter(torch.arange(4.0)),
        "expanded": torch.ones(1).expand(4),
        "zero": torch._efficientzerotensor((2, 2)),
        "empty": torch.empty(0, 3),
        "view": torch.arange(8.0)[1::2],
        "named": torch.ones(2, 3, names=("batch", "tokens")),
    }
    model = Returns(lambda x: odd)
    with nvl_golden.record(model, tmp_path / "dump"):
        model(torch.ones(1))
    dump = read_back(tmp_path / "dump")
    for name, tensor in odd.items():
        plain = tensor.detach().rename(None).as_subclass(torch.Tensor)
        assert torch.equal(dump.tensor(f"output.{name}"), plain + 0), name


def test_modes_of_the_users_own_do_not_see_the_recorder(tmp_path):
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    class WatchCalls(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(getattr(function, "__name__", str(function)))
            return function(*args, **(kwargs or {}))

    model, x = nn.Sequential(nn.Tanh()), torch.ones(2, 3)
    with Watch(), WatchCalls():
        model(x)
    expected, seen = seen, []
    with nvl_golden.record(model, tmp_path / "dump", tokens="last:1"), Watch(), WatchCalls():
        model(x)
    assert [name for name in seen if name not in ("__get__", "dim")] == [
        name for name in expected if name not in ("__get__", "dim")
    ]
    assert torch.equal(read_back(tmp_path / "dump").tensor("0"), torch.tanh(x[-1:]))


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x)


@pytest.mark.parametrize("inputs", [False, True])
def test_a_script_module_does_not_stop_the_recording_of_the_rest(inputs, tmp_path):
    scripted = torch.jit.script(Scripted())
    model = nn.Sequential(nn.Tanh(), scripted, nn.ReLU())
    x = torch.randn(2, 3)
    expected = model(x)
    before = dict(scripted.__dict__)
    with nvl_golden.record(model, tmp_path / "dump", inputs=inputs):
        assert torch.equal(model(x), expected)
    dump = read_back(tmp_path / "dump")
    # Its own output is seen; what it runs inside is not Python.
    outputs = [name for name in dump.names() if "input" not in name]
    assert outputs == ["0", "1", "2", "output"]
    assert torch.equal(dump.tensor("1"), scripted(torch.tanh(x)))
    if inputs:
        assert torch.equal(dump.tensor("1.input"), torch.tanh(x))
    assert dict(scripted.__dict__) == before and torch.equal(model(x), expected)


class Device(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DlTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class ManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", DlTensor), ("manager_context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


#: Keeps alive what capsules point to.
ALIVE = []


def capsule(shape=(4,), strides=None, data=b"abcd", device=1, bits=8, lanes=1, offset=0, ndim=None):
    """A DLPack capsule with whatever is asked for; nobody has to give it back."""
    dimensions = (ctypes.c_int64 * max(1, len(shape or ())))(*(shape or ()))
    steps = (ctypes.c_int64 * len(strides))(*strides) if strides else None
    memory = ctypes.create_string_buffer(data) if data is not None else None
    tensor = DlTensor(
        ctypes.addressof(memory) if memory else None,
        Device(device, 0),
        len(shape or ()) if ndim is None else ndim,
        DataType(1, bits, lanes),
        dimensions if shape is not None else None,
        steps,
        offset,
    )
    managed = ManagedTensor(tensor, None, None)
    ALIVE.append((managed, dimensions, steps, memory))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name = ctypes.c_char_p(b"dltensor")
    ALIVE.append(name)
    return new(ctypes.addressof(managed), name, None)


def push(path, data, count=4):
    writer = _core.Writer(str(path), replace=False, max_shard_bytes=10**9, max_queued_bytes=10**9)
    try:
        writer.push("layers.0", role="activation", module="", dtype="uint8", shape=[count], data=data)
        writer.finish('{"producer": {"name": "test", "dtype": "float32"}}')
    finally:
        writer.abandon()
    return read_back(path).bytes("layers.0")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"data": None}, "expected a tensor with memory of its own, found none"),
        ({"data": None, "offset": 64}, "expected a tensor with memory of its own, found none"),
        ({"shape": None, "ndim": 1}, "expected a tensor with a shape, found none"),
        ({"shape": (-4,)}, r"expected sizes from 0 on, found the shape \[-4\]"),
        ({"shape": (-2, -2)}, r"expected sizes from 0 on, found the shape \[-2, -2\]"),
        ({"shape": (0, -2)}, r"expected sizes from 0 on, found the shape \[0, -2\]"),
        ({"shape": (2**62, 4)}, r"expected a tensor that fits in memory, found the shape \[4611686018427387904, 4\]"),
        ({"shape": (2**62,), "bits": 64}, "expected a tensor that fits in memory"),
        ({"shape": (2**63 - 1,), "bits": 16}, "expected a tensor that fits in memory"),
        ({"offset": 2**64 - 2}, "expected an offset inside of memory, found 18446744073709551614 bytes"),
        ({"ndim": -1}, "expected 0 to 1024 dimensions, found -1"),
        ({"ndim": 2**31 - 1}, "expected 0 to 1024 dimensions, found 2147483647"),
        ({"lanes": 0}, "expected elements of whole bytes, found 0 bits"),
        ({"bits": 4}, "expected elements of whole bytes, found 4 bits"),
        ({"device": 2}, "expected a tensor in the processor's memory, found one on DLPack's device type 2"),
        ({"shape": (2, 2), "strides": (1, 2)}, r"expected a contiguous tensor, found the strides \[1, 2\]"),
    ],
    ids=str,
)
def test_a_tensor_of_another_library_that_cannot_be_one_is_refused(given, found, tmp_path):
    with pytest.raises(nvl_golden.GoldenError, match=f"^entry `layers.0`: {found}"):
        push(tmp_path / "dump", capsule(**given))
    assert list(tmp_path.iterdir()) == []


def test_tensors_of_other_libraries_are_taken_as_they_are(tmp_path):
    assert push(tmp_path / "plain", capsule()) == b"abcd"
    assert push(tmp_path / "offset", capsule(shape=(3,), offset=1), 3) == b"bcd"
    assert push(tmp_path / "strides", capsule(shape=(2, 1, 2), strides=(2, 99, 1))) == b"abcd"
    assert push(tmp_path / "lanes", capsule(shape=(2,), lanes=2)) == b"abcd"
    assert push(tmp_path / "scalar", capsule(shape=(), bits=32)) == b"abcd"
    assert push(tmp_path / "empty", capsule(shape=(0, 2**62, 2**62), data=None), 0) == b""
    assert push(tmp_path / "bytes", b"wxyz") == b"wxyz"
    used = capsule()
    assert push(tmp_path / "once", used) == b"abcd"
    with pytest.raises(nvl_golden.GoldenError, match="that nobody has used, found another"):
        push(tmp_path / "twice", used)


def test_what_gives_no_tensor_is_refused_with_its_entry(tmp_path):
    class Refuses:
        def __dlpack__(self):
            raise BufferError("read-only")

    for given, found in ((Refuses(), "read-only"), ("text", "expected a tensor with `__dlpack__`, or bytes")):
        with pytest.raises(nvl_golden.GoldenError, match=f"^entry `layers.0`: {found}") as error:
            push(tmp_path / "dump", given)
        assert error.value.__cause__ is not None
    with pytest.raises(nvl_golden.GoldenError, match="expected 4 bytes for `uint8`"):
        push(tmp_path / "dump", b"abc")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with nvl_golden.record(nn.Identity(), tmp_path / "dump") as recorder:
        recorder.add("fine", [1])
        with pytest.raises(nvl_golden.GoldenError, match="expected a name in Unicode, found something else"):
            recorder.add("\udcff", [1])
    assert read_back(tmp_path / "dump").names() == ["fine"]
