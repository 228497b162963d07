/* kernels/loss.h: the CUDA half against the CPU half. Nothing here is bfloat16, whatever the device's activations are. */
#include "cudacases.h"
#include "kernels/loss.h"

/* Rows that sum to 1, with zeros in them. */
static Array *some_targets(int64_t N, int64_t C)
{
    Array *t = floats(N * C, 0, 1);
    for (int64_t i = 0; i < N; i++) {
        double sum = 0;
        for (int64_t c = 0; c < C; c++) {
            float *at = &t->host[i * C + c];
            *at = C > 1 && (i + c) % 3 == 0 ? 0 : *at + .1f;
            sum += (double)*at;
        }
        for (int64_t c = 0; c < C; c++)
            t->host[i * C + c] /= (float)sum;
    }
    upload_again(t);
    return t;
}

static void train(const Array *logits, const Array *targets, Array *loss, Array *dlogits, int64_t n, int64_t N, int64_t C)
{
    double *rows = malloc((size_t)N * sizeof *rows + 1);
    void *device_rows = raw_device(NULL, (size_t)N * sizeof *rows), *n_valid = raw_device(&n, sizeof n);
    must(papa_loss_train_cpu(cpu, loss->host, dlogits->host, logits->host, targets->host, &n, rows, N, C));
    must(papa_loss_train_cuda(cuda, loss->device, dlogits->device, logits->device, targets->device, n_valid, device_rows, N, C));
    papa_device_free(cuda, device_rows);
    papa_device_free(cuda, n_valid);
    free(rows);
}

static void test_train(int64_t n, int64_t N, int64_t C)
{
    Array *logits = floats(N * C, -4, 4), *targets = some_targets(N, C), *loss[2], *dlogits[2];
    for (int i = 0; i < 2; i++) {
        loss[i] = out_floats(1, false), dlogits[i] = out_floats(N * C, false);
        train(logits, targets, loss[i], dlogits[i], n, N, C);
    }
    check_same("loss", loss[0], 1e-6);
    check_same("dlogits", dlogits[0], 1e-6 / (double)(n ? n : 1)); /* which is what they are divided by */
    check_repeated("loss", loss[0], loss[1]);
    check_repeated("dlogits", dlogits[0], dlogits[1]);
    train(logits, targets, loss[1], logits, n, N, C);
    check_repeated("dlogits in place", dlogits[0], logits);
    free_arrays();
}

/* Impossible classes, a target on one of them, infinity, NaN, and scores that overflow without care: each in a row of its own. */
static void test_train_special(void)
{
    const int64_t N = 6, C = 40;
    Array *logits = floats(N * C, -4, 4), *targets = some_targets(N, C), *loss = out_floats(1, false), *dlogits = out_floats(N * C, false);
    float *x = logits->host, *t = targets->host;
    for (int64_t c = 0; c < C; c++)
        if (t[c] == 0)
            x[c] = -INFINITY;
    for (int64_t c = 0; c < C; c++)
        x[5 * C + c] *= 1000;
    upload_again(logits);
    train(logits, targets, loss, dlogits, N, N, C);
    check_same("loss", loss, 1e-6);
    check_same("dlogits", dlogits, 1e-6 / (double)N);
    x[1 * C + 1] = -INFINITY, t[1 * C + 1] = .5f;
    x[2 * C + 7] = INFINITY;
    x[3 * C + 39] = NAN;
    for (int64_t c = 0; c < C; c++)
        x[4 * C + c] = -INFINITY;
    upload_again(logits);
    upload_again(targets);
    train(logits, targets, loss, dlogits, N, N, C);
    check_same("loss of infinities", loss, 0);
    check_same("dlogits of infinities", dlogits, 1e-6 / (double)N);
    free_arrays();
}

static PapaScoreSums score(const Array *logits, const int32_t *labels, int64_t n, int64_t N, int64_t C, PapaScoreSums *want)
{
    PapaScoreSums got;
    double *rows = malloc((size_t)N * sizeof *rows + 1);
    void *device_rows = raw_device(NULL, (size_t)N * sizeof *rows), *n_valid = raw_device(&n, sizeof n);
    void *device_labels = raw_device(labels, (size_t)N * sizeof *labels), *sums = raw_device(NULL, sizeof got);
    must(papa_loss_score_cpu(cpu, want, logits->host, labels, &n, rows, N, C));
    must(papa_loss_score_cuda(cuda, sums, logits->device, device_labels, n_valid, device_rows, N, C));
    must(papa_device_download(cuda, &got, sums, sizeof got));
    papa_device_free(cuda, device_rows);
    papa_device_free(cuda, n_valid);
    papa_device_free(cuda, device_labels);
    papa_device_free(cuda, sums);
    free(rows);
    return got;
}

/* ties: few different scores, so that the order of classes decides. */
static void test_score(int64_t n, int64_t N, int64_t C, bool ties, bool nan)
{
    Array *logits = floats(N * C, -4, 4);
    int32_t *labels = malloc((size_t)N * sizeof *labels + 1);
    for (int64_t i = 0; ties && i < N * C; i++)
        logits->host[i] = floorf(logits->host[i]);
    for (int64_t i = 0; i < N; i++)
        labels[i] = (int32_t)(papa_rng_double(&rng) * (double)C);
    for (int64_t i = 2; nan && i < N; i += 5)
        logits->host[i * C + i % C] = NAN;
    upload_again(logits);
    PapaScoreSums want, got = score(logits, labels, n, N, C, &want), again = score(logits, labels, n, N, C, &want);
    CHECK(got.top1 == want.top1 && got.top5 == want.top5 && got.n == want.n, "%lld, %lld of %lld, expected %lld, %lld of %lld", (long long)got.top1,
        (long long)got.top5, (long long)got.n, (long long)want.top1, (long long)want.top5, (long long)want.n);
    CHECK(isnan(want.loss) ? isnan(got.loss) : fabs(got.loss - want.loss) <= 1e-6 * (1 + want.loss), "loss %.9g, expected %.9g", got.loss, want.loss);
    CHECK(!memcmp(&got, &again, sizeof got), "the second call gives other sums");
    CHECK(!nan || isnan(want.loss), "nothing to see");
    free(labels);
    free_arrays();
}

int main(void)
{
    /* Classes: one warp, several, a block of 512 more than once; rows: more than there are blocks. */
    static const int64_t shapes[][3] = {{0, 0, 10}, {0, 3, 10}, {1, 1, 1}, {3, 3, 10}, {100, 128, 10}, {5, 7, 33}, {9, 9, 129}, {4, 4, 1000}, {2, 3, 5003},
        {4999, 5000, 3}};
    int status = cudatest_begin();
    if (status)
        return status;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t n = shapes[i][0], N = shapes[i][1], C = shapes[i][2];
        test_train(n, N, C);
        test_score(n, N, C, false, false);
        test_score(n, N, C, true, false);
        test_score(n, N, C, true, n > 2);
    }
    test_train_special();
    return cudatest_end();
}
