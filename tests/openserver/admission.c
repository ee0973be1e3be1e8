/* The admission of the program for public test suites: open registration and passwords.  Never
 * linked into chancery.  See identity/admission.h. */
#include "identity/admission.h"

#include <string.h>

#include "identity/json.h"
#include "identity/refusal.h"
#include "tests/openserver/accounts.h"

const char *const *
admission_login_types(void)
{
    static const char *const types[] = {"m.login.password", "m.login.token", NULL};
    return types;
}

CertificateProof *
admission_login(Certificates *certificates, StoreConnection *connection, const cJSON *body,
                GError **error)
{
    const cJSON *identifier = json_get_object(body, "identifier");
    const char *user = json_get_string(identifier, "user");
    if (g_strcmp0(json_get_string(body, "type"), "m.login.password") != 0) {
        refusal_set(error, 400, "M_UNKNOWN", "Unknown log-in type");
        return NULL;
    }
    if (user == NULL)
        user = json_get_string(body, "user"); /* the older form */
    return accounts_log_in(connection, user, json_get_string(body, "password"), error);
}

gboolean
admission_registration_is_open(void)
{
    return TRUE;
}

CertificateProof *
admission_register(Certificates *certificates, StoreConnection *connection, const cJSON *body,
                   GError **error)
{
    return accounts_register(connection, json_get_string(body, "username"),
                             json_get_string(body, "password"), error);
}

const char *
admission_interactive_stage(void)
{
    return "m.login.password";
}

gboolean
admission_interactive_check(StoreConnection *connection, const char *user_id, const cJSON *auth,
                            GError **error)
{
    g_autoptr(CertificateProof) proof =
        accounts_log_in(connection, user_id, json_get_string(auth, "password"), error);
    return proof != NULL;
}

gboolean
admission_still_holds(Certificates *certificates, StoreConnection *connection, const char *user_id,
                      GBytes *certificate_sha256, gint64 now_ms, GError **error)
{
    return TRUE;
}
