"""Pictures drawn in code and damaged at random, and what comes of reading them.

    python -m tests.faults.mutated SEED COUNT

reads COUNT of them in this process, which so shows a crash, and prints a line of JSON for each.
"""

import faulthandler
import functools
import io
import json
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 46, 62
HANG = 20  # seconds for a file after which its process is ended
SIZES = ((60_000, 60_000), (9_400, 9_400), (40_000, 2_000), (1, 65_000), (0, 0), (WIDTH + 9, HEIGHT), (WIDTH, 900))
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "GIF": "gif", "WEBP": "webp", "TIFF": "tif"}


@functools.cache
def originals() -> dict[str, bytes]:
    """Small textured pictures: a file's bytes for each kind; the kind begins with Pillow's name of the format."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 7 + y / 11), np.cos(x / 5 - y / 13), np.sin(x * y / 300)]
    noise = np.random.default_rng(0).normal(0, 12, (HEIGHT, WIDTH, 3))
    pixels = (128 + 60 * np.stack(waves, -1) + noise).clip(0, 255)
    rgb = Image.fromarray(pixels.astype(np.uint8))
    palette, grey16 = rgb.quantize(64), Image.fromarray((pixels[..., 0] * 256).astype(np.uint16))
    turned = rgb.rotate(180).quantize(64)

    def save(picture: Image.Image, kind: str, **options) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    return {
        "JPEG baseline": save(rgb, "JPEG"),
        "JPEG progressive": save(rgb, "JPEG", progressive=True),
        "PNG RGB": save(rgb, "PNG"),
        "PNG palette": save(palette, "PNG"),
        "PNG 16 bit": save(grey16, "PNG"),
        "BMP RGB": save(rgb, "BMP"),
        "BMP palette": save(palette, "BMP"),
        "GIF": save(palette, "GIF"),
        "GIF animated": save(palette, "GIF", save_all=True, append_images=[turned]),
        "WEBP lossy": save(rgb, "WEBP"),
        "WEBP lossless": save(rgb, "WEBP", lossless=True),
        "TIFF": save(rgb, "TIFF"),
        "TIFF LZW": save(rgb, "TIFF", compression="tiff_lzw"),
        "TIFF JPEG": save(rgb, "TIFF", compression="jpeg"),
    }


def with_size(kind: str, data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header, and with a checksum that is right for it."""
    if kind.startswith("TIFF"):
        for tag, value in ((256, width), (257, height)):
            at = next(
                at
                for at in range(0, len(data) - 12)
                if data[at : at + 3] in (struct.pack("<HB", tag, t) for t in (3, 4))
            )
            data = data[:at] + struct.pack("<HHII", tag, 4, 1, value) + data[at + 12 :]
        return data
    if kind == "WEBP lossless":
        at = data.index(b"VP8L") + 9
        (bits,) = struct.unpack_from("<I", data, at)
        size = max(width - 1, 0) & 0x3FFF | (max(height - 1, 0) & 0x3FFF) << 14
        return data[:at] + struct.pack("<I", bits & 0xF0000000 | size) + data[at + 4 :]
    form, swapped = {"JPEG": (">HH", True), "PNG": (">II", False), "BMP": ("<ii", False)}.get(
        kind[:4].strip(), ("<HH", False)
    )
    old, new = ((HEIGHT, WIDTH), (height, width)) if swapped else ((WIDTH, HEIGHT), (width, height))
    data = data.replace(struct.pack(form, *old), struct.pack(form, *new))
    if kind.startswith("PNG"):
        data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    return data


Mutation = Callable[[np.random.Generator, str, bytes], bytes]


def flip(share: float, rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    """Flip a bit in 1 byte, in 10, or in a share of all."""
    damaged = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, len(data), int(share) or max(1, int(share * len(data))))
    damaged[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), np.uint8)
    return damaged.tobytes()


def cut(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    return data[: rng.integers(0, len(data))]


def block(random: bool, rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    """Zeros or noise in the place of some bytes, or of all from some on, as a disk leaves them."""
    start = int(rng.integers(0, len(data)))
    length = min(int(rng.choice([16, 512, len(data)])), len(data) - start)
    return data[:start] + (rng.bytes(length) if random else bytes(length)) + data[start + length :]


def append(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 5000)))


def resize_header(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    return with_size(kind, data, *SIZES[rng.integers(len(SIZES))])


def splice(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    """The beginning of the file, and the end of one of another format."""
    others = [other for name, other in originals().items() if name[:4] != kind[:4]]
    other = others[rng.integers(len(others))]
    return data[: rng.integers(1, len(data))] + other[rng.integers(0, len(other)) :]


def same(rng: np.random.Generator, kind: str, data: bytes) -> bytes:
    return data


MUTATIONS: dict[str, Mutation] = {
    "1 bit flipped": functools.partial(flip, 1),
    "10 bits flipped": functools.partial(flip, 10),
    "bits flipped in 1% of the bytes": functools.partial(flip, 0.01),
    "cut": cut,
    "zeros": functools.partial(block, False),
    "noise": functools.partial(block, True),
    "garbage appended": append,
    "another size in the header": resize_header,
    "spliced": splice,
    "wrong extension": same,
}


def mutants(seed: int, count: int) -> Iterator[tuple[str, str, str, bytes]]:
    """Kind, mutation, file name and bytes of `count` damaged pictures, always the same of a seed."""
    rng = np.random.default_rng(seed)
    kinds, mutations = list(originals()), list(MUTATIONS)
    for number in range(count):
        kind, mutation = kinds[rng.integers(len(kinds))], mutations[rng.integers(len(mutations))]
        suffix = list(SUFFIXES.values())[rng.integers(len(SUFFIXES))]
        if mutation != "wrong extension":
            suffix = SUFFIXES[kind.split()[0]]
        yield kind, mutation, f"{number}.{suffix}", MUTATIONS[mutation](rng, kind, originals()[kind])


def plain_tail(image: np.ndarray) -> float:
    """The share of a picture's rows, counted from the last, that have one colour all over."""
    differs = (image != image[-1, -1]).any((1, 2))
    return float(np.argmax(differs[::-1]) / len(image)) if differs.any() else 1.0


def wrong(image: np.ndarray, kind: str) -> float:
    """The share of a picture's pixels that are far from the original's."""
    from jaxconv.data.images import decode

    right = decode(originals()[kind], (HEIGHT, WIDTH)).astype(int)
    return float((np.abs(image - right).max(-1) > 64).mean())


def read(root: Path, name: str, kind: str) -> dict:
    """What comes of a file of root/train/cats, in training and in tools.check_images."""
    from jaxconv.data.checks import Finding, check_file
    from jaxconv.data.images import quiet_pillow
    from jaxconv.data.records import SplitDirectory
    from jaxconv.runtime.errors import InputError

    with quiet_pillow():
        found = check_file(root, f"train/cats/{name}")
    result = {"check": found.kind if isinstance(found, Finding) else "good"}
    try:
        split = SplitDirectory(root, "train", (HEIGHT, WIDTH))
    except InputError as error:
        named = str(error).startswith(f"{root / 'train/cats' / name} is ") and "\n" not in str(error)
        return result | {"outcome": "refused" if named else f"refused without its name: {error}"}
    except BaseException as error:  # PanicException and SystemExit too
        return result | {"outcome": f"{type(error).__name__}: {error}"}
    image = split[0]["image"]
    if image.shape != (HEIGHT, WIDTH, 3) or image.dtype != np.uint8:
        return result | {"outcome": f"{image.dtype}{image.shape}"}
    tail = plain_tail(image)
    return result | {"outcome": "blank" if tail == 1 else "picture", "tail": tail, "wrong": wrong(image, kind)}


def peak() -> int:
    """The most kB that this process has held; `ru_maxrss` would begin with what the process before it held."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def main(seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as temp:
        root = Path(temp)
        for folder in ("cats", "dogs"):
            (root / "train" / folder).mkdir(parents=True)
        (root / "validation").mkdir()  # without it, some of the pictures would be held out
        (root / "train/dogs/good.png").write_bytes(originals()["PNG RGB"])
        for kind, mutation, name, data in mutants(seed, count):
            path = root / "train/cats" / name
            path.write_bytes(data)
            faulthandler.dump_traceback_later(HANG, exit=True)
            start = time.perf_counter()
            result = read(root, name, kind)
            result |= {"seconds": time.perf_counter() - start}
            faulthandler.cancel_dump_traceback_later()
            path.unlink()
            result |= {"peak": peak()}
            print(json.dumps({"kind": kind, "mutation": mutation, "name": name} | result), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
