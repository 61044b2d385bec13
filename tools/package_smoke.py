"""Installs packages in environments of their own and tries them there.

    python -m build
    python -m tools.package_smoke dist/*

Each file gets an empty environment, into which pip fetches what it depends on. The
library is then asked for what a user does first, with no other copy of it in reach.
"""

import pathlib
import subprocess
import sys
import tempfile
import venv

TRIED = """
import keras, kfeedback, numpy as np
images, labels, _ = kfeedback.datasets.load_arrays(
    "mnist_background_images_sample", "test[:200]"
)
trained = kfeedback.load_pretrained("lenet_mnist_bg_sample")
model = kfeedback.LRNet(trained, return_sequences=True)
looks = model.predict(images / 255.0, verbose=0)
right = np.mean(looks[:, -1].argmax(-1) == labels)
assert looks.shape == (200, 2, 10) and right > 0.9, (looks.shape, right)
model.save("model.keras")
again = keras.models.load_model("model.keras").predict(images / 255.0, verbose=0)
assert np.array_equal(again, looks)
path = kfeedback.serving.export(
    model, "served", preprocessing="scale", warmup_batches=()
)
train, info = kfeedback.datasets.load(
    "mnist_background_images_sample", "train[:10]", batch_size=5
)
assert len(list(train)) == 2, info
print(kfeedback.__version__, kfeedback.__file__, f"{right:.3f} right", path)
"""


def main(files):
    """Tries each file; the first failure ends it.

    Args:
        files: paths of wheels and sdists.

    Raises:
        ValueError: if there are none.
        subprocess.CalledProcessError: if one cannot be installed or does not work.
    """
    if not files:
        raise ValueError("files must be wheels or sdists, got none.")
    for file in files:
        file = pathlib.Path(file).resolve()
        with tempfile.TemporaryDirectory() as folder:
            venv.create(folder, with_pip=True)
            python = pathlib.Path(folder, "bin", "python")
            # -I: neither the folder nor PYTHONPATH, where pip would find a checkout
            # installed already, is searched.
            isolated = [python, "-I"]
            install = [*isolated, "-m", "pip", "install", "--quiet", file]
            for command in (install, [*isolated, "-c", TRIED]):
                subprocess.run(command, check=True, cwd=folder)


if __name__ == "__main__":
    main(sys.argv[1:])
