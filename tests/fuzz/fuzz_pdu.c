/* Fuzz target: whatever bytes make an event of any room version, it reads back the same, redacts to
 * the same event id, and gives clients JSON. */
#include <string.h>

#include "federation/room/event_auth.h"
#include "federation/room/identifier.h"
#include "federation/room/pdu_sign.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static void
check_client_forms(const Pdu *pdu)
{
    static const JsonLimits limits = {1 << 20, 108, 1 << 18, FALSE, TRUE};
    g_autoptr(GString) client = g_string_new(NULL);
    g_autoptr(GString) stripped = g_string_new(NULL);
    PduUnsigned extra = {.has_age = TRUE, .prev_content = pdu->content, .prev_sender = pdu->sender};
    pdu_client_json(pdu, TRUE, &extra, client);
    pdu_stripped_json(pdu, stripped);
    g_autoptr(cJSON) client_tree = json_parse(client->str, client->len, &limits, NULL);
    g_autoptr(cJSON) stripped_tree = json_parse(stripped->str, stripped->len, &limits, NULL);
    g_assert_nonnull(client_tree);
    g_assert_nonnull(stripped_tree);
}

static void
check_event(const Pdu *pdu)
{
    static const guint8 no_key[PUBLIC_KEY_BYTES] = {1};
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);

    g_assert_cmpuint(length, <=, PDU_BYTES_MAX);
    g_assert_true(pdu->version->event_id_format != EVENT_ID_HASH_URL_SAFE ||
                  identifier_is_hash(pdu->event_id, '$'));
    g_autoptr(Pdu) again = pdu_from_json(pdu->version, bytes, length, NULL);
    g_assert_nonnull(again);
    g_assert_cmpstr(again->event_id, ==, pdu->event_id);
    g_assert_true(g_bytes_equal(again->bytes, pdu->bytes));

    g_autoptr(Pdu) redacted = pdu_redacted(pdu, NULL);
    g_assert_nonnull(redacted);
    bytes = g_bytes_get_data(redacted->bytes, &length);
    g_autoptr(Pdu) redacted_again = pdu_from_json(pdu->version, bytes, length, NULL);
    g_assert_nonnull(redacted_again);
    g_assert_cmpstr(redacted_again->event_id, ==, pdu->event_id);

    g_assert_cmpint(pdu_check_content_hash(pdu), ==, pdu_check_content_hash(again));
    g_autoptr(GPtrArray) signers = pdu_required_signers(pdu);
    for (guint i = 0; i < signers->len; i++) {
        g_autoptr(GPtrArray) key_ids = pdu_signature_key_ids(pdu, signers->pdata[i]);
        for (guint j = 0; j < key_ids->len; j++)
            pdu_verify_signature(pdu, signers->pdata[i], key_ids->pdata[j], no_key);
    }
    g_autoptr(GPtrArray) state = g_ptr_array_new();
    g_ptr_array_add(state, (gpointer)pdu);
    event_auth_check(pdu, NULL, state, NULL);
    event_auth_check_own(pdu, pdu, state, NULL, NULL);
    check_client_forms(pdu);
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    guint count = 0;
    const RoomVersion *versions = room_version_table(&count);
    for (guint i = 0; i < count; i++) {
        g_autoptr(Pdu) pdu = pdu_from_json(&versions[i], (const char *)data, size, NULL);
        if (pdu != NULL)
            check_event(pdu);
    }
    return 0;
}
