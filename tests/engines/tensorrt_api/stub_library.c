/* Stands for libnvinfer, libnvinfer_plugin and libnvonnxparser: the nine functions that TensorRT's Python bindings take
 * from them. Each makes nothing, so that the bindings can be imported and looked at on any machine, and a Builder or a
 * Runtime made from them is a TypeError. Arguments are left out: C does not need them to return. */
#include <stddef.h>

void *createInferBuilder_INTERNAL() { return NULL; }
void *createInferRefitter_INTERNAL() { return NULL; }
void *createInferRuntime_INTERNAL() { return NULL; }
void *createNvOnnxParser_INTERNAL() { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL() { return NULL; }
void *getBuilderPluginRegistry() { return NULL; }
void *getPluginRegistry() { return NULL; }
int getNvOnnxParserVersion() { return 0; }
int initLibNvInferPlugins() { return 0; }
