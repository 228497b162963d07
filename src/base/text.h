/* Numbers as text for files that programs read. */
#ifndef PAPA_TEXT_H
#define PAPA_TEXT_H

#define PAPA_NUMBER_BYTES 24 /* a sign, 9 digits, a point, an exponent, the end; with room to spare */

/* The fewest digits, 6 at least, that read back as the same float32: .1f gives "0.1", and not "0.100000001". Returns text. */
const char *papa_number_text(char text[PAPA_NUMBER_BYTES], double value);

#define PAPA_DOUBLE_BYTES 32

/* Likewise of a double. */
const char *papa_double_text(char text[PAPA_DOUBLE_BYTES], double value);

#endif
