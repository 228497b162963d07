/* Names in a graph: the one walk that finds every name of a value or node, subgraphs included. */
#include "onnx/onnx_edit.h"

static PapaStatus visit(PapaNameFn *fn, void *context, char **name, PapaNameKind kind)
{
    return *name && **name ? fn(context, name, kind) : PAPA_OK;
}

static PapaStatus visit_values(Onnx__ValueInfoProto **values, size_t n, PapaNameFn *fn, void *context, PapaNameKind kind)
{
    for (size_t i = 0; i < n; i++)
        PAPA_TRY(visit(fn, context, &values[i]->name, kind));
    return PAPA_OK;
}

PapaStatus papa_node_each_name(Onnx__NodeProto *node, PapaNameFn *fn, void *context)
{
    for (size_t i = 0; i < node->n_input; i++)
        PAPA_TRY(visit(fn, context, &node->input[i], PAPA_NAME_USE));
    for (size_t i = 0; i < node->n_output; i++)
        PAPA_TRY(visit(fn, context, &node->output[i], PAPA_NAME_VALUE));
    PAPA_TRY(visit(fn, context, &node->name, PAPA_NAME_NODE));
    for (size_t i = 0; i < node->n_attribute; i++) {
        Onnx__AttributeProto *attr = node->attribute[i];
        if (attr->g)
            PAPA_TRY(papa_graph_each_name(attr->g, fn, context));
        for (size_t j = 0; j < attr->n_graphs; j++)
            PAPA_TRY(papa_graph_each_name(attr->graphs[j], fn, context));
    }
    for (size_t i = 0; i < node->n_device_configurations; i++)
        for (size_t j = 0; j < node->device_configurations[i]->n_sharding_spec; j++)
            PAPA_TRY(visit(fn, context, &node->device_configurations[i]->sharding_spec[j]->tensor_name, PAPA_NAME_USE));
    return PAPA_OK;
}

PapaStatus papa_graph_each_name(Onnx__GraphProto *graph, PapaNameFn *fn, void *context)
{
    for (size_t i = 0; i < graph->n_node; i++)
        PAPA_TRY(papa_node_each_name(graph->node[i], fn, context));
    for (size_t i = 0; i < graph->n_initializer; i++)
        PAPA_TRY(visit(fn, context, &graph->initializer[i]->name, PAPA_NAME_VALUE));
    for (size_t i = 0; i < graph->n_sparse_initializer; i++)
        if (graph->sparse_initializer[i]->values)
            PAPA_TRY(visit(fn, context, &graph->sparse_initializer[i]->values->name, PAPA_NAME_VALUE));
    PAPA_TRY(visit_values(graph->input, graph->n_input, fn, context, PAPA_NAME_VALUE));
    PAPA_TRY(visit_values(graph->output, graph->n_output, fn, context, PAPA_NAME_USE));
    PAPA_TRY(visit_values(graph->value_info, graph->n_value_info, fn, context, PAPA_NAME_USE));
    for (size_t i = 0; i < graph->n_quantization_annotation; i++) {
        Onnx__TensorAnnotation *annotation = graph->quantization_annotation[i];
        PAPA_TRY(visit(fn, context, &annotation->tensor_name, PAPA_NAME_USE));
        for (size_t j = 0; j < annotation->n_quant_parameter_tensor_names; j++)
            PAPA_TRY(visit(fn, context, &annotation->quant_parameter_tensor_names[j]->value, PAPA_NAME_USE));
    }
    return PAPA_OK;
}
