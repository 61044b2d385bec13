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


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
        outputs: dict of arrays, or `None`.
        error: what the graph said, or `None`.
        exit_code: of the process that answered; below 0: the signal that ended it.
    """

    outputs: dict | None = None
    error: str | None = None
    exit_code: int = 0


def ask(requests, *, apart=False):
    """The answers of SavedModels.

    Args:
        requests: list of `(folder of a SavedModel, signature, inputs)`, inputs a dict
            from names to arrays, tensors or TensorProtos.
        apart: bool; `True`: each request gets a process of its own, and a session that
            is fed as TF Serving feeds it, with no check in Python before the graph.

    Returns:
        list of `Answer`.
    """
    import tensorflow as tf

    lines = [
        json.dumps([str(folder), name, {k: _encode(v) for k, v in inputs.items()}])
        for folder, name, inputs in requests
    ]
    done = subprocess.run(
        [sys.executable, "-I", __file__, str(int(apart))],
        input="\n".join(lines),
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    prefix = "ANSWER "
    found = [
        json.loads(line.removeprefix(prefix))
        for line in done.stdout.splitlines()
        if line.startswith(prefix)
    ]
    if done.returncode or len(found) != len(requests):
        raise RuntimeError(
            f"A process with TensorFlow alone ended with exit code {done.returncode}: "
            f"{done.stderr[-2000:]}"
        )
    answers = []
    for outputs, error, code in found:
        if outputs is not None:
            outputs = {key: _decode(text) for key, text in outputs.items()}
            outputs = {key: tf.make_ndarray(proto) for key, proto in outputs.items()}
        answers.append(Answer(outputs, error, code))
    return answers


def _encode(value):
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    if not isinstance(value, tensor_pb2.TensorProto):
        value = tf.make_tensor_proto(value)
    return base64.b64encode(value.SerializeToString()).decode()


def _decode(text):
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(base64.b64decode(text))


def _main():
    apart = sys.argv[1] == "1"
    sys.modules["keras"] = sys.modules["kfeedback"] = None
    import tensorflow as tf  # before the forks, which then need not wait for it

    load = functools.cache(
        lambda folder: (_session if apart else _functions)(tf, folder)
    )
    for line in sys.stdin:
        request = json.loads(line)
        answer = _forked(load, *request) if apart else _answer(load, *request)
        print("ANSWER " + json.dumps(answer), flush=True)


def _forked(load, *request):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as pipe:
            json.dump(_answer(load, *request), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(text) if code == 0 else [None, None, code]


def _answer(load, folder, signature, inputs):
    run = load(folder)
    try:
        outputs = run(signature, {k: _decode(text) for k, text in inputs.items()})
    except Exception as error:
        return [None, f"{type(error).__name__}: {error}", 0]
    return [{key: _encode(value) for key, value in outputs.items()}, None, 0]


def _functions(tf, folder):
    """Runs the signatures of a SavedModel as functions."""
    signatures = tf.saved_model.load(folder).signatures

    def run(signature, protos):
        inputs = {k: tf.constant(tf.make_ndarray(p)) for k, p in protos.items()}
        return {k: v.numpy() for k, v in signatures[signature](**inputs).items()}

    return run


def _session(tf, folder):
    """Runs them as a server does: feeds and fetches by name, in a session."""
    from tensorflow.core.protobuf import config_pb2

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)

    def run(signature, protos):
        known = meta_graph.signature_def[signature]
        names = sorted(known.outputs)
        options = config_pb2.CallableOptions(
            feed=[known.inputs[name].name for name in protos],
            fetch=[known.outputs[name].name for name in names],
        )
        # Unlike Session.run it leaves shapes and types to the graph.
        call = session._make_callable_from_options(options)
        return dict(
            zip(names, call(*map(tf.make_ndarray, protos.values())), strict=True)
        )

    return run


if __name__ == "__main__":
    _main()
