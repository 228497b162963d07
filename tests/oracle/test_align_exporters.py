"""papa-align on networks as PyTorch's exporter writes them: a layer or two of each architecture, small.

Each is exported with random weights, its groups are listed and proved (their number is known by hand), it is permuted at random and aligned back: tensors come
back bit for bit, and ONNX Runtime's outputs are those of the original all along. Needs PyTorch.
"""
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from common import Checks, relative_error, run, torch_python

# Groups that are not blocks, then blocks, as (how many, units); and what is said to be not understood.
EXPECTED = {
    "bottleneck": ([(1, 16), (2, 4)], [], None),
    "mobile": ([(1, 6), (1, 12), (1, 3)], [], None),            # expanded channels with their depthwise filters; the squeezed ones
    "shuffle": ([(1, 4), (1, 4), (2, 4)], [], None),
    "grouped": ([(8, 2), (1, 8)], [(1, 4)], None),            # in front of the grouped filters, and of what reads them
    "group_norm": ([(4, 2), (1, 6)], [(1, 4)], None),
    "prelu": ([(1, 6), (1, 5)], [], None),
    "convnext": ([(1, 6), (1, 24)], [], None),
    "mlp_mixer": ([(1, 6), (1, 10), (1, 12)], [], None),
    "gated_mlp": ([(1, 6), (1, 8)], [], None),
    "encoder": ([(1, 8), (4, 4), (1, 16)], [(1, 2)], None),     # the stream; two heads' keys and values; the hidden layer
    "fused_attention": ([(1, 8), (4, 4)], [(1, 2)], None),
    "text": ([(1, 8), (4, 4), (1, 16)], [(1, 2)], None),        # token ids, a mask, positions
    "unet": ([(1, 4), (1, 5)], [], "Resize"),                   # what is resized stays, the rest is seen
    "recurrent": ([(1, 7)], [], "LSTM"),
}

EXPORT = r"""
import sys, torch, warnings
from torch import nn
import torch.nn.functional as F
warnings.filterwarnings("ignore")
torch.manual_seed(1)


class Net(nn.Module):
    def __init__(self, forward, **layers):
        super().__init__()
        self.call = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *x):
        return self.call(self, *x)


def conv(i, o, k=3, **more):
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False, **more), nn.BatchNorm2d(o))


def head(n):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, 3))


def shuffle(s, x):
    a, b = F.relu(s.stem(x)).chunk(2, 1)
    x = torch.cat((a, F.relu(s.out(s.depthwise(F.relu(s.first(b)))))), 1)
    n, c, h, w = x.shape
    return s.head(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def mobile(s, x):
    x = s.stem(x)
    y = F.hardswish(s.depthwise(F.hardswish(s.wide(x))))
    y = y * F.hardsigmoid(s.grow(F.relu(s.squeeze(y.mean((2, 3), keepdim=True)))))
    return s.head(x + s.narrow(y))


def convnext(s, x):
    x = s.stem(x)
    y = s.b(F.gelu(s.a(s.norm(s.depthwise(x).permute(0, 2, 3, 1))))) * s.scale.weight[0]
    return s.head(x + y.permute(0, 3, 1, 2))


def attend(q, k, v, mask=0.):
    n, t, d = q.shape
    q, k, v = (x.view(n, t, 2, d // 2).transpose(1, 2) for x in (q, k, v))
    return ((q @ k.transpose(-1, -2) / 2 + mask).softmax(-1) @ v).transpose(1, 2).reshape(n, t, d)


def encode(s, x, mask=0.):
    y = s.norm1(x)
    x = x + s.o(attend(s.q(y), s.k(y), s.v(y), mask))
    return x + s.down(F.gelu(s.up(s.norm2(x))))


def fused(s, x):
    x = s.embed(x)
    n, t, d = x.shape
    q, k, v = s.qkv(x).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
    return s.fc((x + s.o(((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).reshape(n, t, d))).mean(1))


def text(s, ids, mask):
    x = s.words(ids) + s.positions.weight
    return s.fc(encode(s, x, (1 - mask[:, None, None].to(x.dtype)) * -100)[:, 0])


def mixer(s, x):
    x = s.embed(x)
    x = x + s.tokens(x.transpose(1, 2)).transpose(1, 2)
    return s.fc((x + s.channels(x)).mean(1))


def gated(s, x):
    x = s.embed(x)
    u, v = F.gelu(s.up(x)).chunk(2, -1)
    return s.fc((x + s.down(u * s.spatial(s.norm(v)))).mean(1))


def unet(s, x):
    a = F.relu(s.a(x))
    b = F.interpolate(F.relu(s.b(F.max_pool2d(a, 2))), scale_factor=2.)
    return s.out(F.relu(s.c(torch.cat((a, b), 1))))


def recurrent(s, x):
    return s.fc(F.relu(s.hidden(s.lstm(F.relu(s.embed(x)))[0][:, -1])))


L, LN = nn.Linear, nn.LayerNorm
attention = dict(q=L(8, 8), k=L(8, 8), v=L(8, 8), o=L(8, 8), norm1=LN(8), norm2=LN(8), up=L(8, 16), down=L(16, 8), fc=L(8, 3))
image, sequence = torch.randn(2, 2, 8, 8), torch.randn(2, 5, 7)
ids = torch.randint(0, 9, (2, 5)), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
networks = {
    "bottleneck": (Net(lambda s, x: s.head(F.relu(s.c(F.relu(s.b(F.relu(s.a(s.stem(x)))))) + s.stem(x))),
        stem=conv(2, 16), a=conv(16, 4, 1), b=conv(4, 4), c=conv(4, 16, 1), head=head(16)), image),
    "mobile": (Net(mobile, stem=conv(2, 6), wide=conv(6, 12, 1), depthwise=conv(12, 12, groups=12), squeeze=nn.Conv2d(12, 3, 1),
        grow=nn.Conv2d(3, 12, 1), narrow=conv(12, 6, 1), head=head(6)), image),
    "shuffle": (Net(shuffle, stem=conv(2, 8), first=conv(4, 4, 1), depthwise=conv(4, 4, groups=4), out=conv(4, 4, 1), head=head(8)), image),
    "grouped": (Net(lambda s, x: s.head(F.relu(s.b(F.relu(s.a(x))))), a=conv(2, 8), b=nn.Sequential(conv(8, 8, groups=4), conv(8, 8)), head=head(8)), image),
    "group_norm": (Net(lambda s, x: s.head(F.relu(s.b(F.relu(s.norm(s.a(x)))))), a=nn.Conv2d(2, 8, 3), norm=nn.GroupNorm(4, 8), b=nn.Conv2d(8, 6, 3),
        head=head(6)), image),
    "prelu": (Net(lambda s, x: s.head(s.q(s.b(s.p(s.a(x))))), a=conv(2, 6), p=nn.PReLU(6), b=conv(6, 5), q=nn.PReLU(), head=head(5)), image),
    "convnext": (Net(convnext, stem=nn.Conv2d(2, 6, 2, 2), depthwise=nn.Conv2d(6, 6, 7, padding=3, groups=6), norm=LN(6), a=L(6, 24), b=L(24, 6),
        scale=nn.Embedding(1, 6), head=head(6)), image),
    "mlp_mixer": (Net(mixer, embed=L(7, 6), tokens=nn.Sequential(L(5, 10), nn.GELU(), L(10, 5)), channels=nn.Sequential(LN(6), L(6, 12), nn.GELU(), L(12, 6)),
        fc=L(6, 3)), sequence),
    "gated_mlp": (Net(gated, embed=L(7, 6), up=L(6, 16), norm=LN(8), spatial=nn.Conv1d(5, 5, 1), down=L(8, 6), fc=L(6, 3)), sequence),
    "encoder": (Net(lambda s, x: s.fc(encode(s, s.embed(x)).mean(1)), embed=L(7, 8), **attention), sequence),
    "fused_attention": (Net(fused, embed=L(7, 8), qkv=L(8, 24), o=L(8, 8), fc=L(8, 3)), sequence),
    "text": (Net(text, words=nn.Embedding(9, 8), positions=nn.Embedding(5, 8), **attention), ids),
    "unet": (Net(unet, a=conv(2, 4), b=conv(4, 6), c=conv(10, 5), out=nn.Conv2d(5, 3, 1)), image),
    "recurrent": (Net(recurrent, embed=L(7, 6), lstm=nn.LSTM(6, 5, batch_first=True), hidden=L(5, 7), fc=L(7, 3)), sequence),
}
for i, (name, (net, x)) in enumerate(networks.items()):
    for p in net.parameters(): # biases of 0 and scales of 1 would be ties
        p.data.add_(torch.randn_like(p) * .1)
    x = x if isinstance(x, tuple) else (x,)
    torch.onnx.export(net.eval(), x, f"{sys.argv[1]}/{name}.onnx", opset_version=(11, 13, 17)[i % 3], input_names=[f"in{k}" for k in range(len(x))])
"""


def tensors(path):
    graph = onnx.load(path).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found.update((n.output[0], numpy_helper.to_array(n.attribute[0].t)) for n in graph.node if n.op_type == "Constant")
    return found


def outputs(path, rng):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: rng.integers(0, 2, i.shape) if "int64" in i.type else rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    return session.run(None, feeds)[0]


def groups_listed(text):
    """Two sorted lists of sizes: of groups that aren't blocks, and of blocks; every group must have been proved."""
    lines = text.split("\n\n")[0].split("\n")[1:]
    sizes = [], []
    for line in lines:
        name_and_size, proof = line.rsplit(None, 2)[0], line.rsplit(None, 1)[1]
        sizes["(blocks)" in line].append(int(name_and_size.rsplit(None, 1)[1]))
        if not float(proof) < 1e-12:
            raise RuntimeError(f"not proved: {line}")
    return sorted(sizes[0]), sorted(sizes[1])


def listed(expected):
    return sorted(size for count, size in expected for _ in range(count))


def check(checks, name, folder):
    plain, blocks, opaque = EXPECTED[name]
    path, permuted = folder / f"{name}.onnx", folder / "permuted.onnx"
    done = subprocess.run([pathlib.Path(os.environ["PAPA_BIN"]) / "papa-align", path, "--list-groups"], capture_output=True, text=True)
    checks.that(groups_listed(done.stdout) == (listed(plain), listed(blocks)), f"{name}: groups\n{done.stdout}")
    checks.that(f"not understood ({opaque})" in done.stderr if opaque else not done.stderr, f"{name}: {done.stderr}")
    run("permute_model", path, permuted, 5)
    run("papa-align", path, permuted, "-o", folder / "out")
    original, moved, aligned = tensors(path), tensors(permuted), tensors(folder / "out" / "permuted.onnx")
    checks.that(any(not np.array_equal(original[t], moved[t]) for t in original), f"{name}: nothing was permuted")
    checks.that(all(np.array_equal(original[t], aligned[t]) for t in original), f"{name}: does not come back")
    expected = outputs(path, np.random.default_rng(2))
    checks.at_most(relative_error(outputs(permuted, np.random.default_rng(2)), expected), 1e-5, f"{name}, permuted")
    checks.at_most(relative_error(outputs(folder / "out" / "permuted.onnx", np.random.default_rng(2)), expected), 0, f"{name}, aligned")


def main():
    with tempfile.TemporaryDirectory() as folder:
        checks, made = Checks(), subprocess.run([torch_python(), "-c", EXPORT, folder], capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(made.stderr)
        for name in EXPECTED:
            check(checks, name, pathlib.Path(folder))
        checks.finish()


if __name__ == "__main__":
    main()
