/* Descriptions of GPUs, and the JSON that they are written in. */
#include "base/json.h"
#include "check.h"
#include "device/gpu.h"
#include "scratch.h"

#define FILES PAPA_SOURCE_DIR "/testdata/gpus/"

/* ---------------------------------------------------------------- JSON */

static bool accepts(const char *text)
{
    PapaJson value;
    return papa_json_parse(&value, text, strlen(text), "file") == PAPA_OK;
}

static void test_grammar(void)
{
    static const char *const good[] = {"0", "-1", " 12.5e-3 \n", "1E+2", "\"\"", "\"a\\\"b\\u00e9\"", "[]", "[ ]", "{}", "[1,[2],{\"a\":null}]", "true", "false",
        "{\"a\":1,\"b\":{\"a\":2}}", "\t{ \"a\" : [ 1 , 2 ] }\r\n"};
    static const char *const bad[] = {"", " ", "01", "-", "1.", ".5", "1e", "+1", "nul", "nan", "tru", "\"", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "[1,]", "[1 2]", "[",
        "]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"a\":1 \"b\":2}", "1 2", "{}}", "'a'", "{\"a\":1,\"b\":[{\"c\":1,\"c\":1}]}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(accepts(good[i]), "\"%s\": %s", good[i], papa_error());
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!accepts(bad[i]), "\"%s\"", bad[i]);
    PapaJson value;
    const char zero[] = "[1,\0]";
    CHECK(papa_json_parse(&value, zero, sizeof zero - 1, "file") == PAPA_ERR_FORMAT);
    CHECK_FAILS(papa_json_parse(&value, "[1,\n2,\n3 4]", 11, "file"), PAPA_ERR_FORMAT, "file:3: not JSON: expected a comma or the array's end");
}

static void test_depth(void)
{
    char text[600];
    for (int depth = 1; depth <= 200; depth += 3) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        CHECK(accepts(text) == (depth <= 64), "%d levels", depth);
    }
}

static void test_numbers(void)
{
    static const struct { const char *text; double value; } cases[] = {{"0", 0}, {"-0.5", -.5}, {"3350e9", 3350e9}, {"66.9e12", 66.9e12}, {"1E-3", 1e-3},
        {"2147483647", 2147483647}, {"191501107200", 191501107200.}, {"12.5e+1", 125}, {"1e400", INFINITY}, {"1e-99999", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        PapaJson value;
        double x = NAN;
        CHECK_OK(papa_json_parse(&value, cases[i].text, strlen(cases[i].text), "file"));
        CHECK(papa_json_number(value, &x) && (x == cases[i].value || fabs(x / cases[i].value - 1) < 1e-15), "%s: %.17g", cases[i].text, x);
    }
}

static void test_walk(void)
{
    static const char text[] = "{\"a\" : [1, \"x\"], \"bc\":{\"a\":-2} , \"d\":\"long enough\"}";
    PapaJson root, name, value = {0}, element = {0}, inner = {0};
    char out[8];
    double x;
    CHECK_OK(papa_json_parse(&root, text, strlen(text), "file"));
    CHECK(papa_json_next(root, &name, &value) && papa_json_is(name, "a") && !papa_json_is(name, "") && papa_json_kind(value) == '[');
    CHECK(papa_json_next(value, NULL, &element) && papa_json_number(element, &x) && x == 1 && !papa_json_text(element, out, sizeof out));
    CHECK(papa_json_next(value, NULL, &element) && papa_json_text(element, out, sizeof out) && strcmp(out, "x") == 0 && !papa_json_number(element, &x));
    CHECK(!papa_json_next(value, NULL, &element));
    CHECK(papa_json_next(root, &name, &value) && papa_json_is(name, "bc") && papa_json_next(value, &name, &inner) && papa_json_number(inner, &x) && x == -2);
    CHECK(!papa_json_next(value, &name, &inner));
    CHECK(papa_json_next(root, &name, &value) && papa_json_is(name, "d") && !papa_json_text(value, out, sizeof out));
    CHECK(!papa_json_next(root, &name, &value));
}

/* ---------------------------------------------------------------- GPUs */

static void test_files(void)
{
    static const struct { const char *file, *name; int capability, multiprocessors; double gigabytes; } gpus[] = {
        {"t4", "Tesla T4", 75, 40, 16}, {"a100", "NVIDIA A100-SXM4-80GB", 80, 108, 85}, {"rtx4090", "NVIDIA GeForce RTX 4090", 89, 128, 25},
        {"h100", "NVIDIA H100 80GB HBM3", 90, 132, 85}, {"b200", "NVIDIA B200", 100, 148, 191}};
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++) {
        char path[512];
        PapaGpu gpu;
        snprintf(path, sizeof path, FILES "%s.json", gpus[i].file);
        CHECK_OK(papa_gpu_read(&gpu, path));
        CHECK(strcmp(gpu.name, gpus[i].name) == 0 && gpu.capability == gpus[i].capability && gpu.multiprocessors == gpus[i].multiprocessors, "%s", path);
        CHECK(fabs((double)gpu.memory / 1e9 - gpus[i].gigabytes) < 1, "%s: %lld bytes", path, (long long)gpu.memory);
        CHECK(gpu.bandwidth > 1e11 && gpu.peak_fp32 > 5e12 && gpu.peak_tf32 >= gpu.peak_fp32 && gpu.peak_bf16 >= gpu.peak_tf32, "%s", path);
        CHECK(gpu.max_grid[0] == 2147483647 && gpu.max_grid[1] == 65535 && gpu.max_block[2] == 64 && gpu.max_threads == 1024 &&
            gpu.shared_per_block == 49152 && gpu.shared_per_block_optin >= 65536 && gpu.l2_cache > 1 << 20, "%s", path);
        CHECK(gpu.json && gpu.json[0] == '{' && gpu.json[strlen(gpu.json) - 1] == '}' && accepts(gpu.json), "%s", path);
        papa_gpu_clear(&gpu);
        CHECK(!gpu.json);
    }
}

/* The H100's file with `from` turned into `to` must be refused with this message. */
static void check_damaged(const char *from, const char *to, const char *message)
{
    char text[4096], path[512];
    FILE *file = fopen(FILES "h100.json", "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = '\0';
    char *at = strstr(text, from);
    CHECK(at != NULL, "%s", from);
    snprintf(path, sizeof path, "%s", scratch("gpu.json"));
    file = at ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    fclose(file);
    PapaGpu gpu;
    PapaStatus status = papa_gpu_read(&gpu, path);
    CHECK(status == PAPA_ERR_FORMAT && strstr(papa_error(), message) && strstr(papa_error(), "gpu.json"), "status %d, \"%s\", expected \"%s\"", status,
        papa_error(), message);
    papa_gpu_clear(&gpu);
}

static void test_damage(void)
{
    check_damaged("\"bandwidth\": 3350e9,", "", "bandwidth is missing");
    check_damaged("\"bandwidth\": 3350e9,", "\"bandwidth\": \"fast\",", "bandwidth: expected a number");
    check_damaged("\"peak_fp32\": 66.9e12,", "\"peak_fp32\": -1,", "peak_fp32: expected a number");
    check_damaged("\"peak_fp32\": 66.9e12,", "\"peak_fp32\": 1e400,", "peak_fp32: expected a number");
    check_damaged("\"peak_fp32\"", "\"peak_fp23\"", "unknown key peak_fp23");
    check_damaged("\"warpSize\": 32,", "", "cudnn.warpSize is missing");
    check_damaged("\"warpSize\"", "\"warpsize\"", "unknown key cudnn.warpsize");
    check_damaged("[1024, 1024, 64]", "[1024, 1024]", "cudnn.maxBlockSize: expected 3 numbers");
    check_damaged("[1024, 1024, 64]", "[1024, 1024, 64, 1]", "cudnn.maxBlockSize: expected 3 numbers");
    check_damaged("[1024, 1024, 64]", "[1024, 0, 64]", "cudnn.maxBlockSize: expected 3 numbers");
    check_damaged("[1024, 1024, 64]", "1024", "cudnn.maxBlockSize: expected 3 numbers");
    check_damaged("\"deviceVer\": 900", "\"deviceVer\": 600", "cudnn.deviceVer is 600");
    check_damaged("\"NVIDIA H100 80GB HBM3\"", "7", "cudnn.deviceName: expected a short text");
    check_damaged("\"cudnn\": {", "\"cudnn\": [{", "not JSON");
}

static void test_missing(void)
{
    PapaGpu gpu;
    CHECK_FAILS(papa_gpu_read(&gpu, "no/such.json"), PAPA_ERR_IO, "no/such.json");
    papa_gpu_clear(&gpu);
}

int main(void)
{
    test_grammar();
    test_depth();
    test_numbers();
    test_walk();
    test_files();
    test_damage();
    test_missing();
    return check_result();
}
