/* papa_soup by its interface: what it reports, what it refuses before it looks at a file, and that it can be stopped. Results: tests/oracle/test_soup_tool.py. */
#include "check.h"
#include "onnxbuild.h"
#include "scratch.h"

static PapaModel *models[3];

static void write_model(const char *path)
{
    Build b = build_begin();
    build_input(&b, "x", 2, (int64_t[]){-1, 4});
    build_random(&b, "w", 2, (int64_t[]){4, 3}, 1);
    build_node(&b, "MatMul", "x w", "y");
    build_output(&b, "y", 2);
    build_write(&b, path);
}

static PapaStatus merge(PapaSoupReport *report, int n, const PapaSoupOptions *options, const PapaHooks *hooks)
{
    return papa_soup(report, (const PapaModel *const *)models, n, options, hooks);
}

/* The weights that are reported, the base's behind them. */
static void check_weights(const PapaSoupOptions *options, int n, const double *expected)
{
    PapaSoupReport report;
    CHECK_OK(merge(&report, n, options, NULL));
    CHECK(report.n == n && !report.repaired && !report.recalibrated && isnan(report.test.accuracy), "another report");
    for (int k = 0; k < n + (options->base != NULL); k++)
        CHECK(report.ingredients[k].weight == expected[k] || (isnan(expected[k]) && isnan(report.ingredients[k].weight)), "method %d: weight %d is %.17g, expected %.17g",
            (int)options->method, k, report.ingredients[k].weight, expected[k]);
    papa_soup_report_free(&report);
}

static void test_reports(PapaSoupOptions options)
{
    const double weights[] = {0.25, 0.75};
    check_weights(&options, 2, (double[]){0.5, 0.5});
    options.method = PAPA_SOUP_EMA;
    options.decay = 0.5;
    check_weights(&options, 2, (double[]){0.5, 0.5});
    options.method = PAPA_SOUP_SLERP;
    check_weights(&options, 2, (double[]){NAN, NAN});
    options.weights = weights;
    options.method = PAPA_SOUP_MEAN;
    check_weights(&options, 2, weights);
    options.method = PAPA_SOUP_TASK;
    options.base = models[2];
    options.scale = 2;
    check_weights(&options, 2, (double[]){0.5, 1.5, -1});
    options.method = PAPA_SOUP_TIES;
    check_weights(&options, 2, (double[]){NAN, NAN, NAN});
    options.weights = NULL;
    options.method = PAPA_SOUP_WISE_FT;
    options.t = 0.25;
    check_weights(&options, 1, (double[]){0.25, 0.75});
}

static void test_refusals(const PapaSoupOptions *defaults)
{
    PapaSoupReport report;
    PapaSoupOptions o = *defaults;
    o.method = PAPA_SOUP_GREEDY;
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "data is needed");
    o.method = PAPA_SOUP_TIES;
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "needs a base");
    o = *defaults;
    o.base = models[2];
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "has no base");
    o = *defaults;
    o.repair = PAPA_REPAIR_BOTH;
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "data is needed");
    o.weights = (double[]){1.5, -0.5};
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "weights that are not negative");
    o = *defaults;
    o.weights = (double[]){1, 0};
    o.method = PAPA_SOUP_EMA;
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "takes no weights");
    o.method = PAPA_SOUP_ENSEMBLE;
    o.align = true;
    CHECK_FAILS(merge(&report, 2, &o, NULL), PAPA_ERR_ARGUMENT, "align");
    CHECK(!report.ingredients, "a report of what failed");
}

static void test_stop(const PapaSoupOptions *options)
{
    static const volatile sig_atomic_t stop = 1;
    PapaSoupReport report;
    remove(options->out);
    CHECK_FAILS(merge(&report, 2, options, &(PapaHooks){.stop = &stop}), PAPA_ERR_STOPPED, "stopped");
    CHECK(access(options->out, F_OK), "a file of a soup that was stopped");
}

int main(void)
{
    PapaSoupOptions options;
    for (int k = 0; k < 3; k++) {
        write_model(scratch("%d.onnx", k));
        if (papa_model_open(&models[k], scratch("%d.onnx", k)))
            return 2;
    }
    papa_soup_defaults(&options);
    char out[512];
    snprintf(out, sizeof out, "%s", scratch("soup.onnx"));
    options.out = out;
    test_reports(options);
    test_refusals(&options);
    test_stop(&options);
    for (int k = 0; k < 3; k++)
        papa_model_close(models[k]);
    return check_result();
}
