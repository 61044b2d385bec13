"""A stand-in for `tensorflow_model_server`: its flags, its gRPC service, its REST.

What it shows is that the clients speak the protocols; that TF Serving itself takes the
requests only TF Serving can show.
"""

import argparse
import base64
import http.server
import json
import pathlib
import sys
import urllib.parse
from concurrent import futures


class Model:
    def __init__(self, name, base):
        import tensorflow as tf

        self.name = name
        folders = [path for path in pathlib.Path(base).iterdir() if path.name.isdigit()]
        latest = max(folders, key=lambda path: int(path.name))
        self.version = int(latest.name)
        self._signatures = tf.saved_model.load(str(latest)).signatures
        self._tf = tf

    def predict(self, name, version, signature, inputs):
        """Outputs as tensors; raises a ValueError as the server would refuse."""
        if name != self.name or version not in (None, self.version):
            raise ValueError(f"Servable not found for request: {name}, {version}")
        try:
            inputs = {k: self._tf.constant(v) for k, v in inputs.items()}
            return self._signatures[signature](**inputs)
        except Exception as error:
            raise ValueError(str(error)) from error


def grpc_service(model):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            spec = request.model_spec
            version = spec.version.value if spec.HasField("version") else None
            arrays = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            try:
                outputs = model.predict(spec.name, version, spec.signature_name, arrays)
            except ValueError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            response = predict_pb2.PredictResponse(model_spec=spec)
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Service(), server
    )
    return server


def rest_handler(model):
    import numpy as np

    def decoded(value):
        if isinstance(value, dict):
            return base64.b64decode(value["b64"], validate=True)
        return [decoded(x) for x in value] if isinstance(value, list) else value

    def listed(array):
        value = array.numpy()
        if value.dtype == object:
            value = np.char.decode(value.astype(bytes))
        return value.tolist()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state = {"version": str(model.version), "state": "AVAILABLE"}
            self.reply(200, {"model_version_status": [state]})

        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"]))
            path, _, verb = urllib.parse.unquote(self.path).partition(":")
            parts = path.split("/")
            request = json.loads(text)
            try:
                if parts[:3] != ["", "v1", "models"] or verb != "predict":
                    raise ValueError(f"Malformed request: {self.path}")
                version = int(parts[5]) if parts[4:5] == ["versions"] else None
                inputs = {
                    k: np.array(
                        decoded(v), dtype="float32" if k == "images" else object
                    )
                    for k, v in request["inputs"].items()
                }
                signature = request.get("signature_name", "serving_default")
                outputs = model.predict(parts[3], version, signature, inputs)
            except ValueError as error:
                self.reply(400, {"error": str(error)})
            else:
                found = {key: listed(value) for key, value in outputs.items()}
                # As TF Serving: without the name of an only one.
                known = next(iter(found.values())) if len(found) == 1 else found
                self.reply(200, {"outputs": known})

        def reply(self, status, value):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--rest_api_port", type=int)
    parser.add_argument("--model_name")
    parser.add_argument("--model_base_path")
    flags = parser.parse_args()
    sys.modules["keras"] = sys.modules["kfeedback"] = None
    model = Model(flags.model_name, flags.model_base_path)
    server = grpc_service(model)
    server.add_insecure_port(f"127.0.0.1:{flags.port}")
    server.start()
    address = ("127.0.0.1", flags.rest_api_port)
    http.server.ThreadingHTTPServer(address, rest_handler(model)).serve_forever()


if __name__ == "__main__":
    main()
