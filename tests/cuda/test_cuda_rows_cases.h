/* The cases of test_cuda_rows.c. Inputs and attributes are written as words separated by blanks.
 *
 * Inputs:      2x3x5     an activation of this shape, numbers in (-1, 1), with a gradient; () of rank 0
 *              w4x3      a float tensor of the file
 *              g2x3      fed: no gradient is wanted
 *              @0        input 0 once more
 *              i1,-2     known integers, a vector; I5 one integer; f.5 a known number; b1 a known truth value
 *              -         left out
 *              +, ~ in front of a shape, w or g: numbers in (.5, 2); numbers in (-9, 9)
 * Attributes:  axis=1 pads=[1,0,2,1] alpha=1.5 mode=edge, of the types that they look like */
#ifndef TEST_CUDA_ROWS_CASES_H
#define TEST_CUDA_ROWS_CASES_H

enum {
    RELU = 1,       /* a Relu reads the output */
    ADD = 2,        /* an activation of the output's shape, the last input, is added to the output, before the Relu */
    FROZEN = 4,     /* BatchNormalization's statistics are */
    CANCELS = 8,    /* gradients may be 0 but for rounding: a sum of numbers that cancel */
    SKIP_FIRST = 16, /* the first output is left out */
    PARTIAL = 32,   /* the result, or a gradient, is added up in memory, or made by several kernels: partial results are rounded too */
    INFERS = 64     /* the row has no backward */
};

typedef struct Case {
    const char *types; /* one case for each */
    int opset;
    const char *in, *attributes;
    unsigned how;
    int n_out; /* more than one are joined along the attribute axis */
} Case;

#define FUNCTIONS "Relu LeakyRelu Sigmoid Tanh Elu Selu Celu HardSigmoid HardSwish Swish Softplus Softsign Mish Gelu Neg Abs Exp Erf"
#define BATCHNORM(channels) "w" channels " w" channels " w" channels " +w" channels

static const Case cases[] = {
    /* arithmetic */
    {"Add Sub Mul Div", 13, "2x3x2x2 +2x3x2x2", "", 0, 1},
    {"Add Sub Mul Div", 13, "2x3x2x2 +1x3x1x1", "", 0, 1},
    {"Add Sub Mul Div", 13, "1x3x1x2 +2x3x2x1", "", 0, 1},
    {"Add Sub Mul Div", 7, "5x7 +()", "", CANCELS, 1},
    {"Add Sub Mul Div", 14, "() +3", "", 0, 1},
    {"Add Sub Mul Div", 14, "3x1031 +1031", "", 0, 1},
    {"Add Sub Mul Div", 14, "0x3x2x2 +3x1x1", "", 0, 1},
    {"Add Sub Mul", 14, "2x3x4x4 w3x1x1", "", 0, 1},
    {"Add Sub Mul Div", 14, "g2x9 +2x9", "", 0, 1},
    {"Add Mul", 14, "5x7 @0", "", 0, 1},
    {"Add", 14, "2x5x7 2x5x7", "", RELU, 1},
    {"Add", 14, "2x3x4x5 2x1x4x1", "", RELU, 1},
    {"Sum", 13, "2x3x4x4 3x1x1 1x1x4x1", "", PARTIAL, 1},
    {"Sum", 13, "2x5x3", "", 0, 1},
    {"Sum", 13, "7 7 @0 7 ()", "", PARTIAL, 1},

    /* functions of one tensor */
    {FUNCTIONS, 24, "2x3x5x7", "", 0, 1},
    {FUNCTIONS, 24, "~1037", "", 0, 1},
    {FUNCTIONS, 24, "()", "", 0, 1},
    {"Relu Sigmoid Gelu", 24, "0x5", "", 0, 1},
    {"Reciprocal Sqrt Log", 13, "+2x3x5x7", "", 0, 1},
    {"Reciprocal Sqrt Log", 13, "+1", "", 0, 1},
    {"LeakyRelu Celu", 13, "3x5", "alpha=.25", 0, 1},
    {"Elu", 22, "3x5", "alpha=2.0", 0, 1},
    {"Selu", 7, "3x5", "alpha=2.0 gamma=3.0", 0, 1},
    {"HardSigmoid", 22, "~3x35", "alpha=.125 beta=.625", 0, 1},
    {"Swish", 24, "~3x35", "alpha=2.0", 0, 1},
    {"Gelu", 20, "~3x35", "approximate=tanh", 0, 1},
    {"Clip", 7, "2x3x5x7", "min=-.3 max=.1", 0, 1}, /* bounds that bfloat16 rounds, away from what is between them */
    {"Clip", 13, "2x3x5x7 f-.3 f.1", "", 0, 1},
    {"Clip", 12, "9 - f.25", "", 0, 1},
    {"Clip", 11, "9 f.0", "", 0, 1},
    {"Pow", 13, "+2x3x5x7 f2", "", 0, 1},
    {"Pow", 13, "2x35 f3", "", 0, 1},
    {"Pow", 7, "+2x35 f-1", "", 0, 1},
    {"Pow", 15, "+2x35 f.5", "", 0, 1},
    {"Pow", 15, "2x35 i2", "", 0, 1},
    {"PRelu", 7, "5x7 w7", "", PARTIAL, 1},
    {"PRelu", 9, "2x3x5x7 w3x1x1", "", PARTIAL, 1},
    {"PRelu", 16, "2x3x4x4 w1", "", PARTIAL, 1},
    {"PRelu", 16, "3x37x5 3x37x5", "", PARTIAL, 1},
    {"PRelu", 16, "g2x9 w9", "", PARTIAL, 1},
    {"PRelu", 16, "0x5 w5", "", PARTIAL, 1},

    /* normalisation */
    {"BatchNormalization", 7, "3x2x2x3 " BATCHNORM("2"), "", 0, 1},
    {"BatchNormalization", 9, "2x3x5x5 " BATCHNORM("3"), "epsilon=.001 momentum=.75", RELU, 1},
    {"BatchNormalization", 15, "2x3x5x5 " BATCHNORM("3"), "", 0, 1},
    {"BatchNormalization", 15, "2x8x4x4 " BATCHNORM("8") " 2x8x4x4", "", RELU | ADD, 1},
    {"BatchNormalization", 9, "2x5x3x3 " BATCHNORM("5") " 2x5x3x3", "", RELU | ADD, 1},
    {"BatchNormalization", 15, "2x5x3x3 " BATCHNORM("5") " 2x5x3x3", "", ADD, 1},
    {"BatchNormalization", 15, "2x5x3x3 " BATCHNORM("5") " 2x5x3x3", "", RELU | ADD | FROZEN, 1},
    {"BatchNormalization", 15, "2x5x3x3 " BATCHNORM("5"), "", RELU | FROZEN, 1},
    {"BatchNormalization", 15, "7x5 " BATCHNORM("5"), "", 0, 1},
    {"BatchNormalization", 15, "67x33 " BATCHNORM("33"), "", RELU, 1},
    {"BatchNormalization", 15, "3x65x5 " BATCHNORM("65"), "", 0, 1},
    {"BatchNormalization", 15, "2x3x2x2x2 " BATCHNORM("3"), "", 0, 1},
    {"BatchNormalization", 15, "1x1x2x2 " BATCHNORM("1"), "", CANCELS, 1},
    {"BatchNormalization", 15, "1x3x1x1 " BATCHNORM("3"), "epsilon=.5", CANCELS, 1},
    {"BatchNormalization", 15, "g4x3x3x3 " BATCHNORM("3"), "", RELU, 1},

    {"LayerNormalization", 17, "2x3x4x5 w5 w5", "", 0, 1},
    {"LayerNormalization", 17, "2x3x4 w3x4 w3x4", "axis=1 epsilon=.001", 0, 1},
    {"LayerNormalization", 17, "7x33 w33", "", 0, 1},
    {"LayerNormalization", 17, "3x1031 w1031 w1031", "", 0, 1},
    {"LayerNormalization", 17, "g65x9 w9 w9", "", 0, 1},
    {"LayerNormalization", 17, "5x1 w1 w1", "epsilon=.5", CANCELS, 1},
    {"LayerNormalization", 17, "0x5 w5 w5", "", 0, 1},

    {"InstanceNormalization", 7, "2x3x5x7 w3 w3", "", INFERS | PARTIAL, 1},
    {"InstanceNormalization", 22, "3x65x5 w65 w65", "epsilon=.001", INFERS | PARTIAL, 1},
    {"InstanceNormalization", 22, "1x2x1031 w2 w2", "", INFERS | PARTIAL, 1},
    {"InstanceNormalization", 22, "0x3x4x4 w3 w3", "", INFERS | PARTIAL, 1},

    /* pooling */
    {"MaxPool", 12, "2x3x5x4", "kernel_shape=[3,2] strides=[2,1] pads=[1,0,2,1]", 0, 1},
    {"MaxPool", 12, "2x8x6x6", "kernel_shape=[2,2] strides=[2,2]", 0, 1},
    {"MaxPool", 12, "1x33x7x7", "kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1] ceil_mode=1", 0, 1},
    {"MaxPool", 12, "2x3x9x7", "kernel_shape=[3,2] dilations=[2,3]", 0, 1},
    {"MaxPool", 12, "2x3x5x4", "kernel_shape=[2,3] auto_pad=SAME_LOWER", 0, 1},
    {"MaxPool", 8, "2x3x7", "kernel_shape=[3] strides=[2] pads=[1,0]", 0, 1},
    {"AveragePool", 19, "2x3x5x4", "kernel_shape=[3,2] strides=[2,1] pads=[1,0,2,1]", 0, 1},
    {"AveragePool", 19, "2x3x5x4", "kernel_shape=[3,2] strides=[2,1] pads=[1,0,2,1] count_include_pad=1", 0, 1},
    {"AveragePool", 19, "2x3x9x7", "kernel_shape=[3,2] dilations=[2,3]", 0, 1},
    {"AveragePool", 11, "1x8x6x6", "kernel_shape=[3,3] strides=[2,2] ceil_mode=1", 0, 1},
    {"AveragePool", 7, "2x3x7", "kernel_shape=[3] strides=[2] pads=[1,0]", 0, 1},
    {"GlobalAveragePool GlobalMaxPool", 13, "2x3x5x4", "", 0, 1},
    {"GlobalAveragePool GlobalMaxPool", 13, "2x33x7x7", "", 0, 1},
    {"GlobalAveragePool GlobalMaxPool", 13, "1x5x1x1", "", 0, 1},
    {"GlobalAveragePool GlobalMaxPool", 13, "3x2x7", "", 0, 1},
    {"GlobalAveragePool", 14, "0x3x4x4", "", 0, 1},

    /* softmax and reductions */
    {"Softmax LogSoftmax", 13, "2x3x4x4", "", 0, 1},
    {"Softmax LogSoftmax", 13, "2x3x4x4", "axis=1", 0, 1},
    {"Softmax LogSoftmax", 13, "2x3x4x4", "axis=0", 0, 1},
    {"Softmax LogSoftmax", 13, "~3x1031", "", 0, 1},
    {"Softmax LogSoftmax", 13, "5x1", "", CANCELS, 1},
    {"Softmax LogSoftmax", 13, "~2x33x5", "axis=1", 0, 1},
    {"Softmax LogSoftmax", 11, "2x3x2x3", "axis=1", 0, 1},
    {"Softmax LogSoftmax", 7, "2x3x2x3", "axis=2", 0, 1},
    {"ReduceMean ReduceSum", 12, "2x3x2x3", "axes=[2,-1]", 0, 1},
    {"ReduceMean ReduceSum", 12, "2x3x2x3", "axes=[1] keepdims=0", 0, 1},
    {"ReduceMean ReduceSum", 18, "2x3x2x3 i3", "keepdims=0", 0, 1},
    {"ReduceMean ReduceSum", 18, "2x3x2x3 i0,2", "", 0, 1},
    {"ReduceMean ReduceSum", 18, "3x37x29 i1", "keepdims=0", 0, 1},
    {"ReduceMean ReduceSum", 18, "3x1031 i-1", "", 0, 1},
    {"ReduceMean ReduceSum", 18, "1031x3 i0", "", 0, 1},
    {"ReduceMean ReduceSum", 18, "2x3x5", "keepdims=0", 0, 1},
    {"ReduceSum", 18, "0x3 i1", "", 0, 1},

    /* linear maps */
    {"Conv", 11, "2x3x6x5 w4x3x3x2 w4", "strides=[2,1] pads=[1,0,2,1]", 0, 1},
    {"Conv", 11, "2x3x6x5 w4x3x3x2 w4", "strides=[2,1] auto_pad=SAME_LOWER", 0, 1},
    {"Conv", 11, "2x3x6x5 w4x3x3x2", "strides=[2,1] auto_pad=VALID", 0, 1},
    {"Conv", 11, "2x4x9 w6x2x3 w6", "group=2 pads=[2,1] strides=[2] dilations=[2]", 0, 1},
    {"Conv", 7, "1x3x5x5 w5x3x3x3 w5", "pads=[1,1,1,1]", RELU, 1},
    {"Conv", 11, "2x8x4x4 w16x8x3x3 w16", "pads=[1,1,1,1]", RELU, 1},
    {"Conv", 11, "2x8x4x4 w16x8x3x3", "pads=[1,1,1,1]", RELU, 1},
    {"Conv", 11, "2x5x4x4 w7x5x1x1 w7", "", 0, 1},
    {"Conv", 11, "2x4x5x5 w6x4x1x1", "strides=[2,2]", 0, 1},
    {"Conv", 11, "3x8x1x1 w4x8x1x1 w4", "", RELU, 1},
    {"Conv", 11, "3x2x4x4 w5x2x4x4 w5", "", 0, 1},
    {"Conv", 11, "2x6x5x5 w6x1x3x3 w6", "group=6 pads=[1,1,1,1]", 0, 1},
    {"Conv", 11, "2x6x5x5 w6x1x3x3", "group=6 pads=[1,1,1,1] strides=[2,2]", RELU, 1},
    {"Conv", 11, "2x6x4x4 w9x2x3x3 w9", "group=3", RELU, 1},
    {"Conv", 11, "2x3x7x7 w4x3x3x3 w4", "dilations=[2,2] pads=[2,2,2,2]", 0, 1},
    {"Conv", 11, "2x1x1x6 w5x1x1x3 w5", "", 0, 1},
    {"Conv", 11, "g2x1x6x6 w5x1x3x3 w5", "", RELU, 1},
    {"Conv", 11, "2x3x5x5 4x3x3x3 4", "", 0, 1},
    {"Conv", 11, "5x5x1x1 @0", "", 0, 1}, /* read as it is, and converted to be a filter */
    {"Conv", 14, "0x3x5x5 w4x3x3x3 w4", "", 0, 1},
    {"Gemm", 13, "3x5 w5x4 w4", "", 0, 1},
    {"Gemm", 13, "3x5 w4x5 w4", "transB=1", RELU, 1},
    {"Gemm", 13, "3x5 w4x5", "transB=1", RELU, 1},
    {"Gemm", 13, "5x3 5x4 3x4", "transA=1 alpha=1.5 beta=.5", 0, 1},
    {"Gemm", 13, "5x3 w4x5 w4", "transA=1 transB=1 alpha=1.5 beta=.5", RELU, 1},
    {"Gemm", 13, "3x5 w5x4 ()", "", 0, 1},
    {"Gemm", 13, "3x5 w5x4 3x1", "beta=2.0", 0, 1},
    {"Gemm", 13, "3x5 w5x4 w1x4", "beta=.0", 0, 1},
    {"Gemm", 7, "1x7 w3x7 w3", "transB=1", RELU, 1},
    {"Gemm", 11, "5x129 w17x129 w17", "transB=1", 0, 1},
    {"Gemm", 11, "16x64 w32x64 w32", "transB=1", RELU, 1},
    {"Gemm", 14, "0x5 w4x5 w4", "transB=1", 0, 1},
    {"Gemm", 11, "g3x5 w4x5 w4", "transB=1", 0, 1},
    {"MatMul", 13, "3x4 w4x5", "", RELU, 1},
    {"MatMul", 13, "2x3x4 w4x5", "", 0, 1},
    {"MatMul", 13, "2x3x4 4x5", "", 0, 1},
    {"MatMul", 13, "3x4 2x4x5", "", PARTIAL, 1},
    {"MatMul", 9, "4 4", "", 0, 1},
    {"MatMul", 13, "2x3x4 4", "", 0, 1},
    {"MatMul", 13, "4 2x4x5", "", PARTIAL, 1},
    {"MatMul", 13, "2x1x3x4 1x5x4x2", "", PARTIAL, 1},
    {"MatMul", 13, "2x3x2x4 2x3x4x3", "", RELU, 1},
    {"MatMul", 13, "2x3x1x4 3x4x5", "", PARTIAL, 1},
    {"MatMul", 13, "2x3x2x4 1x4x5", "", 0, 1},
    {"MatMul", 13, "4x4 @0", "", 0, 1},
    {"MatMul", 14, "3x0 0x5", "", 0, 1},
    {"MatMul", 14, "0x3x4 1x4x5", "", 0, 1},
    {"MatMul", 13, "g2x3x8 w8x16", "", RELU, 1},

    /* what moves elements */
    {"Concat", 13, "2x3x4x5 2x1x4x5 2x0x4x5 2x2x4x5", "axis=1", 0, 1},
    {"Concat", 13, "2x3 2x1 2x8", "axis=-1", 0, 1},
    {"Concat", 7, "3x5 @0 1x5", "axis=0", 0, 1},
    {"Concat", 13, "2 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 3", "axis=0", 0, 1},
    {"Concat", 13, "g2x3 2x3 g2x1", "axis=1", 0, 1},
    {"Split", 12, "2x7x3x2", "axis=1 split=[2,4,1]", 0, 3},
    {"Split", 13, "2x7x3x2 i5,0,2", "axis=1", 0, 3},
    {"Split", 13, "2x7x3x2 i5,0,2", "axis=1", SKIP_FIRST, 3},
    {"Split", 18, "2x7x3x2", "axis=-3 num_outputs=3", 0, 3},
    {"Slice", 9, "2x3x5x7", "starts=[0,1,-3] ends=[9,2,-1]", 0, 1},
    {"Slice", 9, "2x3x5x7", "axes=[3,1] starts=[2,0] ends=[9223372036854775807,-1]", 0, 1},
    {"Slice", 13, "2x3x5x7 i0,0 i9,9 i2,3 i2,2", "", 0, 1},
    {"Slice", 13, "2x3x5x7 i-1,4 i-99,0 i-1,2 i-3,-1", "", 0, 1},
    {"Slice", 10, "37x41 i1,2 i36,39", "", 0, 1},
    {"Pad", 10, "2x3x4x3", "pads=[0,1,0,2,0,0,3,1] value=2.5", 0, 1},
    {"Pad", 13, "2x3x4x3 i0,0,2,1,0,0,1,3", "", 0, 1},
    {"Pad", 13, "2x3x4x3 i0,0,2,1,0,0,1,3 f.5", "mode=constant", 0, 1},
    {"Pad", 13, "2x3x4x3 i1,0,3,2,0,2,1,1", "mode=edge", PARTIAL, 1},
    {"Pad", 19, "2x3x4x3 i1,0,5,2,0,2,0,4", "mode=reflect", PARTIAL, 1},
    {"Pad", 19, "2x3x4x3 i1,0,5,2,0,2,0,4", "mode=wrap", PARTIAL, 1},
    {"Pad", 19, "2x3x4x3 i-1,2,1,-1 - i-1,1", "", 0, 1},
    {"Transpose", 13, "3x5x7", "", 0, 1},
    {"Transpose", 13, "2x3x1x5", "perm=[0,3,1,2]", 0, 1},
    {"Transpose", 13, "2x3x4x5", "perm=[3,0,2,1]", 0, 1},
    {"Transpose", 13, "67x65", "", 0, 1},
    {"Transpose", 13, "2x3x2x3x2x3", "perm=[5,0,3,2,1,4]", 0, 1},
    {"Transpose", 14, "0x3x5", "perm=[2,1,0]", 0, 1},
    {"Gather", 13, "3x4x2 i1,0,-1,1,-2", "axis=0", 0, 1},
    {"Gather", 13, "3x4x2 i1,0,-1,1,-2", "axis=1", 0, 1},
    {"Gather", 13, "3x4x2 i1,0,-1,1,-2", "axis=2", 0, 1},
    {"Gather", 11, "5x37 I3", "axis=0", 0, 1},
    {"Gather", 7, "2x5x7 I0", "axis=1", 0, 1},
    {"Expand", 13, "3x1x2 i2,3,4,1", "", 0, 1},
    {"Expand", 8, "1x4 i3,4", "", 0, 1},
    {"Expand", 13, "() i4,5", "", 0, 1},
    {"Dropout", 7, "2x3x5x7", "ratio=.25", 0, 1},
    {"Dropout", 13, "2x3x5x7 f.25 b1", "", 0, 1},
    {"Dropout", 12, "1031", "", 0, 1},
};

#endif
