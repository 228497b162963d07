"""Uniform soups against means in exact fractions, for every float type, on numbers that sums of doubles get wrong; and a merged
network in ONNX Runtime.

    merge_files mean OUT MODEL ...     src/soup/merge.h
"""
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from common import TESTDATA, Checks, relative_error, run

# bits of the significand, exponent of the lowest bit that there is, first number beyond the largest; the width of the raw form
TYPES = {
    "FLOAT": (TensorProto.FLOAT, 24, -149, 2**128, np.uint32),
    "FLOAT16": (TensorProto.FLOAT16, 11, -24, 2**16, np.uint16),
    "BFLOAT16": (TensorProto.BFLOAT16, 8, -133, 2**128, np.uint16),
    "DOUBLE": (TensorProto.DOUBLE, 53, -1074, 2**1024, np.uint64),
}
UNIT = -1074  # all numbers are handled as integers, in units of 2^-1074
COUNTS = [1, 2, 3, 4, 5, 7, 16, 37, 70]


def decode(bits, name):
    """Raw elements as integers in units of 2^UNIT; None: infinite or NaN."""
    _, p, lowest, _, word = TYPES[name]
    mantissa_bits = p - 1
    width = np.dtype(word).itemsize * 8
    exponent_bits = width - 1 - mantissa_bits
    values = []
    for b in bits.tolist():
        exponent = b >> mantissa_bits & ((1 << exponent_bits) - 1)
        mantissa = b & ((1 << mantissa_bits) - 1)
        if exponent == (1 << exponent_bits) - 1:
            values.append(None)
            continue
        scale = lowest + max(exponent - 1, 0)
        magnitude = (mantissa | (exponent > 0) << mantissa_bits) << (scale - UNIT)
        values.append(-magnitude if b >> (width - 1) else magnitude)
    return values


def encode_mean(total, n, name):
    """The magnitude bits of total / n, rounded to nearest even: by Python's integers alone."""
    _, p, lowest, _, word = TYPES[name]
    mantissa_bits = p - 1
    exponent_bits = np.dtype(word).itemsize * 8 - 1 - mantissa_bits
    size = abs(total)
    # the weight of the last bit: that of p bits, and no less than the lowest there is
    leading = max((size // n).bit_length() - 1, 0)
    last = max(leading - mantissa_bits, lowest - UNIT)
    quotient, rest = divmod(size, n << last)
    double_rest = 2 * rest - (n << last)
    quotient += double_rest > 0 or (double_rest == 0 and quotient & 1)
    if quotient >> p:  # rounded up to the next power of two
        quotient >>= 1
        last += 1
    exponent = last - (lowest - UNIT) + (quotient >> mantissa_bits)
    if exponent >= (1 << exponent_bits) - 1:
        return ((1 << exponent_bits) - 1) << mantissa_bits
    return (exponent << mantissa_bits) | (quotient & ((1 << mantissa_bits) - 1)) if quotient >> mantissa_bits else quotient


def random_bits(rng, name, n_models, count):
    """Rows of raw elements, none infinite or NaN: random bits; neighbours; one value with its negative; few bits, so that means are
    middles of two; wide cancellations."""
    _, p, _, _, word = TYPES[name]
    width = np.dtype(word).itemsize * 8
    infinity = ((1 << (width - p)) - 1) << (p - 1)
    part = count // 5
    rows = rng.integers(0, 1 << 63, (n_models, count), dtype=np.uint64) * 2 + rng.integers(0, 2, (n_models, count), dtype=np.uint64)
    sign = np.uint64(1) << np.uint64(width - 1)
    rows = rows >> np.uint64(64 - width)
    rows[:, part:2 * part] = rows[:1, part:2 * part] ^ rng.integers(0, 8, (n_models, part), dtype=np.uint64)
    pairs = rows[:, 2 * part:3 * part]
    for k in range(1, n_models, 2):
        pairs[k] = pairs[k - 1] ^ sign ^ (rng.random(part) < 0.1).astype(np.uint64)
    exponent = np.uint64((infinity >> (p - 1)) // 2) << np.uint64(p - 1)
    few = rng.integers(0, 4, (n_models, part), dtype=np.uint64)
    rows[:, 3 * part:4 * part] = exponent + (few if n_models < 4 else few << np.uint64(p - 3))
    near = rows[:, 4 * part:]
    near[:] = exponent + rng.integers(0, 1 << (p - 1), near.shape, dtype=np.uint64) + (rng.integers(0, 2, near.shape, dtype=np.uint64) * sign)
    size = rows & ~sign
    return np.where(size >= infinity, size & np.uint64((1 << (p - 1)) - 1), rows).astype(word)


def write_model(path, name, bits):
    tensor = TensorProto(name="w", data_type=TYPES[name][0], dims=[bits.size], raw_data=bits.tobytes())
    output = helper.make_tensor_value_info("y", TYPES[name][0], [bits.size])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [tensor])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def check_type(checks, folder, name, n, count):
    rng = np.random.default_rng([n, list(TYPES).index(name)])
    rows = random_bits(rng, name, n, count)
    paths = [folder / f"{k}.onnx" for k in range(n)]
    for path, row in zip(paths, rows):
        write_model(path, name, row)
    run("merge_files", "mean", folder / "out.onnx", *paths)
    model = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(model)
    word = TYPES[name][4]
    got = np.frombuffer(model.graph.initializer[0].raw_data, word)
    width = np.dtype(word).itemsize * 8
    columns = [decode(row, name) for row in rows]
    sums = [sum(column) for column in zip(*columns)]
    expected = np.array([encode_mean(total, n, name) for total in sums], np.uint64)
    negative = np.array([total < 0 for total in sums])
    zero = np.array([total == 0 for total in sums])
    size = got.astype(np.uint64) & np.uint64((1 << (width - 1)) - 1)
    sign = got.astype(np.uint64) >> np.uint64(width - 1)
    off = np.abs(size.astype(np.float64) - expected.astype(np.float64)) if name != "DOUBLE" else np.array(
        [abs(int(a) - int(b)) for a, b in zip(size, expected)])
    limit = 1 if name == "DOUBLE" else 0
    wrong = (off > limit) | ((sign != negative) & ~zero)
    what = f"{name}, mean of {n}: {wrong.sum()} of {count} wrong"
    if not checks.that(not wrong.any(), what):
        i = int(np.argmax(wrong))
        print(f"  element {i}: {[hex(v) for v in rows[:, i].tolist()]} gave {hex(int(got[i]))}, expected size {hex(int(expected[i]))}")
    if n == 1:
        checks.that(np.array_equal(got, rows[0]), f"{name}: a soup of one has its elements")


def check_network(checks, folder):
    """Three networks with external data: the checker, and ONNX Runtime's outputs against a network averaged by NumPy."""
    rng = np.random.default_rng(1)
    paths, weights = [], []
    for k in range(3):
        model = onnx.load(TESTDATA / "lenet.onnx")
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array((values + rng.normal(0, 0.02, values.shape)).astype(np.float32), tensor.name))
        weights.append({t.name: numpy_helper.to_array(t) for t in model.graph.initializer})
        paths.append(folder / f"net{k}.onnx")
        onnx.save(model, paths[-1], save_as_external_data=k > 0, location=f"net{k}.bin", size_threshold=0)
    run("merge_files", "mean", folder / "soup.onnx", *paths[1:], paths[0])
    onnx.checker.check_model(str(folder / "soup.onnx"))
    expected = onnx.load(TESTDATA / "lenet.onnx")
    for tensor in expected.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            mean = sum(w[tensor.name].astype(np.float64) for w in weights) / 3
            tensor.CopyFrom(numpy_helper.from_array(mean.astype(np.float32), tensor.name))
    sessions = [onnxruntime.InferenceSession(str(folder / "soup.onnx")), onnxruntime.InferenceSession(expected.SerializeToString())]
    shape = [d if isinstance(d, int) and d > 0 else 4 for d in sessions[0].get_inputs()[0].shape]
    x = rng.normal(0, 1, shape).astype(np.float32)
    ours, theirs = [s.run(None, {s.get_inputs()[0].name: x})[0] for s in sessions]
    checks.at_most(relative_error(ours, theirs), 1e-6, "the soup of three networks in ONNX Runtime")


def main():
    checks = Checks()
    assert encode_mean(3 << -UNIT, 2, "FLOAT") == 0x3fc00000 and encode_mean(1 << (-149 - UNIT), 2, "FLOAT") == 0
    with tempfile.TemporaryDirectory(prefix="papa-merge-") as folder:
        for name in TYPES:
            for n in COUNTS:
                check_type(checks, pathlib.Path(folder), name, n, 5000 if n < 10 else 1500)
        check_network(checks, pathlib.Path(folder))
    checks.finish()


if __name__ == "__main__":
    main()
