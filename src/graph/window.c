#include "graph/window.h"

#include <string.h>

PapaStatus papa_attr_auto_pad(const PapaNode *node, PapaAutoPad *out)
{
    static const char *const names[] = {
        [PAPA_PAD_GIVEN] = "NOTSET", [PAPA_PAD_VALID] = "VALID", [PAPA_PAD_SAME_UPPER] = "SAME_UPPER", [PAPA_PAD_SAME_LOWER] = "SAME_LOWER"};
    const char *text;
    PAPA_TRY(papa_attr_string(node->proto, "auto_pad", "NOTSET", &text));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i])) {
            *out = (PapaAutoPad)i;
            return PAPA_OK;
        }
    return papa_node_fail(node, PAPA_ERR_FORMAT, "auto_pad is \"%s\", expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", text);
}

void papa_same_pads(PapaAutoPad how, int64_t length, int64_t window, int64_t stride, int64_t *front, int64_t *behind)
{
    int64_t spanned = ((length + stride - 1) / stride - 1) * stride + window, missing = spanned > length ? spanned - length : 0;
    *front = how == PAPA_PAD_SAME_LOWER ? missing - missing / 2 : missing / 2;
    *behind = missing - *front;
}
