#!/usr/bin/env python3
"""Compares proto/onnx.proto with the descriptor of the installed onnx package, in both directions.

usage: test_schema.py [onnx.proto]      Needs protoc-c and the onnx package. Exit 0: the same wire contract."""
import os
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2
import onnx

HERE = os.path.dirname(os.path.abspath(__file__))


def ours(path):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        subprocess.run(["protoc-c", "--proto_path=" + os.path.dirname(path), "--descriptor_set_out=" + out, path], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(open(out, "rb").read())
    return files.file[0]


def theirs():
    file = descriptor_pb2.FileDescriptorProto()
    onnx.ModelProto.DESCRIPTOR.file.CopyToProto(file)
    return file


def facts_of_enum(prefix, enum):
    return {f"enum {prefix}{enum.name}.{v.name} = {v.number}" for v in enum.value}


def facts_of_message(prefix, message):
    name = prefix + message.name
    facts = {f"message {name}"}
    for f in message.field:
        kind = descriptor_pb2.FieldDescriptorProto.Type.Name(f.type) + " " + f.type_name
        label = descriptor_pb2.FieldDescriptorProto.Label.Name(f.label)
        oneof = message.oneof_decl[f.oneof_index].name if f.HasField("oneof_index") else "-"
        facts.add(f"field {name}.{f.name} = {f.number}: {label} {kind}, oneof {oneof}, packed {f.options.packed}, "
                  f"default {f.default_value!r}")
    for m in message.nested_type:
        facts |= facts_of_message(name + ".", m)
    for e in message.enum_type:
        facts |= facts_of_enum(name + ".", e)
    return facts


def facts_of_file(file):
    facts = {f"package {file.package}", f"syntax {file.syntax or 'proto2'}"}
    for m in file.message_type:
        facts |= facts_of_message("", m)
    for e in file.enum_type:
        facts |= facts_of_enum("", e)
    return facts


def main():
    path = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../proto/onnx.proto"))
    a, b = facts_of_file(ours(path)), facts_of_file(theirs())
    for fact in sorted(b - a):
        print("missing here: ", fact)
    for fact in sorted(a - b):
        print("only here:    ", fact)
    print(f"{len(a & b)} facts agree with onnx {onnx.__version__}, {len(a ^ b)} differ")
    return 1 if a != b or len(b) < 200 else 0


sys.exit(main())
