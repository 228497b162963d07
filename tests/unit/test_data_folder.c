/* Folders of JPEG files, written here with libjpeg: classes, splits, conversion, resizing, decoding on demand, bad files. */
#include "check.h"
#include "data/data.h"
#include "data/jpeg.h"
#include "data/resample.h"
#include "scratch.h"

#include <jpeglib.h>

/* ---------------------------------------------------------------- writing */

typedef int pixel_fn(int y, int x, int c);

static void write_jpeg(const char *path, int width, int height, J_COLOR_SPACE space, int components, bool progressive, pixel_fn *pixel)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    if (!file)
        scratch_die("write", path);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 98, TRUE);
    for (int c = 0; c < components; c++)
        jpeg.comp_info[c].h_samp_factor = jpeg.comp_info[c].v_samp_factor = 1;
    if (progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    unsigned char row[4 * 1024];
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < components; c++)
                row[x * components + c] = (unsigned char)pixel(y, x, c);
        jpeg_write_scanlines(&jpeg, &(JSAMPROW){row}, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
}

static int red(int y, int x, int c) { return (void)y, (void)x, c == 0 ? 250 : 10; }
static int blue(int y, int x, int c) { return (void)y, (void)x, c == 2 ? 240 : 20; }
static int light(int y, int x, int c) { return (void)y, (void)x, (void)c, 200; }
static int inks(int y, int x, int c) { return (void)y, (void)x, (const int[]){200, 100, 50, 204}[c]; }
static int ramp(int y, int x, int c) { return c == 0 ? x / 2 : c == 1 ? y / 2 : 100; }
static int bars(int y, int x, int c) { return (void)y, (void)c, x < 16 || x >= 48 ? 255 : 40; }
static int stripes(int y, int x, int c) { return (void)y, (void)c, x / 8 % 2 ? 220 : 30; }
static int noise(int y, int x, int c) { return (y * 131 + x * 71 + c * 17 + y * x) % 256; }

static void write_rgb(const char *path, int width, int height, pixel_fn *pixel)
{
    write_jpeg(path, width, height, JCS_RGB, 3, false, pixel);
}

static PapaStatus open_any(PapaData **out, const char *name, PapaSplit split)
{
    return papa_data_open(out, scratch("%s", name), split, (PapaImageSize){0}, NULL);
}

/* ---------------------------------------------------------------- listing */

static void classes_and_order(void)
{
    write_rgb(scratch("flat/zebra/1.jpg"), 12, 10, red);
    write_rgb(scratch("flat/ant/2.JPG"), 12, 10, blue);
    write_rgb(scratch("flat/ant/10.jpeg"), 12, 10, red);
    write_rgb(scratch("flat/Zoo/x.jpg"), 12, 10, blue);
    write_rgb(scratch("flat/.hidden/x.jpg"), 12, 10, blue);
    write_rgb(scratch("flat/ant/.x.jpg"), 12, 10, blue);
    scratch_write(scratch("flat/ant/notes.txt"), "x", 1);
    scratch_write(scratch("flat/README"), "x", 1);
    scratch_write(scratch("flat/stray.jpg"), "x", 1);
    mkdir(scratch("flat/ant/folder.jpg"), 0777);
    CHECK(symlink("../zebra/1.jpg", scratch("flat/ant/link.jpg")) == 0);
    for (int split = 0; split < 2; split++) {
        PapaData *data;
        CHECK_OK(open_any(&data, "flat", split ? PAPA_SPLIT_TEST : PAPA_SPLIT_TRAIN));
        PapaDataInfo info = papa_data_info(data);
        CHECK(info.n == 5 && info.channels == 3 && info.height == 10 && info.width == 12 && info.n_classes == 3 &&
            !papa_data_has_splits(data));
        const char *const names[] = {"Zoo", "ant", "zebra"};
        const int labels[] = {0, 1, 1, 1, 2}, is_red[] = {0, 1, 0, 1, 1}; /* ant: 10.jpeg, 2.JPG, link.jpg */
        for (int c = 0; c < 3; c++)
            CHECK(!strcmp(info.class_names[c], names[c]), "%s", info.class_names[c]);
        for (int i = 0; i < 5; i++) {
            CHECK(papa_data_labels(data)[i] == labels[i]);
            for (int p = 0; p < 120; p += 119)
                for (int c = 0; c < 3; c++)
                    CHECK_NEAR(papa_data_images(data)[(i * 120 + p) * 3 + c], (is_red[i] ? red : blue)(0, 0, c), 3);
        }
        papa_data_close(data);
    }
}

static void splits(void)
{
    PapaData *data;
    write_rgb(scratch("parts/train/a/1.jpg"), 8, 8, red);
    write_rgb(scratch("parts/train/b/1.jpg"), 8, 8, blue);
    write_rgb(scratch("parts/train/c/1.jpg"), 8, 8, blue);
    write_rgb(scratch("parts/val/c/1.jpg"), 8, 8, blue);
    write_rgb(scratch("parts/val/c/2.jpg"), 8, 8, blue);
    CHECK_OK(open_any(&data, "parts", PAPA_SPLIT_TRAIN));
    CHECK(papa_data_info(data).n == 3 && papa_data_has_splits(data));
    papa_data_close(data);
    CHECK_OK(open_any(&data, "parts", PAPA_SPLIT_TEST));
    CHECK(papa_data_info(data).n == 2 && papa_data_info(data).n_classes == 3 && papa_data_labels(data)[0] == 2, "numbered as in train/");
    papa_data_close(data);
    write_rgb(scratch("parts/test/a/1.jpg"), 8, 8, red);
    CHECK_OK(open_any(&data, "parts", PAPA_SPLIT_TEST));
    CHECK(papa_data_info(data).n == 1 && papa_data_labels(data)[0] == 0, "test/ goes before val/");
    papa_data_close(data);
    write_rgb(scratch("parts/test/dog/1.jpg"), 8, 8, red);
    CHECK_FAILS(open_any(&data, "parts", PAPA_SPLIT_TEST), PAPA_ERR_MISMATCH, "test/dog has no counterpart in");
    scratch_remove(scratch("parts/test"));
    scratch_remove(scratch("parts/val"));
    CHECK_FAILS(open_any(&data, "parts", PAPA_SPLIT_TEST), PAPA_ERR_IO, "parts has no test/ or val/ folder");
    write_rgb(scratch("only/val/a/1.jpg"), 8, 8, red);
    CHECK_FAILS(open_any(&data, "only", PAPA_SPLIT_TRAIN), PAPA_ERR_IO, "only has no train/ folder");
    CHECK_OK(open_any(&data, "only", PAPA_SPLIT_TEST));
    CHECK(papa_data_info(data).n == 1);
    papa_data_close(data);
}

static void bad_folders(void)
{
    PapaData *data;
    mkdir(scratch("empty"), 0777);
    CHECK_FAILS(open_any(&data, "empty", PAPA_SPLIT_TRAIN), PAPA_ERR_FORMAT, "empty holds 0 class folders");
    write_rgb(scratch("hollow/a/1.jpg"), 8, 8, red);
    scratch_write(scratch("hollow/b/1.png"), "x", 1);
    CHECK_FAILS(open_any(&data, "hollow", PAPA_SPLIT_TRAIN), PAPA_ERR_FORMAT, "class folder");
    CHECK(strstr(papa_error(), "hollow/b holds no JPEG file") != NULL);
    CHECK_FAILS(papa_data_open(&data, scratch("flat"), PAPA_SPLIT_TRAIN, (PapaImageSize){4, 8, 8}, NULL), PAPA_ERR_MISMATCH,
        "1 or 3 channels, but 4");
}

/* ---------------------------------------------------------------- pixels */

static void decode(unsigned char *to, const char *name, int64_t channels, int64_t height, int64_t width)
{
    PapaJpegScratch work = {0};
    CHECK(papa_jpeg_decode(to, scratch("%s", name), (PapaImageSize){channels, height, width}, &work) == PAPA_OK, "%s", papa_error());
    papa_jpeg_scratch_free(&work);
}

static void conversions(void)
{
    unsigned char x[3 * 64];
    PapaImageSize size;
    write_rgb(scratch("red.jpg"), 8, 8, red);
    decode(x, "red.jpg", 1, 8, 8);
    CHECK_NEAR(x[0], .299 * 250 + .587 * 10 + .114 * 10, 2);
    write_jpeg(scratch("gray.jpg"), 8, 8, JCS_GRAYSCALE, 1, false, light);
    CHECK_OK(papa_jpeg_size(&size, scratch("gray.jpg")));
    CHECK(size.channels == 1 && size.height == 8 && size.width == 8);
    decode(x, "gray.jpg", 3, 8, 8);
    CHECK(x[0] == 200 && x[1] == 200 && x[2] == 200 && x[191] == 200);
    decode(x, "gray.jpg", 1, 8, 8);
    CHECK(x[0] == 200 && x[63] == 200);
    write_jpeg(scratch("cmyk.jpg"), 8, 8, JCS_CMYK, 4, false, inks); /* libjpeg marks it as Adobe's: 255 is no ink */
    CHECK_OK(papa_jpeg_size(&size, scratch("cmyk.jpg")));
    CHECK(size.channels == 3);
    decode(x, "cmyk.jpg", 3, 8, 8);
    CHECK_NEAR(x[0], 160, 2);
    CHECK_NEAR(x[1], 80, 2);
    CHECK_NEAR(x[2], 40, 2);
    decode(x, "cmyk.jpg", 1, 8, 8);
    CHECK_NEAR(x[63], .299 * 160 + .587 * 80 + .114 * 40, 2);
    write_jpeg(scratch("progressive.jpg"), 8, 8, JCS_RGB, 3, true, blue);
    decode(x, "progressive.jpg", 3, 8, 8);
    CHECK_NEAR(x[2], 240, 3);
}

static void resample_1d(unsigned char *to, int64_t n_out, const unsigned char *from, int64_t n)
{
    float work[256];
    if (papa_resample_floats(1, n_out, 1, n, 1) <= 256)
        papa_resample(to, 1, n_out, from, 1, n, 1, work);
}

static void resampling_by_hand(void)
{
    float work[4096];
    unsigned char x[16];
    const unsigned char source[] = {0, 70, 140, 210, 5, 75, 145, 215, 10, 80, 150, 220, 15, 85, 155, 225};
    /* 4 x 4 to 2 x 2: weights .75 .75 .25 of 1.75 for each axis; columns then give 50 and 160, rows add 25/7 and 80/7. */
    papa_resample(x, 2, 2, source, 4, 4, 1, work);
    CHECK(x[0] == 54 && x[1] == 164 && x[2] == 61 && x[3] == 171, "%d %d %d %d", x[0], x[1], x[2], x[3]);
    papa_resample(x, 4, 4, source, 4, 4, 1, work);
    CHECK(!memcmp(x, source, 16), "the same size changes nothing");
    /* 4 x 4 to 1 x 2: the shorter side is the width: step 2, the middle two of the rows' 4. */
    papa_resample(x, 1, 2, source, 4, 4, 1, work);
    CHECK(x[0] == 58 && x[1] == 168, "%d %d", x[0], x[1]);
    /* A row of 8 to the middle 1 x 4 of it, at step 1: a pure crop. */
    const unsigned char row[] = {9, 8, 7, 6, 5, 4, 3, 2};
    resample_1d(x, 4, row, 8);
    CHECK(x[0] == 7 && x[1] == 6 && x[2] == 5 && x[3] == 4);
    /* 2 x 2 enlarged to 4 x 4: bilinear, the edges repeated. */
    papa_resample(x, 4, 4, (const unsigned char[]){0, 100, 40, 140}, 2, 2, 1, work);
    CHECK(x[0] == 0 && x[1] == 25 && x[2] == 75 && x[3] == 100 && x[4] == 10 && x[12] == 40 && x[15] == 140);
    unsigned char white[7 * 5 * 3], out[16 * 3];
    memset(white, 255, sizeof white);
    papa_resample(out, 4, 4, white, 7, 5, 3, work);
    for (int i = 0; i < 48; i++)
        CHECK(out[i] == 255);
}

/* Shorter side resized, centre crop; large files through libjpeg's scaled decoding. */
static void resizing(void)
{
    unsigned char x[3 * 32 * 32];
    write_rgb(scratch("bars.jpg"), 64, 32, bars); /* 40 in the middle square, 255 beside it */
    decode(x, "bars.jpg", 3, 32, 32);
    for (int i = 0; i < 3 * 1024; i++)
        CHECK_NEAR(x[i], 40, 6);
    write_rgb(scratch("ramp.jpg"), 512, 512, ramp);
    static const int sides[] = {32, 28, 17, 31};
    for (size_t k = 0; k < sizeof sides / sizeof *sides; k++) {
        int side = sides[k];
        decode(x, "ramp.jpg", 3, side, side);
        for (int y = 1; y < side - 1; y++)
            for (int u = 1; u < side - 1; u++) {
                double step = 256. / side;
                CHECK_NEAR(x[(y * side + u) * 3], (u + .5) * step, 2.5);
                CHECK_NEAR(x[(y * side + u) * 3 + 1], (y + .5) * step, 2.5);
                CHECK_NEAR(x[(y * side + u) * 3 + 2], 100, 2.5);
            }
    }
    /* Scaled decoding is never coarser than the wanted size: stripes of 2 pixels keep their full contrast. */
    unsigned char striped[64 * 64];
    write_jpeg(scratch("stripes.jpg"), 256, 256, JCS_GRAYSCALE, 1, false, stripes);
    decode(striped, "stripes.jpg", 1, 64, 64);
    for (int i = 0; i < 64 * 64; i++)
        CHECK_NEAR(striped[i], stripes(0, i % 64 * 4, 0), 8);
    decode(x, "ramp.jpg", 3, 8, 32); /* the middle quarter of the rows */
    CHECK_NEAR(x[0], 4, 3);
    CHECK_NEAR(x[1], 96 + 4, 3);
    CHECK_NEAR(x[(7 * 32 + 31) * 3 + 1], 96 + 60, 3);
}

/* ---------------------------------------------------------------- in memory or on demand */

typedef struct Told {
    int calls;
    PapaProgress last;
} Told;

static void tell(void *context, const PapaProgress *progress)
{
    Told *told = context;
    told->calls++;
    told->last = *progress;
}

static void on_demand(void)
{
    PapaData *held, *streamed;
    PapaImageSize size = {3, 16, 16};
    Told told = {0};
    sig_atomic_t stop = 0;
    PapaHooks hooks = {.context = &told, .progress = tell, .stop = &stop};
    for (int i = 0; i < 90; i++)
        write_rgb(scratch("many/%c/%02d.jpg", 'a' + i % 3, i), 20 + i, 40, noise);
    CHECK_OK(papa_data_open_within(&held, scratch("many"), PAPA_SPLIT_TRAIN, size, &hooks, 90 * 768));
    CHECK_OK(papa_data_open_within(&streamed, scratch("many"), PAPA_SPLIT_TRAIN, size, NULL, 90 * 768 - 1));
    CHECK(told.calls >= 1 && told.last.phase == PAPA_PHASE_LOAD && told.last.done == 90 && told.last.total == 90);
    CHECK(papa_data_images(held) && !papa_data_images(streamed));
    uint32_t indices[90];
    static uint8_t a[90 * 768], b[90 * 768];
    int32_t labels[90];
    for (uint32_t i = 0; i < 90; i++)
        indices[i] = i * 7 % 90;
    CHECK_OK(papa_data_fetch(held, a, labels, indices, 90));
    CHECK_OK(papa_data_fetch(streamed, b, NULL, indices, 90));
    CHECK(!memcmp(a, b, sizeof a));
    for (uint32_t i = 0; i < 90; i++)
        CHECK(labels[i] == papa_data_labels(streamed)[indices[i]] && labels[i] == (int32_t)indices[i] / 30);

    double mean[2][3], std[2][3];
    PapaPool *pool;
    CHECK_OK(papa_pool_new(&pool, 3));
    CHECK_OK(papa_data_stats(mean[0], std[0], held, indices, 70, NULL));
    CHECK_OK(papa_data_stats(mean[1], std[1], streamed, indices, 70, pool));
    CHECK(!memcmp(mean[0], mean[1], sizeof mean[0]) && !memcmp(std[0], std[1], sizeof std[0]));
    papa_data_close(held);

    scratch_write(scratch("many/b/31.jpg"), "not a picture", 13);
    uint32_t ruined = 40; /* b holds 30 of them: 01, 04, ...; 31 is its eleventh */
    CHECK_FAILS(papa_data_fetch(streamed, b, NULL, &ruined, 1), PAPA_ERR_FORMAT, "many/b/31.jpg: Not a JPEG file");
    CHECK_FAILS(papa_data_stats(mean[0], std[0], streamed, indices, 90, pool), PAPA_ERR_FORMAT, "many/b/31.jpg: Not a JPEG file");
    CHECK_FAILS(papa_data_open(&held, scratch("many"), PAPA_SPLIT_TRAIN, size, NULL), PAPA_ERR_FORMAT, "many/b/31.jpg: Not a JPEG file");
    unlink(scratch("many/b/31.jpg"));
    CHECK_FAILS(papa_data_fetch(streamed, b, NULL, &ruined, 1), PAPA_ERR_IO, "many/b/31.jpg: No such file");
    stop = 1;
    CHECK_FAILS(papa_data_open(&held, scratch("many"), PAPA_SPLIT_TRAIN, size, &hooks), PAPA_ERR_STOPPED, "stopped while data set");
    papa_pool_free(pool);
    papa_data_close(streamed);
}

/* ---------------------------------------------------------------- corrupt files */

/* A file cut short anywhere, or with its middle overwritten, is an error that names it; it never becomes an image. */
static void corrupt(void)
{
    static unsigned char bytes[1 << 16], broken[1 << 16];
    unsigned char x[768];
    PapaJpegScratch work = {0};
    PapaImageSize size = {3, 16, 16}, found;
    for (int progressive = 0; progressive < 2; progressive++) {
        write_jpeg(scratch("whole.jpg"), 64, 64, JCS_RGB, 3, progressive, noise);
        size_t n = scratch_read(scratch("whole.jpg"), bytes, sizeof bytes);
        CHECK(n < sizeof bytes && papa_jpeg_decode(x, scratch("whole.jpg"), size, &work) == PAPA_OK);
        for (size_t cut = 0; cut < n; cut += cut < 700 ? 13 : 997) {
            scratch_write(scratch("cut.jpg"), bytes, cut);
            CHECK_FAILS(papa_jpeg_decode(x, scratch("cut.jpg"), size, &work), PAPA_ERR_FORMAT, "cut.jpg: ");
        }
        scratch_write(scratch("cut.jpg"), bytes, n - 2); /* only the end marker is missing */
        CHECK_FAILS(papa_jpeg_decode(x, scratch("cut.jpg"), size, &work), PAPA_ERR_FORMAT, "cut.jpg: Premature end of JPEG file");
        memcpy(broken, bytes, n);
        memset(broken + n / 2, 0xff, 40);
        broken[n / 2 + 40] = 0xd3; /* a marker that does not belong there */
        scratch_write(scratch("broken.jpg"), broken, n);
        CHECK_FAILS(papa_jpeg_decode(x, scratch("broken.jpg"), size, &work), PAPA_ERR_FORMAT, "broken.jpg: Corrupt JPEG data");
    }
    scratch_write(scratch("cut.jpg"), bytes, 20);
    CHECK_FAILS(papa_jpeg_size(&found, scratch("cut.jpg")), PAPA_ERR_FORMAT, "cut.jpg: ");
    CHECK_FAILS(papa_jpeg_size(&found, scratch("nothing.jpg")), PAPA_ERR_IO, "nothing.jpg: No such file");
    papa_jpeg_scratch_free(&work);

    PapaData *data;
    write_rgb(scratch("set/a/1.jpg"), 64, 64, noise);
    scratch_write(scratch("set/a/2.jpg"), bytes, 3000);
    CHECK_FAILS(open_any(&data, "set", PAPA_SPLIT_TRAIN), PAPA_ERR_FORMAT, "set/a/2.jpg: ");
    CHECK(!data);
}

int main(void)
{
    classes_and_order();
    splits();
    bad_folders();
    conversions();
    resampling_by_hand();
    resizing();
    on_demand();
    corrupt();
    return check_result();
}
