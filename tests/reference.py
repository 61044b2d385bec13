"""The equations of the papers in NumPy and float64, written for reading, not speed."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0.0)


def conv2d(x, kernel, bias=0.0, padding="valid", stride=1):
    """`x` is `(B, H, W, C)`, `kernel` is `(h, w, C, filters)`; odd sides for 'same'."""
    x, kernel = np.asarray(x, "float64"), np.asarray(kernel, "float64")
    height, width = kernel.shape[:2]
    if padding == "same":
        assert height % 2 == 1 and width % 2 == 1 and stride == 1
        x = np.pad(x, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)))
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    result = 0.0
    for i in range(height):
        for j in range(width):
            result = result + x[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return result[:, ::stride, ::stride] + bias


def max_pool2(x):
    """2×2 windows, stride 2, 'valid'."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


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
    x, weights, layers, loops, updates=None, bottleneck=False, batch=False
):
    """The alternately updated clique, eq. (1), one kernel and batch norm at a time.

    Args:
        x: `X_0`.
        weights: arrays of a `CliqueBlock` by name.
        layers, loops, updates, bottleneck: as in `CliqueBlock`.
        batch: normalise by the statistics of the batch, as in training, instead of the
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
    maps, stages = {}, []
    for stage in range(1, loops + 2):
        is_last_loop = loops > 0 and stage == loops + 1
        count = layers if updates is None or not is_last_loop else updates
        for target in range(1, count + 1):
            read = {s: m for s, m in maps.items() if s != target}
            if stage == 1:
                read[0] = (x, 0)
            maps[target] = update(target, stage, read)
        stages.append(np.concatenate([maps[s][0] for s in sorted(maps)], axis=-1))
    return stages


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
        stage = clique_block(x, own, layers, 1, **options)[-1]
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
            x = emphasis(x, 1 / (1 + np.exp(-scores)))
        b, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2]
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    vector = np.concatenate(pooled, axis=-1)
    return softmax(
        dense(vector, weights["predictions/kernel"], weights["predictions/bias"])
    )


def contextual(bottom_up, top_down, weights, module):
    """The contextual modules of CRCN, eq. (2) to (5).

    Args:
        bottom_up: B.
        top_down: the higher layer's output, smaller by an integer factor.
        weights: arrays of a `Contextual` by name, such as `gate/kernel`.
        module: `"proposed"`, 1, 2 or 3.
    """
    b, u = np.asarray(bottom_up, "float64"), np.asarray(top_down, "float64")
    factor = b.shape[1] // u.shape[1]
    u = np.kron(u, np.ones((1, factor, factor, 1)))

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
