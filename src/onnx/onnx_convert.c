/* Runs of elements between the float types and float or double. Raw elements may lie at any address. */
#include "base/simd.h"
#include "onnx/half.h"
#include "onnx/onnx_internal.h"

#include <assert.h>

#define TYPE(id) ONNX__TENSOR_PROTO__DATA_TYPE__##id

/* The i-th number of type T at bytes that may be unaligned. */
#define ELEMENT(T, raw, i) (((struct { T value; } __attribute__((packed, may_alias)) *)(raw))[i].value)

/* One loop. Each is a function of its own: the compiler makes vector code of short ones only. */
#define CONVERSION(name, To, From, expression)                                                        \
    PAPA_SIMD static void name(void *restrict to, const void *restrict from, int64_t n)               \
    {                                                                                                 \
        for (int64_t i = 0; i < n; i++) {                                                             \
            From value = ELEMENT(const From, from, i);                                                \
            ELEMENT(To, to, i) = expression;                                                          \
        }                                                                                             \
    }

CONVERSION(float_to_float, float, float, value)
CONVERSION(double_to_float, float, double, (float)value)
CONVERSION(float16_to_float, float, uint16_t, papa_float16_to_float(value))
CONVERSION(bfloat16_to_float, float, uint16_t, papa_bfloat16_to_float(value))
CONVERSION(float_to_double, double, float, (double)value)
CONVERSION(double_to_double, double, double, value)
CONVERSION(float16_to_double, double, uint16_t, (double)papa_float16_to_float(value))
CONVERSION(bfloat16_to_double, double, uint16_t, (double)papa_bfloat16_to_float(value))
CONVERSION(float_to_float16, uint16_t, float, papa_float_to_float16(value))
CONVERSION(float_to_bfloat16, uint16_t, float, papa_float_to_bfloat16(value))
CONVERSION(double_to_float16, uint16_t, double, papa_double_to_float16(value))
CONVERSION(double_to_bfloat16, uint16_t, double, papa_double_to_bfloat16(value))

typedef void ConvertFn(void *restrict to, const void *restrict from, int64_t n);

typedef struct Conversions {
    ConvertFn *to_float, *to_double, *from_float, *from_double;
} Conversions;

/* type must be a float type. */
static const Conversions *conversions(int type)
{
    static const Conversions of_float = {float_to_float, float_to_double, float_to_float, double_to_float};
    static const Conversions of_double = {double_to_float, double_to_double, float_to_double, double_to_double};
    static const Conversions of_float16 = {float16_to_float, float16_to_double, float_to_float16, double_to_float16};
    static const Conversions of_bfloat16 = {bfloat16_to_float, bfloat16_to_double, float_to_bfloat16, double_to_bfloat16};
    assert(papa_type_is_float(type));
    return type == TYPE(FLOAT) ? &of_float : type == TYPE(DOUBLE) ? &of_double : type == TYPE(FLOAT16) ? &of_float16 : &of_bfloat16;
}

void papa_raw_to_floats(float *to, int type, const void *raw, int64_t n)
{
    conversions(type)->to_float(to, raw, n);
}

void papa_raw_to_doubles(double *to, int type, const void *raw, int64_t n)
{
    conversions(type)->to_double(to, raw, n);
}

void papa_floats_to_raw(void *to, int type, const float *values, int64_t n)
{
    conversions(type)->from_float(to, values, n);
}

void papa_doubles_to_raw(void *to, int type, const double *values, int64_t n)
{
    conversions(type)->from_double(to, values, n);
}
