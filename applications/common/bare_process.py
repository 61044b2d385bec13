"""Asks SavedModels in a process that has TensorFlow and nothing else of ours.

`ask` starts this very file by `python -I`, with keras and kfeedback blocked.
"""

import base64
import dataclasses
import functools
import json
import os
import subprocess
import sys

_PREFIX = "ANSWER "


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
        outputs: dict of arrays, or `None`.
        error: what the graph said, or `None`.
    """

    outputs: dict | None
    error: str | None


def ask(requests, program=("-I", __file__)):
    """The answers of SavedModels.

    Args:
        requests: list of `(folder of a SavedModel, signature, inputs)`, inputs a dict
            from names to arrays, tensors or TensorProtos.
        program: arguments of Python that start what answers, by `answer_all`.

    Returns:
        list of `Answer`.
    """
    import tensorflow as tf

    lines = [
        json.dumps([str(folder), name, {k: encode(v) for k, v in inputs.items()}])
        for folder, name, inputs in requests
    ]
    done = subprocess.run(
        [sys.executable, *program],
        input="\n".join(lines),
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [
        json.loads(line.removeprefix(_PREFIX))
        for line in done.stdout.splitlines()
        if line.startswith(_PREFIX)
    ]
    if done.returncode or len(found) != len(requests):
        raise RuntimeError(
            f"A process with TensorFlow alone ended with exit code {done.returncode}: "
            f"{done.stderr[-2000:]}"
        )
    answers = []
    for outputs, error in found:
        if outputs is not None:
            outputs = {k: tf.make_ndarray(decode(v)) for k, v in outputs.items()}
        answers.append(Answer(outputs, error))
    return answers


def encode(value):
    """An array, a tensor or a TensorProto as text."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    if not isinstance(value, tensor_pb2.TensorProto):
        value = tf.make_tensor_proto(value)
    return base64.b64encode(value.SerializeToString()).decode()


def decode(text):
    """The TensorProto of a text."""
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(base64.b64decode(text))


def answer_all(load):
    """Answers the requests that `ask` writes to this process.

    Args:
        load: function of the folder of a SavedModel that gives a function of
            `(signature, {name: TensorProto})`, which gives a dict of arrays or raises.
    """
    load = functools.cache(load)
    for line in sys.stdin:
        folder, signature, inputs = json.loads(line)
        run = load(folder)
        try:
            outputs = run(signature, {k: decode(text) for k, text in inputs.items()})
            answer = [{key: encode(value) for key, value in outputs.items()}, None]
        except Exception as error:
            answer = [None, f"{type(error).__name__}: {error}"]
        print(_PREFIX + json.dumps(answer), flush=True)


def _load(folder):
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures

    def run(signature, protos):
        inputs = {k: tf.constant(tf.make_ndarray(p)) for k, p in protos.items()}
        return {k: v.numpy() for k, v in signatures[signature](**inputs).items()}

    return run


if __name__ == "__main__":
    sys.modules["keras"] = sys.modules["kfeedback"] = None
    answer_all(_load)
