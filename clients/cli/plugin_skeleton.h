/* What `weir plugin new` writes. In the texts @NAME@ stands for the plugin's name, @ROLE@ for fold or processor, and
 * the other words for what differs between the two. */
#ifndef CLIENTS_CLI_PLUGIN_SKELETON_H
#define CLIENTS_CLI_PLUGIN_SKELETON_H

#include <stdbool.h>
#include <stddef.h>

struct skeleton_file {
    const char *path; /* within the folder */
    const char *text;
    bool is_program;
};
struct skeleton_word {
    const char *word, *fold, *processor; /* NULL: the name */
};

extern const struct skeleton_file skeleton_files[];
extern const size_t skeleton_file_count;
extern const struct skeleton_word skeleton_words[];
extern const size_t skeleton_word_count;

#endif
