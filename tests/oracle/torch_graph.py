"""Turn an ONNX file into what torch_trace.py reads: NumPy arrays and JSON, so that PyTorch's Python needs no onnx."""
import json

import numpy as np
import onnx
from onnx import helper, numpy_helper


def dump_graph(model, path):
    """Write the graph of a ModelProto to path, an .npz file: "graph" is JSON, the arrays it refers to are t0, t1, ..."""
    arrays = []

    def keep(tensor):
        arrays.append(numpy_helper.to_array(tensor))
        return {"tensor": f"t{len(arrays) - 1}"}

    def attribute(a):
        value = helper.get_attribute_value(a)
        if a.type == onnx.AttributeProto.TENSOR:
            return keep(value)
        return value.decode() if isinstance(value, bytes) else list(value) if isinstance(value, (list, tuple)) else value

    graph = model.graph
    initializers = {t.name: keep(t) for t in graph.initializer}
    nodes = [{"op": n.op_type, "name": n.name, "inputs": list(n.input), "outputs": list(n.output),
              "attributes": {a.name: attribute(a) for a in n.attribute}} for n in graph.node]
    inputs = [i.name for i in graph.input if i.name not in initializers]
    text = json.dumps({"inputs": inputs, "output": graph.output[0].name, "initializers": initializers, "nodes": nodes,
                       "opset": next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))})
    np.savez(path, graph=np.frombuffer(text.encode(), np.uint8), **{f"t{i}": a for i, a in enumerate(arrays)})
