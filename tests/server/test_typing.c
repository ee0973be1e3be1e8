/* Typing: who is told, when it ends, and what a token of another process sees. */
#include <string.h>

#include "server/client/typing.h"

typedef struct {
    GMutex lock;
    GCond rung;
    guint rings;
} Bell;

static void
ring(const char *room_id, gpointer data)
{
    Bell *bell = data;

    g_assert_cmpstr(room_id, ==, "!r");
    g_mutex_lock(&bell->lock);
    bell->rings++;
    g_cond_signal(&bell->rung);
    g_mutex_unlock(&bell->lock);
}

static char *
tell(Typing *typing)
{
    GString *out = g_string_new(NULL);

    typing_append(typing, "!r", out);
    return g_string_free(out, FALSE);
}

static void
test_news_ring_once(void)
{
    Bell bell = {0};
    Typing *typing = typing_new(ring, &bell);
    gint64 before = typing_version(typing);
    g_autofree char *one = NULL;
    g_autofree char *none = NULL;

    typing_set(typing, "!r", "@a:x", 60000);
    typing_set(typing, "!r", "@a:x", 90000); /* goes on: no news */
    g_assert_cmpuint(bell.rings, ==, 1);
    g_assert_true(typing_changed(typing, "!r", before));
    g_assert_false(typing_changed(typing, "!other", before));
    one = tell(typing);
    g_assert_cmpstr(one, ==, "{\"type\":\"m.typing\",\"content\":{\"user_ids\":[\"@a:x\"]}}");
    before = typing_version(typing);
    typing_set(typing, "!r", "@b:x", 0); /* never began */
    g_assert_false(typing_changed(typing, "!r", before));
    typing_set(typing, "!r", "@a:x", 0);
    g_assert_cmpuint(bell.rings, ==, 2);
    g_assert_true(typing_changed(typing, "!r", before));
    none = tell(typing);
    g_assert_cmpstr(none, ==, "{\"type\":\"m.typing\",\"content\":{\"user_ids\":[]}}");
    typing_free(typing);
}

static void
test_it_ends_by_itself(void)
{
    Bell bell = {0};
    Typing *typing = typing_new(ring, &bell);
    g_autofree char *none = NULL;

    typing_set(typing, "!r", "@a:x", 1);
    g_mutex_lock(&bell.lock);
    while (bell.rings < 2)
        g_cond_wait(&bell.rung, &bell.lock);
    g_mutex_unlock(&bell.lock);
    none = tell(typing);
    g_assert_cmpstr(none, ==, "{\"type\":\"m.typing\",\"content\":{\"user_ids\":[]}}");
    typing_free(typing);
}

static void
test_a_strange_version_is_told_all(void)
{
    Bell bell = {0};
    Typing *typing = typing_new(ring, &bell);

    typing_set(typing, "!r", "@a:x", 60000);
    g_assert_true(typing_changed(typing, "!r", 0));
    g_assert_true(typing_changed(typing, "!r", typing_version(typing) + 1000000));
    g_assert_false(typing_changed(typing, "!r", typing_version(typing)));
    typing_free(typing);
}

static void
test_a_room_has_a_limit(void)
{
    Bell bell = {0};
    Typing *typing = typing_new(ring, &bell);

    for (guint i = 0; i < TYPING_ROOM_USERS_MAX + 1; i++) {
        g_autofree char *user_id = g_strdup_printf("@u%u:x", i);
        typing_set(typing, "!r", user_id, 60000);
    }
    g_assert_cmpuint(bell.rings, ==, TYPING_ROOM_USERS_MAX);
    typing_free(typing);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/typing/news", test_news_ring_once);
    g_test_add_func("/typing/ends", test_it_ends_by_itself);
    g_test_add_func("/typing/versions", test_a_strange_version_is_told_all);
    g_test_add_func("/typing/limit", test_a_room_has_a_limit);
    return g_test_run();
}
