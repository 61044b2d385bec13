"""From a model to files that serve it: SavedModels for TF Serving, LiteRT and ONNX.

Both functions need the TensorFlow backend and import it when called.
"""

import keras

__all__ = ["export", "export_file"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "KERAS_BACKEND must be tensorflow for kfeedback.serving, which also takes "
            f"a .keras file of another backend, got {keras.backend.backend()}."
        )
    if name == "export":
        from kfeedback.serving._export import export

        return export
    from kfeedback.serving.files import export_file

    return export_file
