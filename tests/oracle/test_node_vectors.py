"""ONNX's own test cases for the operators that papa has, against papa's executor.

onnx.backend.test generates a one-node (or few-node) model, inputs and expected outputs per case. The helper program reads
a folder as ONNX's published test sets have it and writes what it computed:

    run_node [--train] DIR     reads DIR/model.onnx, DIR/input_0.pb, ...; writes DIR/got_0.pb, ...

Models are written the way exporters write them, which is what papa takes: weights, bounds, shapes, axes and the like are
initialisers, and graph inputs are activations. Of a node's outputs, those of type float32 are computed and compared.
--train (for a BatchNormalization in training form): the training forward pass.

Excluded, by the rules in excluded() below and with a count of each: operators that papa does not have, other types than
float32 (and int64, in shapes, indices and axes), pooling and convolution of other than two spatial axes, dropout that
draws numbers, tensors of exponents, activations without elements, and training on the reference device.
"""
import collections
import pathlib
import tempfile

import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from common import REFERENCE, Checks, relative_error, run

OPERATORS = set("""
    Conv BatchNormalization Relu LeakyRelu Clip Sigmoid Tanh MaxPool AveragePool GlobalAveragePool Gemm MatMul Add Sub Mul Div
    Concat Split Slice Pad Reshape Flatten Transpose Squeeze Unsqueeze ReduceMean Dropout Softmax LogSoftmax Identity Cast Constant
    LayerNormalization Neg Abs Reciprocal Sqrt Exp Log Erf Pow Elu Selu Celu HardSigmoid HardSwish Swish Softplus Softsign Mish Gelu
    PRelu InstanceNormalization
""".split())
SPATIAL = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool"}
# Operators whose inputs are all activations; of the others, inputs but the first are initialisers.
ACTIVATIONS = {"Add", "Sub", "Mul", "Div", "MatMul", "Concat"}
OLDEST_OPSET = 7
# Float32 sums of up to a few hundred products, in another order than ONNX's reference takes.
TOLERANCE = 1e-5
# The values that ONNX expects here are typed in with four digits.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}


def elem_type(value):
    return value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else None


def attribute(node, name, default=None):
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def trains(model):
    return any(n.op_type == "BatchNormalization" and attribute(n, "training_mode", 0) for n in model.graph.node)


def excluded(case):
    """Why a case is not run, or None."""
    graph, (inputs, _) = case.model.graph, case.data_sets[0]
    if not {n.op_type for n in graph.node} <= OPERATORS:
        return "an operator that papa does not have"
    if next(o.version for o in case.model.opset_import if o.domain == "") < OLDEST_OPSET:
        return f"an opset before {OLDEST_OPSET}"
    if len(graph.node) > 1:
        return "another operator's function body"
    node = graph.node[0]
    if any(elem_type(v) is None for v in [*graph.input, *graph.output]):
        return "a sequence or an optional"
    if elem_type(graph.output[0]) != TensorProto.FLOAT or graph.input and elem_type(graph.input[0]) != TensorProto.FLOAT:
        return "another type than float32"
    if node.op_type in SPATIAL and inputs[0].ndim != 4:
        return "not two spatial axes"
    if node.op_type == "Dropout" and len(inputs) > 2 and bool(inputs[2]) and (len(inputs) < 2 or float(inputs[1]) > 0):
        return "dropout that draws numbers"
    if node.op_type == "Pow" and inputs[1].size > 1:
        return "more exponents than one"
    if REFERENCE and trains(case.model):
        return "training"
    if any(0 in array.shape for array in inputs[:1]):
        return "an empty activation"
    return None


def as_exported(case):
    """The case's model with initialisers for parameters, its activations, and (index, array) of the outputs to compare."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, (inputs, outputs) = model.graph, case.data_sets[0]
    node = graph.node[0]
    arrays = {value.name: array for value, array in zip(graph.input, inputs)}
    parameters = [] if node.op_type in ACTIVATIONS else [name for name in node.input[1:] if name]
    graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in parameters)
    activations = [v for v in graph.input if v.name not in parameters]
    compared = [(value, array) for value, array in zip(graph.output, outputs) if elem_type(value) == TensorProto.FLOAT]
    if trains(model):
        compared = compared[:1]  # the running statistics are test_torch_agreement's matter
    else:
        for i, name in enumerate(node.output):
            if name not in [value.name for value, _ in compared]:
                node.output[i] = ""
        while not node.output[-1]:
            del node.output[-1]
    values = [onnx.ValueInfoProto() for _ in activations]
    for copy, value in zip(values, activations):
        copy.CopyFrom(value)
    kept = [onnx.ValueInfoProto() for _ in compared]
    for copy, (value, _) in zip(kept, compared):
        copy.CopyFrom(value)
    del graph.input[:], graph.output[:]
    graph.input.extend(values)
    graph.output.extend(kept)
    return model, [arrays[v.name] for v in values], [array for _, array in compared]


def check_case(case, checks, folder):
    model, inputs, outputs = as_exported(case)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    for i, array in enumerate(inputs):
        (folder / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    try:
        run("run_node", *["--train"] * trains(model), folder)
    except RuntimeError as error:
        checks.that(False, f"{case.name}: {error}")
        return
    for i, expected in enumerate(outputs):
        got = numpy_helper.to_array(onnx.load_tensor(folder / f"got_{i}.pb"))
        checks.at_most(relative_error(got, expected), ROUNDED.get(case.name, TOLERANCE), f"{case.name}, output {i}, shape {got.shape} for {expected.shape}")


def main():
    checks, reasons, per_operator = Checks(), collections.Counter(), collections.Counter()
    for case in collect_testcases():
        reason = excluded(case)
        if reason:
            reasons[reason] += 1
            continue
        per_operator[case.model.graph.node[0].op_type] += 1
        with tempfile.TemporaryDirectory() as folder:
            check_case(case, checks, pathlib.Path(folder))
    print(f"{sum(per_operator.values())} cases run:", ", ".join(f"{op} {n}" for op, n in sorted(per_operator.items())))
    print(f"{sum(reasons.values())} cases excluded:", ", ".join(f"{reason} {n}" for reason, n in reasons.most_common()))
    untested = OPERATORS - set(per_operator) - {"Cast"}  # ONNX has no case of it from float32 to float32
    checks.that(not untested, f"no case left for {', '.join(sorted(untested))}")
    checks.finish()


if __name__ == "__main__":
    main()
