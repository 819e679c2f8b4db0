/* The memory that every child of the spawner touches between its fork and its first input, brought in at once. One by
 * one each page would cost a fault, which on a virtual machine is worth a hundred pages brought in together; and the
 * parts of programs that are not written, fork gives to no child. */
#ifndef ACTORS_PLUGIN_PREFAULT_H
#define ACTORS_PLUGIN_PREFAULT_H

/* In the spawner, once: writes down what there is. Without it, or where the kernel does not tell, nothing is brought
 * in. */
void prefault_prepare(void);
/* In a child, before all else. */
void prefault_do(void);

#endif
