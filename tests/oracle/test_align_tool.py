"""papa-align and papa-soup --diagnose on files: networks beside permuted, rewritten, disturbed and foreign ones.

Every model of testdata, its numbers drawn anew (a fresh network has many that are equal), is permuted at random and aligned back: initialisers must come back
bit for bit, in the file's own names, storage and types, and ONNX Runtime must give what the file gave before.
"""
import json
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from common import TESTDATA, Checks, relative_error, run
from rewrites import rewrite

checks = Checks()
ort.set_default_logger_severity(3)


def disturb(model, by, seed):
    """Every float initialiser of more than one number, moved by so many of its own standard deviations (at least a tenth of its size)."""
    rng, other = np.random.default_rng(seed), onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.dtype.kind == "f" and old.size > 1:
            scale = max(old.std(), .1 * np.abs(old).max(), .01)
            new = old + by * scale * rng.standard_normal(old.shape)
            if (old > 0).all():  # a variance, a scale
                new = old * np.exp(.3 * by * rng.standard_normal(old.shape))
            tensor.CopyFrom(numpy_helper.from_array(new.astype(old.dtype), tensor.name))
    return other


def retyped(model, to):
    """A copy in another float type, inputs and outputs too."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(old.astype(to), tensor.name))
    kind = TensorProto.FLOAT16 if to == np.float16 else TensorProto.DOUBLE
    for value in [*other.graph.input, *other.graph.output, *other.graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    return other


def numbers(model):
    """What each tensor of the file holds, in its own order: initialisers, and Constants' attributes."""
    found = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found |= {node.output[0]: a.t for a in node.attribute if a.name == "value"}
    return {name: (t.data_type, list(t.dims), numpy_helper.to_array(t).tobytes()) for name, t in found.items()}


def outputs(path):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        kind = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}[value.type]
        feeds[value.name] = rng.standard_normal(shape).astype(kind)
    return session.run(None, feeds)


def align(*paths, folder, options=()):
    return json.loads(run("papa-align", *paths, "-o", folder, "--json", "--threads", 1, *options))


def check_result(name, before, after):
    """The aligned file is a valid one that computes what its input did."""
    onnx.checker.check_model(str(after), full_check=True)
    a, b = onnx.load(before), onnx.load(after)
    a.ClearField("metadata_props")
    b.ClearField("metadata_props")
    for model in (a, b):
        for tensor in model.graph.initializer:
            tensor.raw_data = b""
            tensor.ClearField("float_data")
            tensor.ClearField("double_data")
            tensor.ClearField("int32_data")
        for node in model.graph.node:
            for attribute in node.attribute:
                attribute.t.raw_data = b""
                attribute.t.ClearField("float_data")
    checks.that(a == b, f"{name}: something else than numbers changed")
    try:
        expected = outputs(before)
    except Exception as e:  # what ONNX Runtime's CPU provider can't run in this type
        checks.that("NOT_IMPLEMENTED" in str(e), f"{name}: {e}")
        return
    for x, y in zip(outputs(after), expected):
        checks.at_most(relative_error(x, y), 2e-2 if x.dtype == np.float16 else 1e-4, f"{name}: outputs differ")


def check_self(name, model, folder, other=None):
    """A model, or the same in another form, comes back from its own permutation."""
    a, form, b, out = folder / "a.onnx", folder / "form.onnx", folder / "b.onnx", folder / "out"
    onnx.save(model, a)
    onnx.save(other or model, form)
    n_groups = int(run("permute_model", form, b, 7))
    report = align(a, b, folder=out)
    known = len(report["groups"])  # a weight that passes through a Concat, say, is a constant, and pins what meets it
    checks.that(n_groups == known if other is None else 0 < n_groups <= known, f"{name}: {n_groups} groups in one form, {known} in the other")
    original, permuted, aligned = (numbers(onnx.load(p)) for p in (form, b, out / "b.onnx"))
    checks.that(original != permuted, f"{name}: nothing was permuted")
    wrong = [n for n in original if aligned.get(n) != original[n]]
    checks.that(original.keys() == aligned.keys() and not wrong, f"{name}: {wrong[:3]} did not come back")
    checks.that(a.read_bytes() == (out / "a.onnx").read_bytes(), f"{name}: the first model is no copy")
    check_result(name, b, out / "b.onnx")
    moved = report["models"][1]
    checks.at_most(moved["distance_after"], 1e-6 * moved["distance_before"], f"{name}: distance")
    checks.that(all(abs(m["cosine_after"] - 1) < 1e-6 for m in moved["moves"]), f"{name}: cosines after aligning")


def check_models(folder):
    names = ["lenet", "mlp", "vgg", "resnet8", "resnet20", "resnet8-projection", "mobilenet-tiny", "densenet-tiny", "vit-tiny"]
    for k, name in enumerate(names):
        model = disturb(onnx.load(TESTDATA / f"{name}.onnx"), .3, k)
        check_self(name, model, folder)
        if name in ("lenet", "resnet8-projection", "densenet-tiny"):
            check_self(f"{name}, rewritten", model, folder, rewrite(model, np.random.default_rng(k))[0])
    small = disturb(onnx.load(TESTDATA / "lenet.onnx"), .3, 1)
    check_self("lenet, float16", retyped(small, np.float16), folder)
    check_self("lenet, double", retyped(small, np.float64), folder)


def write_images(folder, shape, n=64):
    """Random images of two classes as IDX files."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part in ("train", "t10k"):
        head = b"".join(int(x).to_bytes(4, "big") for x in (0x803, n, *shape))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + rng.integers(0, 256, (n, *shape), dtype=np.uint8).tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes((0x801).to_bytes(4, "big") + n.to_bytes(4, "big") + bytes(i % 2 for i in range(n)))


def check_activations(folder):
    """By what the layers read, on random images: channels of residual sums, units and heads of attention, heads in another order too."""
    write_images(folder / "images", (28, 28))
    for name, seed in (("resnet8-projection", 1), ("densenet-tiny", 1), ("vit-tiny", 3), ("vit-tiny", 4)):
        a, b, out = folder / "a.onnx", folder / "b.onnx", folder / "out"
        onnx.save(disturb(onnx.load(TESTDATA / f"{name}.onnx"), .3, 3), a)
        run("permute_model", a, b, seed)
        options = ["--method", "activations", "--data", folder / "images", "--mean", ".5", "--std", ".25", "--batch", 16, "--repair-batches", 4]
        report = align(a, b, folder=out, options=options)
        checks.that(numbers(onnx.load(a)) == numbers(onnx.load(out / "b.onnx")), f"{name}, activations: not all numbers came back")
        units, said = sum(g["units"] for g in report["groups"] if not g["blocks"]), report["models"][1]
        if name != "densenet-tiny":  # which has dead channels
            checks.at_most(abs(said["objective"] - units), 1e-3 * units, f"{name}: correlations of {units} units with themselves")
        heads = [m["moved"] for m, g in zip(said["moves"], report["groups"]) if g["blocks"]]
        checks.that(any(heads) or "vit" not in name, "no heads changed places: permute_model needs another seed")
        if "vit" in name:  # no statistics to be measured anew: the mean of a network and itself is that network
            checks.at_most(abs(said["midpoint_after"]["loss"] - said["score"]["loss"]), 1e-4, f"{name}: score half-way")


def check_three(folder, to):
    """Three noisy, permuted copies of one network: all are brought into the first one's order."""
    model = disturb(onnx.load(TESTDATA / "resnet8-projection.onnx"), .3, 5)
    paths = [folder / f"{k}.onnx" for k in range(3)]
    plain = [disturb(model, .2, 20 + k) for k in range(3)]
    onnx.save(plain[0], paths[0])
    for k in (1, 2):
        onnx.save(plain[k], folder / "plain.onnx")
        run("permute_model", folder / "plain.onnx", paths[k], k)
    align(*paths, folder=folder / "three", options=["--to", to])
    for k in range(3):
        checks.that(numbers(plain[k]) == numbers(onnx.load(folder / "three" / f"{k}.onnx")), f"--to {to}: model {k} is in another order")
        check_result(f"--to {to}", paths[k], folder / "three" / f"{k}.onnx")


def check_diagnosis(folder):
    model = disturb(onnx.load(TESTDATA / "resnet8.onnx"), .3, 9)
    first, noisy, permuted, unrelated, foreign = (folder / f"{n}.onnx" for n in ("first", "noisy", "permuted", "unrelated", "foreign"))
    onnx.save(model, first)
    onnx.save(disturb(model, .2, 1), noisy)
    run("permute_model", first, permuted, 3)
    other = disturb(model, 0, 0)
    rng = np.random.default_rng(4)
    for tensor in other.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array((old.std() * rng.standard_normal(old.shape)).astype(old.dtype), tensor.name))
    onnx.save(other, unrelated)
    foreign.write_bytes((TESTDATA / "lenet.onnx").read_bytes())
    said = json.loads(run("papa-soup", "--diagnose", first, noisy, permuted, unrelated, foreign, "--json"))
    of = dict(zip(("first", "noisy", "permuted", "unrelated", "foreign"), said["models"]))
    expected = {"first": "soup", "noisy": "soup", "permuted": "align", "unrelated": "ensemble", "foreign": "none"}
    for name, advice in expected.items():
        checks.that(of[name]["advice"] == advice, f"diagnosis of {name}: {of[name]['advice']}, expected {advice}")
    checks.that(said["advice"] == "none", "one that is another network spoils them all")
    checks.that(of["noisy"]["same_init"] and of["noisy"]["aligned"], "a noisy copy has the same initialisation and order")
    checks.that(not of["permuted"]["same_init"] and not of["permuted"]["aligned"] and of["permuted"]["moved"] > .9, "a permuted copy shows no order")
    checks.that(not of["unrelated"]["same_init"], "unrelated weights have nothing in common")
    checks.that("lenet" in of["foreign"]["difference"] or "foreign" in of["foreign"]["difference"], "the difference names the file")
    a, b = (numpy_helper.to_array(t).ravel().astype(np.float64) for path in (first, noisy)
            for t in onnx.load(path).graph.initializer if t.name == "stage2.0.conv1.weight")
    tensor = next(t for t in of["noisy"]["tensors"] if t["name"] == "stage2.0.conv1.weight")
    checks.at_most(abs(tensor["cosine"] - a @ b / np.sqrt((a @ a) * (b @ b))), 1e-6, "cosine")
    checks.at_most(abs(tensor["variance_ratio"] - ((a + b) / 2).var() / ((a.var() + b.var()) / 2)), 1e-6, "variance ratio")


with tempfile.TemporaryDirectory() as scratch:
    check_models(pathlib.Path(scratch))
    check_activations(pathlib.Path(scratch))
    check_three(pathlib.Path(scratch), "mean")
    check_three(pathlib.Path(scratch), "cycle")
    check_diagnosis(pathlib.Path(scratch))
checks.finish()
