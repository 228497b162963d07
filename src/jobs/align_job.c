/* Aligning ingredients. */
#include "jobs/align_job.h"

PapaStatus papa_align_ingredients(PapaAlignment **out, PapaIngredients *in, const PapaAlignOptions *o, const PapaJudgeOptions *j, const PapaHooks *h) { (void)out, (void)in, (void)o, (void)j, (void)h; return papa_fail(PAPA_ERR_UNSUPPORTED, "aligning is not there yet"); }
void papa_alignment_free(PapaAlignment *alignment) { (void)alignment; }
void papa_align_defaults(PapaAlignOptions *out) { *out = (PapaAlignOptions){.restarts = 3, .max_sweeps = 100, .seed = 1}; papa_judge_defaults(&out->judge); }
PapaStatus papa_diagnose(PapaDiagnosis *out, const PapaModel *const *m, int n, const PapaAlignOptions *a, const PapaJudgeOptions *j, const PapaHooks *h) { (void)out, (void)m, (void)n, (void)a, (void)j, (void)h; return papa_fail(PAPA_ERR_UNSUPPORTED, "diagnosing is not there yet"); }
void papa_diagnosis_free(PapaDiagnosis *diagnosis) { (void)diagnosis; }
