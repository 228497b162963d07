/* Held-out images, data order and statistics, on a small IDX set whose numbers are known. */
#include "base/rng.h"
#include "check.h"
#include "data/data.h"
#include "scratch.h"

#include <stdlib.h>

#define N 1000

/* Images of 1 x 2; class c has (c + 1) tenths of the images. */
static PapaData *make_set(void)
{
    uint8_t images[16 + 2 * N] = {0, 0, 8, 3, 0, 0, N >> 8, N & 255, 0, 0, 0, 1, 0, 0, 0, 2};
    uint8_t labels[8 + N] = {0, 0, 8, 1, 0, 0, N >> 8, N & 255};
    for (int i = 0; i < N; i++) {
        int turn = i % 10;
        labels[8 + i] = turn == 0 ? 0 : turn < 3 ? 1 : turn < 6 ? 2 : 3;
        images[16 + 2 * i] = (uint8_t)(i % 256);
        images[16 + 2 * i + 1] = 51;
    }
    scratch_write(scratch("set/train-images-idx3-ubyte"), images, sizeof images);
    scratch_write(scratch("set/train-labels-idx1-ubyte"), labels, sizeof labels);
    PapaData *data = NULL;
    CHECK(papa_data_open(&data, scratch("set"), PAPA_SPLIT_TRAIN, (PapaImageSize){0}, NULL) == PAPA_OK, "%s", papa_error());
    return data;
}

static void one_split(const PapaData *data, double fraction, int64_t expected, uint64_t seed)
{
    PapaHeldOut parts;
    CHECK_OK(papa_data_split(&parts, data, fraction, seed));
    CHECK(parts.n_held == expected && parts.n_train == N - expected, "%lld held", (long long)parts.n_held);
    int seen[N] = {0}, held[4] = {0};
    for (int64_t i = 0; i < parts.n_train; i++) {
        seen[parts.train[i]]++;
        CHECK(!i || parts.train[i] > parts.train[i - 1]);
    }
    for (int64_t i = 0; i < parts.n_held; i++) {
        seen[parts.held[i]]++;
        held[papa_data_labels(data)[parts.held[i]]]++;
        CHECK(!i || parts.held[i] > parts.held[i - 1]);
    }
    for (int i = 0; i < N; i++)
        CHECK(seen[i] == 1, "image %d is in %d parts", i, seen[i]);
    for (int c = 0; c < 4; c++)
        CHECK(fabs(held[c] - (double)expected * (c + 1) / 10) < 1, "%d of class %d", held[c], c);
    papa_data_unsplit(&parts);
    CHECK(!parts.train && !parts.n_held);
}

static void splits(const PapaData *data)
{
    one_split(data, 0, 0, 1);
    one_split(data, .0001, 1, 1);
    one_split(data, .02, 20, 1);
    one_split(data, .0255, 26, 2);
    one_split(data, .5, 500, 3);
    one_split(data, .999, 999, 4);
    PapaHeldOut a, b, c;
    CHECK_OK(papa_data_split(&a, data, .02, 7));
    CHECK_OK(papa_data_split(&b, data, .02, 7));
    CHECK_OK(papa_data_split(&c, data, .02, 8));
    CHECK(!memcmp(a.held, b.held, 20 * sizeof *a.held) && memcmp(a.held, c.held, 20 * sizeof *a.held));
    papa_data_unsplit(&a);
    papa_data_unsplit(&b);
    papa_data_unsplit(&c);
    CHECK_FAILS(papa_data_split(&a, data, 1, 1), PAPA_ERR_ARGUMENT, "fraction is 1");
    CHECK_FAILS(papa_data_split(&a, data, -.1, 1), PAPA_ERR_ARGUMENT, "fraction is -0.1");
    CHECK_FAILS(papa_data_split(&a, data, NAN, 1), PAPA_ERR_ARGUMENT, "fraction is");
    CHECK_FAILS(papa_data_split(&a, data, .9999, 1), PAPA_ERR_ARGUMENT, "leaves none to train on");
}

/* Over many seeds each image is held out equally often: 400 * .1 = 40 expected, standard deviation 6. */
static void every_image_has_its_chance(const PapaData *data)
{
    int counts[N] = {0};
    for (uint64_t seed = 0; seed < 400; seed++) {
        PapaHeldOut parts;
        CHECK_OK(papa_data_split(&parts, data, .1, seed));
        for (int64_t i = 0; i < parts.n_held; i++)
            counts[parts.held[i]]++;
        papa_data_unsplit(&parts);
    }
    for (int i = 0; i < N; i++)
        CHECK(abs(counts[i] - 40) < 28, "image %d was held out %d times", i, counts[i]);
}

/* Five images: shares .5, 1, 1.5 and 2. Which class is rounded up is drawn too: class 0 gets 200 of 400, standard deviation 10. */
static void shares_are_rounded_at_random(const PapaData *data)
{
    int held[4] = {0};
    for (uint64_t seed = 0; seed < 400; seed++) {
        PapaHeldOut parts;
        CHECK_OK(papa_data_split(&parts, data, .005, seed));
        for (int64_t i = 0; i < parts.n_held; i++)
            held[papa_data_labels(data)[parts.held[i]]]++;
        papa_data_unsplit(&parts);
    }
    for (int c = 0; c < 4; c++)
        CHECK(abs(held[c] - 200 * (c + 1)) < 45, "class %d: %d held out", c, held[c]);
}

static void orders(void)
{
    uint32_t indices[64], a[64], b[64], seen[256] = {0};
    for (uint32_t i = 0; i < 64; i++)
        indices[i] = 3 * i + 5;
    papa_data_order(a, indices, 64, 1, 0, 0);
    papa_data_order(b, indices, 64, 1, 0, 0);
    CHECK(!memcmp(a, b, sizeof a) && memcmp(a, indices, sizeof a));
    for (int i = 0; i < 64; i++)
        seen[a[i]]++;
    for (int i = 0; i < 64; i++)
        CHECK(seen[indices[i]] == 1 && indices[i] == 3 * (uint32_t)i + 5);
    papa_data_order(b, indices, 64, 1, 1, 0);
    CHECK(memcmp(a, b, sizeof a) != 0, "members differ");
    papa_data_order(b, indices, 64, 1, 0, 1);
    CHECK(memcmp(a, b, sizeof a) != 0, "epochs differ");
    papa_data_order(b, indices, 64, 2, 0, 0);
    CHECK(memcmp(a, b, sizeof a) != 0, "seeds differ");
    papa_data_order(b, NULL, 0, 1, 0, 0);
}

static void statistics(const PapaData *data)
{
    double mean, std;
    const uint32_t two[] = {0, 255}; /* pixels 0 51 255 51 */
    CHECK_OK(papa_data_stats(&mean, &std, data, two, 2, NULL));
    CHECK_NEAR(mean, .35, 1e-15);
    CHECK_NEAR(std, sqrt((.35 * .35 + 2 * .15 * .15 + .65 * .65) / 4), 1e-15);
    const uint32_t same[] = {51, 51 + 256, 51 + 512};
    CHECK_OK(papa_data_stats(&mean, &std, data, same, 3, NULL));
    CHECK_NEAR(mean, .2, 1e-15);
    CHECK(std == 1, "a constant channel has std %g", std);

    uint32_t all[N], shuffled[N];
    double sum = 0, squares = 0, again_mean, again_std;
    for (uint32_t i = 0; i < N; i++) {
        all[i] = i;
        sum += i % 256 / 255. + .2;
        squares += (i % 256 / 255.) * (i % 256 / 255.) + .04;
    }
    CHECK_OK(papa_data_stats(&mean, &std, data, all, N, NULL));
    CHECK_NEAR(mean, sum / (2 * N), 1e-12);
    CHECK_NEAR(std, sqrt(squares / (2 * N) - sum / (2 * N) * (sum / (2 * N))), 1e-12);
    PapaPool *pool;
    CHECK_OK(papa_pool_new(&pool, 4));
    papa_data_order(shuffled, all, N, 1, 0, 0);
    CHECK_OK(papa_data_stats(&again_mean, &again_std, data, shuffled, N, pool));
    CHECK(mean == again_mean && std == again_std, "neither order nor threads matter");
    papa_pool_free(pool);
}

int main(void)
{
    PapaData *data = make_set();
    if (data) {
        splits(data);
        every_image_has_its_chance(data);
        shares_are_rounded_at_random(data);
        orders();
        statistics(data);
    }
    papa_data_close(data);
    return check_result();
}
