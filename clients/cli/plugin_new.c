/* `weir plugin new`: writes the folder of a plugin that can be built, tested and run. Main thread. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/cli/cli.h"
#include "clients/cli/plugin.h"
#include "clients/cli/plugin_skeleton.h"

static const char help[] = "weir plugin new: write a plugin that can be built, with a test\n"
                           "\n"
                           "usage: weir plugin new [options] NAME [DIR]     (DIR: default ./NAME; must not exist)\n"
                           "\n"
                           "  -r, --role ROLE    fold (default) or processor\n"
                           "      --help         this text\n"
                           "\n"
                           "NAME has 1 to 32 of a-z, 0-9, _ and -, a letter first. DIR gets NAME.c, CMakeLists.txt, a\n"
                           "README.md and a test with recorded records. To build it, weir-actor.pc must be found by\n"
                           "pkg-config, and weir in PATH:\n"
                           "    cmake -B build && cmake --build build && ctest --test-dir build\n"
                           "Exit: 0 ok, 1 it cannot be written, 2 usage.\n";

static const struct option options[] = {
    {"role", required_argument, NULL, 'r'}, {"help", no_argument, NULL, CLI_OPTION_HELP}, {NULL, 0, NULL, 0}};

enum { PLUGIN_NAME_MAX = 32, PATH_SIZE_MAX = 4096 };

struct writing {
    struct cli cli;
    const char *name, *folder;
    bool is_fold;
};

static bool name_is_good(const char *name)
{
    size_t size = strlen(name);
    return size >= 1 && size <= PLUGIN_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == size &&
           *name >= 'a' && *name <= 'z';
}

/* The word that stands at the beginning of text, or NULL. */
static const struct skeleton_word *word_at(const char *text)
{
    for (size_t i = 0; i < skeleton_word_count; i++) {
        if (strncmp(text, skeleton_words[i].word, strlen(skeleton_words[i].word)) == 0)
            return &skeleton_words[i];
    }
    return NULL;
}

/* Writes text with its words replaced, those in replacements included: words stand in words once at most. */
static void text_write(const struct writing *writing, FILE *file, const char *text, bool is_inner)
{
    for (; *text != '\0'; text++) {
        const struct skeleton_word *word = *text == '@' ? word_at(text) : NULL;
        if (word == NULL) {
            (void)fputc(*text, file);
            continue;
        }
        const char *chosen = writing->is_fold ? word->fold : word->processor;
        if (chosen == NULL || is_inner)
            (void)fputs(chosen == NULL ? writing->name : chosen, file);
        else
            text_write(writing, file, chosen, true);
        text += strlen(word->word) - 1;
    }
}

static int file_write(const struct writing *writing, const struct skeleton_file *skeleton)
{
    char path[PATH_SIZE_MAX];
    const char *rest = skeleton->path;
    bool is_named = *rest == '@';
    if (is_named)
        rest = strchr(rest + 1, '@') + 1;
    int size = snprintf(path, sizeof path, "%s/%s%s", writing->folder, is_named ? writing->name : "", rest);
    if (size < 0 || (size_t)size >= sizeof path)
        return cli_fail(&writing->cli, CLI_USAGE, "%s: the path is too long", writing->folder);
    FILE *file = fopen(path, "wxe");
    if (file == NULL)
        return cli_fail(&writing->cli, CLI_REFUSED, "%s: %s", path, strerror(errno));
    text_write(writing, file, skeleton->text, false);
    bool has_failed = ferror(file) != 0;
    if (fclose(file) != 0 || has_failed)
        return cli_fail(&writing->cli, CLI_REFUSED, "%s: cannot be written: %s", path, strerror(errno));
    if (skeleton->is_program && chmod(path, 0755) != 0)
        return cli_fail(&writing->cli, CLI_REFUSED, "%s: %s", path, strerror(errno));
    return CLI_OK;
}

static int folder_write(const struct writing *writing)
{
    char inner[PATH_SIZE_MAX];
    int size = snprintf(inner, sizeof inner, "%s/test", writing->folder);
    if (size < 0 || (size_t)size >= sizeof inner)
        return cli_fail(&writing->cli, CLI_USAGE, "%s: the path is too long", writing->folder);
    if (mkdir(writing->folder, 0777) != 0 || mkdir(inner, 0777) != 0)
        return cli_fail(&writing->cli, CLI_REFUSED, "%s: %s", writing->folder, strerror(errno));
    for (size_t i = 0; i < skeleton_file_count; i++) {
        int code = file_write(writing, &skeleton_files[i]);
        if (code != CLI_OK)
            return code;
    }
    printf(
        "%s: a plugin in the role %s\n    cd %s && cmake -B build && cmake --build build && ctest --test-dir build\n",
        writing->folder, writing->is_fold ? "fold" : "processor", writing->folder);
    return CLI_OK;
}

int plugin_new_main(int argc, char **argv)
{
    struct writing writing = {.is_fold = true};
    int option = 0;
    cli_init(&writing.cli, "plugin new");
    while ((option = getopt_long(argc, argv, "r:", options, NULL)) != -1) {
        if (option == CLI_OPTION_HELP) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (option != 'r') {
            fputs("see weir plugin new --help\n", stderr);
            return CLI_USAGE;
        }
        writing.is_fold = strcmp(optarg, "fold") == 0;
        if (!writing.is_fold && strcmp(optarg, "processor") != 0)
            return cli_fail(&writing.cli, CLI_USAGE, "--role: '%s' is neither fold nor processor", optarg);
    }
    if (argc - optind < 1 || argc - optind > 2)
        return cli_fail(&writing.cli, CLI_USAGE, "give NAME, and DIR where it is another; see weir plugin new --help");
    writing.name = argv[optind];
    writing.folder = argc - optind == 2 ? argv[optind + 1] : writing.name;
    if (!name_is_good(writing.name))
        return cli_fail(&writing.cli, CLI_USAGE, "'%s': a name has 1 to %d of a-z, 0-9, _ and -, a letter first",
                        writing.name, (int)PLUGIN_NAME_MAX);
    return folder_write(&writing);
}
