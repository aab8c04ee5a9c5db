"""Models in files: what comes back, what is refused, and what a failed save leaves."""

import hashlib
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy
from helpers import DTYPES, VECTORS, assert_same_bits, floats
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import reference
from fastmlp.files.safetensors import read, write
from fastmlp.model.losses import LOSSES
from fastmlp.plan.ways import STATES

MODELS = [
    ([5, 3], True),
    ([5, 3], False),
    ([7, 5, 3], [False, True]),
    ([4, 9, 1, 8, 2], [True, False, True, True]),
]


def saved(path, model=None):
    model = model or fastmlp.MLP([4, 3, 2], rng=13)
    model.save(path)
    return model


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "bias"), MODELS)
def test_a_model_comes_back_bit_for_bit(tmp_path, sizes, bias, dtype):
    model = reference.MLP(sizes, bias=bias, dtype=dtype, rng=3)
    model.flat_parameters[...] = floats(4, model.flat_parameters.size, dtype)
    model.flat_parameters[:4] = -0.0, np.nextafter(dtype(0), dtype(1)), np.finfo(dtype).max, 0.1
    path = tmp_path / "model.safetensors"
    model.save(path)
    content = path.read_bytes()
    for load, module in ((fastmlp.load, fastmlp), (reference.load, reference)):
        loaded = load(path)
        assert type(loaded) is module.MLP
        assert (loaded.sizes, loaded.bias) == (model.sizes, model.bias)
        assert loaded.dtype is model.dtype
        assert_same_bits(loaded.flat_parameters, model.flat_parameters)
        assert np.shares_memory(loaded.W1, loaded.flat_parameters)
        assert not loaded.flat_gradients.any()
        loaded.save(str(path))
        assert path.read_bytes() == content  # the same from both modules
    assert list(tmp_path.iterdir()) == [path]
    x = floats(5, (6, sizes[0]), dtype)
    assert_same_bits(fastmlp.load(path).predict(x), model.predict(x))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_the_notebooks_model_comes_back_as_itself(tmp_path, module):
    model = module.NotebookMLP(rng=1)
    model.save(tmp_path / "model")
    loaded = module.load(tmp_path / "model")
    assert type(loaded) is module.NotebookMLP
    assert_same_bits(loaded.flat_parameters, model.flat_parameters)


def test_a_file_of_the_first_form_is_read_for_ever():
    """tests/vectors has one that was written when there was no other form."""
    made = reference.MLP([2, 3, 2], bias=[True, False], rng=0, activation="tanh")
    for load in (fastmlp.load, reference.load):
        loaded = load(VECTORS.with_name("model-form-1.safetensors"))
        assert repr(loaded) == repr(made)
        assert_same_bits(loaded.flat_parameters, made.flat_parameters)


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_activations_come_back(tmp_path, module):
    names = ["relu", "tanh", "logistic", "silu", "gelu", "leaky_relu", "identity"]
    sizes, x = [4, *range(5, 12), 3], floats(5, (6, 4), np.float32)
    model = module.MLP(sizes, rng=3, activation=names)
    model.save(tmp_path / "model")
    loaded = module.load(tmp_path / "model")
    assert loaded.activation == tuple(names)
    assert_same_bits(loaded.predict_proba(x), model.predict_proba(x))
    assert read(str(tmp_path / "model"))[0].arithmetic == 2
    rewrite = rewritten(activation=["relu", "os.system", *names[2:]], arithmetic=2)
    (tmp_path / "model").write_bytes(rewrite((tmp_path / "model").read_bytes()))
    with pytest.raises(ValueError, match=r"model: activation: expected .*, got .*os\.system.*; s"):
        module.load(tmp_path / "model")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("module", [fastmlp, reference])
def test_losses_come_back(tmp_path, module, loss):
    delta = 0.1 if loss == "huber" else None
    outputs = 1 if loss == "binary_cross_entropy" else 3
    model = module.MLP([4, 5, outputs], rng=3, loss=loss, delta=delta, dtype=np.float64)
    model.save(tmp_path / "model")
    loaded = module.load(tmp_path / "model")
    assert (loaded.loss_name, loaded.delta) == (loss, delta)
    assert repr(loaded) == repr(model)
    x = floats(5, (6, 4), np.float64)
    assert_same_bits(loaded.predict(x), model.predict(x))
    y = floats(6, (6, outputs), np.float64) if outputs == 3 else np.arange(6) % 2
    y = np.arange(6) % 3 if loss == "cross_entropy" else np.abs(y)
    assert loaded.loss(x, y) == model.loss(x, y)
    damaged = rewritten(loss="hinge")((tmp_path / "model").read_bytes())
    (tmp_path / "model").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"model: loss: expected one of .*, got 'hinge'; save the"):
        module.load(tmp_path / "model")


@pytest.mark.parametrize("optimizer", STATES)
def test_a_training_goes_on_from_a_file(tmp_path, optimizer):
    x, y = floats(5, (30, 4), np.float32, 0, 1), np.arange(30) % 2
    model = fastmlp.MLP([4, 3, 2], rng=13)
    model.fit(x, y, epochs=3, batch_size=8, optimizer=optimizer, rng=1)
    model.save(tmp_path / "model")
    assert fastmlp.load(tmp_path / "model").optimizer_state is None
    model.save(tmp_path / "model", optimizer_state=True)
    loaded = fastmlp.load(tmp_path / "model")
    for one in (model, loaded):
        one.fit(x, y, epochs=2, batch_size=8, optimizer=optimizer, rng=2, resume=True)
    assert_same_bits(loaded.flat_parameters, model.flat_parameters)
    assert loaded.optimizer_state[:2] == model.optimizer_state[:2] == (optimizer, 20)
    assert_same_bits(loaded.optimizer_state.arrays, model.optimizer_state.arrays)
    if optimizer != "sgd":
        model.optimizer_state.arrays[0, 1] = np.inf
        with pytest.raises(ValueError, match=r"optimizer_state: expected finite .*, got inf; pass"):
            model.save(tmp_path / "model", optimizer_state=True)


def test_a_file_is_as_documented(tmp_path):
    """By docs/files.md alone, with the library and without fastmlp."""
    model = saved(tmp_path / "model")
    with safetensors.safe_open(tmp_path / "model", "np") as file:
        arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        (word,) = file.metadata().items()
    assert word[0] == "fastmlp"
    description = json.loads(word[1])
    digest = description.pop("sha256")
    assert description == {
        **{"form": 1, "model": "MLP", "sizes": [4, 3, 2], "bias": [True, True]},
        **{"dtype": "float32", "activation": ["relu"], "loss": "cross_entropy", "arithmetic": 1},
    }
    assert list(arrays) == ["W1", "W2"]
    for name, array in arrays.items():
        assert_same_bits(array, getattr(model, name))
    text = json.dumps(description, sort_keys=True, separators=(",", ":")).encode()
    whole = text + b"".join(array.tobytes() for array in arrays.values())
    assert hashlib.sha256(whole).hexdigest() == digest


def test_an_estimators_words_have_room(tmp_path):
    path = str(tmp_path / "model")
    saved(path)
    described, arrays = read(path)
    described = described._replace(classes=("cat", 7), feature_names=("a", "b", "ü", ""))
    write(path, described, arrays)
    assert read(path)[0]._replace(sha256=None) == described._replace(sha256=None)
    for count in range(32):  # of headers of all lengths: no first byte is taken for a pickle's
        one = described._replace(feature_names=("x" * 8 * count, "b", "c", "d"))
        write(path, one, arrays)
        assert read(path)[0].feature_names == one.feature_names
    write(path, described._replace(classes=("cat",)), arrays)
    with pytest.raises(ValueError, match=r"classes: expected 2 of them beside sizes \[4, 3, 2\], "):
        fastmlp.load(path)
    with pytest.raises(ValueError, match=r"save: expected 8388608 bytes of names, got "):
        write(path, described._replace(feature_names=("x" * (1 << 21),) * 4), arrays)


class Own(fastmlp.MLP):
    pass


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path):
    model = saved(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    model.W2[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"flat_parameters: expected finite .*, got nan; make the"):
        model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"optimizer_state: expected that of a fit, got none; fit"):
        fastmlp.MLP([4, 3, 2]).save(tmp_path / "model", optimizer_state=True)
    with pytest.raises(TypeError, match=r"save: expected an MLP or NotebookMLP, got Own, whose"):
        Own([4, 3, 2]).save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == before


@pytest.mark.parametrize("path", [3, None, b"model", True])
def test_a_path_is_a_path(path):
    for act in (fastmlp.MLP([4, 2]).save, fastmlp.load, reference.load):
        with pytest.raises(TypeError, match=r"path: expected str or os\.PathLike, got .*; pass 'm"):
            act(path)


# Damages: content -> content, and what the error says.


def rewritten(**words):
    """Other words in the description of a file, as if they had been written so."""

    def change(content):
        length = int.from_bytes(content[:8], "little")
        header, arrays = json.loads(content[8 : 8 + length]), content[8 + length :]
        described = json.loads(header["__metadata__"]["fastmlp"]) | words
        described = {key: value for key, value in described.items() if value != "left out"}
        if "sha256" not in words:
            del described["sha256"]
            text = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
            described["sha256"] = hashlib.sha256(text + arrays).hexdigest()
        header["__metadata__"]["fastmlp"] = json.dumps(described)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + arrays

    return change


def with_arrays(change):
    def damage(content):
        arrays = safetensors.numpy.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        change(arrays)
        return safetensors.numpy.save(arrays, metadata)

    return damage


def header(text, length=None):
    return (len(text) if length is None else length).to_bytes(8, "little") + text


def with_nan(content):
    nan = np.float32(np.nan).tobytes()
    return rewritten()(content[:-92] + nan.join([content[-92:-64], content[-60:]]))


DAMAGES = {
    "empty": (lambda content: b"", r"content: expected safetensors, got a file of 0 bytes; get"),
    "seven bytes": (lambda content: content[:7], r"content: expected safetensors, got a file of 7"),
    "in the header": (lambda content: content[:60], r"header: .* in a file of 60; get the file"),
    "in an array": (lambda content: content[:-1], r"content: expected 92 bytes after .*, got 91;"),
    "longer": (lambda content: content + b"\0", r"content: expected 92 bytes after .*, got 93;"),
    "10 GB": (lambda content: header(content, 10**10), r"header: .* shall have 10000000000 b"),
    "2^64 - 1": (lambda content: header(content, 2**64 - 1), r"header: .* shall have 184467440737"),
    "a pickle": (lambda content: pickle.dumps(content), r"content: .* got a pickle; read it by"),
    "of torch": (lambda content: b"PK\x03\x04" + content, r"content: .* got an archive, as t"),
    "no JSON": (lambda content: header(b"{,}"), r"header: expected JSON, got b'\{,\}'; get the"),
    "deep JSON": (lambda content: header(b"[" * 10**5), r"header: expected JSON, got b'\[\[\["),
    "no UTF-8": (lambda content: header(b"\xff\xff"), r"header: expected JSON, got b'\\xff"),
    "a list": (lambda content: header(b"[]"), r"header: expected a JSON object of objects, got \["),
    "not ours": (
        lambda content: safetensors.numpy.save({"weight": np.ones(3)}),
        r"header: expected metadata named 'fastmlp', got one of \['weight'\], which doesn't say of",
    ),
    "a bit of W2": (
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        r"sha256: expected \w+, that of the content, got \w+; get the file again, or save the",
    ),
    "another name": (
        with_arrays(lambda arrays: arrays.update(W3=arrays.pop("W2"))),
        r"header: expected the arrays W1, W2, got \['W1', 'W3'\]; get the file again",
    ),
    "one more": (
        with_arrays(lambda arrays: arrays.update(W3=arrays["W2"])),
        r"header: expected the arrays W1, W2, got \['W1', 'W2', 'W3'\]",
    ),
    "another shape": (
        with_arrays(lambda arrays: arrays.update(W1=arrays["W1"].T.copy())),
        r"W1: expected F32 of shape \(5, 3\), got \('F32', \[3, 5\]\)",
    ),
    "another dtype": (
        with_arrays(lambda arrays: arrays.update(W1=arrays["W1"].astype(np.float64))),
        r"W1: expected F32 of shape \(5, 3\), got \('F64', \[5, 3\]\)",
    ),
    "overlapping": (
        lambda content: content.replace(b"[60,92]", b"[59,91]"),
        r"header: expected one that fits the content, got .*; get the file again",
    ),
    "newer arithmetic": (
        rewritten(arithmetic=3),
        r"arithmetic: expected version 2 or older, got a newer one, 3; pip install --upgrade fast",
    ),
    "newer form": (rewritten(form=2, more=5), r"form: expected version 1 or older, got a newer"),
    "arithmetic of text": (rewritten(arithmetic="2"), r"arithmetic: expected a version, 1 or more"),
    "older arithmetic": (rewritten(arithmetic=2), r"arithmetic: expected 1 for MLP, got 2; save"),
    "unknown word": (rewritten(code="import os"), r"fastmlp: expected the words .*, got 'code'"),
    "no sizes": (rewritten(sizes="left out"), r"fastmlp: expected the words .*, got no sizes"),
    "other sizes": (rewritten(sizes=[4, 2, 2]), r"W1: expected F32 of shape \(5, 2\), got"),
    "no layer": (rewritten(sizes=[4]), r"sizes: expected a list of two or more sizes, 1 or more"),
    "size 0": (rewritten(sizes=[4, 0, 2]), r"sizes: expected a list of two or more sizes, 1 or mo"),
    "all memory": (
        rewritten(sizes=[2**31 - 1] * 3),
        r"W1: expected F32 of shape \(2147483648, 2147483647\), got",
    ),
    "a real size": (rewritten(sizes=[4.0, 3, 2]), r"sizes: expected a list of two or more sizes"),
    "bias": (rewritten(bias=[True]), r"bias: expected 2 of them beside sizes \[4, 3, 2\], got 1"),
    "bias 1": (rewritten(bias=[1, 1]), r"bias: expected a list of true and false, got \[1, 1\]"),
    "dtype": (rewritten(dtype="int8"), r"dtype: expected one of float32, float64, got 'int8'"),
    "model": (rewritten(model="os.system"), r"model: expected one of MLP, NotebookMLP, got 'os.sy"),
    "its model": (rewritten(model="NotebookMLP"), r"sizes: expected \(784, 100, 10\) for Note"),
    "activations": (rewritten(activation=[]), r"activation: expected 1 of them beside sizes"),
    "optimizer": (rewritten(optimizer=["lion", 1]), r"optimizer: expected the name of an optimiz"),
    "its step": (rewritten(optimizer=["adam", -1]), r"optimizer: expected the name of an optimize"),
    "no state": (rewritten(optimizer=["adam", 1]), r"header: expected the arrays W1, W2, optimi"),
    "no delta": (rewritten(delta=float("nan")), r"delta: expected a finite number above 0, got na"),
    "large delta": (rewritten(delta=10**400), r"delta: expected a finite number above 0, got 1000"),
    "a digest": (rewritten(sha256="0"), r"sha256: expected \w+, that of the content, got 0; get"),
    "NaN": (with_nan, r"W1\[2, 1\]: expected finite numbers, got nan; save the model anew"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("load", [fastmlp.load, reference.load])
def test_a_bad_file_is_one_line(tmp_path, damage, load):
    path = tmp_path / "model.safetensors"
    saved(path)
    change, words = damage
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {words}") as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < len(str(path)) + 400


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opened, it would wait for a writer
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe", "a device, a pipe or a socket")):
        with pytest.raises(ValueError, match=f"expected a file, got {what}; pass the path of a"):
            fastmlp.load(path)
        with pytest.raises(ValueError, match=f"expected the place of a file, got .*{what}; pass"):
            saved(path)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    with pytest.raises(FileNotFoundError):
        fastmlp.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        saved(tmp_path / "none" / "model")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model"
    model = saved(path, reference.MLP([4, 3, 3, 3], rng=13))
    return path, model, path.read_bytes()


@st.composite
def damaged(draw, content):
    """Some bytes changed, cut out, put in or moved."""
    parts = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(parts)))
        stop = min(len(parts), start + draw(st.integers(1, 40)))
        part = bytes(parts[start:stop])
        kind = draw(st.sampled_from(["flip", "digit", "cut", "put", "move"]))
        if kind == "flip":
            parts[start : start + 1] = bytes(byte ^ draw(st.integers(1, 255)) for byte in part[:1])
        elif kind == "digit":
            digits = [place for place, byte in enumerate(parts) if chr(byte).isdigit()]
            parts[draw(st.sampled_from(digits or [0]))] = ord(draw(st.sampled_from("0123456789-.")))
        elif kind == "cut":
            del parts[start:stop]
        else:
            if kind == "move":
                del parts[start:stop]
            place = draw(st.integers(0, len(parts)))
            parts[place:place] = part if kind == "move" else draw(st.binary(max_size=9))
    return bytes(parts)


def loaded_or_error(path):
    try:
        return reference.load(path)
    except ValueError as error:
        return error


# By hand, DAMAGED_FILES=10000.
@settings(max_examples=int(os.environ.get("DAMAGED_FILES", "300")), deadline=None)
@given(data=st.data())
def test_no_damaged_file_is_a_wrong_model(sound, data):
    path, model, content = sound
    other = path.with_name("damaged")
    other.write_bytes(data.draw(damaged(content)))
    outcome = loaded_or_error(other)
    if isinstance(outcome, ValueError):
        assert re.fullmatch(f"{re.escape(str(other))}: .*; .*", str(outcome))  # . is no line's end
    else:
        assert_same_bits(outcome.flat_parameters, model.flat_parameters)
        assert repr(outcome) == repr(model)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model"
    saved(path)
    content = path.read_bytes()
    code = (
        "import resource, sys\n"
        "from fastmlp import reference\n"
        "model = reference.MLP([40, 30, 20])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try: model.save(sys.argv[1])\n"
        "except OSError as error: print(type(error), error)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=100
    )
    assert "File too large" in process.stdout
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_whole_at_any_time(tmp_path, monkeypatch):
    """While two models replace each other, and where the process dies before the end."""
    path = tmp_path / "model"
    models = [saved(path, reference.MLP([40, 30, 2], rng=seed)) for seed in (1, 2)]
    over = threading.Event()

    def write():
        while not over.is_set():
            for model in models:
                model.save(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        loaded = [reference.load(path).flat_parameters.tobytes() for _ in range(100)]
    finally:
        over.set()
        writer.join()
    assert {*loaded} == {model.flat_parameters.tobytes() for model in models}

    def dies(*_):
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, dies)
            with pytest.raises(KeyboardInterrupt):
                models[0].save(path)
        assert list(tmp_path.iterdir()) == [path]
        assert_same_bits(reference.load(path).flat_parameters, models[1].flat_parameters)


def test_links_and_permissions_stay(tmp_path):
    (tmp_path / "models").mkdir()
    target, link = tmp_path / "models" / "third", tmp_path / "model"
    link.symlink_to(target)
    saved(link)
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert target.stat().st_mode == plain.stat().st_mode
    target.chmod(0o640)
    model = saved(link, fastmlp.MLP([4, 3, 2], rng=14))
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert_same_bits(fastmlp.load(target).flat_parameters, model.flat_parameters)
