"""Loads saved models in a process that never built them, for `tests.model_checks`.

Reads one JSON object a line, `{"model": path, "inputs": npz, "outputs": npz}`, and
answers each with one line that starts with `ANSWER`.
"""

import contextlib
import json
import sys
import traceback

PREFIX = "ANSWER "


def answer(request):
    import keras
    import numpy as np

    import kfeedback  # noqa: F401  (registers the layers)

    keras.backend.clear_session(free_memory=False)
    model = keras.models.load_model(request["model"])
    with np.load(request["inputs"]) as file:
        inputs = [file[key] for key in sorted(file.files)]
    result = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    np.savez(request["outputs"], keras.ops.convert_to_numpy(result).astype("float32"))


def main():
    for line in sys.stdin:
        try:
            answer(json.loads(line))
            reply = {"ok": True}
        except Exception:
            reply = {"ok": False, "error": traceback.format_exc()}
        print(PREFIX + json.dumps(reply), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # of whoever started it
        main()
