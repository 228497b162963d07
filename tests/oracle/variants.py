"""Small classifiers for 2x12x12 images that use what the files of testdata don't: old forms of operators, and operators
that its networks have no use for. Made with onnx alone, from fixed seeds."""
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

SHAPE = (2, 12, 12)
N_CLASSES = 10


class Builder:
    """Collects nodes and initialisers of one graph; op() names the node's first output after the node and returns it."""

    def __init__(self, opset, ir_version, seed):
        self.opset, self.ir_version = opset, ir_version
        self.nodes, self.initializers = [], []
        self.rng = np.random.default_rng(seed)

    def tensor(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name, *shape):
        """Kaiming by fan-in: everything but the first axis."""
        std = np.sqrt(2 / np.prod(shape[1:]))
        return self.tensor(name, (self.rng.standard_normal(shape) * std).astype(np.float32))

    def vector(self, name, n, centre=0.0):
        return self.tensor(name, (centre + .1 * self.rng.standard_normal(n)).astype(np.float32))

    def batch_norm(self, x, name, n, outputs, **attributes):
        slots = [self.vector(f"{name}.scale", n, 1.0), self.vector(f"{name}.shift", n), self.vector(f"{name}.mean", n),
                 self.tensor(f"{name}.var", self.rng.uniform(.5, 1.5, n).astype(np.float32))]
        return self.op("BatchNormalization", [x, *slots], name, outputs, **attributes)

    def op(self, op_type, inputs, name, n_outputs=1, **attributes):
        outputs = [name] + [f"{name}.out{i}" for i in range(1, n_outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        return name

    def model(self, output, inputs_too=False):
        """inputs_too: initialisers are graph inputs as well, as IR 3 demands."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *SHAPE])
        logits = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", N_CLASSES])
        declared = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self.initializers if inputs_too]
        graph = helper.make_graph(self.nodes, "variant", [image, *declared], [logits], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir_version)
        checker.check_model(model, full_check=True)
        return model


def opset9():
    """IR 3, opset 9: BatchNormalization with five outputs, auto padding, a grouped convolution, attributes for axes."""
    b = Builder(9, 3, seed=9)
    x = b.op("Conv", ["image", b.weight("conv1.weight", 8, 2, 3, 3)], "conv1", auto_pad="SAME_UPPER", strides=[2, 2])
    x = b.batch_norm(x, "bn1", 8, 5, epsilon=1e-3, momentum=.8)
    x = b.op("Relu", [x], "relu1")
    x = b.op("Conv", [x, b.weight("conv2.weight", 12, 4, 3, 2)], "conv2", group=2, pads=[1, 0, 0, 1])
    x = b.batch_norm(x, "bn2", 12, 5)
    x = b.op("Tanh", [x], "tanh")
    x = b.op("AveragePool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = b.op("ReduceMean", [x], "mean", axes=[2, 3], keepdims=0)
    x = b.op("MatMul", [x, b.weight("fc.weight", 12, N_CLASSES)], "fc")
    return b.model(b.op("Add", [x, b.vector("fc.bias", N_CLASSES)], "logits"), inputs_too=True)


def branches():
    """Opset 17: depthwise and dilated convolutions, Split and Concat, a squeeze-and-excitation gate that broadcasts,
    pooling that counts its padding, a transposed map, a final Softmax."""
    b = Builder(17, 8, seed=17)
    x = b.op("Conv", ["image", b.weight("stem.weight", 8, 2, 3, 3), b.vector("stem.bias", 8)], "stem", pads=[2, 2, 2, 2], dilations=[2, 2])
    x = b.op("LeakyRelu", [x], "leaky", alpha=.1)
    b.op("Split", [x, b.tensor("sizes", np.array([3, 5]))], "left", 2, axis=1)
    left = b.op("Conv", ["left", b.weight("depthwise.weight", 3, 1, 3, 3)], "depthwise", group=3, pads=[1, 1, 1, 1])
    left = b.op("Clip", [left, b.tensor("low", np.float32(0)), b.tensor("high", np.float32(1.5))], "clip")
    right = b.op("AveragePool", ["left.out1"], "smooth", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    right = b.op("Sub", ["left.out1", right], "detail")
    x = b.op("Concat", [right, left], "joined", axis=1)
    gate = b.op("GlobalAveragePool", [x], "squeeze")
    gate = b.op("Conv", [gate, b.weight("gate.weight", 8, 8, 1, 1), b.vector("gate.bias", 8)], "excite")
    x = b.op("Mul", [x, b.op("Sigmoid", [gate], "gate")], "gated")
    x = b.op("Div", [x, b.tensor("two", np.float32(2))], "halved")
    x = b.op("MaxPool", [x], "pool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 0])
    x = b.op("Transpose", [x], "turned", perm=[0, 2, 3, 1])
    x = b.op("Reshape", [x, b.tensor("flat", np.array([0, -1]))], "reshaped")
    x = b.op("Gemm", [x, b.weight("fc.weight", 6 * 6 * 8, N_CLASSES), b.vector("fc.bias", N_CLASSES)], "fc", alpha=.5, beta=2.)
    return b.model(b.op("Softmax", [x], "probabilities", axis=1))


VARIANTS = {"opset9": opset9, "branches": branches}
