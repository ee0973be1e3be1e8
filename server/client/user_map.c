#include "server/client/user_map.h"

#include "federation/room/identifier.h"
#include "identity/seeded_hash.h"

const char *
user_map_server(const char *user_id)
{
    const char *server = user_id[0] == '@' ? identifier_server(user_id) : NULL;

    return server != NULL && server[0] != '\0' ? server : NULL;
}

GHashTable *
user_map_new(void)
{
    return g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free,
                                 (GDestroyNotify)cJSON_Delete);
}

void
user_map_add(GHashTable *map, const char *server_name, const cJSON *member)
{
    cJSON *of_server = g_hash_table_lookup(map, server_name);

    if (of_server == NULL) {
        of_server = cJSON_CreateObject();
        g_hash_table_insert(map, g_strdup(server_name), of_server);
    }
    cJSON_AddItemToObject(of_server, member->string, cJSON_Duplicate(member, TRUE));
}
