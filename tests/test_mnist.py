"""The MNIST files: the embedded data bit for bit, the layouts read and every refusal."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from fastmlp.mnist import BLOCK_BYTES, FILES, mnist_dataset

X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = FILES
DIGESTS = {
    X_TRAIN: "257f039238a0be158bad088c051a53908383fd47df03a7b1c229bb7bc968f160",
    Y_TRAIN: "e474323ac02fc156161b0bbb1f8c9cfeb327a74bcd9f9680a8385269a24f566c",
    X_TEST: "bc9f8f501f39b3ca61f899a2f402edf2024bde012b73223431b6bd735e47a165",
    Y_TEST: "2fd8de6bdb8d11780b4b96dc57847bcfe6953f7c32aa48bfcd8237c3b7847243",
}
Named = Callable[[str], str]


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes()


def small_set(train: int = 300, test: int = 20, height: int = 7, width: int = 5):
    """Return a small set in MNIST's format: every pixel value occurs, height is not width."""
    rng = np.random.default_rng(4)
    values = {}
    for images, labels, n in ((X_TRAIN, Y_TRAIN, train), (X_TEST, Y_TEST, test)):
        values[images] = rng.integers(0, 256, (n, height, width), dtype=np.uint8)
        values[labels] = rng.integers(0, 10, n, dtype=np.uint8)
    assert set(values[X_TRAIN].flat) == set(range(256))
    return values


def plain(stem: str) -> str:
    return stem


def dotted(stem: str) -> str:
    return stem.replace("-idx", ".idx")


def gzipped(stem: str) -> str:
    return f"{stem}.gz"


def dotted_and_gzipped(stem: str) -> str:
    return f"{dotted(stem)}.gz"


def write(folder: Path, values: dict[str, np.ndarray], named: Named = plain) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, array in values.items():
        put(folder / named(stem), idx(array))


def put(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def check_set(dataset, values: dict[str, np.ndarray]) -> None:
    (x_train, y_train), (x_test, y_test) = dataset
    for x, stem in ((x_train, X_TRAIN), (x_test, X_TEST)):
        exact = values[stem].astype(np.float64) / 255  # Innocuous double rounding: 53 >= 2*24 + 2.
        assert x.dtype == np.float32
        assert x.shape == values[stem].shape
        assert x.tobytes() == exact.astype(np.float32).tobytes()
    for y, stem in ((y_train, Y_TRAIN), (y_test, Y_TEST)):
        assert y.dtype == np.int64
        assert y.tolist() == values[stem].tolist()
    for array in (x_train, y_train, x_test, y_test):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned


def refuses(root: Path, path: Path, *parts: str) -> None:
    """Check that reading `root` raises a ValueError naming `path` and saying each of `parts`."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        mnist_dataset(root)
    for part in parts:
        assert part in str(caught.value)


def test_embedded_data():
    (x_train, y_train), (x_test, y_test) = mnist_dataset()
    assert x_train.shape == (60_000, 28, 28)
    assert x_test.shape == (10_000, 28, 28)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.shape == (60_000,)
    assert y_test.shape == (10_000,)
    assert y_train.dtype == y_test.dtype == np.int64
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert x_train.min() == 0
    assert x_train.max() == 1
    for stem, array in zip(FILES, (x_train, y_train, x_test, y_test), strict=True):
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        assert hashlib.sha256(little).hexdigest() == DIGESTS[stem], stem


def test_embedded_files_are_those_of_the_readme():
    data = files("fastmlp").joinpath("data")
    readme = data.joinpath("README.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\S+\.gz)` \|[^|]+\| (\d+) \| `(\w+)` \| `(\w+)`", readme)
    assert [row[0] for row in rows] == [gzipped(stem) for stem in FILES]
    for name, size, digest, inflated_digest in rows:
        content = data.joinpath(name).read_bytes()
        assert len(content) == int(size)
        assert hashlib.sha256(content).hexdigest() == digest
        assert hashlib.sha256(gzip.decompress(content)).hexdigest() == inflated_digest


@pytest.mark.parametrize("as_root", [Path, str])
@pytest.mark.parametrize("place", [".", "MNIST/raw"])
@pytest.mark.parametrize("named", [plain, dotted, gzipped, dotted_and_gzipped])
def test_layouts(tmp_path, named, place, as_root):
    values = small_set()
    write(tmp_path / place, values, named)
    check_set(mnist_dataset(as_root(tmp_path)), values)


def test_mixed_names(tmp_path):
    values = small_set()
    for stem, named in zip(FILES, (gzipped, plain, dotted, gzipped), strict=True):
        put(tmp_path / named(stem), idx(values[stem]))
    check_set(mnist_dataset(tmp_path), values)


def test_an_incomplete_root_is_never_mixed_with_torchvisions_place(tmp_path):
    values = small_set()
    write(tmp_path / "MNIST" / "raw", values)
    put(tmp_path / Y_TRAIN, idx(np.zeros(300, np.uint8)))
    check_set(mnist_dataset(tmp_path), values)


@pytest.mark.parametrize("named", [plain, gzipped])
@pytest.mark.parametrize("extra", [-17, -16, -1, 0, 1])
def test_files_about_whole_blocks_long(tmp_path, named, extra):
    values = small_set(2 * BLOCK_BYTES + extra, 3, 1, 1)
    write(tmp_path, values, named)
    check_set(mnist_dataset(tmp_path), values)


@pytest.mark.parametrize("named", [plain, gzipped])
def test_empty_sets(tmp_path, named):
    values = small_set()
    values |= {X_TEST: np.empty((0, 7, 5), np.uint8), Y_TEST: np.empty(0, np.uint8)}
    write(tmp_path, values, named)
    check_set(mnist_dataset(tmp_path), values)


@pytest.mark.parametrize("member_bytes", [3, 1000])
def test_gzip_members(tmp_path, member_bytes):
    values = small_set()
    write(tmp_path, values)
    content = (tmp_path / X_TRAIN).read_bytes()
    starts = range(0, len(content), member_bytes)
    members = [gzip.compress(content[i : i + member_bytes], 1) for i in starts]
    (tmp_path / X_TRAIN).unlink()
    (tmp_path / gzipped(X_TRAIN)).write_bytes(b"".join(members))
    check_set(mnist_dataset(tmp_path), values)


def test_the_dataset_is_the_callers_own(tmp_path):
    values = small_set()
    write(tmp_path, values)
    (x_train, y_train), _ = mnist_dataset(tmp_path)
    x_train[:] = 3
    y_train[:] = 3
    check_set(mnist_dataset(tmp_path), values)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"data"


@pytest.mark.parametrize("root", [b"data", 3, True, ["data"], BytesPath()])
def test_root_of_another_type(root):
    with pytest.raises(TypeError, match=f"root is {type(root).__name__}, expected str or os.Path"):
        mnist_dataset(root)


@pytest.mark.parametrize("stem", FILES)
def test_missing_file(tmp_path, stem):
    write(tmp_path, small_set())
    (tmp_path / stem).unlink()
    (tmp_path / gzipped(stem)).mkdir()  # A folder of that name isn't the file.
    with pytest.raises(FileNotFoundError) as caught:
        mnist_dataset(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path} lacks {stem};" in message
    assert f"{tmp_path / 'MNIST' / 'raw'} lacks {', '.join(FILES)} " in message
    assert "leave root out" in message


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no complete MNIST set"):
        mnist_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("stem", FILES)
@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"\x1f", b"plain text"])
@pytest.mark.parametrize("named", [plain, gzipped])
def test_neither_idx_nor_gzip(tmp_path, stem, content, named):
    write(tmp_path, small_set(), named)
    path = tmp_path / named(stem)
    path.write_bytes(content)
    refuses(tmp_path, path, "gzip")


@pytest.mark.parametrize("named", [plain, dotted, gzipped, dotted_and_gzipped])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_name_does_not_say_whether_a_file_is_gzipped(tmp_path, named, pack):
    values = small_set()
    for stem, array in values.items():
        (tmp_path / named(stem)).write_bytes(pack(idx(array)))
    check_set(mnist_dataset(tmp_path), values)


@pytest.mark.parametrize("stem", FILES)
def test_corrupt_gzip(tmp_path, stem):
    write(tmp_path, small_set(), gzipped)
    path = tmp_path / gzipped(stem)
    whole = path.read_bytes()
    for kept in (12, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refuses(tmp_path, path, "ends inside its gzip stream")
    path.write_bytes(whole[:-8] + bytes((whole[-8] ^ 1,)) + whole[-7:])
    refuses(tmp_path, path, "isn't a sound gzip file", "incorrect data check")
    path.write_bytes(whole + b"more")
    refuses(tmp_path, path, "isn't a sound gzip file", "incorrect header check")


@pytest.mark.parametrize("named", [plain, gzipped])
@pytest.mark.parametrize("stem", FILES)
def test_foreign_header(tmp_path, stem, named):
    values = small_set()
    write(tmp_path, values, named)
    path = tmp_path / named(stem)
    whole = idx(values[stem])
    for position, byte in ((0, 1), (1, 1), (2, 9), (2, 0x0D)):
        put(path, whole[:position] + bytes((byte,)) + whole[position + 1 :])
        refuses(tmp_path, path, "starts with the bytes", "it isn't an IDX file of unsigned bytes")
    dimensions = values[stem].ndim
    for other in {0, 1, 2, 3, 4, 255} - {dimensions}:
        put(path, whole[:3] + bytes((other,)) + whole[4:])
        refuses(tmp_path, path, f"has {other:02x} as its number", f"expected {dimensions}")


def test_images_and_labels_swapped(tmp_path):
    values = small_set()
    values[X_TEST], values[Y_TEST] = values[Y_TEST], values[X_TEST]
    write(tmp_path, values)
    refuses(tmp_path, tmp_path / Y_TEST, "has 03 as its number of dimensions, expected 1")


@pytest.mark.parametrize("named", [plain, gzipped])
@pytest.mark.parametrize("stem", FILES)
def test_truncated_header(tmp_path, stem, named):
    values = small_set()
    write(tmp_path, values, named)
    path = tmp_path / named(stem)
    header_bytes = 4 + 4 * values[stem].ndim
    for kept in range(header_bytes):
        put(path, idx(values[stem])[:kept])
        refuses(tmp_path, path)
    put(path, b"")
    refuses(tmp_path, path, "(none)")
    put(path, idx(values[stem])[: header_bytes - 1])
    refuses(tmp_path, path, f"ends after {header_bytes - 1} bytes", f"header of {header_bytes}")


@pytest.mark.parametrize("named", [plain, gzipped])
@pytest.mark.parametrize("stem", FILES)
def test_another_number_of_bytes_than_the_header_says(tmp_path, stem, named):
    values = small_set()
    write(tmp_path, values, named)
    path = tmp_path / named(stem)
    whole, expected = idx(values[stem]), values[stem].size
    put(path, whole[:-1])
    refuses(tmp_path, path, f"only {expected - 1} bytes", f"expected {expected}")
    put(path, whole[:-expected])
    refuses(tmp_path, path, f"expected {expected}")
    for more in (1, 3 * BLOCK_BYTES):
        put(path, whole + bytes(more))
        refuses(tmp_path, path, "more bytes", f"expected {expected}")


@pytest.mark.parametrize("named", [plain, gzipped])
@pytest.mark.parametrize("stem", FILES)
def test_a_header_that_asks_for_too_much_memory(tmp_path, stem, named):
    values = small_set()
    write(tmp_path, values, named)
    path = tmp_path / named(stem)
    put(path, b"\0\0\x08" + bytes((values[stem].ndim,)) + b"\xff" * 4 * values[stem].ndim)
    refuses(tmp_path, path, "fewer bytes", str((2**32 - 1) ** values[stem].ndim))


def test_the_most_compressible_set_is_within_the_bound(tmp_path):
    values = small_set()
    values[X_TRAIN] = np.zeros((300, 100, 1000), np.uint8)
    values[X_TEST] = np.zeros((20, 100, 1000), np.uint8)
    write(tmp_path, values)
    (tmp_path / X_TRAIN).unlink()
    compressor = zlib.compressobj(9, wbits=31)
    content = compressor.compress(idx(values[X_TRAIN])) + compressor.flush()
    assert values[X_TRAIN].size > 1000 * len(content)
    (tmp_path / gzipped(X_TRAIN)).write_bytes(content)
    check_set(mnist_dataset(tmp_path), values)


@pytest.mark.parametrize("stem", FILES)
def test_images_and_labels_differ_in_number(tmp_path, stem):
    values = small_set()
    values[stem] = values[stem][:-1]
    write(tmp_path, values)
    images, labels = (X_TRAIN, Y_TRAIN) if stem in (X_TRAIN, Y_TRAIN) else (X_TEST, Y_TEST)
    counts = (f"{len(values[images])} images", f"{len(values[labels])} labels")
    refuses(tmp_path, tmp_path / images, str(tmp_path / labels), *counts)


def test_training_and_test_images_differ_in_size(tmp_path):
    values = small_set()
    values[X_TEST] = values[X_TEST].transpose(0, 2, 1)
    write(tmp_path, values)
    refuses(tmp_path, tmp_path / X_TRAIN, str(tmp_path / X_TEST), "7 x 5", "5 x 7")


@pytest.mark.parametrize("most", [26, 46, 255])
def test_sets_of_other_classes(tmp_path, most):
    values = small_set()
    values[Y_TRAIN] = np.arange(300).astype(np.uint8) % most + 1
    values[Y_TEST][:3] = 1, most, 10
    write(tmp_path, values)
    check_set(mnist_dataset(tmp_path), values)
