/* Shared by the fuzz targets. libFuzzer hands each input over in memory of exactly its size, so AddressSanitizer sees
 * every byte read beyond it. A broken property aborts. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "actors/base/assert.h"
#include "clients/wire/view.h"

#include <stdlib.h>

#define FUZZ_DEPTH 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Memory that may be large; running out of it is the fuzzer's trouble, not a finding. */
static inline uint8_t *fuzz_memory(size_t size)
{
    uint8_t *memory = malloc(size > 0 ? size : 1);
    ENSURE(memory != NULL);
    return memory;
}

#endif
