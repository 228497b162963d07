/* Correlations of activations, against sums over all images in double: over batch, space and a flattened axis' positions; a dead channel; two values of one
 * group. */
#include "check.h"
#include "base/rng.h"
#include "jobs/alignment.h"
#include "onnxbuild.h"
#include "scratch.h"

enum { N = 40, SIDE = 3, PIXELS = SIDE * SIDE, CHANNELS = 4, DEAD = 2, SAMPLES = N * PIXELS };

static unsigned char images[N][PIXELS];
static float filters[2][CHANNELS][PIXELS], biases[2][CHANNELS];

static void put32(FILE *file, uint32_t x)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        putc((int)(x >> shift & 255), file);
}

static void write_images(const char *images_path, const char *labels_path)
{
    FILE *file = fopen(images_path, "wb");
    put32(file, 0x803), put32(file, N), put32(file, SIDE), put32(file, SIDE);
    fwrite(images, 1, sizeof images, file);
    fclose(file);
    file = fopen(labels_path, "wb");
    put32(file, 0x801), put32(file, N);
    for (int i = 0; i < N; i++)
        putc(i % 2, file);
    fclose(file);
}

/* Convolution, Relu; the classifier reads the channels flattened, and beside them their means. */
static void write_model(const char *path, int k)
{
    Build b = build_begin();
    build_input(&b, "x", 4, (int64_t[]){-1, 1, SIDE, SIDE});
    build_tensor(&b, "filters", 4, (int64_t[]){CHANNELS, 1, SIDE, SIDE}, filters[k][0]);
    build_tensor(&b, "biases", 1, (int64_t[]){CHANNELS}, biases[k]);
    build_random(&b, "w1", 2, (int64_t[]){CHANNELS * PIXELS, 2}, 1);
    build_random(&b, "w2", 2, (int64_t[]){CHANNELS, 2}, 1);
    build_ints(build_node(&b, "Conv", "x filters biases", "v"), "pads", 4, (int64_t[]){1, 1, 1, 1});
    build_node(&b, "Relu", "v", "a");
    build_node(&b, "Flatten", "a", "f");
    build_node(&b, "Gemm", "f w1", "y1");
    build_node(&b, "GlobalAveragePool", "a", "p");
    build_node(&b, "Flatten", "p", "m");
    build_node(&b, "Gemm", "m w2", "y2");
    build_node(&b, "Add", "y1 y2", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
}

static void draw(void)
{
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < N; i++)
        for (int p = 0; p < PIXELS; p++)
            images[i][p] = (unsigned char)papa_rng_below(&rng, 256);
    for (int k = 0; k < 2; k++)
        for (int c = 0; c < CHANNELS; c++) {
            for (int p = 0; p < PIXELS; p++)
                filters[k][c][p] = (float)papa_rng_normal(&rng);
            biases[k][c] = k == 1 && c == DEAD ? -100 : 20 + c; /* far from 0, where sums of squares cancel */
        }
}

/* What comes out of the Relu for an image, at (row, column). */
static double activation(int k, int image, int channel, int row, int column)
{
    double sum = biases[k][channel];
    for (int r = 0; r < SIDE; r++)
        for (int c = 0; c < SIDE; c++) {
            const int y = row + r - 1, x = column + c - 1;
            if (y >= 0 && y < SIDE && x >= 0 && x < SIDE)
                sum += (double)filters[k][channel][r * SIDE + c] * images[image][y * SIDE + x] / 255;
        }
    return sum > 0 ? sum : 0;
}

static double correlate(const double *x, const double *y, int n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < n; i++) {
        mx += x[i] / n;
        my += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 1e-20 && yy > 1e-20 ? xy / sqrt(xx * yy) : 0;
}

/* samples: of a channel, over images and space; means: over images. */
static void fill_channel(double *samples, double *means, int k, int channel)
{
    for (int i = 0; i < N; i++) {
        means[i] = 0;
        for (int p = 0; p < PIXELS; p++) {
            samples[i * PIXELS + p] = activation(k, i, channel, p / SIDE, p % SIDE);
            means[i] += samples[i * PIXELS + p] / PIXELS;
        }
    }
}

static void check_similarity(const double *similarity)
{
    static double samples[2][SAMPLES], means[2][N];
    for (int i = 0; i < CHANNELS; i++)
        for (int j = 0; j < CHANNELS; j++) {
            fill_channel(samples[0], means[0], 0, i);
            fill_channel(samples[1], means[1], 1, j);
            const double expected = (correlate(samples[0], samples[1], SAMPLES) + correlate(means[0], means[1], N)) / 2;
            CHECK(fabs(similarity[i * CHANNELS + j] - expected) < 1e-5, "%d, %d: %.8f, expected %.8f", i, j, similarity[i * CHANNELS + j], expected);
            CHECK(j != DEAD || similarity[i * CHANNELS + j] == 0, "a dead channel: %g", similarity[i * CHANNELS + j]);
        }
}

/* batches: that all images are measured in. */
static void test_correlations(int batches)
{
    PapaModel *models[2];
    PapaIngredients *ingredients;
    PapaAlignment *alignment;
    PapaJudge *judge;
    float *stores[2];
    double *similarity[4] = {NULL};
    PapaAlignOptions options;
    papa_align_defaults(&options);
    options.method = PAPA_ALIGN_ACTIVATIONS;
    options.judge.device = (PapaDeviceOptions){.device = "cpu", .threads = 1};
    options.judge.data = scratch("data");
    options.judge.n_norm = 1;
    options.judge.mean[0] = 0;
    options.judge.std[0] = 1;
    options.judge.val_fraction = 0;
    options.judge.batch = N / batches;
    options.judge.repair_batches = batches;
    for (int k = 0; k < 2; k++) {
        write_model(scratch("%d.onnx", k), k);
        CHECK_OK(papa_model_open(&models[k], scratch("%d.onnx", k)));
    }
    CHECK_OK(papa_ingredients_open(&ingredients, (const PapaModel *const *)models, 2, NULL));
    CHECK_OK(papa_alignment_begin(&alignment, ingredients, &options, &options.judge, NULL));
    CHECK_OK(papa_judge_open(&judge, ingredients, &options.judge, &(PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_NONE}, NULL));
    for (int k = 0; k < 2; k++) {
        CHECK_OK(papa_judge_store(judge, &stores[k]));
        CHECK_OK(papa_judge_load(judge, k, stores[k]));
    }
    CHECK_OK(papa_alignment_correlate(similarity, alignment, judge, stores, 1));
    CHECK(alignment->groups->n_groups == 1 && similarity[0]);
    if (similarity[0])
        check_similarity(similarity[0]);
    free(similarity[0]);
    papa_judge_close(judge);
    papa_alignment_free(alignment);
    papa_ingredients_close(ingredients);
    for (int k = 0; k < 2; k++)
        papa_model_close(models[k]);
}

int main(void)
{
    draw();
    write_images(scratch("data/train-images-idx3-ubyte"), scratch("data/train-labels-idx1-ubyte"));
    write_images(scratch("data/t10k-images-idx3-ubyte"), scratch("data/t10k-labels-idx1-ubyte"));
    test_correlations(1);
    test_correlations(4);
    return check_result();
}
