/* Scores of ingredients, and of their means with the first one. */
#ifndef PAPA_MIDPOINT_H
#define PAPA_MIDPOINT_H

#include "jobs/judge.h"

typedef struct PapaMidpoints {
    PapaJudge *judge; /* borrowed */
    PapaJudgeImages images;
    float *stores[3]; /* the first model; another one; their mean */
} PapaMidpoints;

/* The judge needs statistics. Scores are taken on its test images, or else on those that are held out; they are NaN where there are neither. */
PapaStatus papa_midpoints_open(PapaMidpoints *out, PapaJudge *judge);
/* What ingredient k scores. */
PapaStatus papa_midpoints_end(PapaMidpoints *midpoints, PapaScore *score, int k);
/* The mean of ingredients 0 and k, as they are now read, with BatchNormalization's statistics re-estimated. */
PapaStatus papa_midpoints_middle(PapaMidpoints *midpoints, PapaScore *score, int k);

#endif
