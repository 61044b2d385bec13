"""Answers requests as TF Serving does: fed by name in a session, with no check before.

`bare_process.ask` runs it. Each request gets a process of its own, which it may end.
"""

import json
import os

import tensorflow as tf  # before the forks, which then need not wait for it
from tensorflow.core.protobuf import config_pb2

from applications.common.bare_process import answer_all, decode, encode

PROGRAM = ("-m", "tests.serving.session")
ENDED = "the process ended with exit code"


def load(folder):
    return lambda signature, protos: forked(folder, signature, protos)


def forked(*request):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as pipe:
            json.dump(answer(*request), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise RuntimeError(f"{ENDED} {code}")
    outputs, error = json.loads(text)
    if error:
        raise ValueError(error)
    return {name: decode(value) for name, value in outputs.items()}


def answer(*request):
    try:
        return {name: encode(value) for name, value in run(*request).items()}, None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def run(folder, signature, protos):
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    known = meta_graph.signature_def[signature]
    names = sorted(known.outputs)
    options = config_pb2.CallableOptions(
        feed=[known.inputs[name].name for name in protos],
        fetch=[known.outputs[name].name for name in names],
    )
    # Unlike Session.run it leaves shapes and types to the graph.
    call = session._make_callable_from_options(options)
    return dict(zip(names, call(*map(tf.make_ndarray, protos.values())), strict=True))


if __name__ == "__main__":
    answer_all(load)
