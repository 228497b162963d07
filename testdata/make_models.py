#!/usr/bin/python3
"""Write the models of this folder: untrained classifiers, exported by PyTorch as its users would export them for training.

    testdata/make_models.py [FOLDER]       write them (default: this script's folder)
    testdata/make_models.py --check        write them elsewhere and compare with what stands here, byte by byte

Needs PyTorch (Debian 12's python3-torch 1.13 wrote the checked-in files; another version may name or order things
differently, and draws other weights). Nothing that builds, tests or demonstrates papa needs this script.

BatchNormalization is exported in its training form (training_mode=1, three outputs), the batch axis is symbolic ("N"),
the input is called "image" and the output "logits". Seeds are fixed, one per file, so a file doesn't depend on the others.
"""
import filecmp
import pathlib
import sys
import tempfile
import warnings
import zlib

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

OPSET = 17
N_CLASSES = 10


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, N_CLASSES)

    def forward(self, image):
        x = F.max_pool2d(F.relu(self.conv1(image)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(F.relu(self.fc2(x)))


class MLP(nn.Module):
    def __init__(self, width=256):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, N_CLASSES)

    def forward(self, image):
        x = F.relu(self.fc1(torch.flatten(image, 1)))
        return self.fc3(F.relu(self.fc2(x)))


class VGG(nn.Module):
    """Convolutions with bias and no normalisation; numbers are widths, "M" is a 2x2 max pooling."""

    def __init__(self, plan=(16, 16, "M", 32, 32, "M", 64, 64, "M")):
        super().__init__()
        layers, channels = [], 1
        for step in plan:
            if step == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(channels * 3 * 3, 128)
        self.fc2 = nn.Linear(128, N_CLASSES)

    def forward(self, image):
        return self.fc2(F.relu(self.fc1(torch.flatten(self.features(image), 1))))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of He et al. 2016, section 4.2): where the block
    halves the map and widens it, the shortcut takes every second pixel and pads the new channels with zeros."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.pad = (c_out - c_in) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ProjectionBlock(nn.Module):
    """The same with a 1x1 convolution in the shortcut where its shape changes (option B)."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The CIFAR ResNet with 6n + 2 layers."""

    def __init__(self, n, channels=1, widths=(16, 32, 64), block=Block):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        c_in = widths[0]
        for stage, width in enumerate(widths, 1):
            blocks = [block(c_in if i == 0 else width, width, 2 if stage > 1 and i == 0 else 1) for i in range(n)]
            setattr(self, f"stage{stage}", nn.Sequential(*blocks))
            c_in = width
        self.fc = nn.Linear(c_in, N_CLASSES)

    def forward(self, image):
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual (Sandler et al. 2018): widened, convolved channel by channel, narrowed."""

    def __init__(self, c_in, c_out, stride, widen=4):
        super().__init__()
        wide = c_in * widen
        self.layers = nn.Sequential(
            nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.keeps = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.layers(x) if self.keeps else self.layers(x)


class MobileNet(nn.Module):
    def __init__(self, widths=(16, 24, 32)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU6())
        blocks, c_in = [], widths[0]
        for stage, width in enumerate(widths):
            blocks += [Inverted(c_in, width, 2 if stage else 1), Inverted(width, width, 1)]
            c_in = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(c_in, N_CLASSES)

    def forward(self, image):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.blocks(self.stem(image)), 1), 1))


class DenseLayer(nn.Module):
    """DenseNet's (Huang et al. 2017): what it makes stands behind what it read."""

    def __init__(self, c_in, growth):
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.bn(x)))], 1)


class DenseNet(nn.Module):
    def __init__(self, growth=8, layers=3, width=16):
        super().__init__()
        parts = [nn.Conv2d(1, width, 3, 2, 1, bias=False)]
        for block in range(3):
            for _ in range(layers):
                parts.append(DenseLayer(width, growth))
                width += growth
            parts += [nn.BatchNorm2d(width), nn.ReLU()]
            if block < 2:
                parts += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
        self.features = nn.Sequential(*parts)
        self.fc = nn.Linear(width, N_CLASSES)

    def forward(self, image):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.features(image), 1), 1))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = F.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -.5, dim=-1)
        return self.proj((scores @ v).transpose(1, 2).reshape(n, tokens, width))


class Layer(nn.Module):
    """A transformer's, normalised in front."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Dosovitskiy et al. 2021, with a class token and learned positions."""

    def __init__(self, channels=1, size=28, patch=7, width=32, depth=2, heads=2):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(.02 * torch.randn(1, (size // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(*[Layer(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, N_CLASSES)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.fc(self.norm(self.layers(x))[:, 0])


MODELS = {
    "lenet": (LeNet, (1, 28, 28)),
    "mlp": (MLP, (1, 28, 28)),
    "vgg": (VGG, (1, 28, 28)),
    "resnet8": (lambda: ResNet(1), (1, 28, 28)),
    "resnet20": (lambda: ResNet(3), (1, 28, 28)),
    "resnet20-cifar": (lambda: ResNet(3, channels=3), (3, 32, 32)),
    "resnet8-projection": (lambda: ResNet(1, block=ProjectionBlock), (1, 28, 28)),
    "mobilenet-tiny": (MobileNet, (1, 28, 28)),
    "densenet-tiny": (DenseNet, (1, 28, 28)),
    "vit-tiny": (ViT, (1, 28, 28)),
}


def initialise(net):
    """Kaiming by fan-in for convolutions (VGG would not learn from PyTorch's default); the rest as PyTorch draws it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def export(name, path):
    make, shape = MODELS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    net = make()
    initialise(net)
    net.train()
    # Tracing runs the network once, which would move the running statistics: put them back behind the tracer's back.
    untouched = [(b.numpy(), b.numpy().copy()) for b in net.buffers()]

    def put_back(*_):
        for buffer, value in untouched:
            np.copyto(buffer, value)

    net.register_forward_hook(put_back)
    image = torch.randn(2, *shape)
    # No constant folding: PyTorch advises against it in training form. So the padding of the shortcuts comes as the usual
    # chain of Constant, Shape, Gather, Concat, Reshape, Slice, Transpose and Cast.
    torch.onnx.export(net, image, str(path), opset_version=OPSET, training=torch.onnx.TrainingMode.PRESERVE,
                      do_constant_folding=False, input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})


def export_all(folder):
    for name in MODELS:
        export(name, folder / f"{name}.onnx")


def main():
    warnings.simplefilter("ignore")  # of the exporter, about BatchNorm's step counter and about missing shape inference
    here = pathlib.Path(__file__).resolve().parent
    if sys.argv[1:] == ["--check"]:
        with tempfile.TemporaryDirectory() as folder:
            export_all(pathlib.Path(folder))
            different = [n for n in MODELS if not filecmp.cmp(f"{folder}/{n}.onnx", here / f"{n}.onnx", shallow=False)]
        sys.exit(f"differ from the checked-in files: {', '.join(different)}" if different else 0)
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(print(__doc__))
    if len(sys.argv) > 2 or sys.argv[1:2] and sys.argv[1].startswith("-"):
        sys.exit(f"{sys.argv[0]}: one folder at most; --help explains")
    export_all(pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else here)


if __name__ == "__main__":
    main()
