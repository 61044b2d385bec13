"""The equations of the papers in NumPy and float64, written for reading, not speed."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def relu(x):
    return np.maximum(x, 0.0)


def conv2d(x, kernel, bias=0.0, padding="valid", stride=1):
    """`x` is `(B, H, W, C)`, `kernel` is `(h, w, C, filters)`, 'same' is Keras'."""
    x, kernel = np.asarray(x, "float64"), np.asarray(kernel, "float64")
    height, width = kernel.shape[:2]
    if padding == "same":
        x = np.pad(
            x,
            ((0, 0), *map(_same, x.shape[1:3], (height, width), [stride] * 2), (0, 0)),
        )
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    result = 0.0
    for i in range(height):
        for j in range(width):
            result = result + x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return result[:, ::stride, ::stride] + bias


def _same(side, kernel, stride):
    """Pixels that 'same' adds before and after; of an odd number more after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def max_pool2(x):
    """2×2 windows, stride 2, 'valid'."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def ceil_max_pool(x, size, stride):
    """Windows cut off at the border; the last one still starts inside."""

    def places(side):
        return range(0, max(side - size, 0) + stride, stride)

    rows = [
        np.stack(
            [
                x[:, i : i + size, j : j + size].max(axis=(1, 2))
                for j in places(x.shape[2])
            ],
            axis=1,
        )
        for i in places(x.shape[1])
    ]
    return np.stack(rows, axis=1)


def dense(x, kernel, bias):
    return np.asarray(x, "float64") @ np.asarray(kernel, "float64") + bias


def feedback(posterior, kernel, bias):
    """Learning with Rethinking, eq. (1) and (2)."""
    return kernel.shape[1] * softmax(dense(posterior, kernel, bias))


def emphasis(features, vector):
    """Learning with Rethinking, eq. (3), channels last."""
    return np.asarray(features, "float64") * vector[:, None, None, :]


def lrn(x, size, alpha, beta, k):
    """Local response normalization, channel by channel."""
    x = np.asarray(x, "float64")
    result = np.empty_like(x)
    for i in range(x.shape[-1]):
        window = x[..., max(0, i - size // 2) : i + size // 2 + 1]
        energy = (window**2).sum(axis=-1)
        result[..., i] = x[..., i] / (k + alpha / size * energy) ** beta
    return result


def rcl(u, kernel, recurrent_kernel, bias, iterations, size, alpha, beta):
    """The recurrent convolutional layer of Liang and Hu, eq. (1) to (3), with ReLU."""
    feedforward = conv2d(u, kernel, bias, "same")
    x = lrn(relu(feedforward), size, alpha, beta, 1.0)
    for _ in range(iterations):
        state = feedforward + conv2d(x, recurrent_kernel, 0.0, "same")
        x = lrn(relu(state), size, alpha, beta, 1.0)
    return x


def lenet_pass(images, weights, vectors):
    """One pass of LeNet; `vectors` are the emphasis vectors by layer, if any."""
    x = np.asarray(images, "float64")
    for number in (1, 2):
        layer = f"conv{number}"
        x = conv2d(x, weights[f"{layer}/kernel"], weights[f"{layer}/bias"])
        if layer in vectors:
            x = emphasis(x, vectors[layer])
        x = max_pool2(x)
    x = x.reshape(len(x), -1)
    x = relu(dense(x, weights["fc1/kernel"], weights["fc1/bias"]))
    x = dense(x, weights["predictions/kernel"], weights["predictions/bias"])
    return softmax(x)


def lrnet_lenet(images, weights, timesteps, layers=("conv1", "conv2")):
    """LR-LeNet: the posterior of pass t-1 makes the emphasis of pass t.

    Returns:
        `(B, timesteps, classes)`.
    """
    predictions = [lenet_pass(images, weights, {})]
    for _ in range(timesteps - 1):
        vectors = {}
        for layer in layers:
            kernel = weights[f"{layer}_feedback/kernel"]
            bias = weights[f"{layer}_feedback/bias"]
            vectors[layer] = feedback(predictions[-1], kernel, bias)
        predictions.append(lenet_pass(images, weights, vectors))
    return np.stack(predictions, axis=1)


def clique_block(
    x, weights, layers, stages, updates=None, bottleneck=False, batch=False
):
    """The alternately updated clique, eq. (1), one kernel and batch norm at a time.

    Args:
        x: `X_0`.
        weights: arrays of a `CliqueBlock` by name.
        layers, stages, updates, bottleneck: as in `CliqueBlock`.
        batch: normalize by the statistics of the batch, as in training, instead of the
            moving ones.

    Returns:
        list of `(B, H, W, layers * filters)`, one a stage.
    """
    filters = weights["kernel_1"].shape[-1]
    inputs = np.shape(x)[-1]

    def kernel(source, target):
        others = [s for s in range(1, layers + 1) if s != target]
        rows = weights[f"kernel_{target}"]
        if source == 0:
            return rows[:, :, :inputs]
        first = inputs + others.index(source) * filters
        return rows[:, :, first : first + filters]

    def normalize(value, name, gamma, beta):
        mean, variance = value.mean((0, 1, 2)), value.var((0, 1, 2))
        if not batch:
            mean = weights[f"{name}_moving_mean"]
            variance = weights[f"{name}_moving_variance"]
        return relu((value - mean) / np.sqrt(variance + 1e-3) * gamma + beta)

    def update(target, stage, read):
        """`read`: dict from each source to its map and the stage that made it."""
        name = f"stage{stage}_layer{target}"
        total, first = 0.0, 0
        for source in sorted(read):
            value, made = read[source]
            last = first + value.shape[-1]
            moving = f"stage{made}_layer{source}" if source else "input"
            active = normalize(
                value,
                moving,
                weights[f"{name}_gamma"][first:last],
                weights[f"{name}_beta"][first:last],
            )
            total = total + conv2d(active, kernel(source, target), padding="same")
            first = last
        if bottleneck:
            second = f"{name}_second"
            gamma, beta = weights[f"{second}_gamma"], weights[f"{second}_beta"]
            active = normalize(total, second, gamma, beta)
            total = conv2d(active, weights[f"second_kernel_{target}"], padding="same")
        return total, stage

    x = np.asarray(x, "float64")
    maps, made = {}, []
    for stage in range(1, stages + 1):
        is_last = stages > 1 and stage == stages
        count = layers if updates is None or not is_last else updates
        for target in range(1, count + 1):
            read = {s: m for s, m in maps.items() if s != target}
            if stage == 1:
                read[0] = (x, 0)
            maps[target] = update(target, stage, read)
        made.append(np.concatenate([maps[s][0] for s in sorted(maps)], axis=-1))
    return made


def cliquenet(x, weights, blocks, layers, attention=False, **options):
    """CliqueNet (II+II) in inference.

    Args:
        x: images.
        weights: arrays by variable path.
        blocks: number of blocks.
        layers: layers of each.
        attention: with option A.
        **options: of `clique_block`; option C is there if its weights are.
    """

    def norm_relu(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return relu((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta)

    def norm_relu_conv(x, name):
        return conv2d(norm_relu(x, name), weights[f"{name}_conv/kernel"])

    x = conv2d(x, weights["stem_conv/kernel"], padding="same")
    pooled = []
    for block in range(1, blocks + 1):
        prefix = f"block{block}/"
        own = {k.removeprefix(prefix): v for k, v in weights.items()}
        stage = clique_block(x, own, layers, 2, **options)[-1]
        feature = np.concatenate([x, stage], axis=-1)
        if f"compression{block}_conv/kernel" in weights:
            feature = norm_relu_conv(feature, f"compression{block}")
        pooled.append(norm_relu(feature, f"head{block}").mean(axis=(1, 2)))
        if block == blocks:
            break
        x = norm_relu_conv(stage, f"transition{block}")
        if attention:
            own = f"transition{block}_attention"
            first, second = (
                (weights[f"{own}/kernel_{n}"], weights[f"{own}/bias_{n}"])
                for n in (1, 2)
            )
            scores = dense(relu(dense(x.mean((1, 2)), *first)), *second)
            x = emphasis(x, sigmoid(scores))
        b, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2]
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    vector = np.concatenate(pooled, axis=-1)
    return softmax(
        dense(vector, weights["predictions/kernel"], weights["predictions/bias"])
    )


def batch_norm(x, gamma, beta, mean, variance, epsilon):
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def padded_conv2d(x, kernel, bias, stride):
    """A convolution that pads half the kernel on both sides, whatever the stride."""
    height, width = (side // 2 for side in kernel.shape[:2])
    x = np.pad(x, ((0, 0), (height, height), (width, width), (0, 0)))
    return conv2d(x, kernel, bias, "valid", stride)


def conv_lstm_gates(x, weights, name, stride=1, timestep=0, batch=False, epsilon=1e-5):
    """`W(x)`, with batch norm if there are weights of it.

    Args:
        x: `(B, H, W, C)`, or `None` for zeros: the convolution of those is the bias at
            every place, and a constant is its own mean, so that batch norm leaves β.
        weights: arrays by path.
        name: what the paths of the layer start with.
        stride: of the convolution.
        timestep: that whose moving statistics are taken; the last ones serve all later.
        batch: normalize by the statistics of the batch, as in training.
        epsilon: of the batch norm.
    """
    kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
    if f"{name}/gamma" not in weights:
        return bias if x is None else padded_conv2d(x, kernel, bias, stride)
    gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
    if x is None:
        return beta
    x = padded_conv2d(x, kernel, bias, stride)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if not batch:
        means, variances = (
            weights[f"{name}/moving_{part}"] for part in ("mean", "variance")
        )
        slot = min(timestep, len(means) - 1)
        mean, variance = means[slot], variances[slot]
    return batch_norm(x, gamma, beta, mean, variance, epsilon)


def conv_lstm_cell(x, state, weights, name, stride=1, timestep=0, batch=False):
    """One timestep of the convolutional LSTM of section 3, without peepholes.

    Args:
        x: input; or, if there are no weights for one, its share of the gates.
        state: `(H, C)`, or `None` for zeros.
        weights: arrays by path.
        name: what the paths of the cell start with.
        stride, timestep, batch: as in `conv_lstm_gates`.

    Returns:
        the next `(H, C)`.
    """
    h, c = (None, 0.0) if state is None else state
    if f"{name}/input_gates/kernel" in weights:
        x = conv_lstm_gates(x, weights, f"{name}/input_gates", stride, timestep, batch)
    total = x + conv_lstm_gates(
        h, weights, f"{name}/recurrent_gates", 1, timestep, batch
    )
    i, f, g, o = np.split(total, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def feedback_convlstm(images, weights, cells, timesteps, batch=False):
    """Transfer learning with feedback networks, sections 3.1 to 3.3, no dropout.

    Args:
        images: the images, the same at every pass.
        weights: arrays by variable path.
        cells: groups of `(filters, stride)`.
        timesteps: passes.
        batch: normalize by the statistics of the batch, as in training.

    Returns:
        `(B, timesteps, classes)`.
    """
    x = conv2d(images, weights["stem_conv/kernel"], weights["stem_conv/bias"], "same")
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if not batch:
        mean, variance = (
            weights[f"stem_bn/moving_{part}"] for part in ("mean", "variance")
        )
    gamma, beta = weights["stem_bn/gamma"], weights["stem_bn/beta"]
    features = relu(batch_norm(x, gamma, beta, mean, variance, 1e-5))
    first = conv_lstm_gates(
        features, weights, "group1_cell1_input_gates", cells[0][0][1], batch=batch
    )
    states, predictions = {}, []
    for timestep in range(timesteps):
        x = first
        for group, strides in enumerate(cells, start=1):
            for cell, (_, stride) in enumerate(strides, start=1):
                name = f"group{group}_cell{cell}"
                x = relu(x) if cell > 1 else x
                states[name] = conv_lstm_cell(
                    x, states.get(name), weights, name, stride, timestep, batch
                )
                x = states[name][0]
        b, h, w, c = x.shape
        pooled = relu(x).reshape(b, h // 4, 4, w // 4, 4, c).mean(axis=(2, 4))
        hidden = pooled.reshape(b, -1)
        hidden = relu(dense(hidden, weights["dense/kernel"], weights["dense/bias"]))
        output = dense(
            hidden, weights["predictions/kernel"], weights["predictions/bias"]
        )
        predictions.append(softmax(output))
    return np.stack(predictions, axis=1)


def contextual(bottom_up, top_down, weights, module):
    """The contextual modules of CRCN, eq. (2) to (5).

    Args:
        bottom_up: B.
        top_down: the higher layer's output, of any size.
        weights: arrays of a `Contextual` by name, such as `gate/kernel`.
        module: `"proposed"`, 1, 2 or 3.
    """
    b, u = np.asarray(bottom_up, "float64"), np.asarray(top_down, "float64")
    rows, columns = (
        [i * u.shape[axis] // b.shape[axis] for i in range(b.shape[axis])]
        for axis in (1, 2)
    )
    u = u[:, rows][:, :, columns]

    def conv(name, x):
        return conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], "same")

    if "align/kernel" in weights:
        u = conv("align", u)
    both = np.concatenate([u, b], axis=-1)
    if module == "proposed":
        return np.tanh(conv("gate", both)) * u + b
    gate = np.tanh(conv("gate", both if module == 2 else u))
    context = conv("contextual", both)
    if module == 3:
        return np.tanh(context) * u + gate * context + b
    return gate * context + b


def crcn_stacked(images, weights, timesteps, loops, module, bottom_up):
    """CRCN on the plain `stacked_net` of `tests.models.common`.

    Args:
        images: `(B, H, W, C)`.
        weights: arrays by variable path.
        timesteps: passes.
        loops: dict from each lower layer's name to its higher layer's.
        module: `"proposed"`, 1, 2 or 3.
        bottom_up: `"recomputed"` or `"carried"`.

    Returns:
        `(B, timesteps, classes)`.
    """
    predictions, before = [], {}
    for step in range(timesteps):
        now, x = {}, np.asarray(images, "float64")
        for name in ("conv1", "conv2", "pool", "conv3", "conv4", "pool", "conv5"):
            if name == "pool":
                x = max_pool2(x)
                continue
            x = conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], "same")
            x = relu(x)
            if step > 0 and name in loops:
                prefix = f"{name}_contextual/"
                own = {k.removeprefix(prefix): v for k, v in weights.items()}
                b = before[name] if bottom_up == "carried" else x
                x = contextual(b, before[loops[name]], own, module)
            now[name] = x
        x = x.mean(axis=(1, 2))
        x = dense(x, weights["predictions/kernel"], weights["predictions/bias"])
        predictions.append(softmax(x))
        before = now
    return np.stack(predictions, axis=1)


def spatial_attention(local_features, global_feature, kernel=None):
    """The attention of Learn to pay attention, place by place.

    Args:
        local_features: `(B, H, W, C)`.
        global_feature: `(B, C)`.
        kernel: u, `(C, 1)`, or `None` for the dot product.
    """
    results = []
    for local, g in zip(local_features, global_feature, strict=True):
        places = [np.asarray(l_i, "float64") for row in local for l_i in row]
        scores = [
            g @ l_i if kernel is None else kernel[:, 0] @ (l_i + g) for l_i in places
        ]
        weights = softmax(np.asarray(scores))
        results.append(sum(a_i * l_i for a_i, l_i in zip(weights, places, strict=True)))
    return np.stack(results)
