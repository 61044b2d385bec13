"""The clique block and CliqueNet."""

import numpy as np

from tests.reference.operations import conv2d, dense, emphasis, relu, sigmoid, softmax


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
