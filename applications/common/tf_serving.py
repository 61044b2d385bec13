"""Requests to TF Serving, by REST and by gRPC, and what it answers."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

SECONDS = 60.0  # until a server that says nothing is given up


def rest_body(signature, inputs):
    """The JSON of a predict request.

    Args:
        signature: name of the endpoint.
        inputs: `{name: array}`, one input; bytes in an array of objects.

    Returns:
        bytes.
    """
    ((name, values),) = inputs.items()
    values = np.asarray(values)
    if values.dtype == object:
        rows = [{"b64": base64.b64encode(value).decode()} for value in values]
    else:
        rows = values.tolist()
    # In columns: an empty batch and several outputs look as any other.
    request = {"signature_name": signature, "inputs": {name: rows}}
    try:
        return json.dumps(request, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError(
            f"{name} must be finite numbers, as JSON has no others, got {error}."
        ) from error


def ask_rest(url, model, signature, inputs, version=None):
    """What a server answers by REST: dict of arrays.

    An only output is called `outputs`: TF Serving leaves out its own name.

    Args:
        url: of the server, such as `http://localhost:8501`.
        model: name of the model.
        signature, inputs: as `rest_body`.
        version: int, or `None` for the latest.

    Raises:
        ValueError: with what the server says is wrong with the request.
        OSError: if there is no server.
    """
    of_version = "" if version is None else f"/versions/{version}"
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/models/{urllib.parse.quote(model)}{of_version}:predict",
        data=rest_body(signature, inputs),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            outputs = json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        raise ValueError(
            "request must be one that the model can answer, got status "
            f"{error.code}: {error.read().decode(errors='replace')}"
        ) from error
    if not isinstance(outputs, dict):
        outputs = {"outputs": outputs}
    return {name: np.asarray(value) for name, value in outputs.items()}


def grpc_request(model, signature, inputs, version=None):
    """The `PredictRequest` of a model, arguments as `ask_rest`."""
    import tensorflow as tf

    predict_pb2, _ = _protos()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def ask_grpc(address, model, signature, inputs, version=None):
    """What a server answers by gRPC: dict of arrays.

    Args:
        address: of the server, such as `localhost:8500`.
        model, signature, inputs, version: as `ask_rest`.

    Raises:
        ValueError: with what the server says is wrong, or that there is none.
        ImportError: if `tensorflow-serving-api` is missing.
    """
    _, service = _protos()
    import grpc

    request = grpc_request(model, signature, inputs, version)
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=unlimited) as channel:
        stub = service.PredictionServiceStub(channel)
        try:
            response = stub.Predict(request, timeout=SECONDS)
        except grpc.RpcError as error:
            raise ValueError(
                "request must be one that the model can answer, got "
                f"{error.code().name}: {error.details()}"
            ) from error
    return outputs_of(response)


def outputs_of(response):
    """The arrays of a `PredictResponse`; text as `str`, as by REST."""
    import tensorflow as tf

    arrays = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    return {
        name: np.char.decode(value.astype(bytes)) if value.dtype == object else value
        for name, value in arrays.items()
    }


def _protos():
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise ImportError(f"gRPC needs pip install kfeedback[serving]: {error}") from (
            error
        )
    return predict_pb2, prediction_service_pb2_grpc
