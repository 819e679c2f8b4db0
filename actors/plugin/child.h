/* The child of the process host: one plugin instance in a process of its own, in a sandbox. It runs in the spawner's
 * fork, has one thread, and knows the broker only as two rings and a bell. */
#ifndef ACTORS_PLUGIN_CHILD_H
#define ACTORS_PLUGIN_CHILD_H

/* Both for spawner_main: what all children have in common, in the spawner; and main of a child, which ends it. */
void child_prepare(void);
void child_main(void);

#endif
