"""A service that predicts, and takes a new model while it runs: no request is lost meanwhile.

    pip install '.[serve]'  # in a checkout
    MODEL=model.safetensors uvicorn --app-dir examples serve:app    # --workers 2: more processes
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"rows": [[0.5, 1, 2, 3]]}'

`model.save` replaces the file at once. The next request loads it, while others are answered by the
model before. A file that can't be loaded leaves that model in service.
"""

import hashlib
import os
import threading

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import fastmlp


class Rows(BaseModel):
    rows: list[list[float]]


class Newest:
    """The newest model of a file that could be loaded."""

    def __init__(self, path):
        self.path, self.lock, self.seen, self.wrong = path, threading.Lock(), self.stamp(path), None
        self.served = self.load()

    @staticmethod
    def stamp(path):
        file = os.stat(path)
        return file.st_ino, file.st_mtime_ns, file.st_size

    def load(self):
        model = fastmlp.load(self.path)
        model.predict_proba(np.zeros((1, model.sizes[0]), model.dtype))  # loads what is compiled
        return model, hashlib.sha256(model.flat_parameters).hexdigest()[:12]

    def get(self):
        """Return the model and its version, both of one file."""
        if self.lock.acquire(blocking=False):  # else another request is at it
            try:
                if (stamp := self.stamp(self.path)) != self.seen:
                    self.seen = stamp  # of before loading: a newer file is found the next time
                    self.served, self.wrong = self.load(), None
            except (OSError, ValueError) as error:
                self.wrong = str(error)
            finally:
                self.lock.release()
        return self.served


newest = Newest(os.environ.get("MODEL", "model.safetensors"))
app = FastAPI()


@app.post("/predict")
def predict(body: Rows):  # not async: each request has a thread, and predict holds no lock
    model, version = newest.get()
    try:
        probabilities = model.predict_proba(np.array(body.rows, model.dtype))
    except (TypeError, ValueError) as error:
        raise HTTPException(422, str(error)) from None
    classes = np.argmax(probabilities, axis=1)
    return {"model": version, "classes": classes.tolist(), "probabilities": probabilities.tolist()}


@app.get("/model")
def describe():
    model, version = newest.get()
    return {"model": version, "sizes": model.sizes, "wrong": newest.wrong}
