/* Which device, one-time and cross-signing keys may be uploaded; signed by real Olm accounts. */
#include <olm/olm.h>
#include <sodium.h>
#include <string.h>

#include "identity/device_keys.h"
#include "identity/refusal.h"

#define ALICE "@alice:alpha.example"
#define DEVICE "ALICEPHONE"

typedef struct {
    void *memory;
    OlmAccount *account;
    char ed25519[64];
    char curve25519[64];
} Device;

static void
device_set_up(Device *device, gconstpointer data)
{
    device->memory = g_malloc(olm_account_size());
    device->account = olm_account(device->memory);
    gsize random_length = olm_create_account_random_length(device->account);
    g_autofree guint8 *random = g_malloc(random_length);
    randombytes_buf(random, random_length);
    olm_create_account(device->account, random, random_length);

    gsize length = olm_account_identity_keys_length(device->account);
    g_autofree char *text = g_malloc0(length + 1);
    olm_account_identity_keys(device->account, text, length);
    g_autoptr(cJSON) keys = json_parse(text, length, &json_limits_request, NULL);
    g_strlcpy(device->ed25519, json_get_string(keys, "ed25519"), sizeof device->ed25519);
    g_strlcpy(device->curve25519, json_get_string(keys, "curve25519"), sizeof device->curve25519);
}

static void
device_tear_down(Device *device, gconstpointer data)
{
    olm_clear_account(device->account);
    g_free(device->memory);
}

/* Sign @object as the device does, by libolm. */
static void
device_sign(Device *device, cJSON *object, const char *user_id, const char *key_id)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, "signatures");
    g_autoptr(GBytes) bytes = json_canonical(object, NULL);
    gsize length = 0;
    const void *data = g_bytes_get_data(bytes, &length);
    gsize signature_length = olm_account_signature_length(device->account);
    g_autofree char *signature = g_malloc0(signature_length + 1);
    olm_account_sign(device->account, data, length, signature, signature_length);
    cJSON *signatures = cJSON_AddObjectToObject(object, "signatures");
    cJSON_AddStringToObject(cJSON_AddObjectToObject(signatures, user_id), key_id, signature);
}

static cJSON *
device_keys_new(Device *device)
{
    cJSON *keys = cJSON_CreateObject();
    cJSON_AddStringToObject(keys, "user_id", ALICE);
    cJSON_AddStringToObject(keys, "device_id", DEVICE);
    const char *const algorithms[] = {"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"};
    cJSON_AddItemToObject(keys, "algorithms", cJSON_CreateStringArray(algorithms, 2));
    cJSON *map = cJSON_AddObjectToObject(keys, "keys");
    cJSON_AddStringToObject(map, "ed25519:" DEVICE, device->ed25519);
    cJSON_AddStringToObject(map, "curve25519:" DEVICE, device->curve25519);
    device_sign(device, keys, ALICE, "ed25519:" DEVICE);
    return keys;
}

static void
refused(gboolean accepted, GError **error, const char *errcode)
{
    g_assert_false(accepted);
    g_assert_error(*error, REFUSAL, 400);
    g_assert_true(g_str_has_prefix((*error)->message, errcode));
    g_clear_error(error);
}

static void
test_takes_what_an_olm_account_signed(Device *device, gconstpointer data)
{
    g_autoptr(cJSON) keys = device_keys_new(device);
    g_autoptr(GError) error = NULL;
    g_assert_true(device_keys_check(keys, ALICE, DEVICE, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(device_keys_ed25519(keys, DEVICE), ==, device->ed25519);
}

static void
test_refuses_another_user_or_device(Device *device, gconstpointer data)
{
    g_autoptr(cJSON) keys = device_keys_new(device);
    g_autoptr(GError) error = NULL;
    refused(device_keys_check(keys, "@bob:alpha.example", DEVICE, &error), &error,
            "M_INVALID_PARAM");
    refused(device_keys_check(keys, ALICE, "OTHER", &error), &error, "M_INVALID_PARAM");
}

static void
test_refuses_a_changed_or_missing_signature(Device *device, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) changed = device_keys_new(device);
    cJSON_AddStringToObject(changed, "extra", "added after signing");
    refused(device_keys_check(changed, ALICE, DEVICE, &error), &error, "M_INVALID_SIGNATURE");

    g_autoptr(cJSON) unsigned_keys = device_keys_new(device);
    cJSON_DeleteItemFromObjectCaseSensitive(unsigned_keys, "signatures");
    refused(device_keys_check(unsigned_keys, ALICE, DEVICE, &error), &error, "M_INVALID_SIGNATURE");
}

/* S and S + L verify alike where a library does not insist on the smaller: both must agree. */
static void
test_refuses_a_malleated_signature(Device *device, gconstpointer data)
{
    static const guint8 order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                     0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    g_autoptr(cJSON) keys = device_keys_new(device);
    cJSON *of_user = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(keys, "signatures"), ALICE);
    guint8 raw[crypto_sign_BYTES];
    gsize length = 0;
    const char *text = json_get_string(of_user, "ed25519:" DEVICE);
    g_assert_cmpint(sodium_base642bin(raw, sizeof raw, text, strlen(text), NULL, &length, NULL,
                                      sodium_base64_VARIANT_ORIGINAL_NO_PADDING),
                    ==, 0);
    sodium_add(raw + 32, order, 32);
    char malleated[128];
    sodium_bin2base64(malleated, sizeof malleated, raw, sizeof raw,
                      sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
    cJSON_ReplaceItemInObjectCaseSensitive(of_user, "ed25519:" DEVICE,
                                           cJSON_CreateString(malleated));
    g_autoptr(GError) error = NULL;
    refused(device_keys_check(keys, ALICE, DEVICE, &error), &error, "M_INVALID_SIGNATURE");
}

static void
test_refuses_keys_of_another_shape(Device *device, gconstpointer data)
{
    static const struct {
        const char *what;
        const char *json;
    } cases[] = {
        {"no algorithms", "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE "\"}"},
        {"algorithms of numbers",
         "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE "\",\"algorithms\":[1]}"},
        {"no keys", "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE "\",\"algorithms\":[]}"},
        {"a number as a key", "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE
                              "\",\"algorithms\":[],\"keys\":{\"ed25519:" DEVICE "\":7}}"},
        {"a short key", "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE
                        "\",\"algorithms\":[],\"keys\":{\"ed25519:" DEVICE "\":\"AAAA\"}}"},
        {"keys an array",
         "{\"user_id\":\"" ALICE "\",\"device_id\":\"" DEVICE "\",\"algorithms\":[],\"keys\":[]}"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(cJSON) keys =
            json_parse(cases[i].json, strlen(cases[i].json), &json_limits_request, NULL);
        g_autoptr(GError) error = NULL;
        g_test_message("%s", cases[i].what);
        refused(device_keys_check(keys, ALICE, DEVICE, &error), &error, "M_INVALID_PARAM");
    }
}

static void
test_one_time_keys_are_signed_by_their_device(Device *device, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(cJSON) key = cJSON_CreateObject();
    cJSON_AddStringToObject(key, "key", device->curve25519);
    device_sign(device, key, ALICE, "ed25519:" DEVICE);
    const char *name = "signed_curve25519:AAAAAQ";
    g_assert_true(device_keys_check_one_time(name, key, ALICE, DEVICE, device->ed25519, &error));
    g_assert_no_error(error);

    refused(device_keys_check_one_time(name, key, ALICE, DEVICE, NULL, &error), &error,
            "M_INVALID_SIGNATURE");
    refused(device_keys_check_one_time("no-colon", key, ALICE, DEVICE, device->ed25519, &error),
            &error, "M_INVALID_PARAM");
    cJSON_ReplaceItemInObjectCaseSensitive(key, "key", cJSON_CreateString(device->ed25519));
    refused(device_keys_check_one_time(name, key, ALICE, DEVICE, device->ed25519, &error), &error,
            "M_INVALID_SIGNATURE");
}

static cJSON *
cross_signing_key(const char *usage, const char *public_key)
{
    cJSON *key = cJSON_CreateObject();
    g_autofree char *key_id = g_strconcat("ed25519:", public_key, NULL);
    cJSON_AddStringToObject(key, "user_id", ALICE);
    cJSON_AddItemToObject(key, "usage", cJSON_CreateStringArray(&usage, 1));
    cJSON_AddStringToObject(cJSON_AddObjectToObject(key, "keys"), key_id, public_key);
    return key;
}

static void
test_cross_signing_keys_hang_on_the_master_key(Device *device, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    /* The device's own Ed25519 key stands for a master key: libolm can sign with it. */
    g_autoptr(cJSON) master = cross_signing_key("master", device->ed25519);
    g_assert_true(device_keys_check_cross_signing(master, ALICE, "master", NULL, &error));
    refused(device_keys_check_cross_signing(master, ALICE, "self_signing", NULL, &error), &error,
            "M_INVALID_PARAM");
    refused(device_keys_check_cross_signing(master, "@bob:alpha.example", "master", NULL, &error),
            &error, "M_INVALID_PARAM");

    g_autofree char *master_id = g_strconcat("ed25519:", device->ed25519, NULL);
    g_autoptr(cJSON) self_signing = cross_signing_key("self_signing", device->curve25519);
    refused(device_keys_check_cross_signing(self_signing, ALICE, "self_signing", device->ed25519,
                                            &error),
            &error, "M_INVALID_SIGNATURE");
    device_sign(device, self_signing, ALICE, master_id);
    g_assert_true(device_keys_check_cross_signing(self_signing, ALICE, "self_signing",
                                                  device->ed25519, &error));
    g_assert_no_error(error);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (sodium_init() < 0)
        return 1;
#define ADD(name, function)                                                                        \
    g_test_add("/identity/device_keys/" name, Device, NULL, device_set_up, function,               \
               device_tear_down)
    ADD("takes what an Olm account signed", test_takes_what_an_olm_account_signed);
    ADD("refuses another user or device", test_refuses_another_user_or_device);
    ADD("refuses a changed or missing signature", test_refuses_a_changed_or_missing_signature);
    ADD("refuses a malleated signature", test_refuses_a_malleated_signature);
    ADD("refuses keys of another shape", test_refuses_keys_of_another_shape);
    ADD("one-time keys are signed by their device", test_one_time_keys_are_signed_by_their_device);
    ADD("cross-signing keys hang on the master key",
        test_cross_signing_keys_hang_on_the_master_key);
    return g_test_run();
}
