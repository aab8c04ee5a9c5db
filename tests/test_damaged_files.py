"""Damaged files of models: one line that says what is wrong, and never a wrong model."""

import hashlib
import json
import os
import pickle
import re

import numpy as np
import pytest
import safetensors.numpy
from helpers import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import reference


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


# content -> content, and what the error says.
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
    "a table": (lambda content: b"a,b,c\n1,2,3\n", r"content: .* got text, b'a,b,c.*; pass the"),
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
    "unknown activation": (
        rewritten(activation=["os.system"], arithmetic=2),
        r"activation: expected .*, got .*os\.system.*; save the model anew",
    ),
    "unknown loss": (rewritten(loss="hinge"), r"loss: expected one of .*, got 'hinge'; save the"),
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
    fastmlp.MLP([4, 3, 2], rng=13).save(path)
    change, words = damage
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {words}") as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < len(str(path)) + 400


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model"
    model = reference.MLP([4, 3, 3, 3], rng=13)
    model.save(path)
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
