"""The same network, written otherwise, as other exporters might: with what became of each tensor.

rewrite(model, rng) returns (model, tensors, nodes): tensors[old] = (new, transposed) for every initialiser and Constant of the
main graph, nodes[old] = new name for the nodes that remain.
"""
import copy

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

COMMUTATIVE = {"Add", "Mul", "Sum", "Max", "Min"}


def attribute(node, name, default=None):
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def set_attribute(node, name, value):
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept + ([] if value is None else [helper.make_attribute(name, value)]))


def graphs_of(node):
    for a in node.attribute:
        yield from [a.g] if a.type == AttributeProto.GRAPH else a.graphs


def names_read(node):
    """Everything that a node reads, its subgraphs included."""
    read = [name for name in node.input if name]
    for graph in graphs_of(node):
        inner = {name for n in graph.node for name in n.output} | {t.name for t in graph.initializer} | {v.name for v in graph.input}
        read += [name for n in graph.node for name in names_read(n) if name not in inner]
        read += [v.name for v in graph.output if v.name not in inner]
    return read


def rename(node, names):
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for graph in graphs_of(node):
        for n in graph.node:
            rename(n, names)
        for value in [*graph.output, *graph.value_info]:
            value.name = names.get(value.name, value.name)


class Rewriter:
    def __init__(self, model, rng):
        self.model, self.rng = copy.deepcopy(model), rng
        self.graph = self.model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.n_names = 0
        self.where = {t.name: (t.name, False) for t in self.graph.initializer}
        self.where |= {n.output[0]: (n.output[0], False) for n in self.graph.node if n.op_type == "Constant"}
        self.node_names = {n.name: n.name for n in self.graph.node if n.name}

    def chance(self, p):
        return self.rng.random() < p

    def name(self):
        self.n_names += 1
        return f"rewritten_{self.n_names}"

    def readers(self, name):
        return sum(names_read(n).count(name) for n in self.graph.node) + sum(v.name == name for v in self.graph.output)

    def initializer(self, name):
        return next((t for t in self.graph.initializer if t.name == name), None)

    def insert(self, node, before):
        self.graph.node.insert(list(self.graph.node).index(before), node)

    # ------------------------------------------------------------ the equivalences

    def transpose_stored(self, tensor):
        """Stores a matrix the other way round."""
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array.T), tensor.name))
        old = next(old for old, (new, _) in self.where.items() if new == tensor.name)
        self.where[old] = (tensor.name, not self.where[old][1])

    def transposed_input(self, node, k):
        """Makes input k of a node its own transpose, by storing it so or by a Transpose in front."""
        tensor = self.initializer(node.input[k])
        if tensor is not None and self.readers(tensor.name) == 1 and self.chance(.7):
            self.transpose_stored(tensor)
            return
        name = self.name()
        attributes = dict(perm=[1, 0]) if tensor is None or self.chance(.5) else {}
        self.insert(helper.make_node("Transpose", [node.input[k]], [name], **attributes), node)
        node.input[k] = name

    def flip_trans_b(self, node):
        if node.op_type == "Gemm":
            self.transposed_input(node, 1)
            set_attribute(node, "transB", 1 - attribute(node, "transB", 0))

    def split_gemm(self, node):
        if node.op_type != "Gemm" or attribute(node, "alpha", 1) != 1 or attribute(node, "beta", 1) != 1 or attribute(node, "transA", 0):
            return
        if attribute(node, "transB", 0):
            self.transposed_input(node, 1)
        if len(node.input) < 3 or not node.input[2]:
            del node.input[2:], node.attribute[:]
            node.op_type = "MatMul"
            return
        product = self.name()
        self.insert(helper.make_node("MatMul", node.input[:2], [product], name=self.name()), node)
        node.input[:] = [product, node.input[2]]
        del node.attribute[:]
        node.op_type = "Add"

    def swap_inputs(self, node):
        if node.op_type in COMMUTATIVE:
            node.input[:] = [node.input[i] for i in self.rng.permutation(len(node.input))]

    def insert_nothing(self, node):
        if node.input and node.op_type != "Constant":
            k = int(self.rng.integers(len(node.input)))
            ops = ["Identity", "Identity", "Concat", "Dropout"]
            op = ops[self.rng.integers(len(ops))]
            if not node.input[k] or (op in ("Concat", "Dropout") and (self.initializer(node.input[k]) is not None or node.op_type not in ("Conv", "Relu", "Gemm"))):
                return
            name = self.name()
            self.insert(helper.make_node(op, [node.input[k]], [name], name=self.name(), **(dict(axis=0) if op == "Concat" else {})), node)
            node.input[k] = name

    def say_defaults(self, node):
        defaults = {"Conv": dict(group=1, auto_pad="NOTSET"), "Flatten": dict(axis=1), "MaxPool": dict(ceil_mode=0, storage_order=0), "Gather": dict(axis=0),
                    "LeakyRelu": dict(alpha=.01), "BatchNormalization": dict(epsilon=1e-5, momentum=.7), "Gemm": dict(alpha=1., transB=0)}
        for name, value in defaults.get(node.op_type, {}).items():
            if attribute(node, name) is None:
                set_attribute(node, name, value)
            elif name == "momentum" or (attribute(node, name) in (value, str(value).encode()) and self.chance(.5)):
                set_attribute(node, name, None)

    def store_otherwise(self):
        """Initialiser to Constant and back."""
        for tensor in list(self.graph.initializer):
            if self.chance(.3):
                self.graph.initializer.remove(tensor)
                name, array = tensor.name, numpy_helper.to_array(tensor)
                value = dict(value=tensor)
                if self.opset >= 12 and array.dtype == np.float32 and array.ndim < 2 and self.chance(.3) and array.size == 1:
                    value = dict(value_floats=array.tolist()) if array.ndim else dict(value_float=float(array))
                if self.opset >= 12 and array.dtype == np.int64 and array.ndim < 2 and self.chance(.5) and array.size:
                    value = dict(value_ints=array.tolist()) if array.ndim else dict(value_int=int(array))
                self.graph.node.insert(0, helper.make_node("Constant", [], [name], **value))
        for node in list(self.graph.node):
            if node.op_type == "Constant" and node.attribute[0].name == "value" and self.chance(.3):
                tensor = TensorProto()
                tensor.CopyFrom(node.attribute[0].t)
                tensor.name = node.output[0]
                self.graph.initializer.append(tensor)
                self.graph.node.remove(node)

    def repeat_small(self):
        """Single numbers and integers that several nodes read: one copy each."""
        for tensor in list(self.graph.initializer):
            if tensor.data_type != TensorProto.INT64 and np.prod(tensor.dims, dtype=int) != 1 or self.readers(tensor.name) < 2 or self.chance(.5):
                continue
            for node in self.graph.node:
                for k, name in enumerate(node.input):
                    if name == tensor.name:
                        another = TensorProto()
                        another.CopyFrom(tensor)
                        another.name = node.input[k] = self.name()
                        self.graph.initializer.append(another)

    def shuffle(self):
        """Any other order in which no node comes before what it reads; initialisers in any order."""
        nodes = [self.graph.node[i] for i in self.rng.permutation(len(self.graph.node))]
        made = {name for n in nodes for name in n.output}
        done, order = set(), []
        while nodes:
            node = next(n for n in nodes if all(name in done or name not in made for name in names_read(n)))
            nodes.remove(node)
            order.append(copy.deepcopy(node))
            done |= set(node.output)
        tensors = [copy.deepcopy(self.graph.initializer[i]) for i in self.rng.permutation(len(self.graph.initializer))]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(order)
        self.graph.initializer.extend(tensors)

    def rename_all(self):
        kept = {v.name for v in self.graph.input} if self.chance(.5) else set()
        names = {}
        for name in [v.name for v in self.graph.input] + [t.name for t in self.graph.initializer] + [name for n in self.graph.node for name in n.output if name]:
            if name not in kept:
                names[name] = f"v{self.rng.integers(10 ** 9)}_{len(names)}"
        for node in self.graph.node:
            rename(node, names)
            if node.name:
                new = f"n{self.rng.integers(10 ** 9)}" if self.chance(.9) else ""
                for old, current in self.node_names.items():
                    if current == node.name:
                        self.node_names[old] = new
                        break
                node.name = new
        for thing in [*self.graph.input, *self.graph.output, *self.graph.value_info, *self.graph.initializer]:
            thing.name = names.get(thing.name, thing.name)
        self.where = {old: (names.get(new, new), transposed) for old, (new, transposed) in self.where.items()}

    def run(self, renames=True):
        for change, p in ((self.say_defaults, .4), (self.flip_trans_b, .5), (self.split_gemm, .5), (self.swap_inputs, .5), (self.insert_nothing, .15)):
            for node in list(self.graph.node):
                if self.chance(p):
                    change(node)
        self.repeat_small()
        self.store_otherwise()
        if renames:
            self.rename_all()
        self.shuffle()
        del self.graph.value_info[:]
        return self.model, self.where, self.node_names


def rewrite(model, rng, renames=True):
    return Rewriter(model, rng).run(renames)
