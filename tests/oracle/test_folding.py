"""ONNX's own test cases again, as arithmetic that is known when papa builds its graph.

All inputs of a case become initialisers, and each output is turned into float32 and added to a scalar input that is 0: what
arrives there was folded, for papa has no integers at run time. So this tests the host side of the operators that exporters put
around Shape, on every type that papa folds.

    run_node DIR     reads DIR/model.onnx, DIR/input_0.pb; writes DIR/got_0.pb, ...
"""
import collections
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from common import Checks, run

OPERATORS = set("""
    Shape Size ConstantOfShape Range Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not Where Mod Floor Ceil Cast
    Gather Expand Slice Pad Concat Split Transpose Reshape Flatten Squeeze Unsqueeze Identity
""".split())
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
INTEGERS = {TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8,
    TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
OLDEST_OPSET = 7  # to which older cases are raised; of these operators only Not has such, and it is the same
# All but Floor and Ceil of float16 and double, which are held as float32, only moves or compares numbers: 0 tells that they are the same.
# Range in float32 multiplies where ONNX's reference may add.
TOLERANCE = collections.defaultdict(float, Range=1e-6)


def excluded(case):
    graph = case.model.graph
    types = [v.type.tensor_type.elem_type if v.type.HasField("tensor_type") else None for v in [*graph.input, *graph.output]]
    if len(graph.node) != 1 or graph.node[0].op_type not in OPERATORS:
        return "another operator"
    if not set(types) <= FLOATS | INTEGERS:
        return "another type"
    if graph.node[0].op_type == "Cast" and types[0] in FLOATS and types[1] in FLOATS - {TensorProto.FLOAT, TensorProto.DOUBLE}:
        return "rounding to float16, which papa does when it writes"
    if graph.node[0].op_type == "Mod" and types[0] in FLOATS:
        return "a remainder of floats"
    return None


def arrays(case):
    """Inputs and outputs of a case; some of Cast's are tensors."""
    return [[numpy_helper.to_array(a) if isinstance(a, TensorProto) else np.asarray(a) for a in side] for side in case.data_sets[0]]


def folded(case):
    """The case's model as described above."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, (inputs, outputs) = model.graph, arrays(case)
    graph.initializer.extend(numpy_helper.from_array(array, value.name) for value, array in zip(graph.input, inputs))
    names = [value.name for value in graph.output]
    del graph.input[:], graph.output[:]
    for opset in model.opset_import:
        opset.version = max(opset.version, OLDEST_OPSET)
    model.ir_version = max(model.ir_version, 4)  # initialisers that are no inputs
    graph.input.append(helper.make_tensor_value_info("zero", TensorProto.FLOAT, []))
    for name, array in zip(names, outputs):
        graph.node.append(helper.make_node("Cast", [name], [name + "_float"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("Add", [name + "_float", "zero"], [name + "_out"]))
        graph.output.append(helper.make_tensor_value_info(name + "_out", TensorProto.FLOAT, array.shape))
    onnx.checker.check_model(model)
    return model


def same(got, expected, tolerance):
    if got.shape != expected.shape:
        return False
    return np.allclose(got, expected.astype(np.float32), rtol=tolerance, atol=0, equal_nan=True)


def check_case(case, checks, folder):
    onnx.save(folded(case), folder / "model.onnx")
    (folder / "input_0.pb").write_bytes(numpy_helper.from_array(np.zeros((), np.float32)).SerializeToString())
    try:
        run("run_node", folder)
    except RuntimeError as error:
        checks.that(False, f"{case.name}: {error}")
        return
    for i, expected in enumerate(arrays(case)[1]):
        got = numpy_helper.to_array(onnx.load_tensor(folder / f"got_{i}.pb"))
        checks.that(same(got, expected, TOLERANCE[case.model.graph.node[0].op_type]), f"{case.name}, output {i}: {got}, expected {expected}")


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
    checks.that(not OPERATORS - set(per_operator), f"no case left for {', '.join(sorted(OPERATORS - set(per_operator)))}")
    checks.finish()


if __name__ == "__main__":
    main()
