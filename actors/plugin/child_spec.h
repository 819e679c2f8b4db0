/* What a child is to run, as a sealed memory file: the broker writes it, the spawner hands it on unread, the child
 * reads it. The child trusts it. */
#ifndef ACTORS_PLUGIN_CHILD_SPEC_H
#define ACTORS_PLUGIN_CHILD_SPEC_H

#include "actors/plugin/host.h"

/* Grants of one instance. */
#define CHILD_GRANTS_MAX 64

/* WEIR_TOO_BIG (grants), WEIR_NO_MEMORY, WEIR_IO. The caller closes *fd. spec->bounds must be filled. */
WEIR_MUST_USE enum weir_error child_spec_write(const struct plugin_spec *spec, int *fd);

/* In the child: everything points into memory that stays until it ends. False: it is none. */
bool child_spec_read(int fd, struct plugin_spec *out);

#endif
