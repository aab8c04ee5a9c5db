"""The MNIST images and labels, from the embedded files or from a folder."""

import math
import os
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Images: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
GZIP = b"\x1f\x8b"  # how such a file starts: its name tells nothing
UNSIGNED_BYTE = 8  # IDX's code for the type of the values
BLOCK_BYTES = 1 << 16  # Inflated, a block of a file still fits the CPU's cache.
DEFLATE_MAX_RATIO = 1032  # https://zlib.net/zlib_tech.html, "Maximum Compression Factor"


def mnist_dataset(
    root: str | os.PathLike[str] | None = None,
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return `(x_train, y_train), (x_test, y_test)`, the MNIST digits.

    x: float32 of shape (n, 28, 28), the pixels divided by 255, so 0 is background and 1 is ink;
    y: int64 of shape (n,), the digits 0 to 9; n is 60,000 for training and 10,000 for testing.

    Without `root` the files embedded in the package are read. With it, the same four IDX files
    are read from the folder `root`, or else from torchvision's place, `root/MNIST/raw`, named
    `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or without `.gz`, and plain or
    gzipped, whatever the name. They may hold another set in MNIST's format, with other numbers and
    sizes of images and other labels (0 to 255), such as Fashion-MNIST or EMNIST.

    Raises TypeError where `root` isn't a path, FileNotFoundError where neither folder holds all
    four files, and ValueError where a file is truncated, corrupt or foreign, where the images
    and labels differ in number, or where the training and test images differ in size.

    Source of the data and of the format: Y. LeCun, C. Cortes and C. Burges, "The MNIST database
    of handwritten digits", http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0).
    """
    x_train_file, y_train_file, x_test_file, y_test_file = _locate(root)
    # The small files go first: what is wrong with them shows at once.
    y_train, y_test = _read_labels(y_train_file), _read_labels(y_test_file)
    x_test = _read_images(x_test_file, y_test, y_test_file)
    x_train = _read_images(x_train_file, y_train, y_train_file)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"the images in {x_train_file} are {_by(x_train.shape[1:])} pixels and those in"
            f" {x_test_file} are {_by(x_test.shape[1:])}, expected one size: use files of one set"
        )
    return (x_train, y_train), (x_test, y_test)


def _locate(root: str | os.PathLike[str] | None) -> list[Traversable]:
    """Return the four files, in the order of FILES, from the first folder that holds them all."""
    folders: list[Traversable]
    if root is None:
        folders = [files("fastmlp").joinpath("data")]
        mend = "reinstall fastmlp"
    elif isinstance(root, str | os.PathLike) and isinstance(os.fspath(root), str):
        folders = [Path(root), Path(root, "MNIST", "raw")]
        mend = "put the missing files there, or leave root out to read the embedded ones"
    else:
        raise TypeError(
            f"root is {type(root).__name__}, expected str or os.PathLike of str: give a folder's"
            " path, or leave root out to read the embedded files"
        )
    looked_in = []
    for folder in folders:
        found = {stem: _find(folder, stem) for stem in FILES}
        missing = [stem for stem, file in found.items() if file is None]
        if not missing:
            return [file for file in found.values() if file is not None]
        looked_in.append(f"{folder} lacks {', '.join(missing)}")
    raise FileNotFoundError(
        f"no complete MNIST set: {'; '.join(looked_in)} (each looked for as"
        f" {', '.join(_spellings(FILES[0]))}): {mend}"
    )


def _spellings(stem: str) -> list[str]:
    """Return the names a file goes by, those of plain files first, which are quicker to read."""
    return [name + end for end in ("", ".gz") for name in (stem, stem.replace("-idx", ".idx"))]


def _find(folder: Traversable, stem: str) -> Traversable | None:
    candidates = (folder.joinpath(name) for name in _spellings(stem))
    return next((file for file in candidates if file.is_file()), None)


def _read_labels(file: Traversable) -> Labels:
    labels: Labels = _read_idx(file, 1, np.int64, np.positive)
    return labels


def _read_images(file: Traversable, labels: Labels, labels_file: Traversable) -> Images:
    images: Images = _read_idx(file, 3, np.float32, _scale)
    if len(images) != len(labels):
        raise ValueError(
            f"{file} holds {len(images)} images and {labels_file} holds {len(labels)} labels,"
            " expected as many: use files of one set"
        )
    return images


def _scale(pixels: NDArray[np.uint8], out: Images) -> None:
    """Write pixels / 255 into `out`; a product with 1/255 would be off by an ulp for many."""
    np.divide(pixels, np.float32(255), out=out, dtype=np.float32)


def _read_idx(
    file: Traversable,
    dimensions: int,
    dtype: type[np.generic],
    convert: Callable[[NDArray[np.uint8], Any], object],
) -> NDArray[Any]:
    """Return the array in an IDX file of unsigned bytes, each block of it put through `convert`."""
    content = file.read_bytes()
    gzipped = content.startswith(GZIP)
    blocks = _inflate(content, file) if gzipped else _cut(content)
    header_bytes = 4 + 4 * dimensions
    start = b""
    while len(start) < header_bytes and (block := next(blocks, None)) is not None:
        start += block
    shape = _shape(start[:header_bytes], dimensions, file)

    expected = math.prod(shape)
    if expected > len(content) * (DEFLATE_MAX_RATIO if gzipped else 1):
        raise _wrong_size(file, shape, "fewer")  # Before a damaged header takes all memory.
    values = np.empty(expected, dtype)
    came = 0
    for block in chain([start[header_bytes:]], blocks):
        end = came + len(block)
        if end > expected:
            raise _wrong_size(file, shape, "more")
        convert(np.frombuffer(block, np.uint8), values[came:end])
        came = end
    if came < expected:
        raise _wrong_size(file, shape, f"only {came}")
    return values.reshape(shape)


def _shape(header: bytes, dimensions: int, file: Traversable) -> tuple[int, ...]:
    """Return the shape that an IDX header gives, having checked the rest of it."""
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if header[:3] != magic[:3]:
        raise ValueError(
            f"{file} starts with the bytes {header[:4].hex(' ') or '(none)'}, expected"
            f" {magic.hex(' ')}: it isn't an IDX file of unsigned bytes, plain or gzipped, use"
            " MNIST's own"
        )
    if header[3:4] != magic[3:]:
        raise ValueError(
            f"{file} has {header[3:4].hex() or 'no'} as its number of dimensions, expected"
            f" {dimensions}: check that images and labels weren't swapped"
        )
    if len(header) < 4 + 4 * dimensions:
        raise ValueError(
            f"{file} ends after {len(header)} bytes, expected a header of {4 + 4 * dimensions}:"
            " it is truncated, get it again"
        )
    return tuple(np.frombuffer(header, ">u4", offset=4).tolist())


def _wrong_size(file: Traversable, shape: tuple[int, ...], came: str) -> ValueError:
    return ValueError(
        f"{file} holds {came} bytes after its header, expected {math.prod(shape)} for the"
        f" shape {_by(shape)}: it is truncated or damaged, get it again"
    )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _cut(content: bytes) -> Iterator[bytes]:
    return (content[i : i + BLOCK_BYTES] for i in range(0, len(content), BLOCK_BYTES))


def _inflate(content: bytes, file: Traversable) -> Iterator[bytes]:
    """Yield the data of a gzip file (RFC 1952, any number of members) block by block."""
    inflater = zlib.decompressobj(wbits=31)
    for block in _cut(content):
        while block:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)
            try:
                inflated = inflater.decompress(block)
            except zlib.error as error:
                raise ValueError(
                    f"{file} isn't a sound gzip file ({error}): get it again"
                ) from error
            yield inflated
            block = inflater.unused_data
    if not inflater.eof:
        raise ValueError(f"{file} ends inside its gzip stream: it is truncated, get it again")
