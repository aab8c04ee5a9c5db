"""Files of safetensors (https://huggingface.co/docs/safetensors): a header in JSON, then arrays.

Nothing in such a file is executed. A file is checked before the memory for its arrays is taken.
"""

import json
import math
import os
import stat
from typing import Any, BinaryIO

import numpy as np

from ..checks import Array, not_finite, shape_error
from .description import ANEW, DTYPES, Description, Tensors, from_json, shown
from .replace import replace

KEY = "fastmlp"  # of the header's metadata, whose value is the description
MOST_HEADER = 1 << 24  # bytes; those of usual models have some hundred
AGAIN = "get the file again, or save the model anew"
# How other files start, which execute what is in them; as a header's length, these are too large.
SIGNATURES = {b"\x80": "a pickle", b"PK\x03\x04": "an archive, as torch.save writes it"}


def path_of(path: object) -> str:
    """Return the path of a file as a text, or raise TypeError."""
    if not isinstance(path, str | os.PathLike):  # open would take an integer for an open file
        got = type(path).__name__
        raise TypeError(f"path: expected str or os.PathLike, got {got}; pass 'model.safetensors'")
    return os.fsdecode(path)


def write(path: str, described: Description, arrays: dict[str, Array]) -> None:
    """Write a file: the same description and arrays give the same bytes."""
    from safetensors.numpy import save

    text = described._replace(sha256=described.digest(arrays.values())).to_json()
    if len(text) > MOST_HEADER // 2:
        mend = "leave feature_names out"
        raise shape_error("save", f"{MOST_HEADER // 2} bytes of names", f"{len(text)}", mend)
    replace(path, save(arrays, {KEY: text}))


def read(path: str) -> tuple[Description, dict[str, Array]]:
    """Return what a file holds, its arrays in memory of their own.

    Raises ValueError, in one line, for a file that isn't one of ours, whole and finite; and OSError
    as `open` does.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            got = "a folder" if os.path.isdir(path) else "a device, a pipe or a socket"
            raise shape_error("path", "a file", got, "pass the path of a file")
        with open(path, "rb") as file:
            return _read(file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(file: BinaryIO) -> tuple[Description, dict[str, Array]]:
    size = os.fstat(file.fileno()).st_size
    start = _start(file, size)
    header = _header(start[8:])
    described = from_json(header.pop("__metadata__", {}).get(KEY))
    expected = described.tensors()
    _check_tensors(header, expected)
    count = sum(math.prod(shape) * int(dtype[1:]) // 8 for dtype, shape in expected.values())
    content = b""
    if size - len(start) == count:  # else no memory is taken: the file says how much it shall be
        content = start + file.read(count)
    if len(content) != len(start) + count:
        raise shape_error("content", f"{count} bytes after the header", size - len(start), AGAIN)
    arrays = _arrays(content, expected)
    digest = described.digest(arrays.values())
    if digest != described.sha256:
        raise shape_error("sha256", f"{digest}, that of the content", described.sha256, AGAIN)
    for name, array in arrays.items():
        wrong = not_finite(name, array, array.shape, ANEW)
        if wrong is not None:
            raise wrong
    return described, arrays


def _start(file: BinaryIO, size: int) -> bytes:
    """Return the header, and the 8 bytes before it that say how long it is."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length < 2:
        raise shape_error("content", "safetensors", f"a file of {size} bytes", AGAIN)
    if length > min(MOST_HEADER, size - 8):
        for signature, what in SIGNATURES.items():
            if start.startswith(signature):
                mend = "read it by what wrote it, if you trust its code, and save the model anew"
                raise shape_error("content", "safetensors", what, mend)
        if start.isascii() and 0 not in start:
            mend = "pass the file that save has written"
            raise shape_error("content", "safetensors", f"text, {shown(start)} at its start", mend)
        got = f"one that shall have {length} bytes in a file of {size}"
        raise shape_error("header", f"one of at most {MOST_HEADER} bytes", got, AGAIN)
    start += file.read(length)
    return start


def _header(text: bytes) -> dict[str, Any]:
    """Return the header as objects; its metadata are one of them, too, or left out."""
    try:
        header = json.loads(text.decode())
    except (ValueError, RecursionError):
        raise shape_error("header", "JSON", shown(text), AGAIN) from None
    if not isinstance(header, dict) or not all(isinstance(one, dict) for one in header.values()):
        raise shape_error("header", "a JSON object of objects", shown(header), AGAIN)
    if KEY not in header.get("__metadata__", {}):
        got = f"one of {shown(sorted(header))}, which doesn't say of what model"
        mend = "use a file that model.save wrote"
        raise shape_error("header", f"metadata named {KEY!r}", got, mend)
    return header


def _check_tensors(found: dict[str, dict[str, Any]], expected: Tensors) -> None:
    """Raise where these aren't the arrays that the description asks for."""
    if found.keys() != expected.keys():
        names = f"the arrays {', '.join(expected)}"
        raise shape_error("header", names, shown(sorted(found)), AGAIN)
    for name, (dtype, shape) in expected.items():
        kind = found[name].get("dtype"), found[name].get("shape")
        if kind != (dtype, list(shape)):
            raise shape_error(name, f"{dtype} of shape {shape}", shown(kind), AGAIN)


def _arrays(content: bytes, expected: Tensors) -> dict[str, Array]:
    """Return the arrays of a file, of which the library checks where they lie."""
    import safetensors

    try:
        views = dict(safetensors.deserialize(content))
    except safetensors.SafetensorError as error:
        raise shape_error("header", "one that fits the content", error, AGAIN) from None
    _check_tensors(views, expected)
    types = {name: f"<f{int(name[1:]) // 8}" for name in DTYPES.values()}
    return {
        name: np.frombuffer(views[name]["data"], types[dtype]).reshape(shape)
        for name, (dtype, shape) in expected.items()
    }
