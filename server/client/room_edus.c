#include "server/client/room_edus.h"
#include "federation/delivery.h"
#include "storage/membership_store.h"

gboolean
room_edus_send(Server *server, StoreConnection *connection, const char *room_id,
               const char *edu_type, cJSON *content, const char *replaces, GError **error)
{
    g_autoptr(cJSON) edu = cJSON_CreateObject();
    g_autoptr(GPtrArray) servers = membership_store_servers(connection, room_id, error);
    g_autoptr(GBytes) bytes = NULL;

    cJSON_AddStringToObject(edu, "edu_type", edu_type);
    cJSON_AddItemToObject(edu, "content", content);
    if (servers != NULL)
        bytes = json_canonical(edu, error);
    if (bytes == NULL)
        return FALSE;
    for (guint i = servers->len; i > 0; i--)
        if (g_str_equal(servers->pdata[i - 1], server->name))
            g_ptr_array_remove_index_fast(servers, i - 1);
    g_ptr_array_add(servers, NULL);
    if (servers->len > 1 && server->delivery != NULL)
        delivery_send_edu(server->delivery, (const char *const *)servers->pdata, bytes, replaces);
    return TRUE;
}
