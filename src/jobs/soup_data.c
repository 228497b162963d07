/* Soups that look at images. */
#include "jobs/soup_job.h"

PapaStatus papa_soup_with_data(const PapaSoupJob *job) { (void)job; return papa_fail(PAPA_ERR_UNSUPPORTED, "merging by images is not there yet"); }
PapaStatus papa_path(PapaPathReport *out, const PapaModel *a, const PapaModel *b, const PapaPathOptions *o, const PapaHooks *h) { (void)out, (void)a, (void)b, (void)o, (void)h; return papa_fail(PAPA_ERR_UNSUPPORTED, "paths are not there yet"); }
void papa_path_report_free(PapaPathReport *report) { (void)report; }
void papa_judge_defaults(PapaJudgeOptions *out) { *out = (PapaJudgeOptions){.val_fraction = 0.02f, .test_split = PAPA_SPLIT_TEST, .batch = 128, .seed = 1, .device.device = "auto"}; }
void papa_path_defaults(PapaPathOptions *out) { *out = (PapaPathOptions){.points = 11, .recalibrate = true}; papa_align_defaults(&out->align_options); papa_judge_defaults(&out->judge); }
