/* Tensors read in ranges and written from callbacks, one rounding from double to every float type, the list of all tensors. */
#include "base/rng.h"
#include "check.h"
#include "onnx/half.h"
#include "onnx/onnx_ensemble.h"
#include "unit/onnx_bytes.h"

#include <dirent.h>
#include <float.h>
#include <sys/stat.h>

static char folder[64], in_path[80], out_path[80], out_data[80];

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id

/* ---------------------------------------------------------------- rounding */

typedef uint16_t NarrowFn(double value);
typedef float WidenFn(uint16_t h);

static uint16_t float_to_float16(double value)
{
    return papa_float_to_float16((float)value);
}

static uint16_t float_to_bfloat16(double value)
{
    return papa_float_to_bfloat16((float)value);
}

/* Rounding to nearest is known when it is known at every value, at every middle between two, and just beside each middle.
 * step: to the next value that the argument can have. infinity: its bits. */
static void check_rounding(NarrowFn *narrow, WidenFn *widen, uint16_t infinity, bool from_float, const char *what)
{
    int wrong = 0;
    for (uint16_t h = 0; h < infinity && wrong < 5; h++) {
        uint16_t next = (uint16_t)(h + 1), even = h & 1 ? next : h;
        /* Infinity begins where the next value would be, had the exponents no end. */
        double low = widen(h), high = next == infinity ? 2 * low - widen((uint16_t)(h - 1)) : widen(next), middle = (low + high) / 2;
        double below = from_float ? nextafterf((float)middle, 0) : nextafter(middle, 0);
        double above = from_float ? nextafterf((float)middle, INFINITY) : nextafter(middle, INFINITY);
        bool right = narrow(low) == h && narrow(middle) == even && narrow(below) == h && narrow(above) == next;
        right &= narrow(-low) == (h | 0x8000) && narrow(-middle) == (even | 0x8000) && narrow(-below) == (h | 0x8000) && narrow(-above) == (next | 0x8000);
        CHECK(right, "%s at %04x: %04x %04x %04x %04x", what, h, narrow(low), narrow(below), narrow(middle), narrow(above));
        wrong += !right;
    }
    CHECK(narrow(INFINITY) == infinity && narrow(-INFINITY) == (infinity | 0x8000), "%s", what);
    CHECK(narrow(from_float ? FLT_MAX : DBL_MAX) == infinity && narrow(from_float ? 0x1p-149 : 0x1p-1074) == 0, "%s", what);
    CHECK((narrow(NAN) & 0x7fff) > infinity && (narrow(-NAN) & 0x7fff) > infinity, "%s", what);
    uint32_t payload = 0x7f800001; /* signalling, its payload in the bits that are cut */
    CHECK((narrow((double)papa_bits_float(payload)) & 0x7fff) > infinity, "%s", what);
}

static void test_rounding(void)
{
    check_rounding(papa_double_to_float16, papa_float16_to_float, 0x7c00, false, "double to float16");
    check_rounding(papa_double_to_bfloat16, papa_bfloat16_to_float, 0x7f80, false, "double to bfloat16");
    check_rounding(float_to_float16, papa_float16_to_float, 0x7c00, true, "float to float16");
    check_rounding(float_to_bfloat16, papa_bfloat16_to_float, 0x7f80, true, "float to bfloat16");
    /* What two roundings would get wrong: float sees the middle and nothing beside it. */
    CHECK(papa_double_to_float16(1 + 0x1p-11 + 0x1p-40) == 0x3c01 && papa_double_to_bfloat16(1 + 0x1p-8 + 0x1p-40) == 0x3f81);
}

/* The loops make of many elements what the functions make of one, at odd addresses and lengths too. */
static void test_loops(void)
{
    enum { N = 1003 };
    static double values[N], back[N];
    static float singles[N], singles_back[N];
    static unsigned char raw[8 * N + 1], single_raw[8 * N + 1];
    static const int types[] = {TYPE(FLOAT), TYPE(DOUBLE), TYPE(FLOAT16), TYPE(BFLOAT16)};
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < N; i++) {
        values[i] = ldexp(papa_rng_normal(&rng), (int)papa_rng_below(&rng, 80) - 40);
        if (i % 3 == 0) /* just above the middle of two halves: odd multiples of half a unit, and a little */
            values[i] = 1 + (2 * i + 1) * (i % 2 ? 0x1p-11 : 0x1p-8) + 0x1p-40;
        singles[i] = (float)values[i];
    }
    for (size_t t = 0; t < 4; t++) {
        int type = types[t], wrong = 0;
        size_t size = papa_type_bits(type) / 8;
        papa_doubles_to_raw(raw + 1, type, values, N);
        papa_floats_to_raw(single_raw + 1, type, singles, N);
        papa_raw_to_doubles(back, type, raw + 1, N);
        papa_raw_to_floats(singles_back, type, single_raw + 1, N);
        for (int i = 0; i < N; i++) {
            uint64_t got = 0, single_got = 0;
            memcpy(&got, raw + 1 + (size_t)i * size, size);
            memcpy(&single_got, single_raw + 1 + (size_t)i * size, size);
            double expected = values[i], single_expected = singles[i];
            if (type == TYPE(FLOAT))
                expected = (float)values[i];
            if (type == TYPE(FLOAT16) || type == TYPE(BFLOAT16)) {
                bool is_half = type == TYPE(FLOAT16);
                uint16_t h = is_half ? papa_double_to_float16(values[i]) : papa_double_to_bfloat16(values[i]);
                uint16_t g = is_half ? papa_float_to_float16(singles[i]) : papa_float_to_bfloat16(singles[i]);
                wrong += got != h || single_got != g;
                expected = is_half ? papa_float16_to_float(h) : papa_bfloat16_to_float(h);
                single_expected = is_half ? papa_float16_to_float(g) : papa_bfloat16_to_float(g);
            }
            wrong += back[i] != expected || singles_back[i] != (float)single_expected;
        }
        CHECK(wrong == 0, "%s: %d of %d", papa_type_name(type), wrong, N);
    }
}

/* ---------------------------------------------------------------- reading in ranges */

/* A tensor of n floats in one of the forms that a file can have. */
enum { RAW, PACKED, SINGLE, TWO_RUNS, HALVES, HALVES_PACKED, DOUBLES, N_FORMS };

static float form_value(int i) /* every type has it */
{
    return (float)(i % 1600) / 4 - 100;
}

static PapaBuffer tensor_in_form(int form, int n)
{
    int type = form == HALVES || form == HALVES_PACKED ? TYPE(FLOAT16) : form == DOUBLES ? TYPE(DOUBLE) : TYPE(FLOAT);
    PapaBuffer tensor = tensor_head("W", type, n), numbers = {0};
    unsigned char varint[PAPA_VARINT_MAX];
    for (int i = 0; i < n; i++) {
        float value = form_value(i);
        double wide = value;
        uint16_t half = papa_float_to_float16(value);
        if (form == SINGLE || (form == TWO_RUNS && i == n / 3))
            put_fixed(&tensor, FIELD_TENSOR_FLOAT_DATA, PAPA_WIRE_I32, &value);
        else if (form == HALVES)
            put_number(&tensor, FIELD_TENSOR_INT32_DATA, half);
        else if (form == DOUBLES)
            put_fixed(&tensor, FIELD_TENSOR_DOUBLE_DATA, PAPA_WIRE_I64, &wide);
        else if (form == HALVES_PACKED)
            must(papa_buffer_add(&numbers, varint, papa_wire_put_varint(varint, half)));
        else
            must(papa_buffer_add(&numbers, &value, sizeof value));
        if (form == TWO_RUNS && i == n / 3 - 1)
            put_message(&tensor, FIELD_TENSOR_FLOAT_DATA, &numbers);
    }
    if (numbers.size)
        put_message(&tensor, form == RAW ? FIELD_TENSOR_RAW_DATA : form == HALVES_PACKED ? FIELD_TENSOR_INT32_DATA : FIELD_TENSOR_FLOAT_DATA, &numbers);
    return tensor;
}

static void check_ranges(int form)
{
    enum { N = 5000 }; /* more than the reader puts together at a time */
    static double doubles[N], single_range[N];
    static float floats[N];
    static unsigned char raw[8 * N];
    PapaOnnx *onnx;
    PapaTensorReader reader;
    PapaBuffer tensor = tensor_in_form(form, N), model = model_of_tensor(&tensor);
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    const Onnx__TensorProto *w = papa_onnx_graph(onnx)->initializer[0];
    CHECK_OK(papa_tensor_read_double(onnx, w, doubles, N));
    for (int i = 0; i < N; i += 833)
        CHECK(doubles[i] == form_value(i), "form %d: %g at %d", form, doubles[i], i);
    CHECK_OK(papa_reader_open(&reader, onnx, w));
    PapaRng rng = papa_rng(2, PAPA_RNG_TEST, form, 0, 0);
    size_t size = papa_type_bits(w->data_type) / 8;
    for (int i = 0; i < 60; i++) { /* forward, backward, empty, whole */
        int64_t first = papa_rng_below(&rng, N + 1), n = papa_rng_below(&rng, (uint32_t)(N - first) + 1);
        if (i < 10)
            first = i * N / 10, n = N / 10;
        CHECK_OK(papa_reader_doubles(&reader, single_range, first, n));
        CHECK_OK(papa_reader_floats(&reader, floats, first, n));
        CHECK_OK(papa_reader_raw(&reader, raw, first, n));
        CHECK(!memcmp(single_range, doubles + first, (size_t)n * sizeof *doubles), "form %d, [%d, +%d)", form, (int)first, (int)n);
        int wrong = 0;
        for (int64_t k = 0; k < n; k++) {
            double value;
            papa_raw_to_doubles(&value, w->data_type, raw + (size_t)k * size, 1);
            wrong += floats[k] != (float)doubles[first + k] || value != doubles[first + k];
        }
        CHECK(wrong == 0, "form %d, [%d, +%d): %d", form, (int)first, (int)n, wrong);
    }
    static const int64_t beyond[][2] = {{-1, 1}, {0, N + 1}, {N + 1, 0}, {1, INT64_MAX}, {1, -1}, {1, N}};
    for (size_t i = 0; i < 6; i++)
        CHECK_FAILS(papa_reader_doubles(&reader, single_range, beyond[i][0], beyond[i][1]), PAPA_ERR_MISMATCH, "tensor 'W': has 5000 elements");
    CHECK_FAILS(papa_reader_int64(&reader, (int64_t *)raw, 0, 1), PAPA_ERR_UNSUPPORTED, "an integer type");
    papa_onnx_close(onnx);
}

/* Elements of 4 and 6 bits, which the file has as numbers, and integers. */
static void test_narrow_ranges(void)
{
    PapaOnnx *onnx;
    PapaTensorReader reader;
    unsigned char raw[16];
    int64_t ints[4];
    PapaBuffer nibbles = tensor_head("W", TYPE(UINT4), 11), sixths = tensor_head("W", TYPE(FLOAT6E2M3), 9), shorts = tensor_head("W", TYPE(INT16), 5);
    for (int i = 0; i < 6; i++)
        put_number(&nibbles, FIELD_TENSOR_INT32_DATA, i == 5 ? 10 : 2 * i | (2 * i + 1) << 4);
    for (int i = 0; i < 9; i++)
        put_number(&sixths, FIELD_TENSOR_INT32_DATA, 60 - i);
    for (int i = 0; i < 5; i++)
        put_number(&shorts, FIELD_TENSOR_INT32_DATA, -3 * i);
    PapaBuffer model = model_of_tensor(&nibbles);
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_reader_open(&reader, onnx, papa_onnx_graph(onnx)->initializer[0]));
    CHECK_OK(papa_reader_raw(&reader, raw, 8, 3));
    CHECK(raw[0] == 0x98 && raw[1] == 10, "%02x %02x", raw[0], raw[1]);
    CHECK_OK(papa_reader_raw(&reader, raw, 2, 2));
    CHECK(raw[0] == 0x32, "%02x", raw[0]);
    CHECK_FAILS(papa_reader_raw(&reader, raw, 1, 2), PAPA_ERR_ARGUMENT, "does not begin a byte");
    papa_onnx_close(onnx);
    model = model_of_tensor(&sixths);
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_reader_open(&reader, onnx, papa_onnx_graph(onnx)->initializer[0]));
    CHECK_OK(papa_reader_raw(&reader, raw, 4, 5));
    uint32_t four = 56 | 55 << 6 | 54 << 12 | 53u << 18;
    CHECK(!memcmp(raw, &four, 3) && raw[3] == 52, "%02x %02x %02x %02x", raw[0], raw[1], raw[2], raw[3]);
    papa_onnx_close(onnx);
    model = model_of_tensor(&shorts);
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_reader_open(&reader, onnx, papa_onnx_graph(onnx)->initializer[0]));
    CHECK_OK(papa_reader_int64(&reader, ints, 2, 3));
    CHECK(ints[0] == -6 && ints[1] == -9 && ints[2] == -12);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- writing from callbacks */

enum { BIG = 300000 }; /* floats: more than one range */

/* Elements 1, 2, 3, ... of a type; notes what is asked for, and fails at the range that contains element `fail_at`. */
typedef struct Counting {
    int type;
    int64_t next, fail_at;
    int n_calls, n_wrong;
} Counting;

static PapaStatus count_up(void *context, void *to, int64_t first, int64_t n)
{
    Counting *c = context;
    size_t bits = papa_type_bits(c->type);
    c->n_calls++;
    if (first == 0)
        c->next = 0;
    c->n_wrong += first != c->next || n < 1 || ((size_t)n * bits + 7) / 8 > PAPA_FILL_BYTES || (uintptr_t)to % 64;
    c->next = first + n;
    if (c->fail_at >= first && c->fail_at < first + n)
        return papa_fail(PAPA_ERR_NUMERIC, "element %lld has no value", (long long)c->fail_at);
    for (int64_t i = 0; i < n; i++) {
        double value = (double)(first + i + 1);
        if (papa_type_is_float(c->type))
            papa_doubles_to_raw((unsigned char *)to + (size_t)i * bits / 8, c->type, &value, 1);
        else
            ((unsigned char *)to)[i * (int64_t)bits / 8] = (unsigned char)(first + i);
    }
    return PAPA_OK;
}

static Counting counting(int type)
{
    return (Counting){.type = type, .fail_at = -1};
}

/* Initializers "big" (floats), "half" (float16, as numbers), "bytes" (int8), "empty", "text", "nibbles" (int4), and a Constant. */
static PapaBuffer mixed_model(void)
{
    static float zeros[BIG];
    static const float c[] = {4, 5};
    PapaBuffer graph = {0}, big = float_tensor("big", zeros, BIG), half = tensor_head("half", TYPE(FLOAT16), 3), bytes = tensor_head("bytes", TYPE(INT8), 5);
    PapaBuffer empty = tensor_head("empty", TYPE(FLOAT), 0), text = tensor_head("text", TYPE(STRING), 1), nibbles = tensor_head("nibbles", TYPE(INT4), 3);
    PapaBuffer constant = make_node("Constant", "const", "", "c"), attr = {0}, value = float_tensor("", c, 2);
    for (int i = 0; i < 3; i++)
        put_number(&half, FIELD_TENSOR_INT32_DATA, 0x3c00);
    put_bytes(&bytes, FIELD_TENSOR_RAW_DATA, "\1\2\3\4\5", 5);
    put_text(&text, FIELD_TENSOR_STRING_DATA, "words");
    put_bytes(&nibbles, FIELD_TENSOR_RAW_DATA, "\x21\x03", 2);
    put_text(&attr, 1, "value");
    put_number(&attr, 20, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR);
    put_message(&attr, 5, &value);
    put_message(&constant, 5, &attr);
    put_message(&graph, FIELD_GRAPH_NODE, &constant);
    PapaBuffer *tensors[] = {&big, &half, &bytes, &empty, &text, &nibbles};
    for (int i = 0; i < 6; i++)
        put_message(&graph, FIELD_GRAPH_INITIALIZER, tensors[i]);
    return model_of(&graph, 8);
}

static const Onnx__TensorProto *find_initializer(const PapaOnnx *onnx, const char *name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(onnx);
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (!strcmp(graph->initializer[i]->name, name))
            return graph->initializer[i];
    return NULL;
}

static bool same_files(const char *a, const char *b)
{
    PapaMapped left, right;
    bool same = !papa_file_map(&left, a) && !papa_file_map(&right, b) && left.size == right.size && !memcmp(left.data, right.data, left.size);
    papa_file_unmap(&left);
    papa_file_unmap(&right);
    return same;
}

static int count_files(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

/* The file that callbacks make has the bytes of the file that papa_edit_set_tensor makes, wherever the elements lie. */
static void test_fill(uint64_t limit)
{
    static float values[BIG];
    char set_path[100], set_data[110];
    PapaOnnx *onnx, *written;
    PapaEdit *set, *filled;
    PapaBuffer model = mixed_model();
    snprintf(set_path, sizeof set_path, "%s/set/out.onnx", folder); /* the model knows the name of its data */
    snprintf(set_data, sizeof set_data, "%s.data", set_path);
    for (int i = 0; i < BIG; i++)
        values[i] = (float)(i + 1);
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    const Onnx__TensorProto *big = find_initializer(onnx, "big"), *half = find_initializer(onnx, "half"), *empty = find_initializer(onnx, "empty");
    const Onnx__TensorProto *constant = papa_attr_find(papa_onnx_graph(onnx)->node[0], "value")->t;
    Counting of_big = counting(TYPE(FLOAT)), of_half = counting(TYPE(FLOAT16)), of_constant = counting(TYPE(FLOAT)), of_empty = counting(TYPE(FLOAT));
    CHECK_OK(papa_edit_new(&set, onnx));
    CHECK_OK(papa_edit_set_tensor(set, big, values, BIG));
    CHECK_OK(papa_edit_set_tensor(set, half, values, 3));
    CHECK_OK(papa_edit_set_tensor(set, constant, values, 2));
    CHECK_OK(papa_edit_set_tensor(set, empty, values, 0));
    char set_folder[80];
    snprintf(set_folder, sizeof set_folder, "%s/set", folder);
    CHECK_OK(papa_file_make_folder(set_folder));
    CHECK_OK(papa_edit_write_limited(set, set_path, limit));
    CHECK_OK(papa_edit_new(&filled, onnx));
    CHECK_OK(papa_edit_set_tensor_from(filled, big, count_up, &of_big));
    CHECK_OK(papa_edit_set_tensor_from(filled, half, count_up, &of_half));
    CHECK_OK(papa_edit_set_tensor_from(filled, constant, count_up, &of_constant));
    CHECK_OK(papa_edit_set_tensor_from(filled, empty, count_up, &of_empty));
    for (int round = 0; round < 2; round++) { /* equal edits, equal bytes */
        CHECK_OK(papa_edit_write_limited(filled, out_path, limit));
        CHECK(same_files(out_path, set_path), "limit %llu", (unsigned long long)limit);
        CHECK(limit == PAPA_MODEL_LIMIT || same_files(out_data, set_data));
    }
    CHECK(of_big.n_calls == 4 && of_half.n_calls == 2 && of_constant.n_calls == 2 && of_empty.n_calls == 0, "%d calls", of_big.n_calls);
    CHECK(of_big.n_wrong + of_half.n_wrong + of_constant.n_wrong == 0, "ranges don't follow each other, or are too long");

    /* A failure passes through and leaves the old file; the last one to set a tensor counts. */
    of_big.fail_at = BIG - 1;
    CHECK_OK(papa_edit_set_metadata(filled, "new", "value"));
    CHECK_FAILS(papa_edit_write_limited(filled, out_path, limit), PAPA_ERR_NUMERIC, "element 299999 has no value");
    CHECK(same_files(out_path, set_path) && count_files() == (limit == PAPA_MODEL_LIMIT ? 3 : 4), "%d files", count_files());
    CHECK_OK(papa_edit_set_metadata(filled, "new", NULL));
    CHECK_OK(papa_edit_set_tensor(filled, big, values, BIG));
    CHECK_OK(papa_edit_write_limited(filled, out_path, limit));
    CHECK(same_files(out_path, set_path));
    papa_edit_free(filled);
    papa_edit_free(set);
    papa_onnx_close(onnx);

    /* Once more from what was written: external elements stay external. */
    Counting again = counting(TYPE(FLOAT));
    CHECK_OK(papa_onnx_open(&onnx, out_path));
    CHECK_OK(papa_edit_new(&filled, onnx));
    CHECK_OK(papa_edit_set_tensor_from(filled, find_initializer(onnx, "big"), count_up, &again));
    CHECK_OK(papa_edit_write(filled, out_path)); /* over the file that is read */
    CHECK(same_files(out_path, set_path) && again.n_wrong == 0);
    CHECK_OK(papa_onnx_open(&written, out_path));
    CHECK(find_initializer(written, "big")->data_location == (limit < PAPA_MODEL_LIMIT), "moved");
    papa_onnx_close(written);
    papa_edit_free(filled);
    papa_onnx_close(onnx);
    unlink(out_path), unlink(out_data), unlink(set_path), unlink(set_data), rmdir(set_folder);
}

/* Text that repeats the alphabet; fails at its last byte if it is told to. */
typedef struct Letters {
    size_t bytes;
    bool fails;
} Letters;

static PapaStatus spell(void *context, void *to, int64_t first, int64_t n)
{
    const Letters *letters = context;
    if (letters->fails && (size_t)(first + n) == letters->bytes)
        return papa_fail(PAPA_ERR_NUMERIC, "no letter is left");
    for (int64_t i = 0; i < n; i++)
        ((char *)to)[i] = (char)('a' + (first + i) % 26);
    return PAPA_OK;
}

/* In a new entry, and in the place of one. */
static void test_fill_metadata(void)
{
    Letters all = {.bytes = 2 * PAPA_FILL_BYTES + 5}, few = {.bytes = 3};
    char *text = malloc(all.bytes + 1), set_path[100];
    PapaBuffer model = mixed_model();
    PapaOnnx *onnx;
    PapaEdit *set, *filled;
    snprintf(set_path, sizeof set_path, "%s/set.onnx", folder);
    CHECK(text != NULL);
    CHECK_OK(spell(&all, text, 0, (int64_t)all.bytes));
    text[all.bytes] = 0;
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    for (int round = 0; round < 2; round++) {
        CHECK_OK(papa_edit_new(&set, onnx));
        CHECK_OK(papa_edit_set_metadata(set, "short", "abc"));
        CHECK_OK(papa_edit_set_metadata(set, "long", text));
        CHECK_OK(papa_edit_set_metadata(set, round ? "short" : "other", round ? NULL : "b"));
        CHECK_OK(papa_edit_write(set, set_path));
        CHECK_OK(papa_edit_new(&filled, onnx));
        CHECK_OK(papa_edit_set_metadata_from(filled, "short", few.bytes, spell, &few));
        CHECK_OK(papa_edit_set_metadata(filled, "long", "something else"));
        CHECK_OK(papa_edit_set_metadata_from(filled, "long", all.bytes, spell, &all));
        CHECK_OK(papa_edit_set_metadata(filled, round ? "short" : "other", round ? NULL : "b"));
        CHECK_OK(papa_edit_write(filled, out_path));
        CHECK(same_files(out_path, set_path), "round %d", round);
        all.fails = true;
        CHECK_FAILS(papa_edit_write(filled, out_path), PAPA_ERR_NUMERIC, "no letter is left");
        CHECK(same_files(out_path, set_path) && count_files() == 3, "%d files", count_files());
        all.fails = false;
        papa_edit_free(set);
        papa_edit_free(filled);
        papa_onnx_close(onnx);
        CHECK_OK(papa_onnx_open(&onnx, out_path));
    }
    CHECK(papa_onnx_model(onnx)->n_metadata_props == 2 && !strcmp(papa_onnx_model(onnx)->metadata_props[0]->value, text));
    papa_onnx_close(onnx);
    unlink(out_path), unlink(set_path);
    free(text);
}

static void test_fill_any_type(void)
{
    PapaOnnx *onnx, *other;
    PapaEdit *edit;
    PapaBuffer model = mixed_model();
    Counting bytes = counting(TYPE(INT8)), nibbles = counting(TYPE(INT4));
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_edit_new(&edit, onnx));
    CHECK_OK(papa_edit_set_tensor_from(edit, find_initializer(onnx, "bytes"), count_up, &bytes));
    CHECK_OK(papa_edit_set_tensor_from(edit, find_initializer(onnx, "nibbles"), count_up, &nibbles));
    CHECK_FAILS(papa_edit_set_tensor_from(edit, find_initializer(onnx, "text"), count_up, &bytes), PAPA_ERR_UNSUPPORTED, "'text': has STRING elements");
    CHECK_OK(papa_edit_write(edit, out_path));
    CHECK_OK(papa_onnx_open(&other, out_path));
    CHECK_FAILS(papa_edit_set_tensor_from(edit, find_initializer(other, "bytes"), count_up, &bytes), PAPA_ERR_ARGUMENT, "not a tensor of");
    unsigned char found[5];
    PapaTensorReader reader;
    CHECK_OK(papa_reader_open(&reader, other, find_initializer(other, "bytes")));
    CHECK_OK(papa_reader_raw(&reader, found, 0, 5));
    CHECK(!memcmp(found, "\0\1\2\3\4", 5));
    CHECK_OK(papa_reader_open(&reader, other, find_initializer(other, "nibbles")));
    CHECK_OK(papa_reader_raw(&reader, found, 0, 3));
    CHECK(found[0] == 1 && found[1] == 2, "%d %d", found[0], found[1]); /* two elements a byte: the last one stays */
    papa_onnx_close(other);
    papa_edit_free(edit);
    papa_onnx_close(onnx);
}

/* Two tensors of one size, both external: from one context they share a place in the file, from two they don't. */
static void test_shared_places(void)
{
    enum { N = 1000 };
    static float zeros[N];
    PapaBuffer graph = {0}, a = float_tensor("a", zeros, N), b = float_tensor("b", zeros, N), c = float_tensor("c", zeros, N);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &a);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &b);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &c);
    PapaBuffer model = model_of(&graph, 8);
    PapaOnnx *onnx;
    PapaEdit *edit;
    struct stat st = {0};
    Counting one = counting(TYPE(FLOAT)), two = one;
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_edit_new(&edit, onnx));
    CHECK_OK(papa_edit_set_tensor_from(edit, find_initializer(onnx, "a"), count_up, &one));
    CHECK_OK(papa_edit_set_tensor_from(edit, find_initializer(onnx, "b"), count_up, &one));
    CHECK_OK(papa_edit_set_tensor_from(edit, find_initializer(onnx, "c"), count_up, &two));
    CHECK_OK(papa_edit_write_limited(edit, out_path, 2000));
    CHECK(!stat(out_data, &st) && st.st_size == 4032 + 4000 && one.n_calls == 1 && two.n_calls == 1, "%lld bytes", (long long)st.st_size);
    papa_edit_free(edit);
    papa_onnx_close(onnx);
    CHECK_OK(papa_onnx_open(&onnx, out_path));
    float found[N];
    static const char *const names[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++)
        CHECK(!papa_tensor_read_float(onnx, find_initializer(onnx, names[i]), found, N) && found[0] == 1 && found[N - 1] == N, "%s", names[i]);
    papa_onnx_close(onnx);
    unlink(out_data);
}

/* x -> Mul(x, a) -> Add(., c) -> z with a Constant c. Members whose elements callbacks make are compared by them. */
static void test_fill_ensemble(void)
{
    static const float a_values[] = {1, 2, 3}, c_values[] = {7, 8};
    PapaBuffer graph = {0}, mul = make_node("Mul", "mul", "x", "y"), add = make_node("Add", "add", "y", "z"), a = float_tensor("a", a_values, 3);
    PapaBuffer constant = make_node("Constant", "const", "", "c"), attr = {0}, value = float_tensor("", c_values, 2), x = value_info("x"), z = value_info("z");
    put_text(&mul, 1, "a");
    put_text(&add, 1, "c");
    put_text(&attr, 1, "value");
    put_message(&attr, 5, &value);
    put_message(&constant, 5, &attr);
    put_message(&graph, FIELD_GRAPH_NODE, &constant);
    put_message(&graph, FIELD_GRAPH_NODE, &mul);
    put_message(&graph, FIELD_GRAPH_NODE, &add);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &a);
    put_message(&graph, FIELD_GRAPH_INPUT, &x);
    put_message(&graph, 12, &z);
    PapaBuffer model = model_of(&graph, 8);
    PapaOnnx *onnx, *written;
    PapaEdit *edit;
    Counting of_a = counting(TYPE(FLOAT)), of_c = of_a;
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_edit_new(&edit, onnx));
    CHECK_OK(papa_edit_set_tensor_from(edit, papa_onnx_graph(onnx)->initializer[0], count_up, &of_a)); /* 1, 2, 3, as in the file */
    CHECK_OK(papa_edit_set_tensor_from(edit, papa_attr_find(papa_onnx_graph(onnx)->node[0], "value")->t, count_up, &of_c));
    PapaEnsembleMember members[] = {{.onnx = onnx, .output = "z", .weight = 1}, {.onnx = onnx, .edit = edit, .output = "z", .weight = 1}};
    CHECK_OK(papa_ensemble_write(members, 2, &(PapaEnsembleOptions){.output = "z"}, NULL, 0, out_path));
    CHECK_OK(papa_onnx_open(&written, out_path));
    const Onnx__GraphProto *g = papa_onnx_graph(written);
    static const char *const types[] = {"Constant", "Mul", "Add", "Constant", "Add", "Sum", "Mul"};
    CHECK(g->n_initializer == 2 && g->n_node == 7, "%zu initializers, %zu nodes", g->n_initializer, g->n_node);
    for (size_t i = 0; i < 7 && i < g->n_node; i++)
        CHECK(!strcmp(g->node[i]->op_type, types[i]), "%zu: %s", i, g->node[i]->op_type);
    float found[2];
    CHECK(!papa_tensor_read_float(written, papa_attr_find(g->node[3], "value")->t, found, 2) && found[0] == 1 && found[1] == 2);
    papa_onnx_close(written);

    /* One more with the same edit shares all of it; another edit's Constant is its own, even where it makes the same. */
    PapaEdit *twin;
    Counting of_twin = counting(TYPE(FLOAT));
    CHECK_OK(papa_edit_new(&twin, onnx));
    CHECK_OK(papa_edit_set_tensor_from(twin, papa_attr_find(papa_onnx_graph(onnx)->node[0], "value")->t, count_up, &of_twin));
    PapaEnsembleMember four[] = {members[0], members[1], members[1], {.onnx = onnx, .edit = twin, .output = "z", .weight = 1}};
    CHECK_OK(papa_ensemble_write(four, 4, &(PapaEnsembleOptions){.output = "z"}, NULL, 0, out_path));
    CHECK_OK(papa_onnx_open(&written, out_path));
    CHECK(papa_onnx_graph(written)->n_node == 9, "%zu nodes", papa_onnx_graph(written)->n_node);
    papa_onnx_close(written);
    papa_edit_free(twin);

    of_a.fail_at = 2; /* while members are compared */
    CHECK_FAILS(papa_ensemble_write(members, 2, &(PapaEnsembleOptions){.output = "z"}, NULL, 0, out_path), PAPA_ERR_NUMERIC, "element 2 has no value");
    papa_edit_free(edit);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- all tensors */

static PapaBuffer attribute(const char *name, int type, uint32_t number, PapaBuffer *message)
{
    PapaBuffer attr = {0};
    put_text(&attr, 1, name);
    put_number(&attr, 20, type);
    put_message(&attr, number, message);
    return attr;
}

/* A graph with one initializer. */
static PapaBuffer small_graph(const char *name)
{
    PapaBuffer graph = {0}, tensor = float_tensor(name, &(float){1}, 1);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &tensor);
    return graph;
}

static PapaBuffer sparse_tensor(const char *name)
{
    PapaBuffer sparse = {0}, values = float_tensor(name, (float[]){1, 2}, 2), indices = tensor_head("", TYPE(INT64), 2);
    put_number(&indices, FIELD_TENSOR_INT64_DATA, 3);
    put_number(&indices, FIELD_TENSOR_INT64_DATA, 5);
    put_message(&sparse, 1, &values);
    put_message(&sparse, 2, &indices);
    put_number(&sparse, 3, 10);
    return sparse;
}

static void test_places(void)
{
    PapaBuffer graph = {0}, model, function = {0}, training = {0};
    PapaBuffer branch = make_node("If", "x", "p", "q"), constant = make_node("Constant", "", "", "c"), own = make_node("Own", "o", "", "d");
    PapaBuffer then_graph = small_graph("w"), else_graph = small_graph("w"), value = float_tensor("", &(float){2}, 1), sparse_value = sparse_tensor("s");
    PapaBuffer list = {0};
    put_text(&list, 1, "many");
    put_number(&list, 20, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS);
    for (int i = 0; i < 2; i++) {
        PapaBuffer one = float_tensor("", &(float){3}, 1);
        put_message(&list, 10, &one);
    }
    PapaBuffer attrs[] = {
        attribute("then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, 6, &then_graph),
        attribute("else_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, 6, &else_graph),
        attribute("value", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR, 5, &value),
        attribute("sparse_value", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR, 22, &sparse_value),
    };
    put_message(&branch, 5, &attrs[0]);
    put_message(&branch, 5, &attrs[1]);
    put_message(&constant, 5, &attrs[2]);
    put_message(&own, 5, &attrs[3]);
    put_message(&own, 5, &list);
    PapaBuffer w = float_tensor("w", &(float){4}, 1), s = sparse_tensor("s"), algorithm = small_graph("w"), inner = make_node("Constant", "", "", "c");
    PapaBuffer inner_value = float_tensor("", &(float){5}, 1), inner_attr = attribute("value", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR, 5, &inner_value);
    put_message(&graph, FIELD_GRAPH_INITIALIZER, &w); /* in front of the nodes: the file's order counts, not the schema's */
    put_message(&graph, FIELD_GRAPH_NODE, &branch);
    put_message(&graph, FIELD_GRAPH_NODE, &constant);
    put_message(&graph, FIELD_GRAPH_NODE, &own);
    put_message(&graph, 15, &s);
    put_message(&inner, 5, &inner_attr);
    put_text(&function, 1, "F");
    put_message(&function, 7, &inner);
    put_message(&training, 2, &algorithm);
    model = model_of(&graph, 8);
    put_message(&model, 20, &training);
    put_message(&model, 25, &function);
    static const char *const expected[] = {
        "graph.initializer 'w'",
        "graph.node[0] (If 'x').then_branch.initializer 'w'",
        "graph.node[0] (If 'x').else_branch.initializer 'w'",
        "graph.node[1] (Constant).value",
        "graph.node[2] (Own 'o').sparse_value.values",
        "graph.node[2] (Own 'o').sparse_value.indices",
        "graph.node[2] (Own 'o').many.tensors[0]",
        "graph.node[2] (Own 'o').many.tensors[1]",
        "graph.sparse_initializer 's'.values",
        "graph.sparse_initializer 's'.indices",
        "training_info[0].algorithm.initializer 'w'",
        "functions[0] 'F'.node[0] (Constant).value",
    };
    PapaOnnx *onnx;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTensorPlace *places = NULL;
    size_t n = 0;
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_onnx_tensors(&places, &n, &arena, onnx));
    CHECK(n == 12, "%zu tensors", n);
    for (size_t i = 0; i < n && i < 12; i++) {
        CHECK(!strcmp(places[i].path, expected[i]), "%s, expected %s", places[i].path, expected[i]);
        bool is_sparse = strstr(places[i].path, "sparse");
        CHECK(!is_sparse == !places[i].sparse && (!is_sparse || (places[i].sparse->n_dims == 1 && places[i].sparse->dims[0] == 10)), "%s", places[i].path);
    }
    CHECK(places[0].tensor == papa_onnx_graph(onnx)->initializer[0] && places[11].tensor == papa_onnx_model(onnx)->functions[0]->node[0]->attribute[0]->t);
    papa_arena_free(&arena);
    papa_onnx_close(onnx);
}

/* Two initializers of one name in a subgraph: no reader of ONNX would take them, but their paths differ. */
static void test_equal_paths(void)
{
    PapaBuffer graph = {0}, node = make_node("If", "", "p", "q"), inner = small_graph("w"), twin = float_tensor("w", &(float){1}, 1);
    put_message(&inner, FIELD_GRAPH_INITIALIZER, &twin);
    PapaBuffer attr = attribute("then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, 6, &inner);
    put_message(&node, 5, &attr);
    put_message(&graph, FIELD_GRAPH_NODE, &node);
    PapaBuffer model = model_of(&graph, 8);
    PapaOnnx *onnx;
    PapaArena arena = PAPA_ARENA_INIT;
    PapaTensorPlace *places = NULL;
    size_t n = 0;
    CHECK_OK(open_bytes(&onnx, in_path, &model));
    CHECK_OK(papa_onnx_tensors(&places, &n, &arena, onnx));
    CHECK(n == 2 && !strcmp(places[1].path, "graph.node[0] (If).then_branch.initializer 'w' (2)"), "%s", places[1].path);
    papa_arena_free(&arena);
    papa_onnx_close(onnx);
}

/* ---------------------------------------------------------------- equality */

static void check_equal(PapaBuffer *x, PapaBuffer *y, bool expected, int64_t expected_at, const char *what)
{
    PapaOnnx *a, *b;
    bool equal = !expected;
    int64_t at = -2;
    PapaBuffer left = model_of_tensor(x), right = model_of_tensor(y);
    CHECK_OK(open_bytes(&a, in_path, &left));
    CHECK_OK(open_bytes(&b, out_path, &right));
    CHECK_OK(papa_tensors_equal(&equal, &at, a, papa_onnx_graph(a)->initializer[0], b, papa_onnx_graph(b)->initializer[0]));
    CHECK(equal == expected && (expected || at == expected_at), "%s: %d at %lld", what, equal, (long long)at);
    papa_onnx_close(a);
    papa_onnx_close(b);
}

static PapaBuffer raw_tensor(int type, int64_t n, const void *data, size_t bytes)
{
    PapaBuffer tensor = tensor_head("W", type, n);
    put_bytes(&tensor, FIELD_TENSOR_RAW_DATA, data, bytes);
    return tensor;
}

static PapaBuffer text_tensor(const char *first, const char *second)
{
    PapaBuffer tensor = tensor_head("W", TYPE(STRING), 2);
    put_text(&tensor, FIELD_TENSOR_STRING_DATA, first);
    put_text(&tensor, FIELD_TENSOR_STRING_DATA, second);
    return tensor;
}

static void test_equality(void)
{
    enum { N = 9000 };
    static float values[N], other[N];
    PapaBuffer x = tensor_in_form(RAW, 5000), y = tensor_in_form(TWO_RUNS, 5000);
    check_equal(&x, &y, true, 0, "raw and typed");
    x = tensor_in_form(RAW, 5000), y = tensor_in_form(DOUBLES, 5000);
    check_equal(&x, &y, false, -1, "types");
    x = float_tensor("W", values, 4), y = float_tensor("W", values, 5);
    check_equal(&x, &y, false, -1, "shapes");
    other[N - 1] = -0.0f;
    x = float_tensor("W", values, N), y = float_tensor("W", other, N);
    check_equal(&x, &y, false, N - 1, "zeros of different sign");
    x = raw_tensor(TYPE(INT4), 3, "\x21\x03", 2), y = raw_tensor(TYPE(INT4), 3, "\x21\xf3", 2);
    check_equal(&x, &y, true, 0, "bits behind the last element");
    x = raw_tensor(TYPE(INT4), 3, "\x21\x03", 2), y = raw_tensor(TYPE(INT4), 3, "\x11\x03", 2);
    check_equal(&x, &y, false, 1, "the second nibble");
    x = raw_tensor(TYPE(INT64), 2, "\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0", 16), y = raw_tensor(TYPE(INT64), 2, "\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0", 16);
    check_equal(&x, &y, false, 1, "integers");
    x = text_tensor("a", "b"), y = text_tensor("a", "b");
    check_equal(&x, &y, true, 0, "strings");
    x = text_tensor("a", "b"), y = text_tensor("a", "bc");
    check_equal(&x, &y, false, 1, "strings");
    x = raw_tensor(99, 3, "abc", 3), y = raw_tensor(99, 3, "abc", 3);
    check_equal(&x, &y, true, 0, "an unknown type");
    x = raw_tensor(99, 3, "abc", 3), y = raw_tensor(99, 3, "abd", 3);
    check_equal(&x, &y, false, 0, "an unknown type");
}

int main(void)
{
    make_test_folder(folder);
    snprintf(in_path, sizeof in_path, "%s/in.onnx", folder);
    snprintf(out_path, sizeof out_path, "%s/out.onnx", folder);
    snprintf(out_data, sizeof out_data, "%s/out.onnx.data", folder);
    test_rounding();
    test_loops();
    for (int form = 0; form < N_FORMS; form++)
        check_ranges(form);
    test_narrow_ranges();
    test_fill(PAPA_MODEL_LIMIT);
    test_fill(2000);
    test_fill_metadata();
    test_fill_any_type();
    test_shared_places();
    test_fill_ensemble();
    test_places();
    test_equal_paths();
    test_equality();
    unlink(in_path);
    unlink(out_path);
    CHECK(rmdir(folder) == 0);
    return check_result();
}
