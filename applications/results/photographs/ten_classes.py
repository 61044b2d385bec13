"""Makes an ImageNet network one of Imagenette's ten classes and of 112 pixels.

    python applications/results/photographs/ten_classes.py squeezenet.keras ten.keras

The last convolution keeps the kernels of these ten classes, in the order of the labels
of Imagenette's folders; all else stays as it is.
"""

import sys

import keras

from kfeedback import layers  # noqa: F401  (registers what the network pools with)

# English_springer, French_horn, cassette_player, chain_saw, church, garbage_truck,
# gas_pump, golf_ball, parachute, tench.
CLASSES = [217, 566, 482, 491, 497, 569, 571, 574, 701, 0]
SIZE = 112


def main(source, target):
    """Loads, cuts, saves."""
    network = keras.models.load_model(source)
    config = network.get_config()
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"] = [None, SIZE, SIZE, 3]
        if layer["name"] == "conv10":
            layer["config"]["filters"] = len(CLASSES)
    small = keras.Model.from_config(config)
    for layer in small.layers:
        tensors = network.get_layer(layer.name).get_weights()
        if layer.name == "conv10":
            tensors = [tensor[..., CLASSES] for tensor in tensors]
        layer.set_weights(tensors)
    small.save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
