#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

const char *papa_number_text(char text[PAPA_NUMBER_BYTES], double value)
{
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, PAPA_NUMBER_BYTES, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value) /* never of a NaN */
            break;
    }
    return text;
}

const char *papa_double_text(char text[PAPA_DOUBLE_BYTES], double value)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, PAPA_DOUBLE_BYTES, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}
