/* IDX and CIFAR files: contents, classes, and one line of complaint for each way in which they can be wrong. */
#include "check.h"
#include "data/data.h"
#include "scratch.h"

#include <zlib.h>

static void put_32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void write_file(const char *path, const uint8_t *bytes, size_t n, bool gzip)
{
    if (!gzip) {
        scratch_write(path, bytes, n);
        return;
    }
    gzFile file = gzopen(path, "wb");
    if (!file || gzwrite(file, bytes, (unsigned)n) != (int)n || gzclose(file) != Z_OK)
        scratch_die("write", path);
}

/* n images of 2 x 3: pixel p of image i is 10 * i + p; label i % n_classes. */
static void write_idx(const char *folder, const char *part, uint32_t n, uint32_t n_labels, int n_classes, bool gzip)
{
    uint8_t images[16 + 6 * 64] = {0, 0, 8, 3}, labels[8 + 64] = {0, 0, 8, 1};
    put_32(images + 4, n);
    put_32(images + 8, 2);
    put_32(images + 12, 3);
    put_32(labels + 4, n_labels);
    for (uint32_t i = 0; i < n * 6; i++)
        images[16 + i] = (uint8_t)(10 * (i / 6) + i % 6);
    for (uint32_t i = 0; i < n_labels; i++)
        labels[8 + i] = (uint8_t)((int)i % n_classes);
    write_file(scratch("%s/%s-images-idx3-ubyte%s", folder, part, gzip ? ".gz" : ""), images, 16 + 6 * n, gzip);
    write_file(scratch("%s/%s-labels-idx1-ubyte%s", folder, part, gzip ? ".gz" : ""), labels, 8 + n_labels, gzip);
}

static const PapaImageSize any_size = {0};

static void good_idx(void)
{
    for (int gzip = 0; gzip < 2; gzip++) {
        const char *name = gzip ? "zipped" : "plain";
        write_idx(name, "train", 7, 7, 4, gzip);
        write_idx(name, "t10k", 3, 3, 3, gzip);
        PapaData *data;
        CHECK_OK(papa_data_open(&data, scratch("%s", name), PAPA_SPLIT_TRAIN, any_size, NULL));
        PapaDataInfo info = papa_data_info(data);
        CHECK(info.n == 7 && info.channels == 1 && info.height == 2 && info.width == 3 && info.n_classes == 4);
        CHECK(!strcmp(info.name, scratch("%s", name)) && !strcmp(info.class_names[3], "3") && papa_data_has_splits(data));
        for (int i = 0; i < 7; i++) {
            CHECK(papa_data_labels(data)[i] == i % 4);
            for (int p = 0; p < 6; p++)
                CHECK(papa_data_images(data)[6 * i + p] == 10 * i + p);
        }
        uint8_t fetched[12];
        int32_t labels[2];
        CHECK_OK(papa_data_fetch(data, fetched, labels, (const uint32_t[]){6, 1}, 2));
        CHECK(fetched[0] == 60 && fetched[5] == 65 && fetched[6] == 10 && labels[0] == 2 && labels[1] == 1);
        papa_data_close(data);

        CHECK_OK(papa_data_open(&data, scratch("%s", name), PAPA_SPLIT_TEST, (PapaImageSize){1, 2, 3}, NULL));
        CHECK(papa_data_info(data).n == 3 && papa_data_info(data).n_classes == 4, "the training labels tell the classes");
        papa_data_close(data);
    }
    papa_data_close(NULL);
    PapaData *data;
    uint8_t bytes[64]; /* the other spelling, and a test part alone */
    size_t n = scratch_read(scratch("plain/t10k-images-idx3-ubyte"), bytes, sizeof bytes);
    scratch_write(scratch("dots/t10k-images.idx3-ubyte"), bytes, n);
    n = scratch_read(scratch("plain/t10k-labels-idx1-ubyte"), bytes, sizeof bytes);
    scratch_write(scratch("dots/t10k-labels.idx1-ubyte"), bytes, n);
    CHECK_OK(papa_data_open(&data, scratch("dots"), PAPA_SPLIT_TEST, any_size, NULL));
    CHECK(papa_data_info(data).n == 3 && papa_data_info(data).n_classes == 3);
    papa_data_close(data);
}

/* Opens what a test case has written into bad/, and must fail so. */
static void fails(PapaSplit split, PapaImageSize size, PapaStatus code, const char *text)
{
    PapaData *data = (PapaData *)&data;
    CHECK_FAILS(papa_data_open(&data, scratch("bad"), split, size, NULL), code, text);
    CHECK(!data);
    CHECK(!strchr(papa_error(), '\n'));
    scratch_remove(scratch("bad"));
}

/* A good set in bad/ with `bytes` written over its file at this place; cut: the file's length, or -1. */
static void damage(const char *file, size_t at, const char *bytes, size_t n, long cut, bool gzip)
{
    uint8_t content[1024];
    write_idx("bad", "train", 7, 7, 4, gzip);
    write_idx("bad", "t10k", 3, 3, 3, gzip);
    size_t length = scratch_read(scratch("bad/%s", file), content, sizeof content);
    memcpy(content + at, bytes, n);
    length = cut >= 0 ? (size_t)cut : at + n > length ? at + n : length;
    scratch_write(scratch("bad/%s", file), content, length);
}

#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

static void bad_idx(void)
{
    PapaSplit train = PAPA_SPLIT_TRAIN, test = PAPA_SPLIT_TEST;
    damage(IMAGES, 0, "\x89PNG", 4, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, IMAGES ": not an IDX file of images: begins with 89 50 4e 47, expected 00 00 08 03");
    damage(IMAGES, 2, "\x0d", 1, -1, false); /* floats */
    fails(train, any_size, PAPA_ERR_FORMAT, "begins with 00 00 0d 03");
    damage(IMAGES, 3, "\x01", 1, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, "begins with 00 00 08 01");
    damage(LABELS, 3, "\x03", 1, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, LABELS ": not an IDX file of labels");
    damage(IMAGES, 8, "\0\0\0\0", 4, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, IMAGES ": size 2 of 3 is 0");
    damage(LABELS, 4, "\0\0\0\0", 4, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, LABELS ": size 1 of 1 is 0");
    damage(IMAGES, 4, "\xff\xff\xff\xff\x00\x00\xff\xff\x00\x00\xff\xff", 12, -1, false); /* must not ask for the memory */
    fails(train, any_size, PAPA_ERR_FORMAT, "the file has only 58 bytes");
    damage(IMAGES, 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, "images of 4294967295 x 4294967295 pixels");
    damage(IMAGES, 0, "", 0, 0, false);
    fails(train, any_size, PAPA_ERR_FORMAT, "ends after 0 bytes, 4 bytes of IDX header are missing");
    damage(IMAGES, 0, "", 0, 10, false);
    fails(train, any_size, PAPA_ERR_FORMAT, IMAGES ": ends after 10 bytes, 6 bytes of IDX header are missing");
    damage(IMAGES, 0, "", 0, 57, false);
    fails(train, any_size, PAPA_ERR_FORMAT, IMAGES ": its header tells 42 bytes of images, but the file has only 57 bytes");
    damage(LABELS, 0, "", 0, 14, false);
    fails(train, any_size, PAPA_ERR_FORMAT, LABELS ": its header tells 7 bytes of labels");
    damage(IMAGES, 58, "x", 1, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, IMAGES ": longer than the 58 bytes");
    damage(LABELS, 15, "x", 1, -1, false);
    fails(train, any_size, PAPA_ERR_FORMAT, LABELS ": longer than the 15 bytes");
    damage("t10k-labels-idx1-ubyte", 9, "\x04", 1, -1, false);
    fails(test, any_size, PAPA_ERR_FORMAT, "t10k-labels-idx1-ubyte: label 4 of image 1 is beyond the 4 classes");

    write_idx("bad", "train", 7, 6, 4, false);
    fails(train, any_size, PAPA_ERR_FORMAT, "6 labels, but");
    write_idx("bad", "train", 7, 7, 4, false);
    fails(test, any_size, PAPA_ERR_IO, "t10k-images-idx3-ubyte[.gz] is not there");
    write_idx("bad", "train", 7, 7, 4, false);
    unlink(scratch("bad/" LABELS));
    fails(train, any_size, PAPA_ERR_IO, "train-labels-idx1-ubyte[.gz] is not there");
    write_idx("bad", "train", 7, 7, 4, false);
    fails(train, (PapaImageSize){3, 2, 3}, PAPA_ERR_MISMATCH, "1x2x3 (channels x height x width), but 3x2x3");
    write_idx("bad", "train", 7, 7, 4, false);
    fails(train, (PapaImageSize){1, 3, 3}, PAPA_ERR_MISMATCH, "1x2x3 (channels x height x width), but 1x3x3");
}

static void bad_gzip(void)
{
    uint8_t content[256];
    write_idx("bad", "train", 7, 7, 4, true);
    size_t length = scratch_read(scratch("bad/" IMAGES ".gz"), content, sizeof content);
    damage(IMAGES ".gz", 0, "", 0, (long)length - 12, true);
    fails(PAPA_SPLIT_TRAIN, any_size, PAPA_ERR_FORMAT, IMAGES ".gz: the compressed file is truncated");
    damage(IMAGES ".gz", 0, "", 0, (long)length - 3, true); /* within the checksum */
    fails(PAPA_SPLIT_TRAIN, any_size, PAPA_ERR_FORMAT, IMAGES ".gz: the compressed file is truncated");
    damage(IMAGES ".gz", length - 6, "\x55", 1, -1, true);
    fails(PAPA_SPLIT_TRAIN, any_size, PAPA_ERR_FORMAT, IMAGES ".gz: corrupt compressed data");
    damage(IMAGES ".gz", 12, "\xff\xff\xff\xff", 4, -1, true);
    fails(PAPA_SPLIT_TRAIN, any_size, PAPA_ERR_FORMAT, IMAGES ".gz: corrupt compressed data");
}

static void bad_names(void)
{
    PapaData *data;
    CHECK_FAILS(papa_data_open(&data, scratch("nowhere"), PAPA_SPLIT_TRAIN, any_size, NULL), PAPA_ERR_IO, "nowhere: No such file");
    scratch_write(scratch("a-file"), "x", 1);
    CHECK_FAILS(papa_data_open(&data, scratch("a-file"), PAPA_SPLIT_TRAIN, any_size, NULL), PAPA_ERR_FORMAT, "a-file: not a folder");
}

/* ---------------------------------------------------------------- CIFAR */

/* n records; label bytes as given; pixel p of plane c of record i is (i + 50 * c + p) % 251. */
static void write_cifar(const char *path, int n, int n_label_bytes, int first_label, long cut)
{
    static uint8_t file[8 * 3074];
    uint8_t *at = file;
    for (int i = 0; i < n; i++) {
        if (n_label_bytes == 2)
            *at++ = 19; /* coarse */
        *at++ = (uint8_t)(first_label + i);
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 1024; p++)
                *at++ = (uint8_t)((i + 50 * c + p) % 251);
    }
    scratch_write(path, file, cut >= 0 ? (size_t)cut : (size_t)(at - file));
}

static void write_cifar10(const char *folder)
{
    for (int i = 1; i <= 3; i++)
        write_cifar(scratch("%s/data_batch_%d.bin", folder, i), i, 1, i, -1);
    write_cifar(scratch("%s/test_batch.bin", folder), 2, 1, 8, -1);
}

static void good_cifar(void)
{
    static const char *const folders[] = {"cifar", "outer/cifar-10-batches-bin"}, *const opened[] = {"cifar", "outer"};
    for (int k = 0; k < 2; k++) {
        PapaData *data;
        write_cifar10(folders[k]);
        CHECK_OK(papa_data_open(&data, scratch("%s", opened[k]), PAPA_SPLIT_TRAIN, any_size, NULL));
        PapaDataInfo info = papa_data_info(data);
        CHECK(info.n == 6 && info.channels == 3 && info.height == 32 && info.width == 32 && info.n_classes == 10 &&
            papa_data_has_splits(data));
        CHECK(!strcmp(info.class_names[9], "9"));
        const int labels[] = {1, 2, 3, 3, 4, 5}, record[] = {0, 0, 1, 0, 1, 2};
        for (int i = 0; i < 6; i++) {
            CHECK(papa_data_labels(data)[i] == labels[i]);
            for (int p = 0; p < 1024; p += 341)
                for (int c = 0; c < 3; c++)
                    CHECK(papa_data_images(data)[(i * 1024 + p) * 3 + c] == (record[i] + 50 * c + p) % 251);
        }
        papa_data_close(data);
        CHECK_OK(papa_data_open(&data, scratch("%s", opened[k]), PAPA_SPLIT_TEST, (PapaImageSize){3, 32, 32}, NULL));
        CHECK(papa_data_info(data).n == 2 && papa_data_labels(data)[1] == 9);
        papa_data_close(data);
    }
    PapaData *data;
    char names[2000] = "";
    for (int i = 0; i < 100; i++)
        snprintf(names + strlen(names), 20, "thing %d\n", i);
    write_cifar(scratch("cifar100/train.bin"), 3, 2, 97, -1);
    scratch_write(scratch("cifar100/fine_label_names.txt"), names, strlen(names));
    CHECK_OK(papa_data_open(&data, scratch("cifar100"), PAPA_SPLIT_TRAIN, any_size, NULL));
    CHECK(papa_data_info(data).n_classes == 100 && papa_data_labels(data)[2] == 99, "the fine label");
    CHECK(!strcmp(papa_data_info(data).class_names[42], "thing 42") && papa_data_images(data)[3] == 1);
    papa_data_close(data);
    scratch_write(scratch("cifar/batches.meta.txt"), "a\nb\r\nc\nd\ne\nf\ng\nh\ni\nj\n\n", 23);
    CHECK_OK(papa_data_open(&data, scratch("cifar"), PAPA_SPLIT_TEST, any_size, NULL));
    CHECK(!strcmp(papa_data_info(data).class_names[1], "b") && !strcmp(papa_data_info(data).class_names[9], "j"));
    papa_data_close(data);
}

static void bad_cifar(void)
{
    PapaSplit train = PAPA_SPLIT_TRAIN;
    write_cifar10("bad");
    write_cifar(scratch("bad/data_batch_2.bin"), 2, 1, 0, 5000);
    fails(train, any_size, PAPA_ERR_FORMAT, "data_batch_2.bin: 5000 bytes, expected a multiple of 3073");
    write_cifar10("bad");
    write_cifar(scratch("bad/data_batch_2.bin"), 2, 1, 0, 0);
    fails(train, any_size, PAPA_ERR_FORMAT, "data_batch_2.bin: 0 bytes");
    write_cifar10("bad");
    write_cifar(scratch("bad/data_batch_2.bin"), 2, 1, 9, -1);
    fails(train, any_size, PAPA_ERR_FORMAT, "data_batch_2.bin: label 10 of record 1 is beyond the 10 classes");
    write_cifar10("bad");
    unlink(scratch("bad/data_batch_2.bin"));
    fails(train, any_size, PAPA_ERR_IO, "data_batch_2.bin is not there, but");
    write_cifar10("bad");
    unlink(scratch("bad/test_batch.bin"));
    fails(PAPA_SPLIT_TEST, any_size, PAPA_ERR_IO, "test_batch.bin is not there");
    write_cifar10("bad");
    scratch_write(scratch("bad/batches.meta.txt"), "cat\ndog\n", 8);
    fails(train, any_size, PAPA_ERR_FORMAT, "batches.meta.txt: 2 class names, expected 10");
    write_cifar10("bad");
    fails(train, (PapaImageSize){1, 28, 28}, PAPA_ERR_MISMATCH, "3x32x32 (channels x height x width), but 1x28x28");
    write_cifar(scratch("bad/train.bin"), 1, 2, 100, -1);
    fails(train, any_size, PAPA_ERR_FORMAT, "train.bin: label 100 of record 0 is beyond the 100 classes");
}

int main(void)
{
    good_idx();
    bad_idx();
    bad_gzip();
    bad_names();
    good_cifar();
    bad_cifar();
    return check_result();
}
