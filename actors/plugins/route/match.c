/* Whether a rule of `route` is for a record. */
#include "actors/plugins/kit_target.h"
#include "actors/plugins/route/route.h"

/* MQTT's patterns: '+' is one segment, '#' at the end the rest, also nothing. */
static bool topic_matches(struct weir_bytes pattern, struct weir_bytes topic)
{
    const char *p = (const char *)pattern.data, *p_end = p + pattern.size;
    const char *t = (const char *)topic.data, *t_end = t + topic.size;
    for (;;) {
        const char *p_stop = memchr(p, '/', (size_t)(p_end - p));
        const char *t_stop = t != NULL ? memchr(t, '/', (size_t)(t_end - t)) : NULL;
        struct weir_bytes wanted = weir_bytes_of(p, (size_t)((p_stop != NULL ? p_stop : p_end) - p));
        if (kit_is(wanted, "#"))
            return true;
        if (t == NULL)
            return false;
        struct weir_bytes given = weir_bytes_of(t, (size_t)((t_stop != NULL ? t_stop : t_end) - t));
        if (!kit_is(wanted, "+") && !kit_same(wanted, given))
            return false;
        if (p_stop == NULL)
            return t_stop == NULL;
        p = p_stop + 1;
        t = t_stop != NULL ? t_stop + 1 : NULL;
    }
}

/* What a test looks at: its first item. False: the record has no such thing. */
static bool operand_find(struct weir_self *self, struct weir_bytes of, const struct weir_message *message,
                         char number[KIT_NUMBER_TEXT_MAX], struct weir_item *out)
{
    const char *text = of.data;
    struct weir_bytes field;
    if (*text == 'v') {
        size_t skip = of.size == 5 ? 5 : 6;
        return kit_field(self, message->value, weir_bytes_of(text + skip, of.size - skip), &field) &&
               kit_item(self, field, out);
    }
    memset(out, 0, sizeof *out);
    out->type = WEIR_VALUE_STR;
    return kit_variable(self, of, message, number, &out->bytes);
}

static bool items_are_same(const struct weir_item *a, const struct weir_item *b)
{
    double x = 0, y = 0;
    /* Whole numbers beyond what a double keeps apart are compared as what they are. */
    if (a->type == WEIR_VALUE_UINT && b->type == WEIR_VALUE_UINT)
        return a->as.u == b->as.u;
    if (kit_number_of(a, &x) && kit_number_of(b, &y))
        return x == y;
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case WEIR_VALUE_NIL: return true;
    case WEIR_VALUE_BOOL: return a->as.b == b->as.b;
    case WEIR_VALUE_STR:
    case WEIR_VALUE_BIN: return kit_same(a->bytes, b->bytes);
    default: return false;
    }
}

static bool is_among(struct weir_self *self, const struct weir_item *item, struct weir_bytes list)
{
    struct weir_reader reader = {list, false};
    struct weir_item head, other;
    struct weir_bytes encoded;
    if (!weir_read(self, &reader, &head))
        return false;
    for (uint32_t i = 0; i < head.count && weir_skip(self, &reader, &encoded); i++) {
        if (kit_item(self, encoded, &other) && items_are_same(item, &other))
            return true;
    }
    return false;
}

static bool test_holds(struct weir_self *self, const struct test *test, const struct weir_message *message)
{
    char text[KIT_NUMBER_TEXT_MAX];
    struct weir_item item, operand;
    double number = 0;
    bool is_there = operand_find(self, test->of, message, text, &item);
    if (test->kind == TEST_EXISTS)
        return is_there == test->wanted;
    if (!is_there)
        return test->kind == TEST_NOT;
    switch (test->kind) {
    case TEST_IS: return kit_item(self, test->operand, &operand) && items_are_same(&item, &operand);
    case TEST_NOT: return kit_item(self, test->operand, &operand) && !items_are_same(&item, &operand);
    case TEST_IN: return is_among(self, &item, test->operand);
    case TEST_ABOVE: return kit_number_of(&item, &number) && number > test->number;
    case TEST_BELOW: return kit_number_of(&item, &number) && number < test->number;
    default:
        return item.type == WEIR_VALUE_STR && item.bytes.size >= test->text.size &&
               memcmp(item.bytes.data, test->text.data, test->text.size) == 0;
    }
}

bool rule_matches(struct weir_self *self, const struct rule *rule, const struct weir_message *message)
{
    if (rule->topic.size > 0 && !topic_matches(rule->topic, message->topic))
        return false;
    for (uint32_t i = 0; i < rule->test_count; i++) {
        if (!test_holds(self, &rule->tests[i], message))
            return false;
    }
    return true;
}
