/* list_tensors MODEL.onnx [TRAIN [FREEZE]]: what papa_model_list_tensors says, a line per tensor. "" leaves a pattern out. */
#include "papa.h"

#include <stdio.h>

static void print_line(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
}

int main(int argc, char **argv)
{
    PapaTrainOptions options;
    PapaModel *model = NULL;
    papa_train_defaults(&options);
    options.train = argc > 2 && *argv[2] ? argv[2] : NULL;
    options.freeze = argc > 3 && *argv[3] ? argv[3] : NULL;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: list_tensors MODEL.onnx [TRAIN [FREEZE]]\n");
        return 2;
    }
    PapaStatus status = papa_model_open(&model, argv[1]);
    if (status == PAPA_OK)
        status = papa_model_list_tensors(model, &options, &(PapaHooks){.remark = print_line});
    if (status != PAPA_OK)
        fprintf(stderr, "%s\n", papa_error());
    papa_model_close(model);
    return status != PAPA_OK;
}
