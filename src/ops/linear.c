/* Gemm and MatMul: matrix products, with numpy's broadcasting of stacks of matrices.
 *
 * Every product and every gradient is a Product: one matmul plan over a batch, repeated along up to a few outer axes. A linear
 * layer is always a single call: MatMul by one matrix takes all rows of the stack at once. */
#include "graph/op.h"
#include "graph/units.h"
#include "kernels/copy.h"
#include "kernels/eltwise.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

#include <assert.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- a product over a stack */

/* An axis of the stack: n matrices, the operands' and the result's this many elements apart. 0: the same one again; results
 * of stride 0 are summed. */
typedef struct StackAxis {
    int64_t n, a, b, c;
} StackAxis;

typedef struct Product {
    PapaMatmul *first, *next; /* what overwrites c, and what adds to it; next NULL: never needed */
    size_t width_a, width_b, width_c; /* bytes of an element */
    StackAxis axes[PAPA_MAX_RANK];
    int n_axes; /* that are walked here; the innermost one may have become the batch of the plans */
} Product;

static void product_release(Product *product, PapaDevice *dev)
{
    PAPA_FORWARD_KERNEL(dev, papa_matmul_free)(product->first);
    PAPA_FORWARD_KERNEL(dev, papa_matmul_free)(product->next);
    *product = (Product){0};
}

/* desc: one product, batch not set. adds: c's old value may have to stay, or axes are summed. */
static PapaStatus product_create(Product *product, PapaDevice *dev, PapaMatmulDesc desc, const StackAxis *axes, int n_axes, bool adds)
{
    *product = (Product){.n_axes = n_axes, .width_a = papa_element_bytes(desc.a), .width_b = papa_element_bytes(desc.b),
        .width_c = papa_element_bytes(desc.c)};
    for (int i = 0; i < n_axes; i++)
        product->axes[i] = axes[i];
    desc.batch = 1;
    if (n_axes && axes[n_axes - 1].c) {
        const StackAxis *inner = &axes[--product->n_axes];
        desc.batch = inner->n;
        desc.stride_a = inner->a;
        desc.stride_b = inner->b;
        desc.stride_c = inner->c;
    }
    PAPA_TRY(PAPA_FORWARD_KERNEL(dev, papa_matmul_create)(dev, &product->first, &desc));
    if (adds) {
        desc.beta = 1;
        PAPA_TRY(PAPA_FORWARD_KERNEL(dev, papa_matmul_create)(dev, &product->next, &desc));
    }
    return PAPA_OK;
}

static size_t product_workspace(const Product *product, PapaDevice *dev)
{
    size_t first = product->first ? PAPA_FORWARD_KERNEL(dev, papa_matmul_workspace)(product->first) : 0;
    size_t next = product->next ? PAPA_FORWARD_KERNEL(dev, papa_matmul_workspace)(product->next) : 0;
    return first > next ? first : next;
}

static PapaStatus product_run(const Product *product, PapaDevice *dev, void *c, const void *a, const void *b, const float *bias,
    void *workspace, bool accumulate)
{
    int64_t n = 1;
    for (int k = 0; k < product->n_axes; k++)
        n *= product->axes[k].n;
    for (int64_t step = 0; step < n; step++) {
        int64_t at_a = 0, at_b = 0, at_c = 0, rest = step; /* elements */
        bool add = accumulate;
        for (int k = product->n_axes - 1; k >= 0; k--) {
            const StackAxis *axis = &product->axes[k];
            int64_t i = rest % axis->n;
            rest /= axis->n;
            at_a += i * axis->a;
            at_b += i * axis->b;
            at_c += i * axis->c;
            add |= i && !axis->c; /* another product has gone into this one before */
        }
        assert(!add || product->next);
        PAPA_TRY(PAPA_FORWARD_KERNEL(dev, papa_matmul_run)(dev, add ? product->next : product->first, (char *)c + at_c * (int64_t)product->width_c,
            (const char *)a + at_a * (int64_t)product->width_a, (const char *)b + at_b * (int64_t)product->width_b, bias, workspace));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- what both operators do: Y = alpha op(A) op(B) + beta C */

typedef enum Which { FORWARD, GRADIENT_A, GRADIENT_B, N_PRODUCTS } Which;

typedef struct LinearAttrs {
    float alpha, beta;
    bool trans_a, trans_b;
    /* set by shape */
    PapaMatmulDesc desc; /* of the forward product of one matrix of the stack; bias and relu are set by prepare */
    StackAxis axes[PAPA_MAX_RANK];
    int n_axes;
    bool has_c, row_c;   /* C is there and counts; it is added as the plan's bias */
} LinearAttrs;

typedef struct LinearPlan {
    Product products[N_PRODUCTS];
} LinearPlan;

/* Where an operand was read transposed, the gradient is needed transposed too, and dY changes sides. */
static bool dy_is_first(const PapaMatmulDesc *fwd, Which which)
{
    return which == GRADIENT_A ? !fwd->transpose_a : fwd->transpose_b;
}

/* dA = alpha dY op(B)^T or alpha op(B) dY^T;  dB = alpha op(A)^T dY or alpha dY^T op(A). */
static PapaStatus gradient_create(Product *product, PapaDevice *dev, const PapaNode *node, Which which)
{
    const LinearAttrs *attrs = node->attrs;
    const PapaMatmulDesc *fwd = &attrs->desc;
    bool of_a = which == GRADIENT_A, dy_first = dy_is_first(fwd, which);
    int64_t ld_other = of_a ? fwd->ldb : fwd->lda;
    PapaElement dy = node->out[0]->element, other_element = node->in[of_a]->element;
    bool other_transposed = of_a ? fwd->transpose_b : fwd->transpose_a;
    PapaMatmulDesc desc = {
        .M = of_a ? (dy_first ? fwd->M : fwd->K) : dy_first ? fwd->N : fwd->K,
        .N = of_a ? (dy_first ? fwd->K : fwd->M) : dy_first ? fwd->K : fwd->N,
        .K = of_a ? fwd->N : fwd->M,
        .lda = dy_first ? fwd->ldc : ld_other,
        .ldb = dy_first ? ld_other : fwd->ldc,
        .ldc = of_a ? fwd->lda : fwd->ldb,
        .transpose_a = of_a ? !dy_first && other_transposed : dy_first || !other_transposed,
        .transpose_b = of_a ? !dy_first || !other_transposed : dy_first && other_transposed,
        .alpha = fwd->alpha,
        .a = dy_first ? dy : other_element, .b = dy_first ? other_element : dy, .c = node->in[!of_a]->element,
    };
    StackAxis axes[PAPA_MAX_RANK];
    for (int k = 0; k < attrs->n_axes; k++) {
        StackAxis axis = attrs->axes[k];
        int64_t other = of_a ? axis.b : axis.a;
        axes[k] = (StackAxis){axis.n, dy_first ? axis.c : other, dy_first ? other : axis.c, of_a ? axis.a : axis.b};
    }
    return product_create(product, dev, desc, axes, attrs->n_axes, true);
}

static PapaStatus gradient_run(const PapaNode *node, const PapaRun *run, Which which)
{
    const LinearAttrs *attrs = node->attrs;
    int input = which == GRADIENT_A ? 0 : 1;
    PapaReal *dx = papa_din(run, node, input);
    bool accumulate = papa_din_accumulate(run, node, input);
    if (!dx)
        return PAPA_OK;
    if (!papa_shape_count(&node->out[0]->shape)) /* no product runs, and a sum of none is 0 */
        return accumulate ? PAPA_OK : papa_din_zero(run, node, input);
    const PapaReal *dy = papa_dout(run, node, 0), *other = papa_in(run, node, 1 - input);
    bool dy_first = dy_is_first(&attrs->desc, which);
    return product_run(&((const LinearPlan *)node->plan)->products[which], run->dev, dx, dy_first ? dy : other, dy_first ? other : dy, NULL,
        papa_backward_workspace(run, node), accumulate);
}

static unsigned linear_keeps(const PapaNode *node, const PapaGraph *graph)
{
    (void)graph;
    return PAPA_KEEP_IN(0) | PAPA_KEEP_IN(1) | (node->relu ? PAPA_KEEP_OUT(0) : 0);
}

/* A matrix of the file is taken as it is, and its gradient given so. */
static unsigned linear_float32(const PapaNode *node)
{
    return (unsigned)(node->in[0]->kind == PAPA_VALUE_TENSOR) | (unsigned)(node->in[1]->kind == PAPA_VALUE_TENSOR) << 1 |
        (unsigned)((const LinearAttrs *)node->attrs)->row_c << 2;
}

static void linear_release(PapaNode *node, PapaDevice *dev)
{
    LinearPlan *plan = node->plan;
    for (int i = 0; plan && i < N_PRODUCTS; i++)
        product_release(&plan->products[i], dev);
    free(plan);
    node->plan = NULL;
}

static PapaStatus make_products(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    const LinearAttrs *attrs = node->attrs;
    LinearPlan *plan = node->plan;
    PapaMatmulDesc desc = attrs->desc;
    desc.bias = attrs->row_c;
    desc.relu = node->relu;
    desc.a = node->in[0]->element, desc.b = node->in[1]->element, desc.c = node->out[0]->element;
    PAPA_TRY(product_create(&plan->products[FORWARD], dev, desc, attrs->axes, attrs->n_axes, false));
    node->forward_workspace_bytes = product_workspace(&plan->products[FORWARD], dev);
    if (graph->mode != PAPA_MODE_TRAIN)
        return PAPA_OK;
    for (Which which = GRADIENT_A; which < N_PRODUCTS; which++) {
        PAPA_TRY(gradient_create(&plan->products[which], dev, node, which));
        size_t bytes = product_workspace(&plan->products[which], dev);
        if (bytes > node->backward_workspace_bytes)
            node->backward_workspace_bytes = bytes;
    }
    return PAPA_OK;
}

static PapaStatus linear_prepare(PapaNode *node, const PapaGraph *graph, PapaDevice *dev)
{
    node->plan = calloc(1, sizeof(LinearPlan));
    if (!node->plan)
        return papa_fail_memory(sizeof(LinearPlan), node->label);
    PapaStatus status = make_products(node, graph, dev);
    return status == PAPA_OK ? PAPA_OK : papa_fail_in(status, "%s", node->label);
}

/* C (1), (N), (M, 1), (1, N) or (M, N) over Y (M, N): Y's elements beside C's. */
static void c_strides(const LinearAttrs *attrs, const PapaShape *c, int64_t *row, int64_t *column)
{
    int64_t n = c->rank ? c->dim[c->rank - 1] : 1;
    *column = n == 1 && attrs->desc.N != 1 ? 0 : 1;
    *row = c->rank == 2 && (c->dim[0] != 1 || attrs->desc.M == 1) ? n : 0;
}

static PapaStatus linear_forward(const PapaNode *node, const PapaRun *run)
{
    const LinearAttrs *attrs = node->attrs;
    PapaReal *y = papa_out(run, node, 0);
    if (attrs->has_c && !attrs->row_c) { /* the product then reads it there, times beta */
        int64_t row, column;
        PapaRegion region = {0};
        c_strides(attrs, &node->in[2]->shape, &row, &column);
        papa_region_add(&region, attrs->desc.M, attrs->desc.N, row);
        papa_region_add(&region, attrs->desc.N, 1, column);
        PAPA_TRY(PAPA_FORWARD_KERNEL(run->dev, papa_copy)(run->dev, y, papa_in(run, node, 2), &region, false));
    }
    return product_run(&((const LinearPlan *)node->plan)->products[FORWARD], run->dev, y, papa_in(run, node, 0), papa_in(run, node, 1),
        attrs->row_c ? papa_in(run, node, 2) : NULL, papa_forward_workspace(run, node), false);
}

static PapaStatus gradient_c(const PapaNode *node, const PapaRun *run)
{
    const LinearAttrs *attrs = node->attrs;
    PapaDevice *dev = run->dev;
    int64_t M = attrs->desc.M, N = attrs->desc.N;
    PapaReal *dc = papa_din(run, node, 2);
    const PapaReal *dy = papa_dout(run, node, 0);
    bool accumulate = papa_din_accumulate(run, node, 2);
    if (!dc)
        return PAPA_OK;
    if (attrs->row_c)
        return PAPA_KERNEL(dev, papa_colsum)(dev, dc, dy, M, N, N, accumulate);
    if (!attrs->has_c) /* beta is 0 */
        return accumulate ? PAPA_OK : papa_din_zero(run, node, 2);
    PapaWalk walk;
    int64_t stride[2], none[2] = {0, 0};
    c_strides(attrs, &node->in[2]->shape, &stride[0], &stride[1]);
    papa_walk_make(&walk, 2, (const int64_t[]){M, N}, stride, none);
    return PAPA_KERNEL(dev, papa_sum)(dev, dc, dy, &walk, attrs->beta, accumulate);
}

static PapaStatus linear_backward(const PapaNode *node, const PapaRun *run)
{
    PapaReal *dy = papa_dout(run, node, 0);
    if (node->relu)
        PAPA_TRY(PAPA_KERNEL(run->dev, papa_relu_bwd)(run->dev, dy, dy, papa_out(run, node, 0), papa_shape_count(&node->out[0]->shape),
            false));
    PAPA_TRY(gradient_run(node, run, GRADIENT_A));
    PAPA_TRY(gradient_run(node, run, GRADIENT_B));
    return gradient_c(node, run);
}

/* ---------------------------------------------------------------- Gemm */

static PapaStatus gemm_init(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    LinearAttrs *attrs = node->attrs;
    int64_t trans_a, trans_b;
    PAPA_TRY(papa_attr_float(node->proto, "alpha", 1, &attrs->alpha));
    PAPA_TRY(papa_attr_float(node->proto, "beta", 1, &attrs->beta));
    PAPA_TRY(papa_attr_int(node->proto, "transA", 0, &trans_a));
    PAPA_TRY(papa_attr_int(node->proto, "transB", 0, &trans_b));
    attrs->trans_a = trans_a != 0;
    attrs->trans_b = trans_b != 0;
    return PAPA_OK;
}

static PapaRole gemm_role(const PapaNode *node, int input, int64_t *fan_in)
{
    const LinearAttrs *attrs = node->attrs;
    const PapaValue *value = node->in[input];
    if (input == 2)
        return PAPA_ROLE_BIAS;
    if (value->has_shape && value->shape.rank == 2)
        *fan_in = value->shape.dim[input == 0 ? !attrs->trans_a : attrs->trans_b];
    return PAPA_ROLE_WEIGHT;
}

static PapaStatus gemm_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    LinearAttrs *attrs = node->attrs;
    const PapaShape *a = &node->in[0]->shape, *b = &node->in[1]->shape;
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i])
            PAPA_TRY(papa_check_float(node, i));
    if (a->rank != 2 || b->rank != 2 || a->dim[!attrs->trans_a] != b->dim[attrs->trans_b])
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "A of shape %s does not fit B of shape %s (transA %d, transB %d)",
            papa_shape_text(a), papa_shape_text(b), attrs->trans_a, attrs->trans_b);
    int64_t M = a->dim[attrs->trans_a], N = b->dim[!attrs->trans_b], K = a->dim[!attrs->trans_a];
    const PapaShape y = {.rank = 2, .dim = {M, N}};

    attrs->has_c = attrs->row_c = false;
    if (papa_has_in(node, 2)) {
        const PapaShape *c = &node->in[2]->shape;
        int64_t n = c->rank ? c->dim[c->rank - 1] : 1;
        if (c->rank > 2 || (n != 1 && n != N) || (c->rank == 2 && c->dim[0] != 1 && c->dim[0] != M))
            return papa_node_fail(node, PAPA_ERR_MISMATCH, "C of shape %s does not broadcast to %s", papa_shape_text(c),
                papa_shape_text(&y));
        attrs->has_c = attrs->beta != 0;
        attrs->row_c = attrs->beta == 1 && n == N && papa_shape_count(c) == N;
    }
    attrs->desc = (PapaMatmulDesc){
        .M = M, .N = N, .K = K, .transpose_a = attrs->trans_a, .transpose_b = attrs->trans_b, .lda = a->dim[1], .ldb = b->dim[1], .ldc = N,
        .alpha = attrs->alpha, .beta = attrs->has_c && !attrs->row_c ? attrs->beta : 0,
    };
    return papa_set_output(node, 0, node->in[0]->type, &y);
}

/* ---------------------------------------------------------------- MatMul */

static PapaRole matmul_role(const PapaNode *node, int input, int64_t *fan_in)
{
    const PapaValue *value = node->in[input];
    const PapaShape *shape = &value->shape;
    if (value->has_shape && shape->rank)
        *fan_in = shape->dim[input == 1 && shape->rank > 1 ? shape->rank - 2 : shape->rank - 1];
    return PAPA_ROLE_WEIGHT;
}

/* The stack's axes, outermost first, joined where they are one walk in all three operands. */
static void add_axis(LinearAttrs *attrs, StackAxis axis)
{
    StackAxis *last = attrs->n_axes ? &attrs->axes[attrs->n_axes - 1] : NULL;
    if (axis.n == 1)
        return;
    if (last && last->a == axis.n * axis.a && last->b == axis.n * axis.b && last->c == axis.n * axis.c) {
        axis.n *= last->n;
        *last = axis;
    } else {
        attrs->axes[attrs->n_axes++] = axis;
    }
}

/* batch: the shape of the stack of results. */
static void stack_axes(LinearAttrs *attrs, const PapaShape *a, const PapaShape *b, const PapaShape *batch)
{
    const PapaMatmulDesc *desc = &attrs->desc;
    StackAxis axes[PAPA_MAX_RANK];
    int64_t next_a = desc->M * desc->K, next_b = desc->K * desc->N, next_c = desc->M * desc->N;
    for (int k = batch->rank - 1; k >= 0; k--) {
        int at_a = k - (batch->rank - a->rank), at_b = k - (batch->rank - b->rank);
        int64_t n_a = at_a >= 0 ? a->dim[at_a] : 1, n_b = at_b >= 0 ? b->dim[at_b] : 1;
        axes[k] = (StackAxis){batch->dim[k], n_a == 1 ? 0 : next_a, n_b == 1 ? 0 : next_b, next_c};
        next_a *= n_a;
        next_b *= n_b;
        next_c *= batch->dim[k];
    }
    attrs->n_axes = 0;
    for (int k = 0; k < batch->rank; k++)
        add_axis(attrs, axes[k]);
    /* One B for a dense stack of A: that is one tall A. */
    const StackAxis *inner = attrs->n_axes ? &attrs->axes[attrs->n_axes - 1] : NULL;
    if (inner && !inner->b && inner->a == desc->M * desc->K) {
        attrs->desc.M *= inner->n;
        attrs->n_axes--;
    }
}

static PapaStatus matmul_shape(PapaNode *node, PapaGraph *graph)
{
    (void)graph;
    LinearAttrs *attrs = node->attrs;
    PAPA_TRY(papa_check_float(node, 0));
    PAPA_TRY(papa_check_float(node, 1));
    PapaShape a = node->in[0]->shape, b = node->in[1]->shape, y;
    bool vector_a = a.rank == 1, vector_b = b.rank == 1; /* as a row, as a column; the axis does not show in the result */
    if (vector_a)
        a = (PapaShape){.rank = 2, .dim = {1, a.dim[0]}};
    if (vector_b)
        b = (PapaShape){.rank = 2, .dim = {b.dim[0], 1}};
    if (a.rank < 2 || b.rank < 2 || a.dim[a.rank - 1] != b.dim[b.rank - 2])
        return papa_node_fail(node, PAPA_ERR_MISMATCH, "A of shape %s does not fit B of shape %s", papa_shape_text(&node->in[0]->shape),
            papa_shape_text(&node->in[1]->shape));
    a.rank -= 2;
    b.rank -= 2; /* now the shapes of the stacks */
    PAPA_TRY(papa_broadcast(node, &a, &b, &y));

    int64_t M = a.dim[a.rank], K = a.dim[a.rank + 1], N = b.dim[b.rank + 1];
    const PapaShape batch = y;
    if (!vector_a)
        y.dim[y.rank++] = M;
    if (!vector_b)
        y.dim[y.rank++] = N;
    PAPA_TRY(papa_set_output(node, 0, node->in[0]->type, &y)); /* before its dimensions are multiplied */
    attrs->desc = (PapaMatmulDesc){.M = M, .N = N, .K = K, .lda = K, .ldb = N, .ldc = N, .alpha = 1};
    stack_axes(attrs, &a, &b, &batch);
    return PAPA_OK;
}

static PapaSpace without_axis(PapaSpace x, int axis)
{
    unsigned axes = papa_units_bundle(&x, axis) | 1u << axis;
    for (int k = 0; k < x.shape.rank; k++)
        if (axes >> k & 1)
            x.axis[k] = (PapaAxis){0};
    x.shape.dim[axis] = 1;
    return x;
}

/* Of y, axis and those that share its bundle. */
static void take_axis(PapaSpace *y, int axis, const PapaSpace *x, int from)
{
    unsigned axes = papa_units_bundle(x, from) & ~(1u << from);
    for (int k = 0; k < x->shape.rank; k++)
        if (axes >> k & 1)
            y->axis[k] = x->axis[k];
    y->axis[axis] = x->axis[from];
}

/* a (..., M, K) times b (..., K, N), both of one rank. What is along K moves together and is gone; M and N pass. A bundle of the stack's
 * axes and one of the matrix's is a stack of products. */
static PapaSpace multiply_units(PapaUnits *units, PapaSpace a, PapaSpace b)
{
    const int last = a.shape.rank - 1, before = last - 1;
    const unsigned stack = (1u << before) - 1;
    PapaAxis k_axis = b.axis[before];
    int64_t K = b.shape.dim[before];
    b.axis[before] = b.axis[last]; /* now b is (..., N, K) */
    b.axis[last] = k_axis;
    b.shape.dim[before] = b.shape.dim[last];
    b.shape.dim[last] = K;
    if (papa_units_bundle(&a, last) >> before & 1)
        papa_units_plain(units, &a, last);
    if (papa_units_bundle(&b, last) >> before & 1)
        papa_units_plain(units, &b, last);
    papa_units_stack(units, &a, stack);
    papa_units_stack(units, &b, stack);
    if (papa_units_bundle(&a, before) & papa_units_bundle(&b, before) & stack)
        papa_units_fix(units, &b, before, "the other side's axes don't move as its own do");

    const PapaSpace joined = papa_units_meet(units, without_axis(a, before), without_axis(b, before));
    PapaSpace y = {.name = a.name, .shape = joined.shape};
    for (int k = 0; k < before; k++)
        if (!(papa_units_bundle(&joined, k) >> last & 1))
            y.axis[k] = joined.axis[k];
    y.shape.dim[before] = a.shape.dim[before];
    y.shape.dim[last] = b.shape.dim[before];
    take_axis(&y, before, &a, before);
    take_axis(&y, last, &b, before);
    return y;
}

static void gemm_units(const PapaNode *node, PapaUnits *units)
{
    const LinearAttrs *attrs = node->attrs;
    PapaSpace operands[2];
    for (int i = 0; i < 2; i++) {
        const PapaSpace x = papa_units_in(units, node, i);
        const int first = i ? attrs->trans_b : attrs->trans_a;
        operands[i] = (PapaSpace){.name = x.name, .shape = {2, {x.shape.dim[first], x.shape.dim[!first]}}, .axis = {x.axis[first], x.axis[!first]}};
    }
    PapaSpace y = multiply_units(units, operands[0], operands[1]);
    if (papa_has_in(node, 2))
        y = papa_units_meet(units, y, papa_units_in(units, node, 2));
    papa_units_set(units, node, 0, &y);
}

static void matmul_units(const PapaNode *node, PapaUnits *units)
{
    PapaSpace operands[2];
    int rank = 2;
    for (int i = 0; i < 2; i++)
        rank = node->in[i]->shape.rank > rank ? node->in[i]->shape.rank : rank;
    for (int i = 0; i < 2; i++) {
        const PapaSpace x = papa_units_in(units, node, i);
        PapaShape full = {.rank = rank};
        const int n = x.shape.rank, end = rank - (i == 1 && n == 1); /* a vector is a row on the left, a column on the right */
        for (int k = 0; k < rank; k++)
            full.dim[k] = k >= end - n && k < end ? x.shape.dim[k - (end - n)] : 1;
        operands[i] = papa_units_reshape(units, x, &full);
    }
    PapaSpace y = papa_units_reshape(units, multiply_units(units, operands[0], operands[1]), &node->out[0]->shape);
    papa_units_set(units, node, 0, &y);
}

/* A layer is a product whose right side is a matrix that the file holds. */
static bool is_matrix_tensor(const PapaValue *value)
{
    return value->kind == PAPA_VALUE_TENSOR && value->shape.rank == 2;
}

static bool gemm_linear(const PapaNode *node, PapaLinear *out)
{
    const LinearAttrs *attrs = node->attrs;
    *out = (PapaLinear){.weight = 1, .weight_axis = attrs->trans_b ? 0 : 1, .bias = 2, .bias_factor = attrs->beta};
    return is_matrix_tensor(node->in[1]);
}

static bool matmul_linear(const PapaNode *node, PapaLinear *out)
{
    *out = (PapaLinear){.weight = 1, .weight_axis = 1, .bias = -1};
    return is_matrix_tensor(node->in[1]);
}

const PapaOp papa_ops_linear[] = {
    {.type = "Gemm", .since = 7, .min_in = 2, .max_in = 3, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(LinearAttrs),
        .init = gemm_init, .role = gemm_role, .linear = gemm_linear, .shape = gemm_shape, .units = gemm_units, .fuses = PAPA_FUSE_RELU, .float32 = linear_float32, .keeps = linear_keeps,
        .prepare = linear_prepare, .release = linear_release, .forward = linear_forward, .backward = linear_backward},
    {.type = "MatMul", .since = 7, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .attrs_bytes = sizeof(LinearAttrs),
        .role = matmul_role, .linear = matmul_linear, .shape = matmul_shape, .units = matmul_units, .fuses = PAPA_FUSE_RELU, .float32 = linear_float32, .keeps = linear_keeps,
        .prepare = linear_prepare, .release = linear_release, .forward = linear_forward, .backward = linear_backward},
    {0},
};
