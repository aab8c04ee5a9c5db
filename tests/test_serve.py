"""The example of a service, by a real client: nothing lost, nothing wrong under load."""

import hashlib
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers import floats

import fastmlp

EXAMPLES = Path(__file__).parents[1] / "examples"
X = floats(5, (3, 40), np.float32, -3, 1)


@pytest.fixture(scope="module")
def models():
    return [fastmlp.MLP([40, 30, 10], rng=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def client(models, tmp_path_factory):
    """A client of the service, and the file that it serves."""
    path = tmp_path_factory.mktemp("serve") / "model.safetensors"
    models[0].save(path)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", EXAMPLES, "--port", "0", "serve:app"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "MODEL": str(path)}
    with subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if address := re.search(r"running on (http://[\d.:]+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # never full
            with httpx.Client(base_url=address[1], timeout=60) as client:
                yield client, path
        finally:
            process.terminate()


def answer(model):
    """What the service says to X, by a model."""
    probabilities = model.predict_proba(X)
    return {
        "model": hashlib.sha256(model.flat_parameters).hexdigest()[:12],
        "classes": model.predict(X).tolist(),
        "probabilities": probabilities.tolist(),
    }


def ask(client):
    return client.post("/predict", json={"rows": X.tolist()})


def test_nothing_is_lost_or_wrong_while_the_model_is_replaced(client, models):
    client, path = client
    expected = {answer(model)["model"]: answer(model) for model in models}
    saves = 0
    with ThreadPoolExecutor(4) as threads:
        replies = [threads.submit(ask, client) for _ in range(400)]
        while not all(reply.done() for reply in replies):
            models[saves % 2].save(path)
            saves += 1
    for reply in replies:
        assert reply.result().status_code == 200
        assert reply.result().json() == expected[reply.result().json()["model"]]
    assert {reply.result().json()["model"] for reply in replies} == {*expected}
    for model in models:  # when all is calm, the next request has the new one
        model.save(path)
        assert ask(client).json() == answer(model)


def test_a_bad_file_leaves_the_model_in_service(client, models):
    client, path = client
    models[0].save(path)
    assert ask(client).json() == answer(models[0])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert ask(client).json() == answer(models[0])
    description = client.get("/model").json()
    assert description["sizes"] == [40, 30, 10]
    assert description["wrong"].startswith(f"{path}: content: expected 6160 bytes after the")
    path.unlink()
    assert ask(client).json() == answer(models[0])
    models[1].save(path)
    assert ask(client).json() == answer(models[1])
    assert client.get("/model").json()["wrong"] is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0] * 39], "x: expected (samples, ...) with 40 numbers for each sample"),
        ([[1.0] * 39 + [1e300]], "x[0, 39]: expected finite numbers, got inf"),
        ([[1.0] * 40, [1.0]], "inhomogeneous shape"),
        ([], "x: expected (samples, ...) with 40 numbers for each sample"),
        ([["one"] * 40], "unable to parse string as a number"),
    ],
)
def test_what_does_not_fit_is_the_clients_error(client, rows, words):
    reply = client[0].post("/predict", json={"rows": rows})
    assert reply.status_code == 422
    assert words in str(reply.json()["detail"])
