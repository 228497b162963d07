"""Models for test_onnx_roundtrip.py: every storage form, type, IR version and place that a tensor can have."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE]
INTEGERS = [TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8,
            TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64]
SMALL = [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E8M0, TensorProto.INT4, TensorProto.UINT4,
         TensorProto.FLOAT4E2M1, TensorProto.INT2, TensorProto.UINT2, TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2]
COMPLEX = [TensorProto.COMPLEX64, TensorProto.COMPLEX128]
TYPED_FIELD = {"float_data": (4, "I32"), "int32_data": (5, "VARINT"), "int64_data": (7, "VARINT"), "double_data": (10, "I64"),
               "uint64_data": (11, "VARINT")}


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload, wire=2):
    return varint(number << 3 | wire) + (varint(len(payload)) if wire == 2 else b"") + payload


def fields(data):
    """(number, wire type, whole field, payload) of each field of a serialized message."""
    at = 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    out = []
    while at < len(data):
        start = at
        tag = read()
        wire = tag & 7
        if wire == 0:
            body = at
            read()
        else:
            size = read() if wire == 2 else 8 if wire == 1 else 4
            body = at
            at += size
        out.append((tag >> 3, wire, data[start:at], data[body:at]))
    return out


def values_for(rng, data_type, shape):
    """An array of the type with all kinds of values."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    n = int(np.prod(shape))
    if data_type in FLOATS or data_type in COMPLEX:
        a = rng.standard_normal(n) * 10.0 ** rng.integers(-9, 5, n)
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 65519.0, 65520.0, 6e-8, 1e38]
        a[:len(special)] = special[:n]
        if data_type in COMPLEX:
            a = a + 1j * rng.standard_normal(n)
        with np.errstate(over="ignore", invalid="ignore"):
            return a.astype(dtype).reshape(shape)
    if data_type in INTEGERS:
        if data_type == TensorProto.BOOL:
            return rng.integers(0, 2, shape).astype(bool)
        info = np.iinfo(dtype)
        a = rng.integers(info.min, min(info.max, 2 ** 63 - 1), shape, dtype=np.uint64 if info.min == 0 else np.int64, endpoint=True)
        a = a.astype(dtype)
        if n:
            a.flat[0] = info.min
            a.flat[-1] = min(info.max, 2 ** 63 - 1)
        return a
    return rng.integers(0, 2, shape).astype(np.float32).astype(dtype)


def tensor(name, data_type, array, form):
    """form: raw, packed, unpacked or mixed (a packed part, then single items). Returns serialized bytes."""
    if form == "raw":
        return numpy_helper.from_array(array, name).SerializeToString()
    flat = array.flatten()
    if data_type in SMALL:
        raw = numpy_helper.from_array(array, name).raw_data
        t = TensorProto(name=name, data_type=data_type, dims=array.shape)
        if data_type in (TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2):
            t.int32_data.extend(int(x) & 63 for x in flat.view(np.uint8))
        else:
            t.int32_data.extend(raw)
    elif data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        t = TensorProto(name=name, data_type=data_type, dims=array.shape, int32_data=[int(x) for x in flat.view(np.uint16)])
    else:
        t = helper.make_tensor(name, data_type, array.shape, flat)
    if form == "packed":
        return t.SerializeToString()
    out = b""
    for number, wire, whole, payload in fields(t.SerializeToString()):
        kind = next((k for n, k in TYPED_FIELD.values() if n == number), None)
        if kind is None:
            out += whole
            continue
        if kind == "VARINT":
            items, at = [], 0
            for i, byte in enumerate(payload):
                if byte < 128:
                    items.append(payload[at:i + 1])
                    at = i + 1
        else:
            size = 4 if kind == "I32" else 8
            items = [payload[i:i + size] for i in range(0, len(payload), size)]
        cut = len(items) // 2 if form == "mixed" else 0
        out += field(number, b"".join(items[:cut])) if cut else b""
        for item in items[cut:]:
            out += field(number, item, {"VARINT": 0, "I32": 5, "I64": 1}[kind])
    return out


def every_form(rng, sizes=((3, 4), (40, 30), (0, 2), (), (257,))):
    """Serialized tensors: all types in all forms."""
    out = []
    for data_type in FLOATS + INTEGERS + SMALL + COMPLEX:
        for shape in sizes:
            for form in ("raw", "packed", "unpacked", "mixed"):
                name = f"{TensorProto.DataType.Name(data_type)}_{form}_{'x'.join(map(str, shape))}"
                out.append(tensor(name, data_type, values_for(rng, data_type, shape), form))
    out.append(helper.make_tensor("STRING_", TensorProto.STRING, [2, 2], [b"a", b"", b"\xff\x00b", b"d" * 2000]).SerializeToString())
    return out


def model_with(tensors, ir=10, opset=17):
    """A model whose initializers are these serialized tensors."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"], name="id")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])])
    model = helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])
    model.graph.initializer.extend(TensorProto.FromString(t) for t in ())
    body = b"".join(whole if number != 7 else field(7, payload + b"".join(field(5, t) for t in tensors))
                    for number, wire, whole, payload in fields(model.SerializeToString()))
    return body


def shuffled(rng, data, descriptor=onnx.ModelProto.DESCRIPTOR):
    """The same message with its fields in another order (repeated ones keep theirs), strange fields added and lengths
    written with more bytes than they need."""
    groups = {}
    for number, wire, whole, payload in fields(data):
        as_field = descriptor.fields_by_number.get(number)
        if as_field is not None and as_field.message_type is not None and wire == 2:
            inner = shuffled(rng, payload, as_field.message_type)
            length = bytearray(varint(len(inner)))
            if rng.random() < 0.1:
                length[-1] |= 128
                length.append(0)
            whole = varint(number << 3 | 2) + bytes(length) + inner
        groups.setdefault(number, []).append(whole)
    if rng.random() < 0.2:
        groups.setdefault(1000, []).append(field(1000, b"strange" * int(rng.integers(0, 400))))
    if rng.random() < 0.2:
        groups.setdefault(1001, []).append(field(1001, b"\x05\x06\x07\x08", 5))
    if rng.random() < 0.1:
        groups.setdefault(536870911, []).append(field(536870911, b"\x00" * 8, 1))
    if rng.random() < 0.1:
        groups.setdefault(1002, []).append(field(1002, varint(77), 0))
    slots = [number for number, g in groups.items() for _ in g]
    rng.shuffle(slots)
    queues = {number: iter(g) for number, g in groups.items()}
    return b"".join(next(queues[number]) for number in slots)


def mlp(rng, ir=8, opset=17, elem=TensorProto.FLOAT, classes=10, softmax=True, shared=None, hidden=64, form="raw", names="",
        functions=False, subgraph=False, constants=True):
    """A classifier with BatchNormalization: (N, 1, 8, 8) -> classes. shared: a generator for a first layer that members share."""
    dtype = helper.tensor_dtype_to_np_dtype(elem)

    def make(name, *shape, source=None):
        a = ((source or rng).standard_normal(shape) / 8).astype(dtype)
        return onnx.TensorProto.FromString(tensor(names + name, elem, a, form))
    init = [make("w0", 64, 32, source=shared), make("b0", 32, source=shared), make("w1", 32, hidden), make("b1", hidden), make("w2", hidden, classes)]
    init += [numpy_helper.from_array(np.abs(rng.standard_normal(hidden)).astype(dtype) + dtype.type(.5) if i in (0, 3) else
             rng.standard_normal(hidden).astype(dtype), names + n) for i, n in enumerate(("scale", "shift", "mean", "var"))]
    n = lambda s: names + s
    nodes = [helper.make_node("Flatten", ["x"], [n("flat")], name=n("flatten"), axis=1),
             helper.make_node("Gemm", [n("flat"), n("w0"), n("b0")], [n("h0")], name=n("gemm0")),
             helper.make_node("Relu", [n("h0")], [n("r0")], name=n("relu0")),
             helper.make_node("Gemm", [n("r0"), n("w1"), n("b1")], [n("h1")], name=n("gemm1")),
             helper.make_node("BatchNormalization", [n("h1"), n("scale"), n("shift"), n("mean"), n("var")], [n("n1")], name=n("bn"))]
    last = n("n1")
    if constants:
        c = numpy_helper.from_array(np.arange(hidden).astype(dtype) / dtype.type(100), "")
        nodes += [helper.make_node("Constant", [], [n("c")], name=n("const"), value=c),
                  helper.make_node("Add", [last, n("c")], [n("ac")], name=n("addc"))]
        last = n("ac")
    if subgraph:
        inner = lambda op, out: helper.make_graph(
            [helper.make_node(op, [last, n("c")] if op == "Add" else [last], [n(out)], name=n(out + "_node"))], "branch", [],
            [helper.make_tensor_value_info(n(out), elem, None)])
        init.append(numpy_helper.from_array(np.array(True), n("cond")))
        nodes.append(helper.make_node("If", [n("cond")], [n("if")], name=n("if"), then_branch=inner("Add", "then"), else_branch=inner("Relu", "else")))
        last = n("if")
    fs = []
    opsets = [helper.make_opsetid("", opset)]
    if functions:
        fs = [helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", opset)])]
        nodes.append(helper.make_node("Twice", [last], [n("tw")], domain="own", name=n("twice")))
        opsets.append(helper.make_opsetid("own", 1))
        last = n("tw")
    nodes.append(helper.make_node("MatMul", [last, n("w2")], [n("logits")], name=n("matmul")))
    out = n("logits")
    if softmax:
        nodes.append(helper.make_node("Softmax", [n("logits")], [n("probs")], axis=1, name=n("softmax")))
        out = n("probs")
    inputs = [helper.make_tensor_value_info("x", elem, ["N", 1, 8, 8])]
    if ir < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in init]
    graph = helper.make_graph(nodes, "mlp", inputs, [helper.make_tensor_value_info(out, elem, ["N", classes])], init)
    graph.value_info.extend([helper.make_tensor_value_info(n("h0"), elem, ["N", 32]), helper.make_tensor_value_info(n("logits"), elem, ["N", classes])][:1 if not softmax else 2])
    model = helper.make_model(graph, ir_version=ir, opset_imports=opsets, producer_name="papa tests", functions=fs)
    helper.set_model_props(model, {"seed": "7", "papa.kind": "member"})
    return model
