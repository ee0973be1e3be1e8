#include "tests/support/partner_scene.h"

#include "identity/clock.h"

static void
settle(PartnerScene *scene)
{
    scene->alpha = houses_get(scene->houses, "alpha");
    scene->beta = houses_get(scene->houses, "beta");
    house_list(scene->alpha, (House *const[]){scene->beta, NULL});
    house_list(scene->beta, (House *const[]){scene->alpha, NULL});
    g_free(test_database_query(scene->alpha->database,
                               "INSERT INTO account (user_id, created_ms) VALUES ('" ANNA "', 1)"));
}

void
partner_scene_set_up(PartnerScene *scene, gconstpointer data)
{
    scene->houses = houses_new((const char *const[]){"alpha", "beta", NULL});
    settle(scene);
}

void
partner_scene_set_up_with_stranger(PartnerScene *scene, gconstpointer data)
{
    scene->houses = houses_new((const char *const[]){"alpha", "beta", "gamma", NULL});
    settle(scene);
    scene->gamma = houses_get(scene->houses, "gamma");
    house_list(scene->gamma, (House *const[]){scene->alpha, scene->beta, NULL});
}

void
partner_scene_tear_down(PartnerScene *scene, gconstpointer data)
{
    clock_shift_for_tests(0);
    houses_free(scene->houses);
}

int
partner_scene_run_tests(int argc, char **argv, PartnerSceneStep set_up, const PartnerTest *tests)
{
    g_test_init(&argc, &argv, NULL);
    for (; tests->path != NULL; tests++)
        g_test_add(tests->path, PartnerScene, NULL, set_up, tests->run, partner_scene_tear_down);
    return g_test_run();
}

char *
partner_scene_room(PartnerScene *scene)
{
    g_autoptr(GError) error = NULL;
    char *room_id = house_make_room(scene->alpha, ANNA, "public");
    house_join(scene->beta, room_id, BERTA, "alpha.example", &error);
    g_assert_no_error(error);
    return room_id;
}
