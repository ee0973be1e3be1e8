#include "federation/partner.h"

#include <string.h>

#include "federation/admission.h"
#include "identity/audit.h"
#include "identity/clock.h"
#include "identity/cms.h"
#include "identity/refusal.h"
#include "identity/seeded_hash.h"
#include "storage/partner_store.h"

#define WATCH_MS 2000
#define HISTORY_MAX 256 /* lists whose keys still count for old events */
#define SIGNED_AFTER_ISSUE_MS ((gint64)30 * 24 * 3600 * 1000)

static const JsonLimits content_limits = {ALLOW_LIST_BYTES_MAX, 12, 256 * 1024, FALSE};

/* A key that some list pinned for a server. */
typedef struct {
    char *key_id;
    guint8 key[32];
    gint64 valid_until_ms;
} EventKey;

struct Partners {
    char *own_name;
    StorePool *pool;
    Certificates *certificates;
    char **officers;

    GMutex lock; /* what follows, up to the blank line */
    gint64 serial;
    gint64 expires_ms;
    char *list_id;
    GHashTable *by_name;    /* server name -> Partner; without the revoked */
    GHashTable *by_pin;     /* GBytes (SHA-256 of an SPKI) -> Partner of by_name, borrowed */
    GHashTable *event_keys; /* server name -> GPtrArray of EventKey */

    GThread *watcher;
    GCond stop_bell;
    gboolean stopping; /* under lock */
    PartnersChanged changed;
    gpointer changed_data;
};

/* ---- Partner ---- */

Partner *
partner_new(Partners *partners, AllowListEntry *entry)
{
    Partner *partner = g_new0(Partner, 1);
    partner->references = 1;
    partner->partners = partners;
    partner->entry = entry;
    return partner;
}

Partner *
partner_ref(const Partner *partner)
{
    g_atomic_int_inc(&((Partner *)partner)->references);
    return (Partner *)partner;
}

void
partner_unref(Partner *partner)
{
    if (partner == NULL || !g_atomic_int_dec_and_test(&partner->references))
        return;
    allow_list_entry_free(partner->entry);
    g_free(partner);
}

const char *
partner_name(const Partner *partner)
{
    return partner->entry->server_name;
}

gboolean
partner_is_current(const Partner *partner, PartnerDirection direction)
{
    return admission_partner_holds(partner, direction, clock_wall_ms());
}

gboolean
partner_accepts_tls(const Partner *partner, const guint8 *spki_sha256)
{
    return admission_accepts_tls(partner, spki_sha256);
}

gboolean
partner_find_key(const Partner *partner, const char *key_id, gint64 at_ms, guint8 ret_key[32])
{
    return admission_find_key(partner, key_id, at_ms, ret_key);
}

/* ---- the list in force ---- */

static void
event_key_free(EventKey *key)
{
    g_free(key->key_id);
    g_free(key);
}

static GHashTable *
table_of_partners(void)
{
    return g_hash_table_new_full(seeded_str_hash, g_str_equal, NULL, (GDestroyNotify)partner_unref);
}

static GHashTable *
table_of_pins(void)
{
    return g_hash_table_new_full(seeded_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref,
                                 NULL);
}

static GHashTable *
table_of_keys(void)
{
    return g_hash_table_new_full(seeded_str_hash, g_str_equal, g_free,
                                 (GDestroyNotify)g_ptr_array_unref);
}

Partners *
partners_new(const char *own_name, StorePool *pool, Certificates *certificates,
             const char *const *officers)
{
    Partners *partners = g_new0(Partners, 1);
    partners->own_name = g_strdup(own_name);
    partners->pool = pool;
    partners->certificates = certificates;
    partners->officers = g_strdupv((char **)officers);
    g_mutex_init(&partners->lock);
    g_cond_init(&partners->stop_bell);
    partners->by_name = table_of_partners();
    partners->by_pin = table_of_pins();
    partners->event_keys = table_of_keys();
    return partners;
}

void
partners_stop(Partners *partners)
{
    if (partners->watcher == NULL)
        return;
    g_mutex_lock(&partners->lock);
    partners->stopping = TRUE;
    g_cond_signal(&partners->stop_bell);
    g_mutex_unlock(&partners->lock);
    g_thread_join(g_steal_pointer(&partners->watcher));
}

void
partners_free(Partners *partners)
{
    if (partners == NULL)
        return;
    partners_stop(partners);
    g_hash_table_unref(partners->by_pin);
    g_hash_table_unref(partners->by_name);
    g_hash_table_unref(partners->event_keys);
    g_strfreev(partners->officers);
    g_mutex_clear(&partners->lock);
    g_cond_clear(&partners->stop_bell);
    g_free(partners->list_id);
    g_free(partners->own_name);
    g_free(partners);
}

Partner *
partners_look_up(Partners *partners, const char *server_name)
{
    Partner *partner = NULL;
    g_mutex_lock(&partners->lock);
    if (clock_wall_ms() < partners->expires_ms)
        partner = g_hash_table_lookup(partners->by_name, server_name);
    if (partner != NULL)
        partner_ref(partner);
    g_mutex_unlock(&partners->lock);
    return partner;
}

Partner *
partners_look_up_by_tls(Partners *partners, const guint8 *spki_sha256)
{
    Partner *partner = NULL;
    g_autoptr(GBytes) pin = g_bytes_new(spki_sha256, 32);
    g_mutex_lock(&partners->lock);
    if (clock_wall_ms() < partners->expires_ms)
        partner = g_hash_table_lookup(partners->by_pin, pin);
    if (partner != NULL)
        partner_ref(partner);
    g_mutex_unlock(&partners->lock);
    return partner;
}

/* Same address and pins: what a connection was made by. */
static gboolean
entries_agree(const AllowListEntry *a, const AllowListEntry *b)
{
    return strcmp(a->host, b->host) == 0 && a->port == b->port && a->inbound == b->inbound &&
           a->outbound == b->outbound && a->pin_count == b->pin_count &&
           memcmp(a->pins, b->pins, sizeof a->pins) == 0;
}

gboolean
partners_still_list(Partners *partners, const Partner *partner, gint64 now_ms)
{
    gboolean lists = FALSE;
    g_mutex_lock(&partners->lock);
    if (now_ms < partners->expires_ms) {
        const Partner *now = g_hash_table_lookup(partners->by_name, partner->entry->server_name);
        lists = now == partner || (now != NULL && entries_agree(now->entry, partner->entry));
    }
    g_mutex_unlock(&partners->lock);
    return lists;
}

gboolean
partners_look_up_event_key(Partners *partners, const char *server_name, const char *key_id,
                           gint64 at_ms, guint8 ret_key[32])
{
    gboolean found = FALSE;
    g_mutex_lock(&partners->lock);
    const GPtrArray *keys = g_hash_table_lookup(partners->event_keys, server_name);
    for (guint i = 0; keys != NULL && i < keys->len && !found; i++) {
        const EventKey *key = keys->pdata[i];
        found = strcmp(key->key_id, key_id) == 0 && at_ms <= key->valid_until_ms;
        if (found)
            memcpy(ret_key, key->key, 32);
    }
    g_mutex_unlock(&partners->lock);
    return found;
}

Partner *
partners_find(Partners *partners, const char *server_name, PartnerDirection direction,
              GError **error)
{
    if (strcmp(server_name, partners->own_name) == 0) {
        refusal_set(error, 403, "M_FORBIDDEN", "A server is not its own partner");
        return NULL;
    }
    return admission_find_partner(partners, server_name, direction, clock_wall_ms(), error);
}

Partner *
partners_find_by_tls(Partners *partners, const guint8 *spki_sha256, GError **error)
{
    return admission_find_by_tls(partners, spki_sha256, clock_wall_ms(), error);
}

gboolean
partners_find_event_key(const char *server_name, const char *key_id, gint64 at_ms,
                        guint8 ret_key[32], gpointer data)
{
    return admission_find_event_key(data, server_name, key_id, at_ms, ret_key);
}

const char *
partners_own_name(const Partners *partners)
{
    return partners->own_name;
}

gint64
partners_serial(Partners *partners)
{
    g_mutex_lock(&partners->lock);
    gint64 serial = partners->serial;
    g_mutex_unlock(&partners->lock);
    return serial;
}

gboolean
partners_lists(Partners *partners, const char *server_name)
{
    g_mutex_lock(&partners->lock);
    gboolean lists = g_hash_table_contains(partners->by_name, server_name);
    g_mutex_unlock(&partners->lock);
    return lists;
}

static char **
partners_names(Partners *partners, PartnerDirection direction)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)partner_unref);
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&partners->lock);
    g_hash_table_iter_init(&iter, partners->by_name);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(all, partner_ref(value));
    g_mutex_unlock(&partners->lock);
    for (guint i = 0; i < all->len; i++)
        if (partner_is_current(all->pdata[i], direction))
            g_strv_builder_add(names, partner_name(all->pdata[i]));
    return g_strv_builder_end(names);
}

/* ---- taking a list ---- */

/* The signature is by one of the federation officers, and their certificate passes the same check
 * as everybody's. */
static gboolean
signature_holds(Partners *partners, GBytes *content, GBytes *signature, const AllowList *list,
                gboolean is_new, char **ret_signer, GError **error)
{
    g_auto(CmsSigner) signer = {0};
    const CertificateRule *rule = NULL;
    if (partners->certificates == NULL) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "This server trusts no authority for people, so no signer of an allow-list");
        return FALSE;
    }
    CertificateQuery query = {.at_ms = is_new ? clock_wall_ms() : list->issued_ms, .past = !is_new};
    if (!cms_verify(partners->certificates, signature, content, &query, &signer, &rule, error))
        return FALSE;
    if (!g_strv_contains((const char *const *)partners->officers,
                         certificate_sha256(signer.signer))) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The allow-list is signed by certificate %s, which is not that of a federation "
                    "officer of this server",
                    certificate_sha256(signer.signer));
        return FALSE;
    }
    if (signer.signed_ms < list->issued_ms - 60 * 1000 ||
        signer.signed_ms > list->issued_ms + SIGNED_AFTER_ISSUE_MS) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The allow-list was signed at another time than it says it was issued");
        return FALSE;
    }
    if (ret_signer != NULL)
        *ret_signer = g_strdup(certificate_sha256(signer.signer));
    return TRUE;
}

/* One stored list, checked anew. */
static AllowList *
list_from_row(Partners *partners, const StoredPartnerList *row, GError **error)
{
    gsize length = 0;
    const char *bytes = g_bytes_get_data(row->content, &length);
    g_autoptr(cJSON) json = json_parse(bytes, length, &content_limits, error);
    g_autoptr(AllowList) list = json != NULL ? allow_list_from_json(json, error) : NULL;
    if (list == NULL)
        return NULL;
    if (list->serial != row->serial) {
        refusal_set(error, 403, "M_FORBIDDEN",
                    "The stored allow-list has another serial than its row");
        return NULL;
    }
    if (!signature_holds(partners, row->content, row->signature, list, FALSE, NULL, error))
        return NULL;
    return g_steal_pointer(&list);
}

/* Lists come newest first: a key of an older one counts until the issue of the next newer list,
 * unless that has it too. @names: those that the newer list has. */
static void
gather_event_keys(GHashTable *event_keys, const AllowList *list, gint64 dropped_ms)
{
    for (guint i = 0; i < list->entries->len; i++) {
        const AllowListEntry *entry = list->entries->pdata[i];
        GPtrArray *keys = g_hash_table_lookup(event_keys, entry->server_name);
        if (keys == NULL) {
            keys = g_ptr_array_new_with_free_func((GDestroyNotify)event_key_free);
            g_hash_table_insert(event_keys, g_strdup(entry->server_name), keys);
        }
        gboolean revoked = g_strv_contains((const char *const *)list->revoked, entry->server_name);
        for (guint k = 0; k < entry->key_count; k++) {
            const AllowListKey *from = &entry->keys[k];
            gint64 until = MIN(from->valid_until_ms, revoked ? list->issued_ms : dropped_ms);
            EventKey *known = NULL;
            for (guint n = 0; n < keys->len && known == NULL; n++) {
                EventKey *key = keys->pdata[n];
                if (strcmp(key->key_id, from->key_id) == 0 && memcmp(key->key, from->key, 32) == 0)
                    known = key; /* the newer list has said until when */
            }
            if (known != NULL)
                continue;
            EventKey *key = g_new0(EventKey, 1);
            key->key_id = g_strdup(from->key_id);
            memcpy(key->key, from->key, 32);
            key->valid_until_ms = until;
            g_ptr_array_add(keys, key);
        }
    }
}

/* Consumes the entries of @list. */
static void
put_in_force(Partners *partners, AllowList *list, GHashTable *event_keys)
{
    GHashTable *by_name = table_of_partners();
    GHashTable *by_pin = table_of_pins();
    g_ptr_array_set_free_func(list->entries, NULL);
    for (guint i = 0; i < list->entries->len; i++) {
        AllowListEntry *entry = list->entries->pdata[i];
        if (g_strv_contains((const char *const *)list->revoked, entry->server_name) ||
            strcmp(entry->server_name, partners->own_name) == 0) {
            allow_list_entry_free(entry);
            continue;
        }
        Partner *partner = partner_new(partners, entry);
        g_hash_table_insert(by_name, entry->server_name, partner);
        for (guint p = 0; p < entry->pin_count; p++)
            g_hash_table_insert(by_pin, g_bytes_new(entry->pins[p], 32), partner);
    }
    g_mutex_lock(&partners->lock);
    g_autoptr(GHashTable) old_names = g_steal_pointer(&partners->by_name);
    g_autoptr(GHashTable) old_pins = g_steal_pointer(&partners->by_pin);
    g_autoptr(GHashTable) old_keys = g_steal_pointer(&partners->event_keys);
    partners->by_name = by_name;
    partners->by_pin = by_pin;
    partners->event_keys = g_hash_table_ref(event_keys);
    partners->serial = list->serial;
    partners->expires_ms = list->expires_ms;
    g_free(partners->list_id);
    partners->list_id = g_strdup(list->list_id);
    g_mutex_unlock(&partners->lock);
}

/* Newest first.  The newest must hold, or nothing changes; an older one that no longer holds lends
 * no keys. */
static gboolean
take_lists(Partners *partners, GPtrArray *rows, GError **error)
{
    g_autoptr(AllowList) newest = NULL;
    g_autoptr(GHashTable) event_keys = table_of_keys();
    gint64 dropped_ms = G_MAXINT64;
    for (guint i = 0; i < rows->len; i++) {
        g_autoptr(GError) old_error = NULL;
        AllowList *list = list_from_row(partners, rows->pdata[i], i == 0 ? error : &old_error);
        if (list == NULL && i == 0)
            return FALSE;
        if (list == NULL)
            continue;
        gather_event_keys(event_keys, list, dropped_ms);
        dropped_ms = list->issued_ms;
        if (newest == NULL)
            newest = list;
        else
            allow_list_free(list);
    }
    put_in_force(partners, newest, event_keys);
    return TRUE;
}

gboolean
partners_reload(Partners *partners, GError **error)
{
    gint64 serial = 0;
    g_autoptr(StoreConnection) connection = store_borrow(partners->pool, error);
    if (connection == NULL || !partner_store_serial(connection, &serial, error))
        return FALSE;
    if (serial <= partners_serial(partners))
        return TRUE;
    g_autoptr(GPtrArray) rows = partner_store_lists(connection, HISTORY_MAX, error);
    if (rows == NULL)
        return FALSE;
    g_clear_pointer(&connection, store_return);
    return rows->len == 0 || take_lists(partners, rows, error);
}

static gboolean
serial_rises(Partners *partners, const AllowList *list, gboolean *ret_known, GError **error)
{
    g_mutex_lock(&partners->lock);
    gint64 serial = partners->serial;
    g_autofree char *list_id = g_strdup(partners->list_id);
    g_mutex_unlock(&partners->lock);
    *ret_known = serial == list->serial;
    if (list->serial < serial)
        refusal_set(error, 409, "M_FORBIDDEN",
                    "The allow-list has serial %" G_GINT64_FORMAT ", but %" G_GINT64_FORMAT
                    " is in force: a serial only rises",
                    list->serial, serial);
    else if (list_id != NULL && strcmp(list_id, list->list_id) != 0)
        refusal_set(error, 409, "M_FORBIDDEN",
                    "The allow-list has list_id '%s', but '%s' is in force", list->list_id,
                    list_id);
    else
        return TRUE;
    return FALSE;
}

static gboolean
keep_list(Partners *partners, const AllowList *list, GBytes *content, GBytes *signature,
          const char *signer, GError **error)
{
    g_autoptr(StoreWrites) writes = store_writes_new();
    g_autoptr(StoreConnection) connection = store_borrow(partners->pool, error);
    g_autofree char *serial = g_strdup_printf("%" G_GINT64_FORMAT, list->serial);
    if (connection == NULL || !store_begin(connection, error))
        return FALSE;
    audit_line(writes, &(AuditLine){.type = "partner_list",
                                    .actor = signer,
                                    .subject = list->list_id,
                                    .object = serial,
                                    .decision = "accepted"});
    partner_store_insert_list(writes, list->serial, list->list_id, content, signature,
                              clock_wall_ms());
    return store_writes_run(writes, connection, error) && store_commit(connection, error);
}

gboolean
partners_import(Partners *partners, GBytes *file, GError **error)
{
    g_autoptr(GBytes) content = NULL;
    g_autoptr(GBytes) signature = NULL;
    g_autofree char *signer = NULL;
    gboolean known = FALSE;
    g_autoptr(AllowList) list = allow_list_read(file, &content, &signature, error);
    if (list == NULL || !partners_reload(partners, error) ||
        !serial_rises(partners, list, &known, error))
        return FALSE;
    if (known)
        return TRUE;
    if (clock_wall_ms() >= list->expires_ms) {
        refusal_set(error, 403, "M_FORBIDDEN", "The allow-list has expired");
        return FALSE;
    }
    return signature_holds(partners, content, signature, list, TRUE, &signer, error) &&
           keep_list(partners, list, content, signature, signer, error) &&
           partners_reload(partners, error);
}

/* ---- the watch ---- */

/* Who is a partner just now, as one string: it changes with the list and with time. */
static char *
standing(Partners *partners)
{
    g_auto(GStrv) in = partners_names(partners, PARTNER_INBOUND);
    g_auto(GStrv) out = partners_names(partners, PARTNER_OUTBOUND);
    g_autofree char *ins = g_strjoinv(",", in);
    g_autofree char *outs = g_strjoinv(",", out);
    return g_strdup_printf("%" G_GINT64_FORMAT " %s %s", partners_serial(partners), ins, outs);
}

static gpointer
watch(gpointer data)
{
    Partners *partners = data;
    g_autofree char *before = standing(partners);
    g_autofree char *complaint = NULL;
    g_mutex_lock(&partners->lock);
    while (!partners->stopping) {
        gint64 until = g_get_monotonic_time() + (gint64)WATCH_MS * 1000;
        if (g_cond_wait_until(&partners->stop_bell, &partners->lock, until))
            continue;
        g_mutex_unlock(&partners->lock);
        g_autoptr(GError) error = NULL;
        if (!partners_reload(partners, &error) && g_strcmp0(complaint, error->message) != 0) {
            g_warning("the allow-list cannot be reloaded: %s", error->message);
            g_free(complaint);
            complaint = g_strdup(error->message);
        }
        g_autofree char *now = standing(partners);
        if (strcmp(before, now) != 0) {
            g_message("allow-list: serial %" G_GINT64_FORMAT " in force",
                      partners_serial(partners));
            g_free(before);
            before = g_steal_pointer(&now);
            if (partners->changed != NULL)
                partners->changed(partners->changed_data);
        }
        g_mutex_lock(&partners->lock);
    }
    g_mutex_unlock(&partners->lock);
    return NULL;
}

void
partners_watch(Partners *partners, PartnersChanged changed, gpointer data)
{
    partners->changed = changed;
    partners->changed_data = data;
    partners->watcher = g_thread_new("partners", watch, partners);
}
