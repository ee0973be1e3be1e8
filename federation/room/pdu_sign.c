#include "federation/room/pdu_sign.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/room/pdu_members.h"
#include "federation/room/pdu_redact.h"

static char *
sign_with_server_key(gpointer data, const void *bytes, gsize length)
{
    return server_key_sign(data, bytes, length);
}

PduSigner
pdu_signer(const char *server_name, const ServerKey *key)
{
    return (PduSigner){server_name, server_key_id(key), sign_with_server_key, (gpointer)key};
}

static void
add_signer(GPtrArray *signers, const char *server)
{
    if (server == NULL)
        return;
    for (guint i = 0; i < signers->len; i++)
        if (strcmp(signers->pdata[i], server) == 0)
            return;
    g_ptr_array_add(signers, g_strdup(server));
}

GPtrArray *
pdu_required_signers(const Pdu *pdu)
{
    GPtrArray *signers = g_ptr_array_new_with_free_func(g_free);
    const char *membership = pdu_membership(pdu);
    gboolean by_third_party = g_strcmp0(membership, "invite") == 0 &&
                              json_get_object(pdu->content, "third_party_invite") != NULL;

    if (!by_third_party)
        add_signer(signers, identifier_server(pdu->sender));
    if (pdu->version->event_id_format == EVENT_ID_CHOSEN)
        add_signer(signers, identifier_server(pdu->event_id));
    if (pdu->version->restricted && membership != NULL)
        add_signer(signers, identifier_server(
                                json_get_string(pdu->content, "join_authorised_via_users_server")));
    return signers;
}

GPtrArray *
pdu_signature_key_ids(const Pdu *pdu, const char *server_name)
{
    GPtrArray *key_ids = g_ptr_array_new();
    const cJSON *signature;
    cJSON_ArrayForEach(signature,
                       json_get_object(json_get_object(pdu->json, "signatures"), server_name))
    {
        if (g_str_has_prefix(signature->string, "ed25519:") &&
            key_ids->len < PDU_SIGNATURE_KEYS_MAX)
            g_ptr_array_add(key_ids, signature->string);
    }
    return key_ids;
}

/* What a signature covers: the redacted event without its signatures. */
static GString *
signed_bytes(const Pdu *pdu)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);
    g_autoptr(GArray) members = pdu_members(bytes, length);
    GString *out = g_string_sized_new(1024);
    pdu_redact_append(out, pdu->version, pdu->type, members, pdu->content, FALSE);
    return out;
}

gboolean
pdu_verify_signature(const Pdu *pdu, const char *server_name, const char *key_id,
                     const guint8 public_key[PUBLIC_KEY_BYTES])
{
    const char *signature = signed_json_signature(pdu->json, server_name, key_id);
    if (signature == NULL || !g_str_has_prefix(key_id, "ed25519:"))
        return FALSE;
    g_autoptr(GString) bytes = signed_bytes(pdu);
    return ed25519_verify(public_key, bytes->str, bytes->len, signature);
}

Pdu *
pdu_add_signature(const Pdu *pdu, const PduSigner *signer, GError **error)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(pdu->bytes, &length);
    g_autoptr(GArray) members = pdu_members(bytes, length);
    g_autoptr(GString) message = signed_bytes(pdu);
    g_autofree char *signature = signer->sign(signer->data, message->str, message->len);

    g_autoptr(cJSON) holder = cJSON_CreateObject();
    cJSON_AddItemToObject(holder, "signatures",
                          cJSON_Duplicate(json_get_object(pdu->json, "signatures"), TRUE));
    if (!signed_json_add_signature(holder, signer->server_name, signer->key_id, signature, error))
        return NULL;
    g_autoptr(GString) signatures = g_string_new(NULL);
    if (!json_canonical_append(signatures, json_object_get(holder, "signatures"), error))
        return NULL;
    g_autoptr(GBytes) signed_event = pdu_members_with(members, "signatures", signatures->str);
    bytes = g_bytes_get_data(signed_event, &length);
    return pdu_from_json(pdu->version, bytes, length, error);
}
