"""Where the weights of torchvision's VGG16 belong in that of Keras."""

import keras

from tools.converters.entries import Entry, hwio, rows_of_flattened, transposed, without


def torchvision_vgg16(model, tensors):
    """Entries and tensors of a state dict of torchvision's VGG16, without batch norm.

    For `keras.applications.VGG16`, whose layers are the same in the same order.
    """
    entries, feature, classifier, flattened = [], 0, 0, None
    for layer in model.layers:
        make = transposed
        if isinstance(layer, keras.layers.Conv2D):
            source, make = f"features.{feature}", hwio
            feature += 2  # a convolution and a ReLU
        elif isinstance(layer, keras.layers.MaxPooling2D):
            feature += 1
            continue
        elif isinstance(layer, keras.layers.Flatten):
            flattened = layer.input.shape[1:]
            continue
        elif isinstance(layer, keras.layers.Dense):
            source = f"classifier.{classifier}"
            if flattened is not None:
                make, flattened = rows_of_flattened(flattened), None
            classifier += 3  # dense, ReLU, dropout
        else:
            continue
        entries.append(Entry((f"{layer.name}/kernel",), (f"{source}.weight",), make))
        entries.append(Entry((f"{layer.name}/bias",), (f"{source}.bias",)))
    return entries, without("torch", tensors)
