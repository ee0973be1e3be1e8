/* Rooms and invites of every version, between two servers. */
#include "identity/refusal.h"
#include "tests/support/engine.h"
#include "tests/support/room_events.h"

static Engine *alpha, *beta;

/* Made, spoken in, joined from outside, changed on both sides while apart, redacted, reopened. */
static void
go_through(const RoomVersion *version)
{
    g_autofree char *room_id = engine_make_room_of(alpha, version, "@ada:alpha.example", "public");
    g_autofree char *first = engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message",
                                         NULL, "{\"body\":\"one\"}");
    g_autofree char *redaction = NULL, *at_alpha = NULL, *at_beta = NULL, *content = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(RoomEvent) target = NULL;
    g_autoptr(RoomEvent) carried = NULL;

    g_test_message("room version %s", version->id);
    g_assert_cmpint(strchr(room_id, ':') != NULL, ==, !version->room_id_is_create_hash);
    engine_join(alpha, beta, room_id, "@ben:beta.example");
    g_free(engine_send(beta, room_id, "@ben:beta.example", "m.room.message", NULL, "{}"));
    engine_deliver_all(beta, alpha, room_id);
    g_free(engine_send(alpha, room_id, "@ada:alpha.example", "m.room.member", "@ben:beta.example",
                       "{\"membership\":\"ban\"}"));
    g_free(engine_send(alpha, room_id, "@ada:alpha.example", "m.room.name", "",
                       "{\"name\":\"alpha\"}"));
    g_free(engine_send(beta, room_id, "@ben:beta.example", "m.room.member", "@ben:beta.example",
                       "{\"displayname\":\"B\",\"membership\":\"join\"}"));
    engine_deliver_all(beta, alpha, room_id);
    engine_deliver_all(alpha, beta, room_id);
    at_alpha = engine_state_event_id(alpha, room_id, "m.room.member", "@ben:beta.example");
    at_beta = engine_state_event_id(beta, room_id, "m.room.member", "@ben:beta.example");
    g_assert_cmpstr(at_alpha, ==, at_beta);

    content = g_strdup_printf("{\"redacts\":\"%s\"}", first);
    redaction =
        engine_send(alpha, room_id, "@ada:alpha.example", "m.room.redaction", NULL, content);
    g_assert_true(rooms_event(alpha->rooms, room_id, first, &target, &error));
    g_assert_cmpstr(target->redaction_id, ==, redaction);
    g_assert_true(rooms_event(alpha->rooms, room_id, redaction, &carried, &error));
    g_assert_cmpint(json_object_get(carried->pdu->json, "redacts") == NULL, ==,
                    version->redacts_in_content);
    g_ptr_array_set_size(alpha->outbox, 0);

    engine_close(alpha);
    engine_open(alpha);
    g_free(engine_send(alpha, room_id, "@ada:alpha.example", "m.room.message", NULL, "{}"));
    engine_assert_flat_state(alpha, room_id);
    engine_assert_flat_state(beta, room_id);
    g_ptr_array_set_size(alpha->outbox, 0);
}

static void
test_rooms_of_every_version(void)
{
    guint count = 0, served = 0;
    const RoomVersion *versions = room_version_table(&count);

    for (guint i = 0; i < count; i++)
        if (versions[i].supported) {
            go_through(&versions[i]);
            served++;
        }
    g_test_message("%u room versions", served);
    g_assert_cmpuint(served, >=, 1);
}

static void
test_an_invite_across_is_cosigned_and_taken_in(void)
{
    g_autofree char *room_id = engine_make_room(alpha, "@ada:alpha.example", "invite");
    RoomsProposal *proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
    g_autoptr(GError) error = NULL;
    g_autoptr(EngineWait) build = engine_wait_new();
    g_autoptr(EngineWait) at_beta = engine_wait_new();
    g_autoptr(EngineWait) at_alpha = engine_wait_new();
    g_autoptr(EngineWait) refused = engine_wait_new();
    g_autoptr(Pdu) cosigned = NULL;
    g_autoptr(GBytes) stripped = g_bytes_new_static("[]", 2);
    g_autofree char *membership = NULL;

    rooms_proposal_add(proposal, "m.room.member", "@ben:beta.example",
                       test_json("{\"membership\":\"invite\"}"));
    rooms_build(alpha->rooms, proposal, engine_built, build);
    engine_wait(build);
    g_assert_no_error(build->error);
    g_assert_cmpint(engine_status(alpha, room_id, build->pdu->event_id), ==, 0);
    cosigned = pdu_add_signature(build->pdu, &beta->signer, &error);
    g_assert_no_error(error);
    rooms_accept_invite(beta->rooms, room_id, cosigned->version, cosigned->bytes, stripped,
                        engine_received, at_beta);
    engine_wait(at_beta);
    g_assert_cmpint(engine_verdict(at_beta), ==, RECEIVED_ACCEPTED);
    g_assert_cmpint(at_beta->position, >, 0);
    rooms_receive_own(alpha->rooms, room_id, cosigned->bytes, engine_received, at_alpha);
    engine_wait(at_alpha);
    g_assert_cmpint(engine_verdict(at_alpha), ==, RECEIVED_ACCEPTED);
    membership = engine_membership(alpha, room_id, "@ben:beta.example");
    g_assert_cmpstr(membership, ==, "invite");
    /* Not for a user of another server. */
    rooms_accept_invite(alpha->rooms, room_id, cosigned->version, cosigned->bytes, stripped,
                        engine_received, refused);
    engine_wait(refused);
    g_assert_error(refused->error, REFUSAL, 400);
    /* And the invited one comes. */
    engine_join(alpha, beta, room_id, "@ben:beta.example");
    g_assert_cmpint(test_database_count(beta->database, "SELECT count(*) FROM invite"), ==, 0);
}

/* An invite from outside, taken in and turned down, in every version. */
static void
test_invites_of_every_version(void)
{
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);

    for (guint i = 0; i < count; i++) {
        const RoomVersion *version = &versions[i];
        g_autofree char *room_id = NULL, *leave_id = rooms_new_id(beta->rooms, '$');
        g_autoptr(GError) error = NULL;
        g_autoptr(EngineWait) build = engine_wait_new();
        g_autoptr(EngineWait) at_beta = engine_wait_new();
        g_autoptr(EngineWait) left = engine_wait_new();
        g_autoptr(Pdu) cosigned = NULL;
        g_autoptr(Pdu) leave = NULL;
        g_autoptr(GBytes) stripped = g_bytes_new_static("[]", 2);
        g_autoptr(cJSON) content = test_json("{\"membership\":\"leave\"}");
        RoomsProposal *proposal;

        if (!version->supported)
            continue;
        room_id = engine_make_room_of(alpha, version, "@ada:alpha.example", "invite");
        proposal = rooms_proposal_new(room_id, "@ada:alpha.example");
        rooms_proposal_add(proposal, "m.room.member", "@ben:beta.example",
                           test_json("{\"membership\":\"invite\"}"));
        rooms_build(alpha->rooms, proposal, engine_built, build);
        engine_wait(build);
        g_assert_no_error(build->error);
        cosigned = pdu_add_signature(build->pdu, &beta->signer, &error);
        rooms_accept_invite(beta->rooms, room_id, version, cosigned->bytes, stripped,
                            engine_received, at_beta);
        engine_wait(at_beta);
        g_assert_cmpint(engine_verdict(at_beta), ==, RECEIVED_ACCEPTED);
        leave = pdu_build(version,
                          &(PduTemplate){.event_id = leave_id,
                                         .room_id = room_id,
                                         .type = "m.room.member",
                                         .state_key = "@ben:beta.example",
                                         .sender = "@ben:beta.example",
                                         .content = content,
                                         .depth = 9},
                          &beta->signer, &error);
        g_assert_no_error(error);
        rooms_accept_leave(beta->rooms, room_id, leave->bytes, engine_received, left);
        engine_wait(left);
        g_assert_cmpint(engine_verdict(left), ==, RECEIVED_ACCEPTED);
        g_assert_cmpint(test_database_count(beta->database, "SELECT count(*) FROM invite"), ==, 0);
    }
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    alpha = engine_new("alpha.example", 1);
    beta = engine_new("beta.example", 2);
    g_test_add_func("/every-version/invite-cosigned",
                    test_an_invite_across_is_cosigned_and_taken_in);
    g_test_add_func("/every-version/rooms", test_rooms_of_every_version);
    g_test_add_func("/every-version/invites", test_invites_of_every_version);
    result = g_test_run();
    engine_free(alpha);
    engine_free(beta);
    return result;
}
