"""Sketches in plain numpy, as docs/activation-dump.md specifies them; the tests compare the Rust core's with these."""

import base64
import json
import math

import numpy as np

BLOCK = 128
PART = 65_536
LANES = 8


def words(seed: int, n: np.ndarray) -> np.ndarray:
    """Words of the sequence that SplitMix64 gives from a seed, by their numbers."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (n.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def in_order(terms: np.ndarray) -> np.ndarray:
    """The sum along the first axis, one term after the other from zero on."""
    total = np.zeros(terms.shape[1:])
    for term in terms:
        total = total + term
    return total


def project(part: np.ndarray, first_block: int, seed: int) -> np.ndarray:
    """The projection of one part, a whole number of blocks of float64."""
    blocks = part.reshape(-1, BLOCK)
    numbers = 3 * (first_block + np.arange(len(blocks), dtype=np.uint64))
    bits = np.stack([words(seed, numbers), words(seed, numbers + np.uint64(1))], axis=1)
    bits = (bits[:, :, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    signed = np.where(bits.reshape(blocks.shape) == 1, -blocks, blocks)
    places = (words(seed, numbers + np.uint64(2)) >> np.uint64(57)).astype(int)
    sums = np.zeros((LANES, BLOCK))
    for block, place in zip(signed, places, strict=True):
        # Element j goes to `j ^ place`, the lower three bits of which wait until the end.
        sums[place % LANES][np.arange(BLOCK) ^ (place // LANES * LANES)] += block
    return in_order(np.stack([sums[low][np.arange(BLOCK) ^ low] for low in range(LANES)]))


def short(projection: np.ndarray, seed: int) -> np.ndarray:
    """The bytes of a short projection: of the sums of two places each, the upper five."""
    order = np.argsort(words(seed + 2**63, np.arange(BLOCK)))
    with np.errstate(over="ignore"):
        bits = (projection[order[0::2]] + projection[order[1::2]]).astype("<f8").view("<u8")
    # To the nearest, of two to the even one.
    bits = (bits + np.uint64(2**23 - 1) + (bits >> np.uint64(24) & np.uint64(1))) >> np.uint64(24)
    return bits.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :5]


def lanes(part: np.ndarray) -> float:
    return float(in_order(in_order(part.reshape(-1, LANES))))


def sketch(values: np.ndarray, seed: int = 0, scaled: bool = False) -> dict:
    """The sketch of a tensor whose elements are given as float64; `scaled` where they were float64 from the first."""
    values = values.astype(np.float64).reshape(-1)
    is_finite = np.isfinite(values)
    finite = values[is_finite]
    padded = np.zeros(math.ceil(len(values) / BLOCK) * BLOCK)
    padded[: len(values)] = np.where(is_finite, values, 0.0)

    total = squares = 0.0
    projection = np.zeros(BLOCK)
    for start in range(0, len(padded), PART):
        part = padded[start : start + PART]
        with np.errstate(over="ignore"):
            total += lanes(part)
            squares += lanes(part * part)
            projection = projection + project(part, start // BLOCK, seed)
    length = math.sqrt(squares)
    largest = float(np.abs(finite).max()) if len(finite) else 0.0
    if scaled and largest > 0 and not 1e-200 <= squares < 1e200:
        exponent = min(max(math.frexp(largest)[1] - 1, -1022), 1022)
        squares = 0.0
        for start in range(0, len(padded), PART):
            part = padded[start : start + PART] * 2.0**-exponent
            squares += lanes(part * part)
        length = math.sqrt(squares) * 2.0**exponent

    def number(value):
        return float(value) + 0.0 if len(finite) and math.isfinite(value) else None

    result = {
        "algorithm": "signed-places-1",
        "seed": seed,
        "count": len(finite),
        "nan": int(np.isnan(values).sum()),
        "inf": int(np.isinf(values).sum()),
    }
    if result["nan"] or result["inf"]:
        (places,) = np.nonzero(~is_finite)
        kinds = np.where(np.isnan(values[places]), 1, np.where(values[places] > 0, 2, 3))
        hashes = words(0, 4 * places.astype(np.uint64) + kinds.astype(np.uint64))
        result["non_finite"] = f"{int(np.add.reduce(hashes)):016x}"
    result["min"] = number(finite.min()) if len(finite) else None
    result["max"] = number(finite.max()) if len(finite) else None
    with np.errstate(invalid="ignore"):
        result["mean"] = number(np.float64(total) / len(finite)) if len(finite) else None
    result["l2"] = length if math.isfinite(length) else None
    result["projection"] = base64.b64encode(projection.astype("<f8").tobytes()).decode()
    return result


def generated(kind: str, dtype: str, count: int) -> np.ndarray:
    """Elements that every language can make from words of the seed 99, as float64.

    `bits`: whatever the words' bytes mean, NaN and infinities included. `uniform`: from -0.5 to 0.5.
    """
    width = WIDTHS[dtype]
    if kind == "uniform":
        upper = words(99, np.arange(count)) >> np.uint64(40)
        values = (upper.astype(np.float64) / 2**24 - 0.5).astype(np.float32)
        data = values.tobytes() if dtype == "float32" else (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = words(99, np.arange(math.ceil(count * width / 8))).astype("<u8").tobytes()[: count * width]
    return values_of(data, dtype)


WIDTHS = {
    **{"bool": 1, "uint8": 1, "int8": 1, "float8_e5m2": 1, "float8_e4m3fn": 1, "float8_e8m0fnu": 1},
    **{"int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2, "int32": 4, "uint32": 4, "float32": 4},
    **{"int64": 8, "uint64": 8, "float64": 8},
}


def values_of(data: bytes, dtype: str) -> np.ndarray:
    """Little-endian elements as float64."""
    with np.errstate(invalid="ignore"):  # A NaN becomes a NaN.
        return quietly_values_of(data, dtype)


def quietly_values_of(data: bytes, dtype: str) -> np.ndarray:
    if dtype == "bool":
        return (np.frombuffer(data, np.uint8) != 0).astype(np.float64)
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "float8_e5m2":
        return (np.frombuffer(data, np.uint8).astype(np.uint16) << 8).view(np.float16).astype(np.float64)
    if dtype == "float8_e4m3fn":
        return np.array([e4m3fn(bits) for bits in range(256)])[np.frombuffer(data, np.uint8)]
    if dtype == "float8_e8m0fnu":
        return np.array([2.0 ** (bits - 127) for bits in range(255)] + [math.nan])[np.frombuffer(data, np.uint8)]
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(np.float64)


def e4m3fn(bits: int) -> float:
    exponent, mantissa = bits >> 3 & 15, bits & 7
    if bits & 127 == 127:
        return math.nan
    magnitude = mantissa / 512 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -magnitude if bits & 128 else magnitude


def cases() -> list[dict]:
    """Every dtype, every kind of remainder, one part and several, a length of zero, numbers out of range."""
    cases = [{"kind": "bits", "dtype": dtype, "shape": [1003], "seed": 7} for dtype in WIDTHS]
    cases += [
        {"kind": "uniform", "dtype": "float32", "shape": [2, 3, 21_877], "seed": 0},
        {"kind": "uniform", "dtype": "bfloat16", "shape": [1, 131_072], "seed": 2**53 - 1},
        {"kind": "uniform", "dtype": "float32", "shape": [128], "seed": 1},
        {"kind": "uniform", "dtype": "float32", "shape": [], "seed": 0},
        {"kind": "uniform", "dtype": "float32", "shape": [0, 3], "seed": 0},
        {"kind": "bits", "dtype": "float32", "shape": [70_001], "seed": 0},
    ]
    for case in cases:
        values = generated(case["kind"], case["dtype"], math.prod(case["shape"]))
        case["sketch"] = sketch(values, case["seed"], scaled=case["dtype"] == "float64")
        projection = np.frombuffer(base64.b64decode(case["sketch"]["projection"]), dtype="<f8")
        case["short"] = base64.b64encode(short(projection, case["seed"]).tobytes()).decode()
    return cases


if __name__ == "__main__":
    # What golden/fixtures/sketches.json was made by.
    print(json.dumps(cases(), indent=1))
