#ifndef PAPA_CLOCK_H
#define PAPA_CLOCK_H

/* Seconds on a clock that nobody sets. */
double papa_now(void);

#endif
