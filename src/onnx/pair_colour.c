/* Colours: a number for each vertex that isomorphic vertices share (Weisfeiler and Leman's refinement, as hashes).
 *
 * One pass forward hands every vertex the colours of all it depends on, one pass backward those of all that depends on it, since the graph has no
 * cycles: two or three pairs of passes do what takes as many rounds as the graph is deep otherwise. Sums of hashes stand for
 * multisets. Colours only propose; papa_pair_open checks the pairing that comes out. */
#include "onnx/pair_graph.h"

/* The finaliser of SplitMix64 on a combination of both. */
uint64_t papa_pair_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void papa_pair_colour_labels(const PapaPairGraph *g, uint64_t *colours)
{
    for (int32_t i = 0; i < g->n_nodes; i++)
        colours[i] = papa_pair_mix(1, (uint64_t)g->nodes[i].label);
    for (int32_t i = 0; i < g->n_values; i++)
        colours[g->n_nodes + i] = papa_pair_mix(2, (uint64_t)g->values[i].label);
}

/* Both faces of a tensor learn of one another at once, so that it does not matter which one is stored. */
static void colour_twins(const PapaPairGraph *g, uint64_t *value)
{
    for (int32_t i = 0; i < g->n_values; i++) {
        int32_t twin = g->values[i].twin;
        if (twin > i) {
            uint64_t own = value[i], other = value[twin];
            value[i] = papa_pair_mix(own, other);
            value[twin] = papa_pair_mix(other, own);
        }
    }
}

void papa_pair_colour_forward(const PapaPairGraph *g, uint64_t *colours)
{
    uint64_t *value = colours + g->n_nodes;
    colour_twins(g, value);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const PapaPairNode *node = &g->nodes[i];
        uint64_t sum = 0;
        for (int32_t k = 0; k < node->n_inputs; k++)
            sum += papa_pair_mix((uint64_t)node->inputs[k].slot, value[node->inputs[k].value]);
        colours[i] = papa_pair_mix(colours[i], sum);
        for (int32_t v = node->first_output; v >= 0; v = g->values[v].next_output)
            value[v] = papa_pair_mix(value[v], papa_pair_mix(colours[i], (uint64_t)g->values[v].slot));
    }
}

static void colour_by_uses(const PapaPairGraph *g, uint64_t *colours, int32_t v)
{
    const PapaPairValue *value = &g->values[v];
    uint64_t sum = 0;
    for (int32_t k = value->first_use; k < value->first_use + value->n_uses; k++)
        sum += papa_pair_mix((uint64_t)g->uses[k].slot, colours[g->uses[k].node]);
    colours[g->n_nodes + v] = papa_pair_mix(colours[g->n_nodes + v], sum);
}

void papa_pair_colour_backward(const PapaPairGraph *g, uint64_t *colours)
{
    for (int32_t i = g->n_nodes; i-- > 0;) {
        uint64_t sum = 0;
        for (int32_t v = g->nodes[i].first_output; v >= 0; v = g->values[v].next_output) {
            colour_by_uses(g, colours, v);
            sum += papa_pair_mix((uint64_t)g->values[v].slot, colours[g->n_nodes + v]);
        }
        colours[i] = papa_pair_mix(colours[i], sum);
    }
    for (int32_t v = 0; v < g->n_values; v++)
        if (g->values[v].producer < 0)
            colour_by_uses(g, colours, v);
}
