"""Random small networks from papa's operators, made to be hard on the passes over a graph: channels-last values meet
operators that need ONNX's order of axes, residual sums in every form, values with several readers, broadcasting of every
rank, weights that are shared, moved, cast or computed. One seed gives one network, for ever.

Numbers stay harmless by construction: weights are scaled by their fan-in, divisors and variances stay away from 0,
normalisations see several numbers per channel, products of activations are squashed first.
"""
import dataclasses

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

MOST_ELEMENTS = 6000  # of a value


@dataclasses.dataclass(frozen=True)
class Value:
    name: str
    shape: tuple
    raw: bool = False  # depends on an input through no weight: what is added to it or multiplied with it is preprocessing


class Network:
    """graph: the ModelProto; inputs, dy: arrays; trained: names of the tensors that a training has to move."""

    def __init__(self, seed, opset):
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes, self.initializers, self.inputs, self.trained = [], [], {}, set()
        self.stored = []  # (kind, shape, name) of weights that another node may share
        self.values = []
        self.n_names = 0

    # ------------------------------------------------------------ drawing

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, items):
        items = list(items)
        return items[self.rng.integers(len(items))]

    def name(self, stem):
        self.n_names += 1
        return f"{stem}_{self.n_names}"

    # ------------------------------------------------------------ tensors

    def constant(self, array, stem="c", as_tensor=False):
        """Numbers of the file: an initialiser or a Constant node. as_tensor: not as an attribute that is no tensor, which can't be trained."""
        array, name = np.asarray(array), self.name(stem)
        if self.chance(.7):
            self.initializers.append(numpy_helper.from_array(array, name))
        elif self.opset >= 12 and array.dtype == np.float32 and array.ndim == 0 and not as_tensor:
            self.nodes.append(helper.make_node("Constant", [], [name], value_float=float(array)))
        elif self.opset >= 12 and array.dtype == np.int64 and array.ndim == 1 and array.size:
            self.nodes.append(helper.make_node("Constant", [], [name], value_ints=array.tolist()))
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    def ints(self, *numbers):
        return self.constant(np.array(numbers, np.int64), "n")

    def parameter(self, array, trained=True, stem="w"):
        """A float tensor that a node reads, stored in one of the ways that exporters know."""
        array = np.asarray(array, np.float32)
        form = self.pick(["plain"] * 8 + ["identity", "transpose", "reshape", "half", "double", "unsqueeze"])
        if form == "transpose" and array.ndim >= 2:
            perm = self.rng.permutation(array.ndim).tolist()
            stored = self.constant(np.ascontiguousarray(array.transpose(np.argsort(perm))), stem, True)
            name = self.node("Transpose", [stored], perm=perm)
        elif form == "reshape":
            stored = self.constant(array.reshape(-1), stem, True)
            name = self.node("Reshape", [stored, self.ints(*array.shape)])
        elif form in ("half", "double"):
            stored = self.constant(array.astype(np.float16 if form == "half" else np.float64), stem, True)
            name = self.node("Cast", [stored], to=TensorProto.FLOAT)
        elif form == "identity":
            stored = self.constant(array, stem, True)
            name = self.node("Identity", [stored])
        elif form == "unsqueeze" and array.ndim and array.shape[0] == 1:
            stored = self.constant(array[0], stem, True)
            name = self.axes_node("Unsqueeze", stored, [0])
        else:
            name = stored = self.constant(array, stem, True)
        if trained:
            self.trained.add(stored)
        return name

    def weight(self, kind, shape, fan_in):
        """Of a layer; now and then that of another one."""
        same = [name for k, s, name in self.stored if (k, s) == (kind, shape)]
        if same and self.chance(.4):
            return self.pick(same)
        name = self.parameter(self.rng.standard_normal(shape) * np.sqrt(1.5 / fan_in))
        self.stored.append((kind, shape, name))
        return name

    def around(self, centre, shape):
        return (centre + .2 * self.rng.standard_normal(shape)).astype(np.float32)

    # ------------------------------------------------------------ nodes

    def node(self, op, inputs, n_outputs=1, **attributes):
        outputs = [self.name(op.lower()) for _ in range(n_outputs)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=self.name("node"), **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def axes_node(self, op, x, axes, **attributes):
        """Squeeze, Unsqueeze, ReduceMean: axes as attribute or as input."""
        if self.opset >= (18 if op == "ReduceMean" else 13):
            return self.node(op, [x, self.ints(*axes)], **attributes)
        return self.node(op, [x], axes=list(axes), **attributes)

    def put(self, op, x, shape=None, extra=(), raw=None, **attributes):
        """A node that reads the value x and whatever extra names; returns its value."""
        return Value(self.node(op, [x.name, *extra], **attributes), tuple(x.shape if shape is None else shape), x.raw if raw is None else raw)

    # ------------------------------------------------------------ layers

    def conv(self, x):
        spatial, channels = x.shape[2:], x.shape[1]
        group = self.pick([g for g in (1, 1, 1, 2, 3, channels) if channels % g == 0])
        outputs = group * self.pick([1, 2, 3, 5] if group > 1 else [2, 3, 4, 6, 8, 16])
        kernel = [self.pick([1, 3, min(2, n), 3]) for n in spatial]
        strides, dilations = [self.pick([1, 1, 2]) for _ in spatial], [self.pick([1, 1, 1, 2]) for _ in spatial]
        span = [d * (k - 1) + 1 for k, d in zip(kernel, dilations)]
        attributes = dict(kernel_shape=kernel, strides=strides, dilations=dilations, group=group)
        mode = self.pick(["pads", "pads", "same", "SAME_UPPER", "SAME_LOWER", "VALID"])
        if mode == "same":
            strides[:] = [1] * len(spatial)
            pads = [(s - 1) // 2 for s in span] + [s - 1 - (s - 1) // 2 for s in span]
        else:
            pads = [int(self.rng.integers(0, 3)) for _ in range(2 * len(spatial))]
        out = [(n + pads[i] + pads[i + len(spatial)] - span[i]) // strides[i] + 1 for i, n in enumerate(spatial)]
        if mode.startswith("SAME"):
            attributes |= dict(auto_pad=mode, dilations=[1] * len(spatial))
            out = [-(-n // s) for n, s in zip(spatial, strides)]
        elif mode == "VALID":
            attributes["auto_pad"] = mode
            out = [(n - s) // stride + 1 for n, s, stride in zip(spatial, span, strides)]
        else:
            attributes["pads"] = pads
        if min(out) < 1:
            return None
        if self.chance(.2) and not mode.startswith("SAME"):
            del attributes["kernel_shape"]
        w = self.weight("conv", (outputs, channels // group, *kernel), channels // group * np.prod(kernel))
        extra = [w] + ([self.parameter(self.around(0, outputs), stem="b")] if self.chance(.6) else [])
        return self.put("Conv", x, (x.shape[0], outputs, *out), extra, raw=False, **attributes)

    def norm(self, x):
        if x.shape[0] * int(np.prod(x.shape[2:])) < 4:
            return None
        c = x.shape[1]
        slots = [self.parameter(self.around(1, c), stem="scale"), self.parameter(self.around(0, c), stem="shift"),
                 self.constant(self.around(0, c), "mean"), self.constant(self.rng.uniform(.5, 1.5, c).astype(np.float32), "var")]
        return self.put("BatchNormalization", x, extra=slots, raw=False, epsilon=self.pick([1e-5, 1e-3]), momentum=.8)

    def layer_norm(self, x):
        axis = int(self.rng.integers(1, len(x.shape)))
        shape = x.shape[axis:]
        if self.opset < 17 or np.prod(shape) < 4:
            return None
        slots = [self.parameter(self.around(1, shape), stem="scale")]
        if self.chance(.8):
            slots.append(self.parameter(self.around(0, shape), stem="shift"))
        attributes = {} if axis == len(x.shape) - 1 and self.chance(.5) else dict(axis=self.pick([axis, axis - len(x.shape)]))
        return self.put("LayerNormalization", x, extra=slots, raw=False, epsilon=self.pick([1e-5, 1e-3]), **attributes)

    def tokens(self, x):
        """Learned rows in front of a sequence, or behind it."""
        n, length, d = x.shape
        k = self.pick([1, 1, 2])
        if d < 2:
            return None
        tokens = self.node("Expand", [self.parameter(self.around(0, (1, k, d)), not x.raw, "t"), self.ints(n, k, d)])
        return Value(self.node("Concat", self.pick([[tokens, x.name], [x.name, tokens]]), axis=self.pick([1, -2]) if self.opset >= 11 else 1),
                     (n, length + k, d), x.raw)

    def activation(self, x):
        op = self.pick(["Relu"] * 4 + ["LeakyRelu", "Clip", "Sigmoid", "Tanh"])
        if op == "LeakyRelu":
            return self.put(op, x, alpha=.2)
        if op != "Clip":
            return self.put(op, x)
        low, high = self.pick([(0., 6.), (-.5, .7), (None, .4), (-.3, None)])
        if self.opset < 11:
            return self.put(op, x, **{k: v for k, v in (("min", low), ("max", high)) if v is not None})
        bounds = ["" if v is None else self.constant(np.float32(v)) for v in (low, high)]
        return self.put(op, x, extra=bounds if bounds[1] else bounds[:1])

    # Operators and their attributes, with the opset that brought them; in later ones ONNX Runtime does not know Swish.
    FUNCTIONS = [(7, "Neg", {}), (7, "Exp", {}), (7, "Log", {}), (7, "Sqrt", {}), (7, "Reciprocal", {}), (7, "Pow", {}), (7, "Pow", {}), (7, "Abs", {}),
                 (9, "Erf", {}), (7, "Elu", {}), (7, "Elu", dict(alpha=.6)), (7, "Selu", {}), (12, "Celu", dict(alpha=.7)),
                 (7, "HardSigmoid", {}), (7, "HardSigmoid", dict(alpha=1 / 6)), (14, "HardSwish", {}), (7, "Softplus", {}), (7, "Softsign", {}),
                 (18, "Mish", {}), (20, "Gelu", {}), (20, "Gelu", dict(approximate="tanh")), (24, "Swish", dict(alpha=1.5))]

    def function(self, x):
        _, op, attributes = self.pick([f for f in self.FUNCTIONS if f[0] <= self.opset and (f[1] != "Swish" or self.opset == 24)])
        x = self.put("Tanh", x) if op == "Exp" else self.bounded(x) if op in ("Log", "Sqrt", "Reciprocal", "Pow") else x
        exponent = [self.constant(np.float32(self.pick([2, 2, 3, .5, -1])))] if op == "Pow" else []
        return self.put(op, x, extra=exponent, **attributes)

    def pool(self, x):
        spatial = x.shape[2:]
        if self.chance(.15):
            return self.put(self.pick(["GlobalAveragePool", "GlobalMaxPool"]), x, (*x.shape[:2], *[1] * len(spatial)))
        op = self.pick(["MaxPool", "AveragePool"])
        kernel, strides = [self.pick([2, 3, 1]) for _ in spatial], [self.pick([1, 2, 2]) for _ in spatial]
        attributes = dict(kernel_shape=kernel, strides=strides)
        if self.chance(.2):
            attributes["auto_pad"] = mode = self.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
            strides[:] = map(min, zip(strides, kernel))  # else ONNX Runtime finds its own padding negative
            out = [(n - k) // s + 1 if mode == "VALID" else -(-n // s) for n, k, s in zip(spatial, kernel, strides)]
        else:
            attributes["pads"] = pads = [int(self.rng.integers(0, k)) for k in kernel * 2]
            out = [(n + pads[i] + pads[i + len(spatial)] - kernel[i]) // strides[i] + 1 for i, n in enumerate(spatial)]
        if op == "AveragePool" and self.chance(.5):
            attributes["count_include_pad"] = 1
        return self.put(op, x, (*x.shape[:2], *out), **attributes) if min(out) >= 1 else None

    def linear(self, x):
        n, out = x.shape[-1], self.pick([2, 3, 5, 8, 16])
        if len(x.shape) != 2 or self.chance(.4):
            if len(x.shape) == 2 and self.chance(.15):  # from the left
                w = self.weight("left", (out, x.shape[0]), x.shape[0])
                return Value(self.node("MatMul", [w, x.name]), (out, n))
            y = self.put("MatMul", x, (*x.shape[:-1], out), [self.weight("matmul", (n, out), n)], raw=False)
            if self.chance(.5):
                bias = self.parameter(self.around(0, out), stem="b")
                y = Value(self.node("Add", self.pick([[y.name, bias], [bias, y.name]])), y.shape)
            return y
        trans_b, trans_a = self.chance(.5), self.chance(.2)
        rows = x.shape[0]
        attributes = dict(transB=1) if trans_b else {}
        w = self.weight("gemm", (out, n) if trans_b else (n, out), n)
        if self.chance(.4):
            attributes |= dict(alpha=.5, beta=self.pick([1., 2.]))
        c = []
        if self.opset < 11 or self.chance(.7):
            shape = self.pick([(out,), (out,), (1, out), (1,), (rows, 1), (rows, out)])
            c = [self.parameter(self.around(0, shape), stem="b")]
        if trans_a:
            x = self.put("Transpose", x, (n, rows), perm=[1, 0])
            attributes["transA"] = 1
        return self.put("Gemm", x, (rows, out), [w, *c], raw=False, **attributes)

    def attention(self, x):
        if len(x.shape) < 3 or x.shape[-1] < 2:
            return None
        perm = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
        q, k = (self.put("Tanh", self.linear(x)) for _ in range(2))
        if q.shape != k.shape:
            k = self.put("Sigmoid", q)
        scores = Value(self.node("MatMul", [q.name, self.put("Transpose", k, perm=perm).name]), (*x.shape[:-1], x.shape[-2]))
        scores = self.put("Mul", scores, extra=[self.constant(np.float32(.3))])
        return Value(self.node("MatMul", [self.put("Softmax", scores, axis=len(x.shape) - 1).name, x.name]), x.shape, x.raw)

    # ------------------------------------------------------------ sums and broadcasting

    def residual(self, x):
        """Two branches of one shape, added, with or without a Relu: every mix of normalised, plain and repeated."""
        def branch():
            kind = self.pick(["norm", "norm", "same", "activation"])
            y = self.norm(x) if kind == "norm" else self.activation(x) if kind == "activation" else x
            return y or x
        a, b = branch(), branch()
        if self.chance(.15):
            b = a
        y = self.binary("Add" if self.chance(.9) else "Sum", a, b)
        if self.chance(.2) and a is not x:
            self.values.append(a)  # read again later
        return self.put("Relu", y) if self.chance(.6) else y

    def binary(self, op, a, b):
        return Value(self.node(op, [a.name, b.name]), np.broadcast_shapes(a.shape, b.shape), a.raw or b.raw)

    def with_tensor(self, x):
        """x and a tensor of the file, which broadcasts in one of many ways."""
        rank = len(x.shape)
        full = list(x.shape)
        for i in range(rank):
            if self.chance(.5) or i == 0:
                full[i] = 1
        shape = full[self.rng.integers(0, rank + 1):] if self.chance(.6) else self.pick([[], [1], [*x.shape[1:2], *[1] * (rank - 2)], full])
        op, first = self.pick(["Add", "Add", "Sub", "Mul", "Mul", "Div"]), self.chance(.25)
        count = int(np.prod(shape))
        trained = not x.raw and count > 1 and (op in ("Add", "Mul") or (op == "Sub" and not first))
        if op == "Div" and first:
            x = self.bounded(x)
        name = self.parameter(self.around(0 if op in ("Add", "Sub") else 1.2, shape), trained, "t")
        return Value(self.node(op, [name, x.name] if first else [x.name, name]), x.shape, x.raw)

    def bounded(self, x):
        """In (.5, 1.5): to divide by."""
        return self.put("Add", self.put("Sigmoid", x), extra=[self.constant(np.float32(.5))])

    def with_value(self, x):
        """x and another value, or a reduced form of itself, of whatever rank."""
        def fits(v):
            try:
                return np.prod(np.broadcast_shapes(v.shape, x.shape)) <= MOST_ELEMENTS
            except ValueError:
                return False
        other = self.mean(x) if self.chance(.5) else self.pick([v for v in self.values if fits(v)] or [x])
        if not fits(other):
            return None
        op = self.pick(["Add", "Sub", "Mul", "Div", "Sum"])
        a, b = (self.put("Tanh", x) if op == "Mul" else x), (self.bounded(other) if op == "Div" else other)
        return self.binary(op, *((b, a) if op != "Div" and self.chance(.4) else (a, b)))

    def beside(self, x):
        """x and a sequence made of its mean image: channels-last in its own right, and of one rank less."""
        h, w = x.shape[2:]
        image = Value(self.axes_node("ReduceMean", x.name, [0, 1], keepdims=0), (h, w), x.raw)
        image = Value(self.axes_node("Unsqueeze", image.name, [0]), (1, h, w), x.raw)
        y = self.put("Conv", image, extra=[self.weight("conv", (h, h, 1), h)], raw=False)
        return self.binary(self.pick(["Add", "Sub", "Sum"]), *((x, y) if self.chance(.7) else (y, x)))

    # ------------------------------------------------------------ moving, cutting, reducing

    def mean(self, x):
        rank = len(x.shape)
        axes = sorted(self.rng.permutation(rank)[:self.rng.integers(1, rank)].tolist()) if rank > 1 else [0]
        keep = self.chance(.5)
        shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
        given = [a - rank if self.chance(.3) and self.opset >= 11 else a for a in axes]
        return Value(self.axes_node("ReduceMean", x.name, given, keepdims=int(keep)), tuple(shape), x.raw)

    def softmax(self, x):
        axis = int(self.rng.integers(0 if self.opset >= 13 else 1, len(x.shape)))
        return self.put(self.pick(["Softmax", "Softmax", "LogSoftmax"]), x, axis=axis)

    def concat(self, x):
        axis = int(self.rng.integers(0, len(x.shape)))
        parts = [x] + [self.activation(x) for _ in range(self.rng.integers(1, 3))]
        def beside_axis(shape):
            return len(shape), shape[:axis], shape[axis + 1:]
        parts += [v for v in self.values[-6:] if beside_axis(v.shape) == beside_axis(x.shape)][:1]
        parts = [parts[i] for i in self.rng.permutation(len(parts))]
        shape = list(x.shape)
        shape[axis] = sum(v.shape[axis] for v in parts)
        return Value(self.node("Concat", [v.name for v in parts], axis=axis), tuple(shape), any(v.raw for v in parts))

    def split(self, x):
        axes = [i for i, n in enumerate(x.shape) if n >= 2]
        if not axes:
            return None
        axis = self.pick(axes)
        n = x.shape[axis]
        first = int(self.rng.integers(1, n))
        sizes, attributes, extra = [first, n - first], dict(axis=axis), []
        if self.opset >= 18 and self.chance(.3):
            attributes["num_outputs"] = 2
            sizes = [-(-n // 2), n // 2]
        elif n % 2 == 0 and self.opset < 18 and self.chance(.3):
            sizes = [n // 2] * 2
        elif self.opset >= 13:
            extra = [self.ints(*sizes)]
        else:
            attributes["split"] = sizes
        names = self.node("Split", [x.name, *extra], 2, **attributes)
        parts = [Value(name, (*x.shape[:axis], size, *x.shape[axis + 1:]), x.raw) for name, size in zip(names, sizes)]
        use = self.pick(["swap", "swap", "one", "keep"])
        if use == "swap":
            b = self.activation(parts[1]) if self.chance(.5) else parts[1]
            return Value(self.node("Concat", [b.name, parts[0].name], axis=axis), x.shape, x.raw)
        if use == "keep":
            self.values.append(parts[0])
        return parts[1]

    def slice(self, x):
        axes = sorted(self.rng.permutation(len(x.shape))[:self.rng.integers(1, len(x.shape) + 1)].tolist())
        starts, ends, steps, shape = [], [], [], list(x.shape)
        for axis in axes:
            n = x.shape[axis]
            step = self.pick([1, 1, 2, -1]) if self.opset >= 10 else 1
            start, end = n - 1, -n - 1
            if step > 0:
                start, end = int(self.rng.integers(0, (n + 1) // 2)), self.pick([n, n, 2 ** 31 - 1, max(n - 1, (n + 1) // 2)])
            shape[axis] = len(range(n)[start:None if step < 0 else end:step])
            starts, ends, steps = starts + [start], ends + [end], steps + [step]
        if self.opset < 10:
            return self.put("Slice", x, shape, axes=axes, starts=starts, ends=ends)
        return self.put("Slice", x, shape, [self.ints(*starts), self.ints(*ends), self.ints(*axes), self.ints(*steps)])

    def pad(self, x):
        pads = [int(p) for p in self.rng.integers(0, 3, 2 * len(x.shape))]
        pads[0] = pads[len(x.shape)] = 0  # not the batch
        mode = self.pick(["constant", "constant", "reflect", "edge"])
        shape = [n + pads[i] + pads[i + len(x.shape)] for i, n in enumerate(x.shape)]
        if mode == "reflect" and any(max(pads[i], pads[i + len(x.shape)]) >= n for i, n in enumerate(x.shape)):
            mode = "constant"
        if np.prod(shape) > MOST_ELEMENTS:
            return None
        if self.opset < 11:
            return self.put("Pad", x, shape, mode=mode, pads=pads, value=.5)
        value = [self.constant(np.float32(.5))] if mode == "constant" and self.chance(.5) else []
        return self.put("Pad", x, shape, [self.ints(*pads), *value], mode=mode)

    def transpose(self, x):
        perm = self.rng.permutation(len(x.shape)).tolist()
        if self.chance(.2):
            perm = perm[::-1] if perm == sorted(perm) else [*range(len(perm))][::-1]
            return self.put("Transpose", x, [x.shape[i] for i in perm])
        return self.put("Transpose", x, [x.shape[i] for i in perm], perm=perm)

    def gather(self, x):
        axis = int(self.rng.integers(0, len(x.shape)))
        index = self.rng.integers(0, x.shape[axis], self.pick([(3,), (2, 2), ()])).astype(np.int64)
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1:])
        return self.put("Gather", x, shape, [self.constant(index, "n")], axis=axis) if 1 < len(shape) < 6 else None

    def expand(self, x):
        shape = [self.pick([2, 3]) if n == 1 else n for n in x.shape]
        if len(shape) < 4 and self.chance(.3):
            shape = [2] + shape
        return self.put("Expand", x, shape, [self.ints(*shape)]) if np.prod(shape) <= MOST_ELEMENTS else None

    def reshape(self, x):
        form = "squeeze" if 1 in x.shape[1:] and self.chance(.5) else self.pick(["flatten", "flatten", "merge", "split", "shape", "unsqueeze"])
        rank, count = len(x.shape), int(np.prod(x.shape))
        if form == "flatten":
            axis = self.pick([1, 1, 1, int(self.rng.integers(0, rank + 1))])
            return self.put("Flatten", x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))), axis=axis)
        if form == "merge":
            return self.put("Reshape", x, (x.shape[0], count // x.shape[0]), [self.ints(0, -1)])
        if form == "split":
            c = x.shape[1] if rank > 1 else x.shape[0]
            d = self.pick([d for d in range(1, c + 1) if c % d == 0])
            shape = (x.shape[0], d, c // d, *x.shape[2:]) if rank > 1 else (d, c // d)
            return self.put("Reshape", x, shape, [self.ints(*shape)]) if len(shape) < 6 else None
        if form == "shape":  # Shape, Gather, Unsqueeze, Concat: as PyTorch exports x.view(x.size(0), -1)
            size = self.node("Gather", [self.node("Shape", [x.name]), self.constant(np.int64(0))], axis=0)
            target = self.node("Concat", [self.axes_node("Unsqueeze", size, [0]), self.ints(-1)], axis=0)
            return self.put("Reshape", x, (x.shape[0], count // x.shape[0]), [target])
        if form == "squeeze":
            axes = [i for i, n in enumerate(x.shape) if n == 1 and i]
            return Value(self.axes_node("Squeeze", x.name, axes), tuple(n for i, n in enumerate(x.shape) if i not in axes), x.raw)
        axis = int(self.rng.integers(0, rank + 1))
        return Value(self.axes_node("Unsqueeze", x.name, [axis]), (*x.shape[:axis], 1, *x.shape[axis:]), x.raw) if rank < 4 else None

    def passing(self, x):
        op = self.pick(["Identity", "Dropout", "Cast"])
        return self.put(op, x, **(dict(to=TensorProto.FLOAT) if op == "Cast" else {}))

    # ------------------------------------------------------------ the whole

    ANY = ["activation"] * 3 + ["with_tensor"] * 3 + ["with_value"] * 2 + [
        "function", "concat", "split", "slice", "pad", "transpose", "mean", "softmax", "gather", "expand", "reshape", "passing", "residual"]
    IMAGE = ["conv"] * 7 + ["norm"] * 3 + ["layer_norm"] + ["residual"] * 4 + ["pool"] * 3 + ["beside"]
    SEQUENCE = ["linear"] * 3 + ["layer_norm"] * 2 + ["attention", "tokens", "conv", "norm", "pool"]
    MATRIX = ["linear"] * 5 + ["norm", "layer_norm"]

    def step(self, x):
        rank = len(x.shape)
        kinds = self.ANY + (self.IMAGE if rank == 4 else self.SEQUENCE if rank == 3 else self.MATRIX if rank == 2 else [])
        if rank == 4 and x.raw and self.chance(.7):
            kinds = ["conv"]
        if rank < 2:
            kinds = ["activation", "with_tensor", "with_value", "reshape"]
        y = getattr(self, self.pick(kinds))(x)
        return y if y and y.shape and 0 < np.prod(y.shape) <= MOST_ELEMENTS and len(y.shape) < 6 else None

    def add_input(self, name, shape):
        self.inputs[name] = self.rng.standard_normal(shape).astype(np.float32)
        self.values.append(Value(name, shape, raw=True))

    def build(self):
        batch = self.pick([1, 2, 5])
        kind = self.pick(["image"] * 6 + ["matrix", "sequence"])
        size = self.pick([3, 4, 5, 8, 9])
        if kind == "image":
            self.add_input("x", (batch, self.pick([1, 2, 3, 4]), size, self.pick([size, 6])))
        else:
            self.add_input("x", (batch, 6) if kind == "matrix" else (batch, self.pick([2, 5]), size))
        if self.chance(.1):
            self.add_input("x2", self.values[0].shape)
        for _ in range(self.rng.integers(4, 14)):
            x = self.values[-1] if self.chance(.8) else self.pick(self.values)
            y = self.step(x)
            if y:
                self.values.append(y)
        if self.chance(.5):
            self.head()
        return self.model()

    def head(self):
        x = self.values[-1]
        if len(x.shape) > 2:
            self.values.append(x := self.put("Flatten", x, (x.shape[0], int(np.prod(x.shape[1:]))), axis=1))
        if len(x.shape) == 2:
            self.values.append(self.linear(x))
            if self.chance(.4):
                self.values.append(self.softmax(self.values[-1]))

    def model(self):
        candidates = [v for v in self.values if v.name not in self.inputs] or [self.put("Relu", self.values[0])]
        outputs = [candidates[-1]] + [v for v in candidates[:-1] if self.chance(.1)]
        self.n_outputs, self.output_shapes = len(outputs), [v.shape for v in outputs]
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "random", [info(n, TensorProto.FLOAT, a.shape) for n, a in self.inputs.items()],
                                  [info(v.name, TensorProto.FLOAT, v.shape) for v in outputs], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8 if self.opset < 19 else 10)
        checker.check_model(model, full_check=True)
        self.dy = self.rng.standard_normal(outputs[0].shape).astype(np.float32)
        reached = needed_tensors(model, [v.name for v in outputs])
        self.trained &= reached
        return model


def needed_tensors(model, outputs):
    """Names of everything that the outputs depend on."""
    makers = {name: node for node in model.graph.node for name in node.output}
    seen, pending = set(), list(outputs)
    while pending:
        name = pending.pop()
        if name and name not in seen:
            seen.add(name)
            pending.extend(makers[name].input if name in makers else [])
    return seen
