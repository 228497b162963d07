/* A model's graph in canonical form: the walk over what its outputs depend on. */
#include "onnx/pair_build.h"

#include <stdlib.h>

/* The k-th name that a unit depends on: its inputs, then what its subgraphs yield; or a scope's outputs. False behind the last. */
static bool dependency(const PapaPairBuilder *b, const PapaPairUnit *unit, size_t k, int32_t *scope, const char **name)
{
    size_t n_inputs = !unit->proto ? 0 : unit->is_nothing ? 1 : unit->proto->n_input;
    int32_t first = unit->proto ? unit->first_child : unit->scope, n = unit->proto ? unit->n_children : 1;
    *scope = unit->scope;
    if (k < n_inputs) {
        *name = unit->proto->input[k];
        return true;
    }
    k -= n_inputs;
    for (*scope = first; *scope < first + n; ++*scope) {
        if (k < b->scopes[*scope].n_outputs) {
            *name = papa_pair_output_name(&b->scopes[*scope], k);
            return true;
        }
        k -= b->scopes[*scope].n_outputs;
    }
    return false;
}

/* The next unit that this one waits for; -1: none. */
static PapaStatus next_unit(const PapaPairBuilder *b, PapaPairUnit *unit, int32_t *next)
{
    int32_t scope;
    const char *name;
    for (*next = -1; dependency(b, unit, unit->next, &scope, &name); unit->next++) {
        const PapaPairDefinition *definition = *name ? papa_pair_find_definition(b, scope, name) : NULL;
        if (*name && !definition)
            return papa_pair_fail_undefined(unit, name);
        if (definition && definition->kind == PAPA_DEFINES_OUTPUT && b->units[definition->index].state != PAPA_UNIT_DONE) {
            *next = definition->index;
            return PAPA_OK;
        }
    }
    if (unit->function >= 0 && b->units[unit->function].state != PAPA_UNIT_DONE)
        *next = unit->function;
    return PAPA_OK;
}

/* Emits what root depends on, in the order of dependencies, and root. */
static PapaStatus visit(PapaPairBuilder *b, int32_t root)
{
    int32_t *stack = malloc((b->n_units + 1) * sizeof *stack), next;
    size_t n = 1;
    PapaStatus status = PAPA_OK;
    if (!stack)
        return papa_fail_memory(b->n_units * sizeof *stack, "a graph to pair");
    stack[0] = root;
    while (n && !status) {
        PapaPairUnit *unit = &b->units[stack[n - 1]];
        unit->state = PAPA_UNIT_ON_THE_WAY;
        status = next_unit(b, unit, &next);
        if (!status && next >= 0 && b->units[next].state == PAPA_UNIT_ON_THE_WAY) {
            status = papa_fail(PAPA_ERR_FORMAT, "%s depends on itself", unit->proto ? papa_node_label(unit->proto) : "a function");
        } else if (!status && next >= 0) {
            stack[n++] = next;
        } else if (!status) {
            status = papa_pair_emit(b, unit);
            unit->state = PAPA_UNIT_DONE;
            n--;
        }
    }
    free(stack);
    return status;
}

/* ---------------------------------------------------------------- */

static PapaStatus list_uses(PapaPairGraph *g)
{
    size_t n = 0;
    for (int32_t i = 0; i < g->n_nodes; i++) {
        n += (size_t)g->nodes[i].n_inputs;
        for (int32_t k = 0; k < g->nodes[i].n_inputs; k++)
            g->values[g->nodes[i].inputs[k].value].n_uses++;
    }
    g->uses = n < INT32_MAX ? malloc((n + 1) * sizeof *g->uses) : NULL;
    if (!g->uses)
        return papa_fail_memory(n * sizeof *g->uses, "a graph to pair");
    int32_t at = 0;
    for (int32_t i = 0; i < g->n_values; i++) {
        g->values[i].first_use = at;
        at += g->values[i].n_uses;
        g->values[i].n_uses = 0;
    }
    for (int32_t i = 0; i < g->n_nodes; i++)
        for (int32_t k = 0; k < g->nodes[i].n_inputs; k++) {
            PapaPairInput input = g->nodes[i].inputs[k];
            PapaPairValue *value = &g->values[input.value];
            g->uses[value->first_use + value->n_uses++] = (PapaPairUse){i, input.slot};
        }
    return PAPA_OK;
}

static PapaStatus build(PapaPairBuilder *b, const PapaPairEnds *ends)
{
    int32_t root;
    PAPA_TRY(papa_pair_enter(b, ends));
    PAPA_TRY(papa_pair_add_unit(b, (PapaPairUnit){.scope = 0}, &root));
    PAPA_TRY(visit(b, root));
    return list_uses(b->graph);
}

PapaStatus papa_pair_graph_make(PapaPairGraph *graph, PapaPairLabels *labels, const PapaOnnx *onnx, const PapaPairEnds *ends, bool split)
{
    *graph = (PapaPairGraph){.onnx = onnx};
    PapaPairBuilder b = {.graph = graph, .labels = labels, .onnx = onnx, .split = split};
    PapaStatus status = build(&b, ends);
    for (size_t i = 0; i < b.n_scopes; i++)
        papa_name_map_free(&b.scopes[i].names);
    papa_name_map_free(&b.read);
    free(b.scopes);
    free(b.units);
    free(b.definitions);
    return status ? papa_fail_in(status, "%s", papa_onnx_path(onnx)) : PAPA_OK;
}

void papa_pair_graph_free(PapaPairGraph *graph)
{
    free(graph->tensors);
    free(graph->nodes);
    free(graph->values);
    free(graph->uses);
    papa_arena_free(&graph->arena);
}

