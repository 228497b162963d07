"""Train an ONNX graph with PyTorch and write down what happened, in the format of tests/helpers/train_trace:

    torch_trace.py GRAPH.npz BATCHES.bin OUTDIR --steps N --lr LR --momentum M --weight-decay WD
    torch_trace.py GRAPH.npz BATCHES.bin OUTDIR --margins

The second form trains nothing and writes OUTDIR/margins.txt, a number per batch: see Network.margin.
Runs in a Python that has PyTorch and NumPy; GRAPH.npz is written by torch_graph.py. The operators below are written from
ONNX's specification with PyTorch's functions, and autograd does the rest: nothing here knows of papa.
The number of threads is PyTorch's own business (OMP_NUM_THREADS).
"""
import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

# Which inputs of an operator are trained, where they are float initialisers.
TRAINED_SLOTS = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,), "BatchNormalization": (1, 2), "LayerNormalization": (1, 2)}


def auto_pads(attributes, x, kernel, strides, dilations):
    """[begin..., end...] per spatial axis, as ONNX has them."""
    mode = attributes.get("auto_pad", "NOTSET")
    n = len(kernel)
    if mode == "NOTSET":
        return attributes.get("pads", [0] * 2 * n)
    if mode == "VALID":
        return [0] * 2 * n
    begin, end = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return begin + end


def pad(x, pads, value=0.0):
    """ONNX's pads, all begins then all ends over the last axes; F.pad wants pairs from the last axis on."""
    n = len(pads) // 2
    return F.pad(x, [int(p) for axis in reversed(range(n)) for p in (pads[axis], pads[n + axis])], value=value)


def slice_(x, starts, ends, axes, steps):
    for start, end, axis, step in zip(starts, ends, axes, steps):
        index = np.arange(x.shape[axis])[int(start):max(int(end), -x.shape[axis] - 1) if step > 0 else
                                         (None if end < -x.shape[axis] else int(end)):int(step)]
        x = x.index_select(int(axis), torch.from_numpy(index.copy()))
    return x


class Network:
    def __init__(self, path):
        with np.load(path) as arrays:
            self.graph = json.loads(arrays["graph"].tobytes())
            self.arrays = {key: arrays[key] for key in arrays.files if key != "graph"}
        self.tensors = {name: torch.tensor(self.arrays[ref["tensor"]]) for name, ref in self.graph["initializers"].items()}
        self.trained = {}
        self.bn_samples = {}  # running variance's name -> how many values one batch's statistics were taken over
        for node in self.graph["nodes"]:
            for slot in TRAINED_SLOTS.get(node["op"], ()):
                name = node["inputs"][slot] if slot < len(node["inputs"]) else ""
                if name in self.tensors:
                    self.trained[name] = self.tensors[name].requires_grad_()
        self.train_sums()
        self.opset = self.graph["opset"]
        # How far the forward pass stays from the kinks of Relu and MaxPool: the smallest non-zero distance of an input to
        # zero, of a window's maximum to its second, by the root mean square of the node's input. Where it is below the
        # rounding error of a forward pass, rounding decides which way a gradient goes.
        self.margin = None  # not asked for

    def train_sums(self):
        """What is added to a MatMul's output is that layer's bias; to a joined sequence, its positions. Transposed weights and repeated tokens are trained
        too."""
        made_by = {name: n for n in self.graph["nodes"] for name in n["outputs"]}

        def train(names):
            for name in set(names) & set(self.tensors):
                if self.tensors[name].is_floating_point():
                    self.trained[name] = self.tensors[name].requires_grad_()
        for node in self.graph["nodes"]:
            makers = [made_by.get(name, {"op": None}) for name in node["inputs"]]
            if node["op"] == "Add" and any(m["op"] in ("MatMul", "Concat") for m in makers):
                train(node["inputs"])
            for maker in makers:
                if (node["op"], maker["op"]) in (("MatMul", "Transpose"), ("Concat", "Expand")):
                    train(maker["inputs"])

    def logits(self, image):
        values = {**self.tensors, "": None, self.graph["inputs"][0]: image}
        output = self.graph["output"]
        for node in self.graph["nodes"]:
            if node["outputs"][0] == output and node["op"] == "Softmax":
                return values[node["inputs"][0]]  # cross_entropy applies it
            results = self.apply(node, [values[name] for name in node["inputs"]])
            values.update(zip(node["outputs"], results if isinstance(results, (list, tuple)) else [results]))
        return values[output]

    def apply(self, node, x):
        op, a = node["op"], node["attributes"]
        method = getattr(self, "op_" + op.lower(), None)
        if method is None:
            raise SystemExit(f"torch_trace.py: node {node['name']}: no operator {op}")
        return method(a, x, node)

    def op_conv(self, a, x, _):
        w, bias = x[1], x[2] if len(x) > 2 else None
        strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
        padded = pad(x[0], auto_pads(a, x[0], w.shape[2:], strides, dilations))
        return F.conv2d(padded, w, bias, strides, 0, dilations, a.get("group", 1))

    def op_batchnormalization(self, a, x, node):
        image, scale, shift, mean, var = x
        self.bn_samples[node["inputs"][4]] = (image.numel() // image.shape[1], 1 - a.get("momentum", .9))
        return F.batch_norm(image, mean, var, scale, shift, True, 1 - a.get("momentum", .9), a.get("epsilon", 1e-5))

    def near_kink(self, distance, x):
        distance = distance[distance != 0]
        if distance.numel():
            self.margin = min(self.margin, float(distance.min() / x.square().mean().sqrt()))

    def op_maxpool(self, a, x, _):
        kernel, strides = a["kernel_shape"], a.get("strides", [1, 1])
        pads = auto_pads(a, x[0], kernel, strides, [1, 1])
        padded = pad(x[0], pads, -np.inf)
        if self.margin is not None:
            windows = padded.unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1]).flatten(4)
            first, second = windows.topk(2).values.unbind(-1)
            self.near_kink(first - second, x[0])
        return F.max_pool2d(padded, kernel, strides)

    def op_relu(self, a, x, _):
        if self.margin is not None:
            self.near_kink(x[0].abs(), x[0])
        return F.relu(x[0])

    def op_averagepool(self, a, x, _):
        kernel, strides = a["kernel_shape"], a.get("strides", [1, 1])
        pads = auto_pads(a, x[0], kernel, strides, [1, 1])
        total = F.avg_pool2d(pad(x[0], pads), kernel, strides, divisor_override=1)
        ones = pad(torch.ones_like(x[0]), pads, float(a.get("count_include_pad", 0)))
        return total / F.avg_pool2d(ones, kernel, strides, divisor_override=1)

    def op_gemm(self, a, x, _):
        left = x[0].t() if a.get("transA") else x[0]
        right = x[1].t() if a.get("transB") else x[1]
        product = a.get("alpha", 1.) * (left @ right)
        return product + a.get("beta", 1.) * x[2] if len(x) > 2 else product

    def op_pad(self, a, x, _):
        return pad(x[0], x[1].tolist(), 0.0 if len(x) < 3 or x[2] is None else float(x[2]))

    def op_slice(self, a, x, _):
        starts, ends = x[1].tolist(), x[2].tolist()
        axes = x[3].tolist() if len(x) > 3 else list(range(len(starts)))
        return slice_(x[0], starts, ends, axes, x[4].tolist() if len(x) > 4 else [1] * len(starts))

    def op_reshape(self, a, x, _):
        return x[0].reshape([x[0].shape[i] if n == 0 else n for i, n in enumerate(x[1].tolist())])

    def op_constant(self, a, x, node):
        return torch.from_numpy(self.arrays[a["value"]["tensor"]].copy())

    def op_constantofshape(self, a, x, _):
        value = torch.from_numpy(self.arrays[a["value"]["tensor"]]) if "value" in a else torch.zeros(1)
        return value.reshape(()).expand(x[0].tolist())

    def op_cast(self, a, x, _):
        return x[0].to({1: torch.float32, 6: torch.int32, 7: torch.int64}[a["to"]])

    def op_reducemean(self, a, x, _):
        return x[0].mean(a["axes"], keepdim=bool(a.get("keepdims", 1)))

    def op_clip(self, a, x, _):
        return x[0].clamp(*(None if bound is None else float(bound) for bound in x[1:]))

    def axes(self, a, x, since):
        return a.get("axes") if self.opset < since else x[1].tolist()

    def op_squeeze(self, a, x, _):
        axes = self.axes(a, x, 13)
        return x[0].reshape([n for i, n in enumerate(x[0].shape) if i not in axes])

    def op_unsqueeze(self, a, x, _):
        y = x[0]
        for axis in sorted(self.axes(a, x, 13)):
            y = y.unsqueeze(axis)
        return y

    def op_softmax(self, a, x, _, f=F.softmax):
        if self.opset >= 13:
            return f(x[0], a.get("axis", -1))
        axis = a.get("axis", 1)  # of the matrix that axes in front and axes from here on make
        return f(x[0].flatten(axis), axis).reshape(x[0].shape)

    def op_gather(self, a, x, _):
        axis, index = a.get("axis", 0), x[1]
        y = x[0].index_select(axis, index.reshape(-1))
        return y.reshape([*x[0].shape[:axis], *index.shape, *x[0].shape[axis + 1:]])

    def op_expand(self, a, x, _):
        return x[0].expand(torch.broadcast_shapes(x[0].shape, x[1].tolist()))

    def op_layernormalization(self, a, x, _):
        """Its first output; the axes from axis on are normalised."""
        return F.layer_norm(x[0], x[0].shape[a.get("axis", -1):], x[1], x[2] if len(x) > 2 else None, a.get("epsilon", 1e-5))

    op_leakyrelu = staticmethod(lambda a, x, _: F.leaky_relu(x[0], a.get("alpha", .01)))
    op_sigmoid = staticmethod(lambda a, x, _: torch.sigmoid(x[0]))
    op_tanh = staticmethod(lambda a, x, _: torch.tanh(x[0]))
    op_globalaveragepool = staticmethod(lambda a, x, _: x[0].mean((2, 3), keepdim=True))
    op_matmul = staticmethod(lambda a, x, _: x[0] @ x[1])
    op_add = staticmethod(lambda a, x, _: x[0] + x[1])
    op_sub = staticmethod(lambda a, x, _: x[0] - x[1])
    op_mul = staticmethod(lambda a, x, _: x[0] * x[1])
    op_div = staticmethod(lambda a, x, _: x[0] / x[1])
    op_concat = staticmethod(lambda a, x, _: torch.cat(x, a["axis"]))
    op_split = staticmethod(lambda a, x, _: torch.split(x[0], x[1].tolist(), a.get("axis", 0)))
    op_equal = staticmethod(lambda a, x, _: x[0] == x[1])
    op_where = staticmethod(lambda a, x, _: torch.where(*x))
    op_pow = staticmethod(lambda a, x, _: x[0] ** x[1].detach())
    op_erf = staticmethod(lambda a, x, _: torch.erf(x[0]))
    op_shape = staticmethod(lambda a, x, _: torch.tensor(x[0].shape))
    op_flatten = staticmethod(lambda a, x, _: x[0].flatten(a.get("axis", 1)))
    op_transpose = staticmethod(lambda a, x, _: x[0].permute(a["perm"]))


def read_batches(path):
    """int32 n, N, C, H, W; then per batch N*C*H*W float32 (NCHW) and N int32 labels."""
    raw = path.read_bytes()
    n, *shape = np.frombuffer(raw, np.int32, 5)
    record = np.dtype([("image", np.float32, tuple(shape)), ("label", np.int32, (shape[0],))])
    for batch in np.frombuffer(raw, record, n, 20):
        yield torch.tensor(batch["image"]), torch.tensor(batch["label"]).long()


def write_tensors(folder, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensor in tensors.items():
        tensor.detach().numpy().astype(np.float32).tofile(folder / f"{name.replace('/', '_')}.f32")


def population_variances(network, before, steps):
    """PyTorch moves the running variance by the unbiased variance of each batch, ONNX by the population's. Both are sums
    that decay alike, so what training added to them differs by the factor n / (n - 1), n values per channel."""
    for name, (n, momentum) in network.bn_samples.items():
        start = before[name] * (1 - momentum) ** steps
        network.tensors[name].copy_(start + (network.tensors[name].double() - start) * (n - 1) / n)


def write_margins(network, batches, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as out, torch.no_grad():
        for image, _ in batches:
            network.margin = np.inf
            network.logits(image)
            out.write(f"{network.margin:.9g}\n")


def train(network, batches, args):
    before = {name: t.double() for name, t in network.tensors.items() if not t.requires_grad and t.is_floating_point()}
    optimizer = torch.optim.SGD(network.trained.values(), args.lr, args.momentum, weight_decay=args.weight_decay)
    losses = []
    for _, (image, label) in zip(range(args.steps), batches):
        optimizer.zero_grad()
        loss = F.cross_entropy(network.logits(image), label)
        loss.backward()
        if not losses:
            write_tensors(args.out / "grad-first", {name: t.grad for name, t in network.trained.items()})
        optimizer.step()
        losses.append(float(loss))
    with torch.no_grad():
        population_variances(network, before, len(losses))
    write_tensors(args.out / "final", {name: t for name, t in network.tensors.items() if t.is_floating_point()})
    (args.out / "loss.txt").write_text("".join(f"{loss:.9g}\n" for loss in losses))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("graph", type=pathlib.Path)
    parser.add_argument("batches", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--margins", action="store_true")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    args = parser.parse_args()

    network = Network(args.graph)
    if args.margins:
        write_margins(network, read_batches(args.batches), args.out / "margins.txt")
    else:
        train(network, read_batches(args.batches), args)


if __name__ == "__main__":
    main()
