/* One topic, one publisher and a few readers, for tests of one claim each. */
#ifndef TESTS_UNIT_ACTORS_TOPIC_TOPIC_SCENE_H
#define TESTS_UNIT_ACTORS_TOPIC_TOPIC_SCENE_H

#include "tests/unit/actors/topic/topic_actors.h"

struct scene {
    struct world world;
    struct publisher publisher;
    struct reader readers[4];
};

static inline void scene_open(struct scene *scene, struct topic_rule rule)
{
    memset(scene, 0, sizeof *scene);
    struct directory_rule rules[1] = {{.pattern = "a/#", .rule = rule}};
    struct directory_config config = world_config(rules, 1, 1);
    world_open(&scene->world, &config, 1);
    publisher_open(&scene->world, &scene->publisher, "a/b", rule.kind);
    world_settle(&scene->world);
}

static inline struct reader *scene_reader(struct scene *scene, int index, bool generous)
{
    reader_open(&scene->world, &scene->readers[index], generous, 64);
    return &scene->readers[index];
}

static inline void scene_close(struct scene *scene)
{
    world_check(&scene->world);
    for (int i = 0; i < 4; i++)
        reader_fini(&scene->readers[i]);
    world_close(&scene->world);
}

static inline void publish(struct scene *scene, int batches)
{
    for (int i = 0; i < batches; i++) {
        world_tick(&scene->world, scene->publisher.actor, 20);
        world_settle(&scene->world);
    }
}

static const struct reader_options follow = {.snapshot = true, .updates = true};

static inline bool keep_status(const struct topic_status *status, void *context)
{
    *(struct topic_status *)context = *status;
    return true;
}

static inline struct topic_status scene_status(struct scene *scene, const char *name)
{
    struct topic_status status = {.name = ""};
    directory_topics_each(scene->world.directory, view_text(name), keep_status, &status);
    return status;
}

/* It has all that the topic said, and the state that comes of it. */
static inline void assert_caught_up(struct scene *scene, struct reader *reader)
{
    assert_int_equal(reader->feeds[0]->phase, READER_LIVE);
    assert_int_equal(reader->feeds[0]->seq, scene_status(scene, "a/b").seq);
    world_told(&scene->world, reader->feeds[0], &reader->filter);
}

/* A reader that was stingy gives all the credit that anything here takes. */
static inline void read_on(struct scene *scene, struct reader *reader)
{
    reader->generous = true;
    for (size_t i = 0; i < reader->feed_count; i++)
        reader->feeds[i]->owed += 10000000;
    for (int i = 0; i < 50; i++) {
        world_tick(&scene->world, reader->actor, 0);
        world_settle(&scene->world);
    }
}

#endif
