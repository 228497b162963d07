/* Addresses for blocks with lifetimes: whatever is alive together lies apart, and no more memory is taken than can be argued for. */
#include "base/rng.h"
#include "check.h"
#include "model/net.h"
#include "model/place.h"
#include "onnxbuild.h"
#include "scratch.h"

#include <stdlib.h>

#define MOST 120
#define STEPS 60

static void place(PapaBlock *blocks, int n, int64_t *end)
{
    PapaBlock *order[MOST], *scratch[MOST];
    for (int i = 0; i < n; i++)
        order[i] = &blocks[i];
    *end = papa_place_blocks(order, n, scratch);
}

/* No plan can be smaller: the most that lives at one step. */
static int64_t lower_bound(const PapaBlock *blocks, int n)
{
    int64_t most = 0;
    for (int step = 0; step < STEPS; step++) {
        int64_t live = 0;
        for (int i = 0; i < n; i++)
            live += blocks[i].first <= step && step <= blocks[i].last ? blocks[i].bytes : 0;
        most = live > most ? live : most;
    }
    return most;
}

static void check_random(uint32_t trial)
{
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, trial, 0);
    PapaBlock blocks[MOST];
    int64_t results[MOST], end, sum = 0;
    int n = (int)papa_rng_below(&rng, MOST + 1), longest = 1 + (int)papa_rng_below(&rng, STEPS / 2);
    for (int i = 0; i < n; i++) {
        int first = (int)papa_rng_below(&rng, STEPS / 2);
        results[i] = -1;
        blocks[i] = (PapaBlock){.bytes = 64 * (1 + papa_rng_below(&rng, 40)), .offset = -1, .first = first,
            .last = first + (int)papa_rng_below(&rng, (uint32_t)longest), .result = i % 3 ? &results[i] : NULL};
        sum += blocks[i].bytes;
    }
    place(blocks, n, &end);
    CHECK(end >= lower_bound(blocks, n) && end <= sum, "%lld, at least %lld and at most %lld", (long long)end, (long long)lower_bound(blocks, n),
        (long long)sum);
    int overlaps = 0, outside = 0, wrong = 0;
    for (int i = 0; i < n; i++) {
        const PapaBlock *a = &blocks[i];
        outside += a->offset < 0 || a->offset % 64 != 0 || a->offset + a->bytes > end;
        wrong += a->result && *a->result != a->offset;
        for (int j = 0; j < i; j++) {
            const PapaBlock *b = &blocks[j];
            bool together = a->first <= b->last && b->first <= a->last;
            overlaps += together && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
        }
    }
    CHECK(!overlaps && !outside && !wrong, "%d blocks: %d overlaps, %d outside, %d results", n, overlaps, outside, wrong);
}

/* A chain's values need room for two at a time; a skip over the whole chain for one more. Both plans meet the lower bound. */
static void check_chain(void)
{
    PapaBlock chain[7];
    int64_t end;
    for (int i = 0; i < 6; i++)
        chain[i] = (PapaBlock){.bytes = 128, .first = i, .last = i + 1};
    place(chain, 6, &end);
    CHECK(end == 256, "%lld", (long long)end);
    chain[6] = (PapaBlock){.bytes = 64, .first = 0, .last = 6};
    place(chain, 7, &end);
    CHECK(end == 320, "%lld", (long long)end);
    place(chain, 0, &end);
    CHECK(end == 0, "%lld", (long long)end);
}

static void check_apart(void)
{
    PapaBlock blocks[] = {{.bytes = 64}, {.bytes = 128}}, *order[] = {&blocks[0], &blocks[1]};
    CHECK(papa_place_apart(order, 2, 256) == 64 + 128 + 2 * 256, "%lld", (long long)blocks[1].offset);
    CHECK(blocks[0].offset == 0 && blocks[1].offset == 64 + 256, "%lld", (long long)blocks[1].offset);
}

/* A network without weights: two values of 2 x 16 numbers at a time, three where a sum comes back to the first one. */
static void check_net(void)
{
    for (int skip = 0; skip < 2; skip++) {
        Build b = build_begin();
        build_input(&b, "x", 2, (int64_t[]){-1, 16});
        build_node(&b, "Tanh", "x", "p");
        build_node(&b, "Sigmoid", "p", "q");
        build_node(&b, "Tanh", "q", "r");
        build_node(&b, "Add", skip ? "r p" : "r r", "y");
        build_output(&b, "y", 2);
        const char *path = scratch("chain.onnx");
        build_write(&b, path);

        PapaModel *model;
        PapaDevice *dev;
        PapaNet *net;
        PapaShape shape = {2, {2, 16}};
        CHECK_OK(papa_model_open(&model, path));
        CHECK_OK(papa_device_open_cpu(&dev, 1));
        CHECK_OK(papa_net_compile(&net, model,
            &(PapaNetOptions){.mode = PAPA_MODE_INFER, .input_shapes = &shape, .outputs = (const char *const[]){"y"}, .n_outputs = 1}, dev));
        CHECK(papa_net_arena_bytes(net) == (skip ? 3u : 2u) * 256, "%zu", papa_net_arena_bytes(net));
        papa_net_free(net, dev);
        papa_device_close(dev);
        papa_model_close(model);
    }
}

int main(void)
{
    for (uint32_t trial = 0; trial < 400; trial++)
        check_random(trial);
    check_chain();
    check_apart();
    check_net();
    return check_result();
}
