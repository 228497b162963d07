"""Gradients of many graphs by PyTorch's autograd:

    torch_gradients.py < LIST

A line of LIST is a folder with graph.npz (by torch_graph.py) and feed.npz: arrays "dy" and one per graph input. Into the folder goes
torch.npz: "y", the first output with batch statistics and without dropout; for every float tensor that the file holds "grad.NAME",
d sum(y * dy) / d NAME; both in float64. "spread" and "spread.NAME" say how far float32 may take them (max|a-b|): the most of PyTorch's own
float32 and of float64 with every number of the file and of the inputs moved by about its rounding. Where activations are bfloat16: of float64 with
these numbers, every node's results and the gradients of those moved by about a bfloat16's rounding.
Needs PyTorch and NumPy only. As in torch_trace.py the operators are written from ONNX's specification.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from common import BFLOAT16
from torch_trace import Network, auto_pads, pad, slice_


ROUNDING = 2. ** (-8 if BFLOAT16 else -24)


class Stored(torch.autograd.Function):
    """What is stored is moved a little, and so is its gradient."""

    @staticmethod
    def forward(context, x, noise):
        context.noise = noise
        return moved(x, noise)

    @staticmethod
    def backward(context, grad):
        return moved(grad, context.noise), None


def moved(x, noise):
    return x * torch.from_numpy(np.asarray(1 + ROUNDING * noise.standard_normal(tuple(x.shape))))


class Graph(Network):
    def __init__(self, path, dtype, noise=None):
        with np.load(path) as arrays:
            self.graph = json.loads(arrays["graph"].tobytes())
            self.arrays = {key: arrays[key] for key in arrays.files if key != "graph"}
        self.noise = noise  # a generator: numbers that are read are moved a little
        self.dtype, self.opset = dtype, self.graph["opset"]
        self.bn_samples, self.margin, self.leaves = {}, None, {}
        self.tensors = {name: self.leaf(name, self.arrays[ref["tensor"]]) for name, ref in self.graph["initializers"].items()}

    def leaf(self, name, array):
        array = np.array(array)
        if array.dtype.kind != "f":
            return torch.from_numpy(array)
        self.leaves[name] = self.number(array).requires_grad_()
        return self.leaves[name]

    def number(self, array):
        noise = 1 if self.noise is None else 1 + ROUNDING * self.noise.standard_normal(np.shape(array))
        return torch.from_numpy(np.asarray(array * noise)).to(self.dtype)

    def gradients(self, feed):
        values = {**self.tensors, "": None, **{name: self.number(feed[name]) for name in self.graph["inputs"]}}
        for node in self.graph["nodes"]:
            results = self.apply(node, [values[name] for name in node["inputs"]])
            results = results if isinstance(results, (list, tuple)) else [results]
            if BFLOAT16 and self.noise is not None:
                results = [Stored.apply(x, self.noise) if x.requires_grad else x for x in results]
            values.update(zip(node["outputs"], results))
        y = values[self.graph["output"]]
        if y.requires_grad:
            y.backward(torch.from_numpy(feed["dy"]).to(self.dtype))
        return y, {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in self.leaves.items()}

    def op_constant(self, a, x, node):
        if "value" in a:
            return self.leaf(node["outputs"][0], self.arrays[a["value"]["tensor"]])
        if "value_float" in a:
            return self.leaf(node["outputs"][0], np.float32(a["value_float"]))
        return torch.tensor(a["value_ints"])

    def op_conv(self, a, x, _):
        n = x[0].dim() - 2
        strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
        padded = pad(x[0], auto_pads(a, x[0], x[1].shape[2:], strides, dilations))
        return (F.conv1d if n == 1 else F.conv2d)(padded, x[1], x[2] if len(x) > 2 else None, strides, 0, dilations, a.get("group", 1))

    def op_batchnormalization(self, a, x, _):
        """From elementary operations: F.batch_norm of PyTorch 1.13 gets the gradient wrong where it arrives permuted."""
        axes, channels = [i for i in range(x[0].dim()) if i != 1], [-1] + [1] * (x[0].dim() - 2)
        d = x[0] - x[0].mean(axes, keepdim=True)
        rstd = ((d * d).mean(axes, keepdim=True) + a.get("epsilon", 1e-5)).rsqrt()
        return d * rstd * x[1].reshape(channels) + x[2].reshape(channels)

    def window(self, a, x, fill):
        """The windows' elements on one axis behind the output's, in row-major order."""
        kernel, n = a["kernel_shape"], len(a["kernel_shape"])
        strides = a.get("strides", [1] * n)
        y = pad(x, auto_pads(a, x, kernel, strides, [1] * n), fill)
        for i in range(n):
            y = y.unfold(i + 2, kernel[i], strides[i])
        return y.flatten(x.dim())

    def op_maxpool(self, a, x, _):
        return self.window(a, x[0], -np.inf).max(-1).values

    def op_averagepool(self, a, x, _):
        ones = self.window(a, torch.ones_like(x[0]), float(a.get("count_include_pad", 0)))
        return self.window(a, x[0], 0.).sum(-1) / ones.sum(-1)

    def op_globalaveragepool(self, a, x, _):
        return x[0].mean(tuple(range(2, x[0].dim())), keepdim=True)

    def op_globalmaxpool(self, a, x, _):
        return x[0].flatten(2).max(-1).values.reshape(*x[0].shape[:2], *[1] * (x[0].dim() - 2))

    def op_clip(self, a, x, _):
        low, high = (a.get("min"), a.get("max")) if self.opset < 11 else [*(None if b is None else float(b) for b in x[1:]), None, None][:2]
        return x[0].clamp(low, high)

    def op_pad(self, a, x, _):
        pads, value = (a["pads"], a.get("value", 0.)) if self.opset < 11 else (x[1].tolist(), 0. if len(x) < 3 else float(x[2]))
        y, n = x[0], x[0].dim()
        for axis in range(n):  # NumPy pads indices in the mode asked for; -1 reads the value
            index = np.arange(y.shape[axis])
            width = (int(pads[axis]), int(pads[n + axis]))
            mode = a.get("mode", "constant")
            index = np.pad(index, width, mode, **(dict(constant_values=y.shape[axis]) if mode == "constant" else {}))
            row = torch.full([1 if i == axis else k for i, k in enumerate(y.shape)], value, dtype=y.dtype)
            y = torch.cat([y, row], axis).index_select(axis, torch.from_numpy(index))
        return y

    def op_slice(self, a, x, _):
        if self.opset < 10:
            return slice_(x[0], a["starts"], a["ends"], a["axes"], [1] * len(a["starts"]))
        return slice_(x[0], *(t.tolist() for t in x[1:]))

    def op_split(self, a, x, node):
        axis, n = a.get("axis", 0), len(node["outputs"])
        sizes = x[1].tolist() if len(x) > 1 else a.get("split") or -(-x[0].shape[axis] // n)
        return torch.split(x[0], sizes, axis)

    def op_reducemean(self, a, x, _):
        return x[0].mean(self.axes(a, x, 18), keepdim=bool(a.get("keepdims", 1)))

    def op_logsoftmax(self, a, x, node):
        return self.op_softmax(a, x, node, F.log_softmax)

    def op_flatten(self, a, x, _):
        axis = a.get("axis", 1)
        return x[0].reshape(int(np.prod(x[0].shape[:axis])), -1)

    def op_transpose(self, a, x, _):
        return x[0].permute(a.get("perm", list(range(x[0].dim()))[::-1]))

    def op_cast(self, a, x, _):
        return x[0].to(self.dtype) if a["to"] == 1 else super().op_cast(a, x, _)

    op_neg = staticmethod(lambda a, x, _: -x[0])
    op_exp = staticmethod(lambda a, x, _: x[0].exp())
    op_log = staticmethod(lambda a, x, _: x[0].log())
    op_sqrt = staticmethod(lambda a, x, _: x[0].sqrt())
    op_abs = staticmethod(lambda a, x, _: x[0].abs())
    op_reciprocal = staticmethod(lambda a, x, _: 1 / x[0])
    op_elu = staticmethod(lambda a, x, _: F.elu(x[0], a.get("alpha", 1.)))
    op_selu = staticmethod(lambda a, x, _: F.selu(x[0]))
    op_celu = staticmethod(lambda a, x, _: F.celu(x[0], a.get("alpha", 1.)))
    op_hardsigmoid = staticmethod(lambda a, x, _: (a.get("alpha", .2) * x[0] + a.get("beta", .5)).clamp(0, 1))
    op_hardswish = staticmethod(lambda a, x, _: F.hardswish(x[0]))
    op_softplus = staticmethod(lambda a, x, _: F.softplus(x[0]))
    op_softsign = staticmethod(lambda a, x, _: F.softsign(x[0]))
    op_mish = staticmethod(lambda a, x, _: F.mish(x[0]))
    op_gelu = staticmethod(lambda a, x, _: F.gelu(x[0], approximate=a.get("approximate", "none")))
    op_swish = staticmethod(lambda a, x, _: x[0] * torch.sigmoid(a.get("alpha", 1.) * x[0]))
    op_sum = staticmethod(lambda a, x, _: sum(x[1:], x[0]))
    op_identity = staticmethod(lambda a, x, _: x[0])
    op_dropout = staticmethod(lambda a, x, _: x[0])


def distance(a, b):
    return (a - b).abs().max().item() if a.numel() else 0.


def main():
    torch.set_num_threads(1)
    for line in sys.stdin:
        folder = pathlib.Path(line.strip())
        with np.load(folder / "feed.npz") as arrays:
            feed = dict(arrays)
        def run(*how):
            return Graph(folder / "graph.npz", *how).gradients(feed)
        y, exact = run(torch.float64)
        others = [run(torch.float64, np.random.default_rng(seed)) for seed in range(4 if BFLOAT16 else 2)]
        others += [] if BFLOAT16 else [run(torch.float32)]
        spreads = {"spread": max(distance(y, z) for z, _ in others)}
        spreads |= {f"spread.{name}": max(distance(g, other[name]) for _, other in others) for name, g in exact.items()}
        np.savez(folder / "torch.npz", y=y.detach().numpy(), **{f"grad.{name}": g.numpy() for name, g in exact.items()}, **spreads)


if __name__ == "__main__":
    main()
