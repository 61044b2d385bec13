"""The published PyTorch networks, rewritten small: modules under the authors' names."""

import torch
from torch import nn


def _conv(inputs, filters, size=1, stride=1, bias=False):
    return nn.Conv2d(inputs, filters, size, stride, padding=size // 2, bias=bias)


class _Unit(nn.Module):
    """Batch norm, ReLU and, where there are filters, a 1×1 convolution."""

    def __init__(self, inputs, filters=None, attention=False):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = _conv(inputs, filters) if filters else None
        self.attention = _Attention(filters) if attention else None

    def forward(self, x):
        x = torch.relu(self.bn(x))
        x = x if self.conv is None else self.conv(x)
        return x if self.attention is None else self.attention(x)


class _Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 2)
        self.fc2 = nn.Linear(channels // 2, channels)

    def forward(self, x):
        scores = self.fc2(torch.relu(self.fc1(x.mean((2, 3)))))
        return x * torch.sigmoid(scores)[:, :, None, None]


class _Block(nn.Module):
    def __init__(self, inputs, k, n):
        super().__init__()
        self.n = n
        self.conv_param = nn.ModuleList(
            None if to in (0, source) else _conv(k if source else inputs, k)
            for source in range(n + 1)
            for to in range(n + 1)
        )
        self.conv_param_bottle = nn.ModuleList(_conv(k, k, 3) for _ in range(n))
        self.forward_bn = nn.ModuleList(
            nn.BatchNorm2d(inputs + i * k) for i in range(n)
        )
        self.loop_bn = nn.ModuleList(nn.BatchNorm2d((n - 1) * k) for _ in range(n))
        self.forward_bn_b = nn.ModuleList(nn.BatchNorm2d(k) for _ in range(n))
        self.loop_bn_b = nn.ModuleList(nn.BatchNorm2d(k) for _ in range(n))

    def forward(self, x):
        made = {0: x}
        stages = ((self.forward_bn, self.forward_bn_b), (self.loop_bn, self.loop_bn_b))
        for stage, (first, second) in enumerate(stages):
            for to in range(1, self.n + 1):
                read = [m for m in sorted(made) if m != to and (m or not stage)]
                value = torch.relu(first[to - 1](torch.cat([made[m] for m in read], 1)))
                parts = value.split([made[m].shape[1] for m in read], 1)
                value = sum(
                    self.conv_param[m * (self.n + 1) + to](part)
                    for m, part in zip(read, parts, strict=True)
                )
                value = torch.relu(second[to - 1](value))
                made[to] = self.conv_param_bottle[to - 1](value)
        return torch.cat([made[m] for m in range(1, self.n + 1)], 1)


class CliqueNet(nn.Module):
    def __init__(self, filters, layers, classes, attention):
        super().__init__()
        self.fir_trans = _conv(3, 64, 7, 2)
        self.fir_bn = nn.BatchNorm2d(64)
        self.fir_pool = nn.MaxPool2d(3, 2, padding=1)
        lists = ("block", "trans", "gb", "compress")
        for name in lists:
            setattr(self, f"list_{name}", nn.ModuleList())
        inputs, total = 64, 0
        for number, (k, n) in enumerate(zip(filters, layers, strict=True)):
            self.list_block.append(_Block(inputs, k, n))
            half = (inputs + k * n) // 2
            self.list_compress.append(_Unit(inputs + k * n, half))
            self.list_gb.append(_Unit(half))
            if number < len(filters) - 1:
                self.list_trans.append(_Unit(k * n, k * n, attention))
            inputs, total = k * n, total + half
        self.fc = nn.Linear(total, classes)

    def forward(self, x):
        x = self.fir_pool(torch.relu(self.fir_bn(self.fir_trans(x))))
        pooled = []
        for number, block in enumerate(self.list_block):
            stage = block(x)
            feature = self.list_compress[number](torch.cat([x, stage], 1))
            pooled.append(self.list_gb[number](feature).mean((2, 3)))
            if number < len(self.list_trans):
                x = nn.functional.avg_pool2d(self.list_trans[number](stage), 2)
        return self.fc(torch.cat(pooled, 1))


class _Cell(nn.Module):
    def __init__(self, inputs, filters, stride):
        super().__init__()
        for gate in "ifco":
            for source, count, step in (("x", inputs, stride), ("h", filters, 1)):
                end = f"{gate}_{source}"
                setattr(self, f"conv_{end}", _conv(count, filters, 3, step, bias=True))
                setattr(self, f"batchnorm_{end}", nn.BatchNorm2d(filters))
        self.state = None

    def gate(self, gate, x, h):
        return sum(
            getattr(self, f"batchnorm_{gate}_{s}")(getattr(self, f"conv_{gate}_{s}")(v))
            for s, v in (("x", x), ("h", h))
        )

    def forward(self, x):
        if self.state is None:
            zeros = torch.zeros_like(self.conv_i_x(x))
            self.state = zeros, zeros
        h, c = self.state
        i, f, g, o = (self.gate(gate, x, h) for gate in "ifco")
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        self.state = torch.sigmoid(o) * torch.tanh(c), c
        return self.state[0]


class _Stack(nn.Module):
    """The same cells in a list and in a sequence: the file holds them twice."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        first = _Cell(inputs, filters, stride)
        self.cells = nn.ModuleList(
            [first, *(_Cell(filters, filters, 1) for _ in range(2))]
        )
        second, third = self.cells[1:]
        self.stack = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


class FeedbackNet(nn.Module):
    def __init__(self, classes, timesteps=4):
        super().__init__()
        self.timesteps = timesteps
        self.conv = _conv(3, 16, 3, bias=True)
        self.batchnorm = nn.BatchNorm2d(16)
        self.feedback = nn.Module()
        self.feedback.cells = nn.ModuleList(
            _Stack(*arguments)
            for arguments in ((16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1))
        )
        self.linear = nn.Linear(256, 256)
        self.output = nn.Linear(256, classes)

    def forward(self, image):
        image = torch.relu(self.batchnorm(self.conv(image)))
        outputs = []
        for _ in range(self.timesteps):
            x = image
            for group in self.feedback.cells:
                x = group.stack(x)
            x = nn.functional.avg_pool2d(torch.relu(x), 4).flatten(1)
            outputs.append(self.output(torch.relu(self.linear(x))))
        for group in self.feedback.cells:
            for cell in group.cells:
                cell.state = None
        return torch.stack(outputs, 1)


class VGG16(nn.Module):
    """torchvision's layout; its pooling to 7×7 is left out, `side` stands for 7."""

    def __init__(self, side, classes):
        super().__init__()
        layers, inputs = [], 3
        for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [_conv(inputs, filters, 3, bias=True), nn.ReLU()]
                nn.init.kaiming_normal_(layers[-2].weight)
                inputs = filters
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * side * side, 4096), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
            nn.Linear(4096, classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))
