"""What is known of PyTorch's operators: what they are called, what they read and write, and what they do with rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .rows import ANY, LAST, ORDER, ROWS

if TYPE_CHECKING:
    import torch

#: How an operator is followed.
#: `VIEW`: it shows what it is given, in the same memory. `MAKE`: it needs no values. `BLANK`: it makes memory without values.
#: `PARTS`: it is made of others. `COPY`: it repeats what it is given, which counts only where the dtype changes. `PRODUCT`: it
#: multiplies two matrices. `OPERATION`: it computes anything else. `HIGHER`: it runs functions that it is given.
VIEW, MAKE, BLANK, PARTS, COPY, PRODUCT, OPERATION, HIGHER = range(8)

#: Operators under the name of another one: the dispatcher shows one or the other, depending on the device and on whether
#: gradients are kept. The names are those of the manifest, without `aten.`.
NAMES = {
    **dict.fromkeys(("_softmax", "_safe_softmax"), "softmax"),
    "_log_softmax": "log_softmax",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    **dict.fromkeys(("_fused_rms_norm", "rms_norm"), "rms_norm"),
    **dict.fromkeys(
        (
            *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
            *("_batch_norm_impl_index", "_batch_norm_with_update", "_batch_norm_no_update"),
            *("cudnn_batch_norm", "miopen_batch_norm"),
        ),
        "batch_norm",
    ),
    "native_dropout": "dropout",
    **dict.fromkeys(
        (
            *("_convolution", "cudnn_convolution", "mkldnn_convolution", "miopen_convolution", "_slow_conv2d_forward"),
            *(
                "thnn_conv2d",
                "slow_conv3d_forward",
                "_conv_depthwise2d",
                "conv_depthwise3d",
                "convolution_overrideable",
            ),
            *("_mps_convolution", "slow_conv_dilated2d", "slow_conv_dilated3d"),
        ),
        "convolution",
    ),
    **dict.fromkeys(
        (
            *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"),
            *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
            *("_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps"),
            *("_flash_attention_forward", "_efficient_attention_forward", "_cudnn_attention_forward"),
        ),
        "scaled_dot_product_attention",
    ),
}

#: Products of matrices, and which arguments are the two. One by a weight is `aten.linear`, one of two recorded tensors
#: `aten.matmul`.
_PRODUCTS = {
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm", "_grouped_mm"), 0),
    **dict.fromkeys(("_scaled_grouped_mm", "_weight_int8pack_mm", "_weight_int4pack_mm"), 0),
    **dict.fromkeys(("_weight_int4pack_mm_for_cpu", "mkldnn_linear", "_sparse_semi_structured_linear"), 0),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation", "_sparse_semi_structured_addmm"), 1),
}
#: Made of others, but counted as one: what they are made of has the same name, or is not counted.
_WHOLE = frozenset({"linear", "matmul", "layer_norm", "scaled_dot_product_attention", "softmax", "log_softmax"})
_COPIES = frozenset({"clone", "_unsafe_view", "_to_copy", "copy", "lift_fresh_copy", "_reshape_copy", "contiguous"})
#: Made of others, with a result that may be what it is given.
_MAY_BE_COPIES = frozenset(
    {"reshape", "flatten", "to", "contiguous", "reshape_as", "resolve_conj", "resolve_neg", "pin_memory"}
)
_OVERWRITING = frozenset(
    {
        *("copy", "fill", "zero", "normal", "uniform", "bernoulli", "random", "exponential", "geometric", "cauchy"),
        *("log_normal", "_foreach_copy", "_foreach_zero"),
    }
)
#: What is done row for row with each argument, where that is not the same for all.
_BY_ARGUMENT = {
    **dict.fromkeys(("index_put", "_index_put_impl", "_unsafe_index_put"), (ROWS, ANY, ANY)),
    "masked_scatter": (ROWS, ROWS, ANY),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce", "index_copy", "index_add", "index_fill"), (ROWS,)),
    **dict.fromkeys(("slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter"), (ROWS,)),
    **dict.fromkeys(("tril", "triu"), (ROWS,)),
}
#: Norms over the last dimensions: their shape is the second argument.
_NORMS = frozenset({"layer_norm", "native_layer_norm", "_fused_rms_norm"})
_SOFTMAXES = frozenset({"softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax"})


@dataclass(slots=True, eq=False)
class Rule:
    """How an operator is followed."""

    kind: int
    #: What it counts as.
    name: str
    #: What it does with the rows of each argument; with those of later ones what it does with the last one's.
    rows: tuple[int, ...]
    #: The arguments that it changes: places, and names.
    writes: tuple[int | str, ...] = ()
    #: Whether nothing of what was there before remains.
    overwrites: bool = False
    #: Whether it goes over the elements one by one.
    pointwise: bool = False
    #: What it does with rows, where that depends on its arguments.
    rows_of: Callable[[tuple[Any, ...], dict[str, Any]], tuple[int, ...]] | None = None
    #: Whether it is made of others if it has these arguments.
    is_parts: Callable[[tuple[Any, ...], dict[str, Any]], bool] | None = None
    #: The place of a product's first matrix.
    first: int = 0
    #: Whether it may convert its argument first.
    converts: bool = False
    #: Whether its result may lack a dimension that has been reduced to one.
    reduces: bool = False
    #: Whether every call of it counts as the same and does the same with rows.
    is_plain: bool = False


def rule_of(func: Any) -> Rule:
    """The rule for an operator of the dispatcher."""
    import torch

    if not isinstance(func, torch._ops.OpOverload):
        # A higher-order operator, which runs functions.
        return Rule(HIGHER, f"higher_order.{func}", (ANY,))
    schema = func._schema
    namespace, _, base = schema.name.partition("::")
    if not torch._C._dispatch_has_kernel(func.name()):
        # A question to a tensor of a class that answers it itself: its size, its device.
        return Rule(VIEW, base, ())
    if torch.Tag.inplace_view in func.tags:
        return Rule(VIEW, base, ())
    writes = tuple(_writes(schema))
    is_out = any(argument.is_out for argument in schema.arguments)
    if base.endswith("_") and not base.endswith("__") and writes:
        base = base[:-1]
    name = f"{namespace}.{base}"
    if namespace != "aten":
        if _is_made_of_others(func):
            return Rule(PARTS, name, (ANY,))
        return Rule(VIEW if _is_view(schema) else OPERATION, name, (ANY,), writes)
    return _aten(func, base, writes, is_out)


def _aten(func: torch._ops.OpOverload, base: str, writes: tuple[int | str, ...], is_out: bool) -> Rule:
    import torch

    name = f"aten.{NAMES.get(base, base)}"
    overwrites = is_out or base in _OVERWRITING
    pointwise = torch.Tag.pointwise in func.tags
    if base in _COPIES or (base in _MAY_BE_COPIES and not writes):
        # Only the first argument has the values; `to` may be given another tensor for its dtype.
        return Rule(COPY, "aten._to_copy", (ORDER,), writes, overwrites)
    if not writes and base.startswith(("empty", "new_empty", "_empty")):
        return Rule(BLANK, name, ())
    if not writes and (base.startswith("new_") or base.endswith("_like")):
        return Rule(MAKE, name, ())
    if _is_view(func._schema) and not writes:
        return Rule(VIEW, name, ())
    if base == "scaled_dot_product_attention":
        return Rule(OPERATION, name, (ANY,), is_parts=_is_attention_of_parts)
    whole = base in _WHOLE
    if not whole and _is_made_of_others(func):
        return Rule(PARTS, name, (ANY,))
    if base in _PRODUCTS:
        first = _PRODUCTS[base]
        is_parts = _adds_bias if base == "linear" else None
        # Of two recorded tensors it is another: the mode says so.
        return Rule(
            PRODUCT, "aten.linear", (ROWS,) * (first + 1) + (ANY,), writes, overwrites, is_parts=is_parts, first=first
        )
    reduces = torch.Tag.reduction in func.tags if hasattr(torch.Tag, "reduction") else base in _REDUCTIONS
    rows_of = _rows_of(base, func._schema, reduces)
    rows = (*_BY_ARGUMENT.get(base, (ROWS,) if pointwise else ()), ROWS if pointwise else ANY)
    converts = base in _SOFTMAXES
    is_plain = not (writes or rows_of or converts or reduces)
    return Rule(
        *(OPERATION, name, rows, writes, overwrites, pointwise, rows_of),
        converts=converts,
        reduces=reduces,
        is_plain=is_plain,
    )


#: Those that a version of PyTorch without a tag for them has.
_REDUCTIONS = frozenset(
    {"mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp", "norm", "linalg_vector_norm"}
)


def _writes(schema: Any) -> list[int | str]:
    places: list[int | str] = []
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            places.append(argument.name if argument.kwarg_only else place)
    return places


def _is_view(schema: Any) -> bool:
    return any(result.alias_info is not None and not result.alias_info.is_write for result in schema.returns)


def _is_made_of_others(func: torch._ops.OpOverload) -> bool:
    """Whether the dispatcher would call other operators for it next, on every device, if gradients are not even thought of."""
    import torch

    has = torch._C._dispatch_has_kernel_for_dispatch_key
    devices = ("CPU", "CUDA", "MPS", "XPU", "PrivateUse1")
    return has(func.name(), "CompositeImplicitAutograd") and not any(has(func.name(), device) for device in devices)


def _adds_bias(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a `linear` adds its bias with an operator of its own."""
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    return bias is not None and not (args[0].dim() == 2 or (args[0].dim() == 3 and args[0].is_contiguous()))


def _is_attention_of_parts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether no kernel has the whole attention."""
    import torch

    try:
        return torch.ops.aten._fused_sdp_choice.default._op(*args, **kwargs) == 0
    except (RuntimeError, TypeError, NotImplementedError):
        return True


def _rows_of(
    base: str, schema: Any, reduces: bool
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[int, ...]] | None:
    """What an operator does with rows, where its arguments say that."""
    if base in _NORMS:
        return lambda args, _: (ROWS if len(args[1]) == 1 else ANY, ANY)
    if base in _SOFTMAXES:
        return lambda args, _: (ROWS if _is_last(args[1], args[0].dim()) else ANY,)
    if base == "cat":
        return lambda args, kwargs: _of_cat(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
    if not reduces:
        return None
    places = {argument.name: place for place, argument in enumerate(schema.arguments)}
    if "dim" not in places:
        return None

    def of_reduction(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
        place = places["dim"]
        dim = args[place] if place < len(args) else kwargs.get("dim")
        dims = dim if isinstance(dim, list | tuple) else [] if dim is None else [dim]
        return (ROWS if len(dims) == 1 and _is_last(dims[0], args[0].dim()) else ANY,)

    return of_reduction


def _of_cat(tensors: Any, dim: int) -> tuple[int, ...]:
    """For each of the tensors: behind one another in the last dimension, rows stay; in the second-last one, the last tensor's do."""
    rank = max((tensor.dim() for tensor in tensors), default=0)
    dim = dim if dim >= 0 else dim + rank
    if dim == rank - 1:
        return (ROWS,) * len(tensors)
    if dim == rank - 2:
        return (ANY,) * (len(tensors) - 1) + (LAST,)
    return (ANY,) * len(tensors)


def _is_last(dim: int, rank: int) -> bool:
    return dim in (-1, rank - 1)
