/* From what was measured of two models to advice. The thresholds, with their reasons, stand in diagnose_advice.c. */
#ifndef PAPA_DIAGNOSE_H
#define PAPA_DIAGNOSE_H

#include "base/arena.h"

#define PAPA_DIAGNOSE_DRAWS 32 /* random permutations: their spread is known to an eighth */

typedef struct PapaFindings {
    bool first;       /* the model is the first one itself */
    double excess;    /* of the similarity over random permutations', in standard deviations; NaN: nothing can be permuted */
    double ends;      /* mean loss of the two; of no meaning without barriers */
    int n_groups;
} PapaFindings;

/* Sets same_init, aligned, advice and why (in the arena) from the rest. */
PapaStatus papa_diagnose_judge(PapaDiagnosisModel *model, const PapaFindings *findings, PapaArena *arena);
/* Advice for models that are not the same network, and for all together. */
void papa_diagnose_all(PapaDiagnosis *diagnosis);

#endif
