"""The recurrent convolutional layer of RCNN."""

from tests.reference.operations import conv2d, lrn, relu


def rcl(u, kernel, recurrent_kernel, bias, iterations, size, alpha, beta):
    """The recurrent convolutional layer of Liang and Hu, eq. (1) to (3), with ReLU."""
    feedforward = conv2d(u, kernel, bias, "same")
    x = lrn(relu(feedforward), size, alpha, beta, 1.0)
    for _ in range(iterations):
        state = feedforward + conv2d(x, recurrent_kernel, 0.0, "same")
        x = lrn(relu(state), size, alpha, beta, 1.0)
    return x
