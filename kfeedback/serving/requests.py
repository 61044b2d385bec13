"""Requests that show what an endpoint takes, as tensors and as TF Serving's protos."""

import warnings

import numpy as np
import tensorflow as tf

from kfeedback import checks

WARMUP_FILE = "tf_serving_warmup_requests"
_MOST = 1000  # TF Serving refuses a file with more
_SIDE = 64  # of images for a model that takes any size


def example(spec, shape, pixels, batch):
    """A request of random images.

    Args:
        spec: `tf.TensorSpec` of the endpoint's input.
        shape: `(H, W, C)` of the model's images.
        pixels: bool, whether images are from 0 to 255, else from -1 to 1.
        batch: int, how many images, the same each time.

    Returns:
        a tensor; for encoded images PNG and JPEG files in turn.
    """
    random = np.random.default_rng([0, batch])
    height, width, channels = (n or _SIDE for n in shape)
    if spec.dtype == tf.string:
        # Of another size than the model's.
        size = (batch, height + 3, width + 5, channels)
        images = tf.constant(random.integers(0, 256, size), tf.uint8)
        encoders = (tf.io.encode_png, tf.io.encode_jpeg)
        return tf.stack([encoders[n % 2](image) for n, image in enumerate(images)])
    size = (batch, height, width, channels)
    if pixels:
        return tf.constant(random.integers(0, 256, size), tf.float32)
    return tf.constant(random.uniform(-1, 1, size), tf.float32)


def check_batches(batches):
    """Those of `warmup_batches` that can be written: none without a package.

    A warning of one line then says what is left out.
    """
    if not isinstance(batches, (list, tuple)):
        raise TypeError(f"warmup_batches must be a list of sizes, got {batches!r}.")
    for batch in batches:
        checks.integer("warmup_batches", batch)
    if batches:
        try:
            _protos()
        except ImportError:
            warnings.warn(
                "Requests for warming up are left out, as tensorflow-serving-api is "
                "missing; `pip install kfeedback[serving]` brings it.",
                stacklevel=3,
            )
            return ()
    return batches


def write(path, model_name, endpoints, shape, pixels, batches):
    """Writes requests as TF Serving reads them before it serves a version.

    Args:
        path: of the file, `assets.extra/tf_serving_warmup_requests`.
        model_name: what TF Serving calls the model.
        endpoints: list of `Endpoint`.
        shape: `(H, W, C)` of the model's images.
        pixels: bool, as `example`.
        batches: batch sizes, one request each for every endpoint.
    """
    if len(endpoints) * len(batches) > _MOST:
        raise ValueError(
            f"warmup_batches must make at most {_MOST} requests, got {len(batches)} "
            f"batch sizes for {len(endpoints)} endpoints."
        )
    predict_pb2, prediction_log_pb2 = _protos()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for endpoint in endpoints:
            for batch in batches:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = endpoint.name
                tensor = example(endpoint.spec, shape, pixels, batch)
                request.inputs[endpoint.spec.name].CopyFrom(
                    tf.make_tensor_proto(tensor)
                )
                log = prediction_log_pb2.PredictLog(request=request)
                record = prediction_log_pb2.PredictionLog(predict_log=log)
                writer.write(record.SerializeToString())


def _protos():
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    return predict_pb2, prediction_log_pb2
