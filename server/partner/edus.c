/* Source: server-server API v1.19, "EDUs", "Typing Notifications", "Receipts", "Device Management",
 * "Send-to-device messaging". */
#include "server/partner/edus.h"

#include <string.h>

#include "federation/room/identifier.h"
#include "federation/rooms.h"
#include "identity/clock.h"
#include "identity/seeded_hash.h"
#include "server/client/device_lists.h"
#include "server/client/receipts.h"
#include "server/client/to_device.h"
#include "server/client/typing.h"
#include "server/partner/partner_room.h"
#include "server/server.h"
#include "storage/event_store.h"
#include "storage/membership_store.h"

#define EDUS_MAX 100u
#define RECEIPTS_MAX 1000u /* of one transaction; each is a few looks into the database */
#define TEXT_BYTES_MAX 255
/* Under this the message ids of to-device messages are remembered beside clients' transaction ids.
 */
#define MESSAGE_SCOPE "m.direct_to_device"

typedef struct {
    Server *server;
    char *origin;
    const cJSON *edus;
    PartnerEdusDone done;
    gpointer data;
} Receiving;

/* ---- at once ---- */

/* A server that a room's ACL keeps out says nothing there. A room that cannot be looked up counts
 * as such. */
static gboolean
may_speak_in(const Receiving *receiving, const char *room_id)
{
    gboolean allows = FALSE;
    return partner_room_acl_allows(receiving->server, room_id, receiving->origin, &allows, NULL) &&
           allows;
}

/* @budget: how many rooms and receipts of this transaction are still looked at. */
static void
take_receipts(const Receiving *receiving, const cJSON *content, guint *budget)
{
    g_autoptr(cJSON) allowed = cJSON_CreateObject();
    guint rooms = *budget;
    for (const cJSON *room = content->child; room != NULL && rooms > 0; room = room->next, rooms--)
        if (may_speak_in(receiving, room->string))
            cJSON_AddItemToObject(allowed, room->string, cJSON_Duplicate(room, TRUE));
    receipts_receive(receiving->server, receiving->origin, allowed, budget);
    *budget = MIN(*budget, rooms);
}

static void
take_typing(const Receiving *receiving, const cJSON *content)
{
    Server *server = receiving->server;
    const char *user_id = json_get_string(content, "user_id");
    const char *room_id = json_get_string(content, "room_id");
    g_autoptr(StoreConnection) connection = NULL;
    g_autoptr(StoredMembership) membership = NULL;

    if (room_id == NULL || !identifier_is_user_of(user_id, receiving->origin) ||
        !may_speak_in(receiving, room_id))
        return;
    connection = store_borrow(server->pool, NULL);
    if (connection == NULL ||
        !membership_store_find(connection, room_id, user_id, &membership, NULL) ||
        membership == NULL || strcmp(membership->membership, "join") != 0)
        return;
    typing_set(server->typing, room_id, user_id,
               json_get_boolean(content, "typing", FALSE) ? TYPING_PARTNER_MS : 0);
}

/* ---- durable: in one lane operation ---- */

/* @taken: the message ids of this transaction, lest one that comes twice spoils it all. */
static gboolean
take_to_device(LaneBatch *batch, const Receiving *receiving, GHashTable *taken,
               const cJSON *content, GError **error)
{
    const char *sender = json_get_string(content, "sender");
    const char *type = json_get_string(content, "type");
    const char *message_id = json_get_string(content, "message_id");
    const cJSON *messages = json_get_object(content, "messages");
    g_autofree char *seen = NULL;
    StoreConnection *connection = lane_batch_connection(batch, error);

    if (connection == NULL)
        return FALSE;
    if (!identifier_is_user_of(sender, receiving->origin) || type == NULL ||
        strlen(type) > TEXT_BYTES_MAX || messages == NULL ||
        to_device_count(messages) > TO_DEVICE_MESSAGES_MAX || message_id == NULL ||
        strlen(message_id) > TEXT_BYTES_MAX ||
        !g_hash_table_add(taken, g_strconcat(sender, " ", message_id, NULL)))
        return TRUE;
    if (!event_store_find_transaction(connection, sender, "", MESSAGE_SCOPE, message_id, &seen,
                                      error))
        return FALSE;
    if (seen != NULL)
        return TRUE;
    event_store_record_transaction(batch, sender, "", MESSAGE_SCOPE, message_id, "",
                                   clock_wall_ms());
    return to_device_deliver(batch, receiving->server, sender, type, messages, error);
}

static gboolean
take_device_list(LaneBatch *batch, const Receiving *receiving, const cJSON *content, GError **error)
{
    const char *user_id = json_get_string(content, "user_id");
    /* The keys are asked for when somebody wants them: here only that they changed. */
    return !identifier_is_user_of(user_id, receiving->origin) ||
           device_lists_tell(batch, user_id, error);
}

static gboolean
is_durable(const char *type)
{
    return g_strcmp0(type, "m.direct_to_device") == 0 ||
           g_strcmp0(type, "m.device_list_update") == 0 ||
           g_strcmp0(type, "m.signing_key_update") == 0;
}

static gboolean
receiving_apply(LaneBatch *batch, gpointer data, GError **error)
{
    const Receiving *receiving = data;
    g_autoptr(GHashTable) taken = g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free, NULL);
    for (const cJSON *edu = receiving->edus->child; edu != NULL; edu = edu->next) {
        const char *type = json_get_string(edu, "edu_type");
        const cJSON *content = json_get_object(edu, "content");
        if (content == NULL || !is_durable(type))
            continue;
        if (strcmp(type, "m.direct_to_device") == 0
                ? !take_to_device(batch, receiving, taken, content, error)
                : !take_device_list(batch, receiving, content, error))
            return FALSE;
    }
    return TRUE;
}

static void
receiving_free(Receiving *receiving)
{
    g_free(receiving->origin);
    g_free(receiving);
}

static void
receiving_done(gpointer data, gint64 position, const GError *error)
{
    Receiving *receiving = data;
    receiving->done(error, receiving->data);
    receiving_free(receiving);
}

void
partner_edus_receive(Server *server, const char *origin, const cJSON *edus, PartnerEdusDone done,
                     gpointer data)
{
    Receiving *receiving = g_new0(Receiving, 1);
    g_autoptr(GError) error = NULL;
    gboolean durable = FALSE;
    guint count = 0, receipts = RECEIPTS_MAX;

    *receiving = (Receiving){server, g_strdup(origin), edus, done, data};
    for (const cJSON *edu = edus != NULL ? edus->child : NULL; edu != NULL && count < EDUS_MAX;
         edu = edu->next, count++) {
        const char *type = json_get_string(edu, "edu_type");
        const cJSON *content = json_get_object(edu, "content");
        if (content == NULL)
            continue;
        if (g_strcmp0(type, "m.typing") == 0)
            take_typing(receiving, content);
        else if (g_strcmp0(type, "m.receipt") == 0)
            take_receipts(receiving, content, &receipts);
        durable |= is_durable(type);
    }
    if (durable && lane_submit(server->lane, receiving_apply, receiving_done, receiving, &error))
        return;
    done(error, data);
    receiving_free(receiving);
}
