/* Random networks of the pieces that convolutional networks are made of: permuting any group changes nothing. */
#include "unitsbuild.h"

typedef struct Random {
    Build b;
    PapaRng rng;
    char now[32];     /* the newest value */
    int64_t channels; /* its */
    int n;
} Random;

static bool chance(Random *r, double p)
{
    return papa_rng_double(&r->rng) < p;
}

static const char *fresh(Random *r)
{
    snprintf(r->now, sizeof r->now, "v%d", r->n++);
    return r->now;
}

static void apply(Random *r, const char *type)
{
    char in[32];
    strcpy(in, r->now);
    build_node(&r->b, type, in, fresh(r));
}

static void convolve(Random *r, int64_t channels, int64_t window, int64_t group)
{
    char in[32];
    strcpy(in, r->now);
    build_int(conv(&r->b, in, fresh(r), DIMS(channels, r->channels / group, window, window)), "group", group);
    r->channels = channels;
    if (chance(r, .4)) {
        strcpy(in, r->now);
        norm(&r->b, in, fresh(r), channels);
    }
    if (chance(r, .6))
        apply(r, chance(r, .5) ? "Relu" : "HardSwish");
}

static void join(Random *r, const char *type, const char *other)
{
    char in[80];
    snprintf(in, sizeof in, chance(r, .5) ? "%s %s" : "%2$s %1$s", r->now, other);
    BuildNode node = build_node(&r->b, type, in, fresh(r));
    if (strcmp(type, "Concat") == 0)
        build_int(node, "axis", 1);
}

static void add_piece(Random *r)
{
    char before[32], in[64], out[128];
    const int64_t n = r->channels;
    strcpy(before, r->now);
    switch (papa_rng_below(&r->rng, 9)) {
    case 0:
        convolve(r, 2 + papa_rng_below(&r->rng, 7), chance(r, .5) ? 1 : 3, 1);
        break;
    case 1: /* residual, of one or two layers */
        if (chance(r, .5))
            convolve(r, 2 + papa_rng_below(&r->rng, 5), 1, 1);
        convolve(r, n, 3, 1);
        join(r, chance(r, .8) ? "Add" : "Sum", before);
        break;
    case 2: /* residual with a projection */
        convolve(r, 4 + papa_rng_below(&r->rng, 4), 3, 1);
        conv(&r->b, before, fresh(r), DIMS(r->channels, n, 1, 1));
        snprintf(before, sizeof before, "v%d", r->n - 2);
        join(r, "Add", before);
        break;
    case 3: /* dense */
        convolve(r, 2 + papa_rng_below(&r->rng, 3), 3, 1);
        join(r, "Concat", before);
        r->channels += n;
        break;
    case 4:
        convolve(r, n, 3, n);
        break;
    case 5:
        convolve(r, 2 * n, 3, n % 2 || chance(r, .4) ? n : 2);
        break;
    case 6: /* squeeze and excitation */
        apply(r, "GlobalAveragePool");
        convolve(r, n, 1, 1);
        apply(r, "Sigmoid");
        join(r, "Mul", before);
        break;
    case 7: /* a gate */
        if (n % 2)
            break;
        snprintf(out, sizeof out, "v%d v%d", r->n, r->n + 1);
        build_int(build_node(&r->b, "Split", before, out), "axis", 1);
        snprintf(before, sizeof before, "v%d", r->n);
        r->n += 2;
        snprintf(r->now, sizeof r->now, "v%d", r->n - 1);
        apply(r, "Sigmoid");
        join(r, "Mul", before);
        r->channels = n / 2;
        break;
    case 8: /* a shortcut with padded channels */
        snprintf(in, sizeof in, "pads%d", r->n);
        ints(&r->b, in, 8, (int64_t[]){0, 1, 0, 0, 0, 2, 0, 0});
        snprintf(out, sizeof out, "%s %s", before, in);
        convolve(r, n + 3, 3, 1);
        strcpy(before, r->now);
        build_node(&r->b, "Pad", out, fresh(r));
        join(r, "Add", before);
    }
}

/* Returns the number of groups. */
static int check_random(uint32_t seed)
{
    Random r = {.b = begin_image(), .rng = papa_rng(1, PAPA_RNG_TEST, 3, seed, 0), .now = "x", .channels = 2};
    convolve(&r, 4 + papa_rng_below(&r.rng, 4), 3, 1);
    for (uint32_t i = 1 + papa_rng_below(&r.rng, 5); i; i--)
        add_piece(&r);
    if (chance(&r, .5)) {
        head(&r.b, r.now, r.channels);
    } else {
        build_node(&r.b, "Flatten", r.now, "flat");
        linear(&r.b, "flat", "fc", r.channels * 36, 3);
        build_output(&r.b, "fc", 2);
    }
    GroupsTest t;
    char what[32];
    snprintf(what, sizeof what, "random network %u", seed);
    PapaStatus status = groups_begin(&t, write_model(&r.b, "random"), &image, 1);
    CHECK(status == PAPA_OK, "%s: %s", what, papa_error());
    if (status == PAPA_OK)
        groups_try(&t, what);
    int n_groups = status == PAPA_OK ? t.groups->n_groups : 0;
    groups_end(&t);
    return n_groups;
}

int main(void)
{
    int n_groups = 0;
    for (uint32_t seed = 0; seed < 200; seed++)
        n_groups += check_random(seed);
    CHECK(n_groups > 600, "200 random networks have %d groups", n_groups);
    return check_result();
}
