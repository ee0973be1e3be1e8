/* tests/support/session_scene.h: log-ins at a test agency: each test begins with sessions of its
 * own (memory empty) on the one agency of the program, whose people are enrolled by two officers,
 * as in life. */
#pragma once

#include "identity/session.h"
#include "tests/support/agency.h"

typedef struct {
    TestAgency *agency; /* the program's */
    Sessions *sessions;
} Scene;
typedef void (*SceneTest)(Scene *scene, gconstpointer data);

/* Enrols @people (ended by NULL). */
void scene_begin(const char *const *people);
TestAgency *scene_agency(void); /* once begun */
void scene_add(const char *path, SceneTest test);
/* With sessions that keep @cache_max in memory. */
void scene_add_with_cache(const char *path, guint cache_max, SceneTest test);
int scene_run_tests(void); /* and the agency ends */

/* Wait for the lane: what was submitted before is committed. */
void scene_settle(Scene *scene);
/* How often an end was rung in this test. */
gint scene_bells(void);

/* A log-in with @proof; NULL with @error when it is refused. */
SessionTokens *
scene_link(Scene *scene, const CertificateProof *proof, const SessionWish *wish, GError **error);
/* By a fresh proof of @name's. */
SessionTokens *
scene_log_in(Scene *scene, const char *name, const char *device_id, gboolean refresh);

void
scene_assert_opens(Scene *scene, const char *token, const char *user_id, const char *device_id);
typedef enum {
    HARD, /* the device goes too */
    SOFT, /* soft_logout */
} Softness;
/* 401 M_UNKNOWN_TOKEN. */
void scene_assert_refused(const GError *error, Softness softness);
void scene_assert_shut(Scene *scene, const char *token, Softness softness);

gint64 scene_count(Scene *scene, const char *format, ...) G_GNUC_PRINTF(2, 3);
void scene_run(Scene *scene, const char *sql);
