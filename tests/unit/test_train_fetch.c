/* JPEG files that are decoded on demand train and score a network as those that are held in memory do, bit for bit; whatever fresh memory
 * holds, the store's gaps stay zero and don't count in a gradient's norm. */
#include "check.h"
#include "onnxbuild.h"
#include "scratch.h"

#include "data/data.h"
#include "train/trainer.h"

#include <jpeglib.h>
#include <malloc.h>

enum { SIDE = 8, CLASSES = 3, PER_CLASS = 10, N = CLASSES * PER_CLASS, MEMBERS = 2, STEPS = 12 };

static void write_jpeg(const char *path, int class, PapaRng *rng)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    JSAMPLE row[SIDE];
    FILE *file = fopen(path, "wb");
    if (!file)
        scratch_die("write", path);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = jpeg.image_height = SIDE;
    jpeg.input_components = 1;
    jpeg.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++)
            row[x] = (JSAMPLE)(60 * class + papa_rng_below(rng, 100));
        jpeg_write_scanlines(&jpeg, &(JSAMPROW){row}, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
}

static void write_model(const char *path)
{
    Build b = build_begin();
    build_input(&b, "image", 4, (int64_t[]){-1, 1, SIDE, SIDE});
    build_random(&b, "w1", 4, (int64_t[]){4, 1, 3, 3}, .4);
    build_node(&b, "Conv", "image w1", "v1");
    build_node(&b, "Relu", "v1", "a1");
    build_node(&b, "Flatten", "a1", "f1");
    build_random(&b, "w2", 2, (int64_t[]){4 * 36, CLASSES}, .1);
    build_node(&b, "Gemm", "f1 w2", "logits");
    build_output(&b, "logits", 2);
    build_write(&b, path);
}

static void check_gaps(const PapaModel *model, const float *store)
{
    for (int i = 0; i < model->n_params; i++) {
        const PapaParam *p = &model->params[i];
        for (int64_t at = p->count; at % PAPA_STORE_ALIGN; at++)
            CHECK(store[p->offset + at] == 0, "the gap behind %s holds %g", p->name, (double)store[p->offset + at]);
    }
}

/* Trains MEMBERS members for STEPS steps; stores: (MEMBERS, n_total), malloc'ed. */
static PapaStatus trained(float **stores, PapaModel *model, const PapaData *data)
{
    PapaTrainOptions o;
    PapaCrew crew = {0};
    PapaTrainer trainer = {0};
    uint32_t indices[N];
    int64_t reached;
    papa_train_defaults(&o);
    o.population = MEMBERS, o.batch = 8, o.epochs = 4, o.alpha = .9f, o.lr = .05f, o.lr_min = 0, o.flip = true, o.crop = 1;
    o.mixup = (PapaGrid){{.5f}, 1}, o.clip = .5f;
    for (uint32_t i = 0; i < N; i++)
        indices[i] = i;
    PapaStatus status;
    PAPA_GOTO(papa_crew_open(&crew, &(PapaCrewPlan){.threads = 2, .deterministic = true}, MEMBERS));
    PapaTrainerPlan plan = {.model = model, .options = &o, .data = data, .indices = indices, .n_train = N, .mean = &(double){.4},
        .std = &(double){.25}, .crew = &crew};
    PAPA_GOTO(papa_trainer_open(&trainer, &plan));
    PAPA_GOTO(papa_trainer_advance(&trainer, STEPS, &reached));
    size_t bytes = (size_t)model->store.n_total * sizeof(float);
    *stores = build_need(malloc(MEMBERS * bytes));
    for (int j = 0; j < MEMBERS; j++)
        memcpy(*stores + j * model->store.n_total, trainer.stores[j], bytes);
    for (int j = 0; j < MEMBERS; j++)
        check_gaps(model, trainer.stores[j]);
out:
    papa_trainer_close(&trainer);
    papa_crew_close(&crew);
    return status;
}

int main(void)
{
    PapaRng rng = papa_rng(9, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < N; i++)
        write_jpeg(scratch("photos/class%d/%d.jpg", i % CLASSES, i), i % CLASSES, &rng);
    char folder[512], path[512];
    snprintf(folder, sizeof folder, "%s", scratch("photos"));
    snprintf(path, sizeof path, "%s", scratch("model.onnx"));
    write_model(path);
    float *stores[2] = {NULL, NULL};
    PapaEvalReport scores[2];
    PapaModel *model = NULL;
    PapaStatus status = papa_model_open(&model, path);
    if (status == PAPA_OK)
        status = papa_model_select(model, &(PapaModelSelection){.decay_all = true});
    for (int on_demand = 0; on_demand < 2 && status == PAPA_OK; on_demand++) {
        PapaData *data;
        PapaEvalOptions options;
        mallopt(M_PERTURB, on_demand ? 0x3c : 0xc3); /* what fresh memory holds: .0115 and -391 as floats */
        PAPA_GOTO(papa_data_open_within(&data, folder, PAPA_SPLIT_TRAIN, (PapaImageSize){1, SIDE, SIDE}, NULL, on_demand ? 1 : 0));
        CHECK((papa_data_images(data) == NULL) == on_demand, "resident, or not, against the budget");
        papa_eval_defaults(&options);
        options.batch = 7;
        status = trained(&stores[on_demand], model, data);
        if (status == PAPA_OK)
            status = papa_eval(&scores[on_demand], model, data, &options, NULL);
        papa_data_close(data);
    }
out:
    CHECK(status == PAPA_OK, "%s", papa_error());
    if (status == PAPA_OK) {
        CHECK(!memcmp(stores[0], stores[1], MEMBERS * (size_t)model->store.n_total * sizeof(float)), "trained otherwise");
        CHECK(!memcmp(&scores[0].score.loss, &scores[1].score.loss, sizeof(double)) && scores[0].score.n == N, "scored otherwise");
    }
    free(stores[0]), free(stores[1]);
    papa_model_close(model);
    return check_result();
}
