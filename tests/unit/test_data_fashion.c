/* The real Fashion-MNIST, where Debian's package dataset-fashion-mnist is installed; and how its name is looked up. */
#include "check.h"
#include "data/data.h"
#include "scratch.h"

#define FOLDER "/usr/share/datasets/fashion-mnist"

static const PapaImageSize fits = {1, 28, 28};

static void contents(void)
{
    static const struct {
        PapaSplit split;
        int64_t n;
        int first_labels[4];
    } parts[] = {{PAPA_SPLIT_TRAIN, 60000, {9, 0, 0, 3}}, {PAPA_SPLIT_TEST, 10000, {9, 2, 1, 1}}};
    for (int k = 0; k < 2; k++) {
        PapaData *data;
        CHECK_OK(papa_data_open(&data, "fashion-mnist", parts[k].split, fits, NULL));
        PapaDataInfo info = papa_data_info(data);
        CHECK(info.n == parts[k].n && info.channels == 1 && info.height == 28 && info.width == 28 && info.n_classes == 10);
        CHECK(!strcmp(info.name, "fashion-mnist") && !strcmp(info.class_names[9], "Ankle boot") && !strcmp(info.class_names[1], "Trouser"));
        int64_t counts[10] = {0};
        for (int64_t i = 0; i < info.n; i++)
            counts[papa_data_labels(data)[i]]++;
        for (int c = 0; c < 10; c++)
            CHECK(counts[c] == info.n / 10);
        for (int i = 0; i < 4; i++)
            CHECK(papa_data_labels(data)[i] == parts[k].first_labels[i], "label %d is %d", i, papa_data_labels(data)[i]);
        papa_data_close(data);
    }
}

/* Mean and standard deviation as everyone who trains on it knows them. */
static void statistics(void)
{
    PapaData *data;
    PapaHeldOut all;
    double mean, std;
    CHECK_OK(papa_data_open(&data, "fashion-mnist", PAPA_SPLIT_TRAIN, fits, NULL));
    CHECK_OK(papa_data_split(&all, data, 0, 1));
    CHECK_OK(papa_data_stats(&mean, &std, data, all.train, all.n_train, NULL));
    CHECK_NEAR(mean, 0.2860, 5e-5);
    CHECK_NEAR(std, 0.3530, 5e-5);
    papa_data_unsplit(&all);
    papa_data_close(data);
}

static void look_up(void)
{
    PapaData *data;
    CHECK_FAILS(papa_data_open(&data, "fashion-mnist", PAPA_SPLIT_TRAIN, (PapaImageSize){3, 32, 32}, NULL), PAPA_ERR_MISMATCH, "1x28x28");
    CHECK_OK(papa_data_open(&data, FOLDER, PAPA_SPLIT_TEST, fits, NULL));
    CHECK(papa_data_info(data).n_classes == 10 && !strcmp(papa_data_info(data).class_names[9], "9"));
    papa_data_close(data);
    setenv("PAPA_DATA", scratch("own"), 1);
    CHECK_OK(papa_data_open(&data, "fashion-mnist", PAPA_SPLIT_TEST, fits, NULL)); /* not there: the system's */
    papa_data_close(data);
    scratch_write(scratch("own/fashion-mnist/train-labels-idx1-ubyte"), "x", 1);
    CHECK_FAILS(papa_data_open(&data, "fashion-mnist", PAPA_SPLIT_TRAIN, fits, NULL), PAPA_ERR_IO,
        "own/fashion-mnist: train-images-idx3-ubyte[.gz] is not there");
    unsetenv("PAPA_DATA");
}

int main(void)
{
    if (access(FOLDER, R_OK) != 0) {
        printf("skipped: the package dataset-fashion-mnist is not installed\n");
        return 77;
    }
    contents();
    statistics();
    look_up();
    return check_result();
}
