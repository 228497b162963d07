/* As in cuDNN 9: an older name for the graph API. */
#include <cudnn.h>
