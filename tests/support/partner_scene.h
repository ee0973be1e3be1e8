/* tests/support/partner_scene.h: two agencies that list each other, for tests of what one does to
 * the other.  Each test begins with new ones: the program's g_test fixture. */
#pragma once

#include "tests/support/house.h"

#define ANNA "@anna:alpha.example" /* she alone has an account */
#define BERTA "@berta:beta.example"
#define GUSTAV "@gustav:gamma.example"

typedef struct {
    Houses *houses;
    House *alpha, *beta;
    House *gamma; /* on nobody's list, though it lists both; NULL without a stranger */
} PartnerScene;

void partner_scene_set_up(PartnerScene *scene, gconstpointer data);
void partner_scene_set_up_with_stranger(PartnerScene *scene, gconstpointer data);
/* The clock, if a test has shifted it, is right again. */
void partner_scene_tear_down(PartnerScene *scene, gconstpointer data);

typedef void (*PartnerSceneStep)(PartnerScene *scene, gconstpointer data);
typedef struct {
    const char *path; /* NULL ends the table */
    PartnerSceneStep run;
} PartnerTest;
/* The whole of main(): each of @tests between @set_up and partner_scene_tear_down(). */
int
partner_scene_run_tests(int argc, char **argv, PartnerSceneStep set_up, const PartnerTest *tests);

/* A public room of Anna's that Berta has joined; its id. */
char *partner_scene_room(PartnerScene *scene);
