"""Models in files: what comes back, what is refused, and what a failed save leaves."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors
from helpers import DTYPES, VECTORS, assert_same_bits, floats

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
