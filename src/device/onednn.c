/* The differences between oneDNN 2.x and 3.x stand in the first part; from "one API" on there are none. A primitive keeps its
 * descriptor alive, since the memory descriptions and the implementation's name that are asked of it point into it. */
#include "device/onednn.h"

#include <assert.h>
#include <dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const char *status_name(dnnl_status_t status)
{
    switch (status) {
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "oneDNN has no implementation of this";
    case dnnl_runtime_error: return "runtime error";
    default: return "failed";
    }
}

static PapaStatus dnnl_fail(dnnl_status_t status, const char *what)
{
    return papa_fail(status == dnnl_out_of_memory ? PAPA_ERR_MEMORY : PAPA_ERR_DEVICE, "oneDNN %s: %s: %s", papa_dnnl_version(), what,
        status_name(status));
}

/* Needs `status` and the label `out`. */
#define DNNL_GOTO(expr, what)                        \
    do {                                             \
        dnnl_status_t dnnl_status_ = (expr);         \
        if (dnnl_status_ != dnnl_success) {          \
            status = dnnl_fail(dnnl_status_, what);  \
            goto out;                                \
        }                                            \
    } while (0)

/* ---------------------------------------------------------------- two versions */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t Md;            /* owned */
typedef const_dnnl_memory_desc_t ConstMd; /* what the rest of the API takes and gives */

static ConstMd md_view(const Md *md)
{
    return *md;
}

static void md_free(Md *md)
{
    if (*md)
        dnnl_memory_desc_destroy(*md);
    *md = NULL;
}

static dnnl_status_t md_make(Md *md, int n_dims, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return strides ? dnnl_memory_desc_create_with_strides(md, n_dims, dims, dnnl_f32, strides)
                   : dnnl_memory_desc_create_with_tag(md, n_dims, dims, dnnl_f32, dnnl_format_tag_any);
}

static dnnl_status_t append_relu(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0.f, 0.f);
}

static dnnl_status_t conv_desc_make(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, dnnl_primitive_attr_t attr, PapaDnnlPass pass,
    bool training, ConstMd x, ConstMd w, ConstMd b, ConstMd y, const dnnl_dims_t stride, const dnnl_dims_t dilation,
    const dnnl_dims_t low, const dnnl_dims_t high, dnnl_primitive_desc_t hint)
{
    switch (pass) {
    case PAPA_DNNL_FWD:
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, training ? dnnl_forward_training : dnnl_forward_inference,
            dnnl_convolution_direct, x, w, b, y, stride, dilation, low, high, attr);
    case PAPA_DNNL_BWD_DATA:
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, dnnl_convolution_direct, x, w, y, stride, dilation, low,
            high, hint, attr);
    case PAPA_DNNL_BWD_WEIGHTS:
        return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, dnnl_convolution_direct, x, w, b, y, stride, dilation,
            low, high, hint, attr);
    }
    return dnnl_invalid_arguments;
}

#else

typedef dnnl_memory_desc_t Md;
typedef const dnnl_memory_desc_t *ConstMd;

static ConstMd md_view(const Md *md)
{
    return md->ndims ? md : NULL;
}

static void md_free(Md *md)
{
    (void)md;
}

static dnnl_status_t md_make(Md *md, int n_dims, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return strides ? dnnl_memory_desc_init_by_strides(md, n_dims, dims, dnnl_f32, strides)
                   : dnnl_memory_desc_init_by_tag(md, n_dims, dims, dnnl_f32, dnnl_format_tag_any);
}

static dnnl_status_t append_relu(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_eltwise(ops, 1.f, dnnl_eltwise_relu, 0.f, 0.f);
}

static dnnl_status_t conv_desc_make(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, dnnl_primitive_attr_t attr, PapaDnnlPass pass,
    bool training, ConstMd x, ConstMd w, ConstMd b, ConstMd y, const dnnl_dims_t stride, const dnnl_dims_t dilation,
    const dnnl_dims_t low, const dnnl_dims_t high, dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_invalid_arguments;
    switch (pass) {
    case PAPA_DNNL_FWD:
        status = dnnl_dilated_convolution_forward_desc_init(&desc, training ? dnnl_forward_training : dnnl_forward_inference,
            dnnl_convolution_direct, x, w, b, y, stride, dilation, low, high);
        break;
    case PAPA_DNNL_BWD_DATA:
        status = dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, x, w, y, stride, dilation, low, high);
        break;
    case PAPA_DNNL_BWD_WEIGHTS:
        status = dnnl_dilated_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, x, w, b, y, stride, dilation, low,
            high);
        break;
    }
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &desc, attr, engine, hint) : status;
}

#endif

/* ---------------------------------------------------------------- one API */

struct PapaDnnl {
    dnnl_stream_t stream;
};

struct PapaDnnlOp {
    dnnl_primitive_t primitive;
    dnnl_primitive_desc_t desc;
    const char *implementation;
    ConstMd md[PAPA_DNNL_N_ARGS]; /* NULL: absent */
    int code[PAPA_DNNL_N_ARGS];   /* DNNL_ARG_... */
    ConstMd scratch;
};

/* A primitive runs only on streams of its own engine, so the process has one. It lives until the process ends. */
static dnnl_engine_t engine;
static dnnl_status_t engine_status;
static char version_text[32];

static void make_engine(void)
{
    engine_status = dnnl_engine_create(&engine, dnnl_cpu, 0);
}

static void make_version(void)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(version_text, sizeof version_text, "%d.%d.%d", v->major, v->minor, v->patch);
}

const char *papa_dnnl_version(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_version);
    return version_text;
}

static PapaStatus need_engine(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_engine);
    return engine_status == dnnl_success ? PAPA_OK : dnnl_fail(engine_status, "CPU engine");
}

PapaStatus papa_dnnl_open(PapaDnnl **out)
{
    *out = NULL;
    PAPA_TRY(need_engine());
    PapaDnnl *dnnl = malloc(sizeof *dnnl);
    if (!dnnl)
        return papa_fail_memory(sizeof *dnnl, "oneDNN's stream");
    dnnl_status_t made = dnnl_stream_create(&dnnl->stream, engine, dnnl_stream_default_flags);
    if (made != dnnl_success) {
        free(dnnl);
        return dnnl_fail(made, "stream");
    }
    *out = dnnl;
    return PAPA_OK;
}

void papa_dnnl_close(PapaDnnl *dnnl)
{
    if (!dnnl)
        return;
    dnnl_stream_destroy(dnnl->stream);
    free(dnnl);
}

static dnnl_status_t md_from(Md *md, const PapaDnnlLayout *layout)
{
    dnnl_dims_t dims = {0}, strides = {0};
    for (int i = 0; i < layout->n_dims; i++)
        dims[i] = layout->dims[i], strides[i] = layout->strides[i];
    return layout->n_dims ? md_make(md, layout->n_dims, dims, layout->any ? NULL : strides) : dnnl_success;
}

/* Scratch memory is the caller's; the result may pass through max(0, .). */
static dnnl_status_t attr_make(dnnl_primitive_attr_t *attr, bool relu)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && relu) {
        status = dnnl_post_ops_create(&ops);
        if (status == dnnl_success)
            status = append_relu(ops);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    }
    if (ops)
        dnnl_post_ops_destroy(ops);
    return status;
}

/* Where a pass's arguments are asked for and how they are named. Reorders are like FWD. */
static const struct {
    dnnl_query_t query;
    int index, code;
} roles[][PAPA_DNNL_N_ARGS] = {
    [PAPA_DNNL_FWD] = {
        [PAPA_DNNL_X] = {dnnl_query_src_md, 0, DNNL_ARG_SRC},
        [PAPA_DNNL_W] = {dnnl_query_weights_md, 0, DNNL_ARG_WEIGHTS},
        [PAPA_DNNL_B] = {dnnl_query_weights_md, 1, DNNL_ARG_BIAS},
        [PAPA_DNNL_Y] = {dnnl_query_dst_md, 0, DNNL_ARG_DST},
    },
    [PAPA_DNNL_BWD_DATA] = {
        [PAPA_DNNL_X] = {dnnl_query_diff_src_md, 0, DNNL_ARG_DIFF_SRC},
        [PAPA_DNNL_W] = {dnnl_query_weights_md, 0, DNNL_ARG_WEIGHTS},
        [PAPA_DNNL_B] = {dnnl_query_weights_md, 1, DNNL_ARG_BIAS},
        [PAPA_DNNL_Y] = {dnnl_query_diff_dst_md, 0, DNNL_ARG_DIFF_DST},
    },
    [PAPA_DNNL_BWD_WEIGHTS] = {
        [PAPA_DNNL_X] = {dnnl_query_src_md, 0, DNNL_ARG_SRC},
        [PAPA_DNNL_W] = {dnnl_query_diff_weights_md, 0, DNNL_ARG_DIFF_WEIGHTS},
        [PAPA_DNNL_B] = {dnnl_query_diff_weights_md, 1, DNNL_ARG_DIFF_BIAS},
        [PAPA_DNNL_Y] = {dnnl_query_diff_dst_md, 0, DNNL_ARG_DIFF_DST},
    },
};

/* Takes desc over, also when it fails. present: bit i for argument i. */
static PapaStatus op_make(PapaDnnlOp **out, dnnl_primitive_desc_t desc, PapaDnnlPass pass, unsigned present, const char *what)
{
    PapaStatus status = PAPA_OK;
    PapaDnnlOp *op = calloc(1, sizeof *op);
    if (!op) {
        dnnl_primitive_desc_destroy(desc);
        return papa_fail_memory(sizeof *op, "a oneDNN primitive");
    }
    op->desc = desc;
    DNNL_GOTO(dnnl_primitive_create(&op->primitive, desc), what);
    DNNL_GOTO(dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, (void *)&op->implementation), what);
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++) {
        op->code[i] = roles[pass][i].code;
        if (present >> i & 1)
            op->md[i] = dnnl_primitive_desc_query_md(desc, roles[pass][i].query, roles[pass][i].index);
    }
    op->scratch = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    *out = op;
    return PAPA_OK;
out:
    papa_dnnl_free(op);
    return status;
}

static unsigned present_args(const PapaDnnlLayout args[PAPA_DNNL_N_ARGS])
{
    unsigned present = 0;
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++)
        present |= (args[i].n_dims > 0 ? 1u : 0u) << i;
    return present;
}

PapaStatus papa_dnnl_conv(PapaDnnlOp **out, const PapaDnnlConv *conv)
{
    *out = NULL;
    PAPA_TRY(need_engine());
    static const char *const names[] = {"convolution", "convolution's data gradient", "convolution's weight gradient"};
    const char *what = names[conv->pass];
    PapaStatus status = PAPA_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL, desc = NULL;
    Md md[PAPA_DNNL_N_ARGS] = {0};
    dnnl_dims_t stride, dilation, low, high;
    for (int i = 0; i < 2; i++) /* the library counts the holes, 0 for a dense filter */
        stride[i] = conv->stride[i], dilation[i] = conv->dilation[i] - 1, low[i] = conv->pad_low[i], high[i] = conv->pad_high[i];
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++)
        DNNL_GOTO(md_from(&md[i], &conv->args[i]), what);
    DNNL_GOTO(attr_make(&attr, conv->relu), what);
    ConstMd x = md_view(&md[PAPA_DNNL_X]), w = md_view(&md[PAPA_DNNL_W]), b = md_view(&md[PAPA_DNNL_B]), y = md_view(&md[PAPA_DNNL_Y]);
    if (conv->pass != PAPA_DNNL_FWD)
        DNNL_GOTO(conv_desc_make(&hint, engine, NULL, PAPA_DNNL_FWD, true, x, w, b, y, stride, dilation, low, high, NULL), what);
    DNNL_GOTO(conv_desc_make(&desc, engine, attr, conv->pass, conv->training, x, w, b, y, stride, dilation, low, high, hint), what);
    status = op_make(out, desc, conv->pass, present_args(conv->args), what);
out:
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++)
        md_free(&md[i]);
    return status;
}

PapaStatus papa_dnnl_reorder(PapaDnnlOp **out, const PapaDnnlOp *op, PapaDnnlArg arg, const PapaDnnlLayout *ours, bool back)
{
    *out = NULL;
    const char *what = "reorder";
    PapaStatus status = PAPA_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    Md md = {0};
    DNNL_GOTO(md_from(&md, ours), what);
    ConstMd from = back ? op->md[arg] : md_view(&md), to = back ? md_view(&md) : op->md[arg];
    if (dnnl_memory_desc_equal(from, to))
        goto out;
    DNNL_GOTO(attr_make(&attr, false), what);
    DNNL_GOTO(dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, attr), what);
    status = op_make(out, desc, PAPA_DNNL_FWD, 1u << PAPA_DNNL_X | 1u << PAPA_DNNL_Y, what);
out:
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    md_free(&md);
    return status;
}

void papa_dnnl_free(PapaDnnlOp *op)
{
    if (!op)
        return;
    if (op->primitive)
        dnnl_primitive_destroy(op->primitive);
    dnnl_primitive_desc_destroy(op->desc);
    free(op);
}

const char *papa_dnnl_implementation(const PapaDnnlOp *op)
{
    return op->implementation;
}

size_t papa_dnnl_arg_bytes(const PapaDnnlOp *op, PapaDnnlArg arg)
{
    return op->md[arg] ? dnnl_memory_desc_get_size(op->md[arg]) : 0;
}

size_t papa_dnnl_scratch_bytes(const PapaDnnlOp *op)
{
    return op->scratch ? dnnl_memory_desc_get_size(op->scratch) : 0;
}

PapaStatus papa_dnnl_run(PapaDevice *dev, const PapaDnnlOp *op, void *const args[PAPA_DNNL_N_ARGS], void *scratch)
{
    const PapaDnnl *dnnl = dev->library;
    PapaStatus status = PAPA_OK;
    dnnl_exec_arg_t exec[PAPA_DNNL_N_ARGS + 1];
    int n = 0;
    for (int i = 0; i < PAPA_DNNL_N_ARGS; i++) {
        assert(!op->md[i] == !args[i]);
        if (!op->md[i])
            continue;
        DNNL_GOTO(dnnl_memory_create(&exec[n].memory, op->md[i], engine, args[i]), op->implementation);
        exec[n++].arg = op->code[i];
    }
    if (papa_dnnl_scratch_bytes(op)) {
        DNNL_GOTO(dnnl_memory_create(&exec[n].memory, op->scratch, engine, scratch), op->implementation);
        exec[n++].arg = DNNL_ARG_SCRATCHPAD;
    }
    DNNL_GOTO(dnnl_primitive_execute(op->primitive, dnnl->stream, n, exec), op->implementation);
    DNNL_GOTO(dnnl_stream_wait(dnnl->stream), op->implementation);
out:
    while (n-- > 0)
        dnnl_memory_destroy(exec[n].memory);
    return status;
}

PapaStatus papa_dnnl_sgemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, float alpha, const float *a, int64_t lda,
    const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, alpha, a, lda, b, ldb, beta, c, ldc);
    return status == dnnl_success ? PAPA_OK : dnnl_fail(status, "sgemm");
}
