"""The clients, against a server that speaks as TF Serving does."""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import kfeedback
from applications.common import tf_serving
from applications.common.bare_process import ask
from tests.applications.command import run_alone, run_each
from tests.serving.common import lenet, make, tiny
from tests.serving.images import encode

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
ROOT = pathlib.Path(__file__).parents[2]
STAND_IN = pathlib.Path(__file__).with_name("stand_in_server.py")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)).astype("float32")
FILES = [encode(x[..., 0].astype("uint8"), "PNG") for x in IMAGES]


def test_rest_requests_hold_rows_and_bytes():
    body = json.loads(tf_serving.rest_body("timesteps", {"images": IMAGES[:0]}))
    assert body == {"signature_name": "timesteps", "inputs": {"images": []}}
    body = json.loads(tf_serving.rest_body("serving_default", {"images": IMAGES}))
    np.testing.assert_array_equal(np.array(body["inputs"]["images"]), IMAGES)
    encoded = np.array([b"\x00\xff", b"cat\x00"], dtype=object)
    body = json.loads(tf_serving.rest_body("image_bytes", {"image_bytes": encoded}))
    rows = body["inputs"]["image_bytes"]
    assert [base64.b64decode(row["b64"]) for row in rows] == encoded.tolist()
    with pytest.raises(ValueError, match="images must be finite numbers"):
        tf_serving.rest_body("serving_default", {"images": np.full((1, 2), np.nan)})


def test_grpc_requests_are_those_of_the_official_protos():
    pytest.importorskip("tensorflow_serving")
    import tensorflow as tf

    request = tf_serving.grpc_request("m", "image_bytes", {"image_bytes": FILES}, 3)
    assert request.model_spec.name == "m" and request.model_spec.version.value == 3
    assert request.model_spec.signature_name == "image_bytes"
    found = tf.make_ndarray(request.inputs["image_bytes"])
    assert found.tolist() == FILES
    request = tf_serving.grpc_request("m", "serving_default", {"images": IMAGES})
    assert not request.model_spec.HasField("version")
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["images"]), IMAGES)


def test_refuses_flags_in_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "a.png").write_bytes(FILES[0])
    npy, png = tmp_path / "a.npy", tmp_path / "a.png"
    cases = {
        "--model must be given": [f"--images={npy}"],
        "--images must be given, got none": ["--model=m"],
        "--images must be files, got nothing.png": [
            "--model=m",
            "--images=nothing.png",
        ],
        "--images must be one .npy file": ["--model=m", f"--images={npy},{npy}"],
        "--signature must be left out with image files": [
            *("--model=m", "--signature=timesteps", f"--images={png}"),
        ],
        "<urlopen error": [
            *("--model=m", f"--images={png}", "--server=http://127.0.0.1:9"),
        ],
    }
    for (code, output), start in zip(
        run_each("applications.client", list(cases.values())), cases, strict=True
    ):
        assert code == 1, output
        assert output.splitlines()[-1].startswith(f"error: {start}"), output


@contextlib.contextmanager
def stand_in(base, rest, grpc):
    command = [sys.executable, str(STAND_IN), f"--port={grpc}"]
    command += [f"--rest_api_port={rest}", f"--model_name={base.name}"]
    with subprocess.Popen([*command, f"--model_base_path={base}"]) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    base = tmp_path_factory.mktemp("served") / "all digits"
    model = make(kfeedback.LRNet, backbone=lenet(), timesteps=2, return_sequences=True)
    names = ["null", "eins", "zwei", "drei"]
    model.serving_endpoints = lambda: {"mean": lambda x: {"mean": x[:, 0, 0, 0]}}
    kfeedback.serving.export(
        model, base, preprocessing="scale", class_names=names, warmup_batches=()
    )
    return base


@pytest.fixture(scope="module")
def server(served):
    """`(REST address, gRPC address)`."""
    pytest.importorskip("tensorflow_serving")
    from tools.serving_smoke import free_ports

    rest, grpc = free_ports(2)
    with stand_in(served, rest, grpc) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                inputs = {"images": IMAGES}
                url = f"http://127.0.0.1:{rest}"
                tf_serving.ask_rest(url, "all digits", "serving_default", inputs)
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "signature, inputs",
    [
        ("serving_default", {"images": IMAGES}),
        ("timesteps", {"images": IMAGES[:1]}),
        ("early_exit", {"images": IMAGES}),
        ("image_bytes", {"image_bytes": np.array(FILES, dtype=object)}),
    ],
)
def test_both_clients_get_what_the_model_answers(served, server, signature, inputs):
    rest, grpc = server
    (wanted,) = ask([(served / "1", signature, inputs)])
    for found in (
        tf_serving.ask_rest(rest, "all digits", signature, inputs),
        tf_serving.ask_grpc(grpc, "all digits", signature, inputs, version=1),
    ):
        assert set(found) == set(wanted.outputs)
        for key, value in wanted.outputs.items():
            if value.dtype == object:
                value = np.char.decode(value.astype(bytes))
                assert found[key].tolist() == value.tolist()
            else:
                np.testing.assert_allclose(found[key], value, rtol=1e-6)


@pytest.mark.slow
def test_rest_does_not_say_the_name_of_an_only_output(server):
    rest, grpc = server
    request = ("all digits", "mean", {"images": IMAGES})
    wanted = IMAGES[:, 0, 0, 0] / 255
    for ask_server, address, name in (
        (tf_serving.ask_rest, rest, "outputs"),
        (tf_serving.ask_grpc, grpc, "mean"),
    ):
        found = ask_server(address, *request)
        assert list(found) == [name]
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6)


@pytest.mark.slow
def test_only_grpc_can_say_of_what_shape_an_empty_batch_is(server):
    rest, grpc = server
    request = ("all digits", "serving_default", {"images": IMAGES[:0]})
    assert tf_serving.ask_grpc(grpc, *request)["probabilities"].shape == (0, 4)
    with pytest.raises(ValueError, match="not compatible with expected shape"):
        tf_serving.ask_rest(rest, *request)


@pytest.mark.slow
def test_both_clients_say_what_the_server_says(server):
    rest, grpc = server
    for ask_server, address in (
        (tf_serving.ask_rest, rest),
        (tf_serving.ask_grpc, grpc),
    ):
        for model, version, images, reason in (
            ("all digits", None, IMAGES[0], "not compatible with expected shape"),
            ("all digits", 7, IMAGES, "Servable not found"),
            ("letters", None, IMAGES, "Servable not found"),
        ):
            with pytest.raises(ValueError, match=reason):
                inputs = {"images": images}
                ask_server(address, model, "serving_default", inputs, version)


@pytest.mark.slow
def test_the_application_prints_a_line_an_image(server, tmp_path):
    rest, grpc = server
    for n, file in enumerate(FILES):
        (tmp_path / f"{n}.png").write_bytes(file)
    np.save(tmp_path / "all.npy", IMAGES)
    images = ",".join(str(tmp_path / f"{n}.png") for n in range(3))
    by_rest = run_alone(
        "applications.client",
        *("--model=all digits", f"--server={rest}", f"--images={images}"),
    ).splitlines()
    by_grpc = run_alone(
        "applications.client",
        *("--model=all digits", f"--server={grpc}", "--protocol=grpc"),
        *(f"--images={tmp_path / 'all.npy'}", "--signature=early_exit"),
    ).splitlines()
    assert len(by_rest) == len(by_grpc) == 3
    assert by_rest[0].startswith(f"{tmp_path / '0.png'}: ")
    assert all("eins 0." in line and "zwei 0." in line for line in by_rest + by_grpc)
    assert all("; timesteps " in line for line in by_grpc)


@pytest.mark.parametrize(
    "good, wrong",
    [(np.nan, "expected shape"), (None, "expected shape"), (0.5, "out of memory")],
)
def test_smoke_ends_with_an_error_unless_all_is_well(good, wrong):
    pytest.importorskip("tensorflow_serving")
    from tools.serving_smoke import check

    outputs = None if good is None else {"mean": np.array([good], "float32")}
    with pytest.raises(ValueError, match="--base_dir must answer"):
        check([("mean", outputs, "failed"), ("serving_default", None, wrong)])
    mean = {"mean": np.zeros(1, "float32")}
    check([("mean", mean, None), ("serving_default", None, "expected shape [?]")])


@pytest.mark.slow
@pytest.mark.parametrize("with_server", [True, False])
def test_smoke_says_which_of_the_two_it_did(tmp_path, with_server):
    pytest.importorskip("tensorflow_serving")
    kfeedback.serving.export(tiny(), tmp_path / "tiny", preprocessing="scale")
    path = os.environ["PATH"]
    if with_server:
        file = tmp_path / "tensorflow_model_server"
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        file.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{path}"
    output = run_alone(
        "tools.serving_smoke", f"--base_dir={tmp_path / 'tiny'}", PATH=path
    )
    first, *lines = output.splitlines()
    if with_server:
        assert first.startswith("asked tensorflow_model_server (")
    else:
        assert first.startswith("no tensorflow_model_server on the PATH; asked the")
    assert [line.split(":")[0].strip() for line in lines] == [
        *("serving_default", "serving_default", "image_bytes", "image_bytes"),
        "serving_default",
    ]
    assert "expected shape [?,4,4,1]" in lines[-1]
    assert sum("'probabilities': (8, 3)" in line for line in lines) == 2
    assert not any(line.endswith("not finite") for line in lines)
