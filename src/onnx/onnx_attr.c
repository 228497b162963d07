/* Attributes of a node, read with a default. */
#include "onnx/onnx_internal.h"

#include <string.h>

const char *papa_node_label(const Onnx__NodeProto *node)
{
    static _Thread_local char label[512];
    const char *type = node->op_type ? node->op_type : "";
    if (node->name && *node->name)
        snprintf(label, sizeof label, "%.100s node '%.200s'", type, node->name);
    else if (node->n_output)
        snprintf(label, sizeof label, "%.100s node with output '%.200s'", type, node->output[0]);
    else
        snprintf(label, sizeof label, "%.100s node without name and output", type);
    return label;
}

const Onnx__AttributeProto *papa_attr_find(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && !strcmp(node->attribute[i]->name, name))
            return node->attribute[i];
    return NULL;
}

static const char *attribute_type_name(int type)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(&onnx__attribute_proto__attribute_type__descriptor, type);
    return value ? value->name : "unknown";
}

/* Finds the attribute and checks that it has this type. *out is NULL where it is absent. A missing value is not an
 * error: writers of proto3 leave zeros out. */
static PapaStatus find_typed(const Onnx__AttributeProto **out, const Onnx__NodeProto *node, const char *name,
    Onnx__AttributeProto__AttributeType type)
{
    const Onnx__AttributeProto *attr = papa_attr_find(node, name);
    *out = attr;
    if (!attr)
        return PAPA_OK;
    if (attr->ref_attr_name && *attr->ref_attr_name)
        return papa_fail(PAPA_ERR_FORMAT, "%s: attribute '%s' refers to a function's attribute '%.200s'", papa_node_label(node), name,
            attr->ref_attr_name);
    if (attr->type != type)
        return papa_fail(PAPA_ERR_FORMAT, "%s: attribute '%s' is of type %s, %s expected", papa_node_label(node), name,
            attribute_type_name((int)attr->type), attribute_type_name((int)type));
    return PAPA_OK;
}

#define FIND(type) PAPA_TRY(find_typed(&attr, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##type))

PapaStatus papa_attr_int(const Onnx__NodeProto *node, const char *name, int64_t fallback, int64_t *out)
{
    const Onnx__AttributeProto *attr;
    FIND(INT);
    *out = attr ? attr->i : fallback;
    return PAPA_OK;
}

PapaStatus papa_attr_float(const Onnx__NodeProto *node, const char *name, float fallback, float *out)
{
    const Onnx__AttributeProto *attr;
    FIND(FLOAT);
    *out = attr ? attr->f : fallback;
    return PAPA_OK;
}

PapaStatus papa_attr_string(const Onnx__NodeProto *node, const char *name, const char *fallback, const char **out)
{
    const Onnx__AttributeProto *attr;
    FIND(STRING);
    *out = fallback;
    if (!attr)
        return PAPA_OK;
    if (attr->s.len && memchr(attr->s.data, 0, attr->s.len))
        return papa_fail(PAPA_ERR_FORMAT, "%s: attribute '%s' has a NUL byte", papa_node_label(node), name);
    *out = attr->s.len ? (const char *)attr->s.data : ""; /* papa_arena_allocator ends it with a zero */
    return PAPA_OK;
}

PapaStatus papa_attr_ints(const Onnx__NodeProto *node, const char *name, const int64_t **out, size_t *n)
{
    const Onnx__AttributeProto *attr;
    *out = NULL;
    *n = 0;
    FIND(INTS);
    if (attr)
        *out = attr->ints, *n = attr->n_ints;
    return PAPA_OK;
}

PapaStatus papa_attr_floats(const Onnx__NodeProto *node, const char *name, const float **out, size_t *n)
{
    const Onnx__AttributeProto *attr;
    *out = NULL;
    *n = 0;
    FIND(FLOATS);
    if (attr)
        *out = attr->floats, *n = attr->n_floats;
    return PAPA_OK;
}

PapaStatus papa_attr_tensor(const Onnx__NodeProto *node, const char *name, const Onnx__TensorProto **out)
{
    const Onnx__AttributeProto *attr;
    *out = NULL;
    FIND(TENSOR);
    if (attr && !attr->t)
        return papa_fail(PAPA_ERR_FORMAT, "%s: attribute '%s' has no tensor", papa_node_label(node), name);
    if (attr)
        *out = attr->t;
    return PAPA_OK;
}
