/* Tokens that clients hold: what was given out is read back, everything else is refused. */
#include "server/client/stream_token.h"

static void
test_sync_token_comes_back(void)
{
    const SyncToken tokens[] = {
        {0, 0, 0, 0, FALSE},
        {1, 2, 3, 4, TRUE},
        {7, G_MAXINT64 - 1, G_MAXINT64 - 1, 0, FALSE},
        {1, 5, -3, 5, TRUE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(tokens); i++) {
        g_autofree char *text = sync_token_format(&tokens[i]);
        SyncToken read = {-1, -1, -1, -1, FALSE};
        g_assert_true(sync_token_parse(text, &read));
        g_assert_cmpint(read.epoch, ==, tokens[i].epoch);
        g_assert_cmpint(read.position, ==, tokens[i].position);
        g_assert_cmpint(read.typing, ==, tokens[i].typing);
        g_assert_cmpint(read.to_device, ==, tokens[i].to_device);
        g_assert_cmpint(read.unacknowledged, ==, tokens[i].unacknowledged);
    }
}

static void
test_other_texts_are_no_sync_tokens(void)
{
    static const char *const texts[] = {
        "",
        "s",
        "s1",
        "s1_2_3",
        "s1_2_3_",
        "s1_2_3_4_",
        "s1_2_3_4 ",
        "1_2_3_4",
        "t1_2_3_4",
        "s 1_2_3_4",
        "s1_-2_3_4",
        "s1_2_x_4",
        "s1__2_3_4",
        "s+1_2_3_4",
        "s1_2_3_99999999999999999999",
        "s1_99999999999999999999_3_4",
        "s1_2_3_-99999999999999999999",
        "t5",
        "-",
        "s-",
        "s1_2_3_4_5",
        "s1_2_3_4aa",
        "s1_2_3_4b",
        "s1_2_3a_4",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        SyncToken token = {-1, -1, -1, -1, FALSE};
        g_test_message("%s", texts[i]);
        g_assert_false(sync_token_parse(texts[i], &token));
        g_assert_cmpint(token.epoch, ==, -1); /* left alone */
    }
    SyncToken token;
    g_assert_false(sync_token_parse(NULL, &token));
}

static void
test_room_tokens_take_sync_tokens_too(void)
{
    gint64 position = 0;
    g_autofree char *text = room_token_format(-42);
    g_assert_true(room_token_parse(text, &position));
    g_assert_cmpint(position, ==, -42);
    g_assert_true(room_token_parse("s1_77_3_4", &position));
    g_assert_cmpint(position, ==, 77);

    static const char *const texts[] = {
        "", "t", "t1x", "t-", "77", "s1_2_3", "t99999999999999999999"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        g_assert_false(room_token_parse(texts[i], &position));
    g_assert_false(room_token_parse(NULL, &position));
    g_assert_cmpint(position, ==, 77);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/server/stream_token/a sync token comes back", test_sync_token_comes_back);
    g_test_add_func("/server/stream_token/other texts are no sync tokens",
                    test_other_texts_are_no_sync_tokens);
    g_test_add_func("/server/stream_token/room tokens take sync tokens too",
                    test_room_tokens_take_sync_tokens_too);
    return g_test_run();
}
