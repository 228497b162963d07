/* Options of papa_train: what they default to where that depends on others, and which values make no sense. */
#ifndef PAPA_TRAIN_OPTIONS_H
#define PAPA_TRAIN_OPTIONS_H

#include "base/status.h"

/* Fills in the NaNs that stand for "default": alpha, lr, lr_min; then checks every number.
 * Errors: PAPA_ERR_ARGUMENT names the option, its value and what was expected. */
PapaStatus papa_train_options_resolve(PapaTrainOptions *options);

/* Tells the defaults that depend on other options: where asked left the choice open. */
void papa_train_options_remark(const PapaTrainOptions *resolved, const PapaTrainOptions *asked, const PapaHooks *hooks);

/* One remark; hooks and its function may be NULL. */
void papa_remark(const PapaHooks *hooks, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *papa_method_name(PapaMethod method);
const char *papa_init_name(PapaInit init);
const char *papa_optimizer_name(PapaOptimizer optimizer);
const char *papa_schedule_name(PapaSchedule schedule);

#endif
