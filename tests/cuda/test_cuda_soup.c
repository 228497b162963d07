/* Merging by images on CUDA against merging on the CPU: what is chosen and learned, what is corrected, scores, paths. The networks are small and few
 * steps are taken, so that only rounding differs. */
#include "check.h"
#include "members.h"

#include "device/device.h"
#include "jobs/judge.h"

static PapaStatus soup(PapaSoupReport *report, PapaModel **models, PapaSoupMethod method, PapaRepairMode repair, const char *device)
{
    PapaSoupOptions o;
    papa_soup_defaults(&o);
    o.method = method;
    o.repair = repair;
    o.learn_steps = 12;
    o.judge = members_judge();
    o.judge.device.device = device;
    o.judge.device.deterministic = false;
    o.judge.repair_batches = 2;
    return papa_soup(report, (const PapaModel *const *)models, N_MEMBERS, &o, NULL);
}

static void same_score(const char *what, PapaScore cpu, PapaScore gpu)
{
    CHECK(cpu.n == gpu.n && fabs(cpu.accuracy - gpu.accuracy) < .02, "%s: accuracy %g, on the CPU %g", what, gpu.accuracy, cpu.accuracy);
    CHECK(fabs(cpu.loss - gpu.loss) < 1e-3 * (1 + cpu.loss), "%s: loss %.9g, on the CPU %.9g", what, gpu.loss, cpu.loss);
}

static void like_the_cpu(const char *what, MemberKind kind, PapaSoupMethod method, PapaRepairMode repair, const char *device)
{
    PapaModel *models[N_MEMBERS];
    PapaSoupReport cpu, gpu;
    members_open(models, kind);
    CHECK_OK(soup(&cpu, models, method, repair, "cpu"));
    CHECK_OK(soup(&gpu, models, method, repair, device));
    for (int k = 0; k < N_MEMBERS; k++) {
        same_score(what, cpu.ingredients[k].held_out, gpu.ingredients[k].held_out);
        if (!isnan(cpu.ingredients[k].weight))
            CHECK_NEAR(gpu.ingredients[k].weight, cpu.ingredients[k].weight, 2e-3);
    }
    same_score(what, cpu.held_out, gpu.held_out);
    same_score(what, cpu.test, gpu.test);
    CHECK(cpu.repaired == gpu.repaired && cpu.recalibrated == gpu.recalibrated, "%s: repaired %d, recalibrated %d", what, gpu.repaired, gpu.recalibrated);
    papa_soup_report_free(&cpu), papa_soup_report_free(&gpu);
    members_close(models);
}

static void path(const char *device)
{
    PapaModel *models[N_MEMBERS];
    PapaPathReport cpu, gpu;
    PapaPathOptions o;
    papa_path_defaults(&o);
    o.points = 3;
    o.judge = members_judge();
    members_open(models, OF_NORMALIZED);
    CHECK_OK(papa_path(&cpu, models[0], models[BAD], &o, NULL));
    o.judge.device.device = device;
    o.judge.device.deterministic = false;
    CHECK_OK(papa_path(&gpu, models[0], models[BAD], &o, NULL));
    for (int i = 0; i < 3; i++)
        same_score("a path", cpu.points[i].plain, gpu.points[i].plain);
    papa_path_report_free(&cpu), papa_path_report_free(&gpu);
    members_close(models);
}

/* ---------------------------------------------------------------- values inside */

enum { N_OUTPUTS = 2 };

typedef struct Values {
    double sums[N_OUTPUTS];
    int n;
} Values;

static PapaStatus add(void *context, const float *const *outputs, const PapaShape *shapes)
{
    Values *values = context;
    for (int o = 0; o < N_OUTPUTS; o++)
        for (int64_t i = 0; i < papa_shape_count(&shapes[o]); i++)
            values->sums[o] += outputs[o][i] * (1 + (double)(i % 7)); /* an order of axes of its own would show */
    values->n++;
    return PAPA_OK;
}

static PapaStatus look_inside(Values *values, const PapaIngredients *ingredients, const char *device)
{
    PapaJudgeOptions o = members_judge();
    PapaJudge *judge;
    float *store;
    o.device.device = device;
    o.device.deterministic = false;
    o.repair_batches = 2;
    PAPA_TRY(papa_judge_open(&judge, ingredients, &o, &(PapaJudgeNeeds){.statistics = true, .mode = PAPA_REPAIR_NONE}, NULL));
    PapaStatus status = papa_judge_store(judge, &store);
    if (status == PAPA_OK)
        status = papa_judge_load(judge, 0, store);
    if (status == PAPA_OK)
        status = papa_judge_run(judge, &store, 1, (const char *const[]){"a1", "logits"}, N_OUTPUTS, add, values);
    papa_judge_close(judge);
    return status;
}

static void inside(void)
{
    PapaModel *models[N_MEMBERS];
    PapaIngredients *ingredients;
    Values cpu = {0}, gpu = {0};
    members_open(models, OF_NORMALIZED);
    CHECK_OK(papa_ingredients_open(&ingredients, (const PapaModel *const *)models, 2, NULL));
    CHECK_OK(look_inside(&cpu, ingredients, "cpu"));
    CHECK_OK(look_inside(&gpu, ingredients, "cuda"));
    CHECK(cpu.n == 2 && gpu.n == 2, "%d batches", gpu.n);
    for (int i = 0; i < 2; i++)
        CHECK_NEAR(gpu.sums[i], cpu.sums[i], 1e-4 * fabs(cpu.sums[i]));
    papa_ingredients_close(ingredients);
    members_close(models);
}

int main(void)
{
    PapaDevice *dev;
    if (papa_device_open_cuda(&dev, 0, PAPA_PRECISION_FP32) != PAPA_OK) {
        printf("skipped: %s\n", papa_error());
        return 77;
    }
    papa_device_close(dev);
    like_the_cpu("a mean", OF_NORMALIZED, PAPA_SOUP_MEAN, PAPA_REPAIR_NONE, "cuda");
    like_the_cpu("a repaired mean", OF_PLAIN, PAPA_SOUP_MEAN, PAPA_REPAIR_BOTH, "cuda");
    like_the_cpu("a greedy soup", OF_NORMALIZED, PAPA_SOUP_GREEDY, PAPA_REPAIR_NONE, "cuda");
    like_the_cpu("a pruned soup", OF_PLAIN, PAPA_SOUP_PRUNED, PAPA_REPAIR_NONE, "cuda");
    like_the_cpu("a learned soup", OF_NORMALIZED, PAPA_SOUP_LEARNED, PAPA_REPAIR_NONE, "cuda");
    like_the_cpu("a soup with learned tensors", OF_NORMALIZED, PAPA_SOUP_LEARNED_TENSORS, PAPA_REPAIR_NONE, "cuda");
    like_the_cpu("an ensemble", OF_PLAIN, PAPA_SOUP_ENSEMBLE, PAPA_REPAIR_NONE, "cuda");
    if (papa_device_count_cuda() > 1)
        like_the_cpu("a learned soup on two", OF_PLAIN, PAPA_SOUP_LEARNED, PAPA_REPAIR_NONE, "cuda:0,1");
    path("cuda");
    inside();
    return check_result();
}
