"""Makes pictures of every kind, and records what Pillow makes of each.

    python scripts/make-preprocess-fixtures.py golden/fixtures/preprocess/formats        the bundled set
    python scripts/make-preprocess-fixtures.py OUT --large --damaged 12000               many more, to keep out of git

Needs Pillow and numpy (scripts/requirements-fixtures.txt), and `cjpeg` (Debian: libjpeg-turbo-progs).

OUT/index.json has for each picture its mode and size and, by factor of enlargement, the SHA-256 of the planes (all of
red, of green, of blue) of the picture enlarged as the public image processor doubles it and converted to RGB; or
Pillow's refusal. `support` says what the Rust decoders owe: `equal`, `refused`, or, for a damaged picture, `never
different`, `equal where both take it`, or, where the format does not define what damage gives, `anything`.

A large set is tested with NVL_PICTURES=OUT cargo test -p reference formats.
"""

import argparse
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy
import PIL
from PIL import Image

warnings.simplefilter("ignore")

SMALL_SIZES = [(1, 1), (17, 9)]
LARGE_SIZES = [
    (1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (8, 8), (9, 17), (16, 16), (17, 33), (31, 15), (33, 64), (65, 47),
    (127, 3), (3, 127), (100, 75), (241, 151),
]  # fmt: skip


class Pictures:
    """Draws pictures: noise of several coarsenesses, so that every filter and transform has something to do."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.noise = numpy.random.default_rng(seed)

    def grey(self, width, height, coarseness=None):
        coarseness = coarseness or self.random.choice([1, 2, 6])
        shape = (max(height // coarseness, 1) + 2, max(width // coarseness, 1) + 2)
        values = self.noise.integers(0, 256, shape, dtype=numpy.uint8)
        return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)

    def of(self, mode, width, height):
        if mode == "I;16":
            return Image.fromarray(self.noise.integers(0, 65536, (height, width), dtype=numpy.uint16))
        if mode == "dark I;16":
            return Image.fromarray(self.noise.integers(0, 300, (height, width), dtype=numpy.uint16))
        if mode == "1":
            return self.grey(width, height).convert("1")
        if mode == "P":
            colours = self.random.choice([2, 3, 4, 15, 16, 17, 200])
            return self.of("RGB", width, height).quantize(colours)
        bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        planes = [self.grey(width, height) for _ in range(bands)]
        return planes[0] if bands == 1 else Image.merge(mode, planes)


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def by_program(command, data):
    """What a program of Debian's libjpeg-turbo-progs writes, for what Pillow cannot."""
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, bits, colour_type, rows, chunks=b"", interlace=0):
    """A PNG of any kind, also of those that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks
        + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    )  # fmt: skip


def adam7_sizes(width, height):
    for x0, y0, dx, dy in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ]:  # fmt: skip
        columns, rows = -(-(width - x0) // dx), -(-(height - y0) // dy)
        if columns > 0 and rows > 0:
            yield columns, rows


def pngs(draw, width, height):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "dark I;16"):
        image = draw.of(mode, width, height)
        name = mode.replace(";", "").replace(" ", "-")
        yield f"{name}.png", encoded(image, "PNG")
        transparency = {"L": 7, "RGB": (1, 2, 3), "P": bytes(range(0, 200, 20)), "1": 0}.get(mode)
        if transparency is not None:
            yield f"{name}-trns.png", encoded(image, "PNG", transparency=transparency)
    frames = [draw.of("RGBA", width, height) for _ in range(3)]
    yield "apng.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "apng-default.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    palette = png_chunk(b"PLTE", draw.noise.bytes(3 * 200))
    for bits, colour_type, channels in [
        (1, 0, 1), (2, 0, 1), (4, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (16, 2, 3), (1, 3, 1), (2, 3, 1), (4, 3, 1),
        (8, 3, 1), (8, 4, 2), (16, 4, 2), (8, 6, 4), (16, 6, 4),
    ]:  # fmt: skip
        chunks = palette if colour_type == 3 else b""
        for interlace in (0, 1):
            passes = adam7_sizes(width, height) if interlace else [(width, height)]
            rows = b"".join(
                bytes([draw.random.randrange(5)]) + draw.noise.bytes((columns * bits * channels + 7) // 8)
                for columns, count in passes
                for _ in range(count)
            )
            data = raw_png(width, height, bits, colour_type, rows, chunks, interlace)
            yield f"type{colour_type}-{bits}bit{'-adam7' * interlace}.png", data


def jpegs(draw, width, height):
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        for progressive in (False, True):
            for quality in (30, 90, 100):
                name = f"{subsampling.replace(':', '')}-q{quality}{'-progressive' * progressive}.jpg"
                image = draw.of("RGB", width, height)
                # At the highest quality Pillow's buffer is too small for the smallest pictures.
                try:
                    yield (
                        name,
                        encoded(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive),
                    )
                except OSError:
                    continue
    yield "grey.jpg", encoded(draw.of("L", width, height), "JPEG", quality=80)
    yield "cmyk.jpg", encoded(draw.of("CMYK", width, height), "JPEG", quality=85)
    yield "rgb.jpg", encoded(draw.of("RGB", width, height), "JPEG", quality=85, keep_rgb=True)
    yield "restart.jpg", encoded(draw.of("RGB", width, height), "JPEG", restart_marker_blocks=2)
    yield (
        "restart-progressive.jpg",
        encoded(draw.of("RGB", width, height), "JPEG", restart_marker_rows=1, progressive=True, subsampling="4:2:0"),
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "orientation.jpg", encoded(draw.of("RGB", width, height), "JPEG", exif=exif)
    for name, options in {
        "440.jpg": ["-sample", "1x2"],
        "odd-sampling.jpg": ["-sample", "4x2"],
        "luma-below-chroma.jpg": ["-sample", "1x1,2x2,2x2"],
        "arithmetic.jpg": ["-arithmetic"],
        "arithmetic-progressive.jpg": ["-arithmetic", "-progressive", "-sample", "2x2"],
    }.items():
        yield name, by_program(["cjpeg", "-quality", "85", *options], encoded(draw.of("RGB", width, height), "PPM"))
    frames = [draw.of("RGB", width, height) for _ in range(2)]
    yield "several.mpo.jpg", encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])


def webps(draw, width, height):
    for quality in (5, 80, 100):
        for method in (0, 6):
            yield (
                f"lossy-q{quality}-m{method}.webp",
                encoded(draw.of("RGB", width, height), "WEBP", quality=quality, method=method),
            )
    yield "lossless.webp", encoded(draw.of("RGB", width, height), "WEBP", lossless=True)
    yield "lossless-alpha.webp", encoded(draw.of("RGBA", width, height), "WEBP", lossless=True, exact=True)
    yield "lossless-palette.webp", encoded(draw.of("P", width, height).convert("RGB"), "WEBP", lossless=True)
    yield "lossy-alpha.webp", encoded(draw.of("RGBA", width, height), "WEBP", quality=70)
    yield "lossy-alpha-quantised.webp", encoded(draw.of("RGBA", width, height), "WEBP", quality=70, alpha_quality=30)
    frames = [draw.of("RGBA", width, height) for _ in range(3)]
    yield "animated-lossy.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=60)
    yield (
        "animated-lossless.webp",
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, background=(255, 0, 0, 255)),
    )


def gifs(draw, width, height):
    for interlace in (0, 1):
        yield f"palette-i{interlace}.gif", encoded(draw.of("P", width, height), "GIF", interlace=interlace)
    yield "grey.gif", encoded(draw.of("L", width, height), "GIF")
    yield "bilevel.gif", encoded(draw.of("1", width, height), "GIF")
    yield "transparent.gif", encoded(draw.of("RGBA", width, height), "GIF")
    frames = [draw.of("RGBA", width, height) for _ in range(3)]
    yield "animated.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
    # The same frame on a larger and on a smaller screen, at an offset: only the header and the descriptor change.
    whole = bytearray(encoded(draw.of("P", width, height), "GIF", interlace=0))
    larger = bytearray(whole)
    struct.pack_into("<HH", larger, 6, width + 5, height + 4)
    descriptor = 13 + (3 << ((whole[10] & 7) + 1)) if whole[10] & 0x80 else 13
    while larger[descriptor] == ord("!"):
        position = descriptor + 2
        while larger[position]:
            position += larger[position] + 1
        descriptor = position + 1
    struct.pack_into("<HH", larger, descriptor + 1, 2, 3)
    yield "offset.gif", bytes(larger)
    struct.pack_into("<HH", larger, 6, 1, 1)
    yield "beyond-its-screen.gif", bytes(larger)


def bmp_header(width, height, bits, compression, data_bytes, colours=0, header_bytes=40, masks=b""):
    header = struct.pack(
        "<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, data_bytes, 2835, 2835, colours, 0
    )
    header += masks.ljust(header_bytes - 40, b"\0") if header_bytes > 40 else masks
    return header


def bmp(header, palette, data):
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + palette + data


def bmps(draw, width, height):
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"{mode}.bmp", encoded(draw.of(mode, width, height), "BMP")
    for bits in (1, 4, 8, 16, 24, 32):
        row_bytes = (width * bits + 31) // 32 * 4
        data = draw.noise.bytes(row_bytes * height)
        palette = draw.noise.bytes(4 << bits) if bits <= 8 else b""
        yield f"{bits}bit.bmp", bmp(bmp_header(width, height, bits, 0, len(data)), palette, data)
        yield f"{bits}bit-top-down.bmp", bmp(bmp_header(width, -height, bits, 0, len(data)), palette, data)
    for bits, masks in [
        (16, (0xF800, 0x7E0, 0x1F, 0)), (16, (0x7C00, 0x3E0, 0x1F, 0)), (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0)), (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0)), (32, (0xFF000000, 0xFF00, 0xFF, 0xFF0000)),
    ]:  # fmt: skip
        data = draw.noise.bytes((width * bits + 31) // 32 * 4 * height)
        packed = struct.pack("<IIII", *masks)
        name = f"{bits}bit-masks-{masks[0]:x}-{masks[3]:x}"
        yield (
            f"{name}.bmp",
            bmp(bmp_header(width, height, bits, 3, len(data), header_bytes=108, masks=packed), b"", data),
        )
        yield f"{name}-v3.bmp", bmp(bmp_header(width, height, bits, 3, len(data), masks=packed[:12]), b"", data)
    # OS/2's header, with three bytes a colour.
    data = draw.noise.bytes((width * 8 + 31) // 32 * 4 * height)
    yield "os2.bmp", bmp(struct.pack("<IHHHH", 12, width, height, 1, 8), draw.noise.bytes(768), data)
    runs = b"".join(bytes([min(width, 255), draw.random.randrange(256), 0, 0]) for _ in range(height)) + b"\0\1"
    yield "rle8.bmp", bmp(bmp_header(width, height, 8, 1, len(runs)), draw.noise.bytes(1024), runs)


def tiffs(draw, width, height):
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "I;16"):
            name = f"{mode.replace(';', '')}-{compression or 'raw'}.tif"
            yield name, encoded(draw.of(mode, width, height), "TIFF", compression=compression)
    yield "predictor.tif", encoded(draw.of("RGB", width, height), "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    yield "group4.tif", encoded(draw.of("1", width, height), "TIFF", compression="group4")
    yield "jpeg.tif", encoded(draw.of("RGB", width, height), "TIFF", compression="jpeg")
    yield "big-endian.tif", encoded(draw.of("RGB", width, height), "TIFF", tiffinfo={}, big_tiff=False)
    yield "orientation.tif", encoded(draw.of("RGB", width, height), "TIFF", tiffinfo={274: 6})
    frames = [draw.of("RGB", width, height) for _ in range(2)]
    yield "several.tif", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])


def chunk(name, payload):
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def chunks_of(webp):
    """Names and payloads of a file's chunks."""
    at = 12
    while at < len(webp):
        size = struct.unpack_from("<I", webp, at + 4)[0]
        yield webp[at : at + 4], webp[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def blending_first_frames(draw, width, height):
    """Animations whose first frame asks to be blended with the canvas, which it is not: all of it or a part."""
    contents = {
        "lossless-alpha": ("RGBA", {"lossless": True, "exact": True}),
        "lossless": ("RGB", {"lossless": True}),
        "lossy-alpha": ("RGBA", {"quality": 70}),
        "lossy": ("RGB", {"quality": 70}),
    }

    def three_bytes(number):
        return struct.pack("<I", number)[:3]

    for content, (mode, options) in contents.items():
        for place, (left, top) in {"whole": (0, 0), "part": (4, 2)}.items():
            for alpha in (True, False):
                sides = three_bytes(width - 1) + three_bytes(height - 1)
                frames = b""
                for _ in range(2):
                    still = encoded(draw.of(mode, width, height), "WEBP", **options)
                    kept = [chunk(*one) for one in chunks_of(still) if one[0] in (b"ALPH", b"VP8 ", b"VP8L")]
                    place_and_sides = three_bytes(left // 2) + three_bytes(top // 2) + sides
                    frames += chunk(b"ANMF", place_and_sides + three_bytes(100) + b"\0" + b"".join(kept))
                canvas = three_bytes(width + 2 * left - 1) + three_bytes(height + 2 * top - 1)
                header = chunk(b"VP8X", bytes([0x02 | 0x10 * alpha, 0, 0, 0]) + canvas)
                body = b"WEBP" + header + chunk(b"ANIM", b"\x20\x80\xe0\xff\0\0") + frames
                name = f"blends-{content}-{place}{'' if alpha else '-no-alpha-flag'}.webp"
                yield name, b"RIFF" + struct.pack("<I", len(body)) + body


def jpegs_with_more(draw, width, height):
    """JPEGs with something in front of or behind their data that looks like scans: thumbnails, films, other pictures."""
    many_scans = b"\xff\xda" * 2000
    image = encoded(draw.of("RGB", width, height), "JPEG", quality=85)
    other = encoded(draw.of("RGB", width, height), "JPEG", quality=85, progressive=True)
    film = struct.pack(">I", 24) + b"ftypmp42" + bytes(draw.noise.integers(0, 256, 4000, dtype=numpy.uint8))
    yield "scans-behind-its-end.jpg", image + many_scans
    yield "film-behind-its-end.jpg", image + film + many_scans
    yield "picture-behind-its-end.jpg", image + other * 100
    yield "text-behind-its-end.jpg", image + b"\r\nsomething else"
    segment = b"\xff\xed" + struct.pack(">H", len(many_scans) + 2) + many_scans
    yield "scans-in-a-segment.jpg", image[:2] + segment + image[2:]
    yield "progressive-scans-behind-its-end.jpg", other + many_scans


# Drawn with numbers of their own, so that the others stay as they are.
LATER_KINDS = {"webp": blending_first_frames, "jpeg": jpegs_with_more}

KINDS = {"png": pngs, "jpeg": jpegs, "webp": webps, "gif": gifs, "bmp": bmps, "tiff": tiffs}


def planes_sha256(image, factor):
    """Of a picture enlarged and converted as the public image processor does it, which always doubles."""
    enlarged = image.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
    rgb = enlarged if enlarged.mode == "RGB" else enlarged.convert("RGB")
    return hashlib.sha256(numpy.asarray(rgb).transpose(2, 0, 1).tobytes()).hexdigest()


def what_pillow_makes(data, factors=(2,)):
    """Mode, size and planes of a file, or the refusal."""
    try:
        image = Image.open(io.BytesIO(data))
        planes = {factor: planes_sha256(image, factor) for factor in factors}
    except Exception as error:
        return {"refused_by_pillow": f"{type(error).__name__}: {error}".split("<_io")[0].strip()}
    return {
        "mode": image.mode,
        "width": image.width,
        "height": image.height,
        "planes_sha256": planes,
    }


def damaged(data, draw):
    """The file with its end cut off, or with some bytes changed."""
    kind = draw.random.randrange(4)
    if kind == 0:
        return data[: draw.random.randrange(len(data))]
    changed = bytearray(data)
    reach = len(changed) if kind < 3 else min(len(changed), 64)
    for _ in range(draw.random.choice([1, 1, 2, 8])):
        changed[draw.random.randrange(reach)] = draw.random.randrange(256)
    return bytes(changed)


def main():
    arguments = argparse.ArgumentParser(description="Makes pictures, and records what Pillow makes of each.")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--large", action="store_true", help="many sizes, for a run outside the repository")
    arguments.add_argument("--damaged", type=int, default=0, help="so many damaged copies")
    arguments.add_argument("--seed", type=int, default=7)
    arguments = arguments.parse_args()

    if arguments.damaged:
        # A damaged JPEG can have coefficients of any size; libjpeg's vector code overflows where its C code does not.
        os.environ["JSIMD_FORCENONE"] = "1"
    draw = Pictures(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    files = {}
    for width, height in LARGE_SIZES if arguments.large else SMALL_SIZES:
        for kind, make in KINDS.items():
            for name, data in make(draw, width, height):
                files[f"{kind}-{width}x{height}-{name}"] = data
    draw_later = Pictures(arguments.seed + 1)
    for width, height in LARGE_SIZES if arguments.large else SMALL_SIZES:
        for kind, make in LATER_KINDS.items():
            for name, data in make(draw_later, width, height):
                files[f"{kind}-{width}x{height}-{name}"] = data
    if not arguments.large:
        # One pixel says enough about a format once.
        files = {name: data for name, data in files.items() if "-1x1-" not in name or name in ONE_PIXEL}
    factors = (2,) if arguments.large else (1, 2, 3, 5)
    index = [
        {"file": name, "support": support(name), **what_pillow_makes(data, factors)} for name, data in files.items()
    ]
    names = sorted(files)
    for number in range(arguments.damaged):
        original = draw.random.choice(names)
        name = f"damaged-{number}-{original}"
        files[name] = damaged(files[original], draw)
        index.append({"file": name, "support": support_of_damaged(original), **what_pillow_makes(files[name])})
    for name, data in files.items():
        (arguments.out / name).write_bytes(data)
    document = {"pillow": PIL.__version__, "seed": arguments.seed, "pictures": index}
    (arguments.out / "index.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{len(index)} pictures, {sum(map(len, files.values()))} bytes", file=sys.stderr)


ONE_PIXEL = {
    "png-1x1-RGB.png", "png-1x1-I16.png", "jpeg-1x1-420-q90.jpg", "webp-1x1-lossy-q80-m0.webp",
    "gif-1x1-palette-i0.gif", "bmp-1x1-24bit.bmp", "tiff-1x1-RGB-raw.tif",
}  # fmt: skip

# Kinds that Pillow reads and the Rust decoders refuse by name.
REFUSED: tuple[str, ...] = (
    "group4.tif",
    "jpeg.tif",
    "orientation.tif",
    *(f"P-{compression}.tif" for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")),
)


def support(name):
    return "refused" if name.endswith(REFUSED) else "equal"


def support_of_damaged(original):
    # What decoders make of coefficients out of range, or of contradicting tags, is not defined.
    if "lossy" in original or original.endswith(".tif"):
        return "anything"
    # What follows the last pixel is missed by one and not by the other.
    return "equal where both take it" if original.endswith((".gif", ".png")) else "never different"


if __name__ == "__main__":
    main()
