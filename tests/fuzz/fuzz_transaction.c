/* Fuzz target: the body of a partner's transaction.  An event reads the same as a member of it and
 * alone, in every room version. */
#include <string.h>

#include "federation/room/pdu_build.h"
#include "federation/transaction.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define PDUS_LOOKED_AT 3

static void
check_event(const RoomVersion *version, const cJSON *value, const PduSigner *signer)
{
    g_autoptr(GBytes) bytes = json_canonical(value, NULL);
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    g_autoptr(Pdu) member = pdu_from_value(version, value, NULL);
    g_autoptr(Pdu) alone = pdu_from_json(version, text, length, NULL);
    g_assert_true((member == NULL) == (alone == NULL));
    if (member != NULL) {
        g_assert_cmpstr(member->event_id, ==, alone->event_id);
        g_assert_true(g_bytes_equal(member->bytes, alone->bytes));
    }
    /* As a partner's template for an event of ours. */
    g_autoptr(Pdu) ours = pdu_build_from_value(version, value, signer, NULL);
    if (ours != NULL)
        g_assert_true(pdu_check_content_hash(ours));
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static const guint8 seed[PUBLIC_KEY_BYTES] = {7};
    static ServerKey *key;
    g_autoptr(cJSON) body = json_parse((const char *)data, size, &json_limits_transaction, NULL);
    guint versions = 0, looked_at = 0;
    const RoomVersion *table = room_version_table(&versions);
    const cJSON *value;

    if (body == NULL || !transactions_check("txn", body, NULL))
        return 0;
    if (key == NULL)
        key = server_key_new_for_tests("f", seed);
    PduSigner signer = pdu_signer("fuzz.example", key);
    cJSON_ArrayForEach(value, json_get_array(body, "pdus"))
    {
        for (guint i = 0; i < versions && looked_at < PDUS_LOOKED_AT; i++)
            check_event(&table[i], value, &signer);
        looked_at++;
    }
    return 0;
}
