/* Parts of the ensemble writer that its tests and its own files share. */
#ifndef PAPA_ONNX_ENSEMBLE_H
#define PAPA_ONNX_ENSEMBLE_H

#include "onnx/onnx_edit.h"

/* The model with the edits applied, as a skeleton of its own in the arena that may be changed freely: its names, its
 * lists. The markers of its tensors carry this serial. Training information is left out. */
Onnx__ModelProto *papa_edit_copy_model(PapaArena *arena, const PapaEdit *edit, uint32_t serial);

/* papa_ensemble_write with another limit on the file's size. */
PapaStatus papa_ensemble_write_limited(const PapaEnsembleMember *members, int n_members, const PapaEnsembleOptions *options,
    const char *const (*metadata)[2], int n_metadata, const char *path, uint64_t limit);

#endif
