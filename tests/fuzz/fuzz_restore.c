/* Snapshots that come to the shipped plugins: the first byte says to which. They are refused, or restored, handled on,
 * told again, and restored from that. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/actors/plugins/restoring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct restoring all[RESTORING_PLUGINS];
    if (size == 0)
        return 0;
    size_t plugin = data[0] % RESTORING_PLUGINS;
    if (all[plugin].runner == NULL)
        restoring_open(&all[plugin], plugin);
    (void)restoring_try(&all[plugin], plugin, view_of(data + 1, size - 1));
    return 0;
}
