/* What the windows of convolutions and of pooling have in common: padding that a file leaves to the operator. */
#ifndef PAPA_WINDOW_H
#define PAPA_WINDOW_H

#include "graph/op.h"

typedef enum PapaAutoPad { PAPA_PAD_GIVEN, PAPA_PAD_VALID, PAPA_PAD_SAME_UPPER, PAPA_PAD_SAME_LOWER } PapaAutoPad;

/* The attribute auto_pad; NOTSET (the pads are given) where it is absent. */
PapaStatus papa_attr_auto_pad(const PapaNode *node, PapaAutoPad *out);

/* The padding in front of and behind an axis that SAME_UPPER or SAME_LOWER asks for: so much that there are ceil(length / stride) windows,
 * and the odd one behind or in front. window: from the first tap to the last, both included. */
void papa_same_pads(PapaAutoPad how, int64_t length, int64_t window, int64_t stride, int64_t *front, int64_t *behind);

#endif
