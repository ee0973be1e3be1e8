/* The admission of the shipped program: certificates alone.  See identity/admission.h. */
#include "identity/admission.h"

#include "identity/refusal.h"

const char *const *
admission_login_types(void)
{
    static const char *const types[] = {"m.login.sso", "m.login.token", NULL};
    return types;
}

static void
refuse(GError **error)
{
    refusal_set(error, 403, "M_FORBIDDEN",
                "This server knows people by their national certificate: log in by m.login.sso in "
                "a browser, or with `chancery login`.");
}

CertificateProof *
admission_login(Certificates *certificates, StoreConnection *connection, const cJSON *body,
                GError **error)
{
    refuse(error);
    return NULL;
}

gboolean
admission_registration_is_open(void)
{
    return FALSE;
}

CertificateProof *
admission_register(Certificates *certificates, StoreConnection *connection, const cJSON *body,
                   GError **error)
{
    refusal_set(error, 403, "M_FORBIDDEN",
                "Accounts are made by two identity officers, not by registration.");
    return NULL;
}

const char *
admission_interactive_stage(void)
{
    return NULL;
}

gboolean
admission_interactive_check(StoreConnection *connection, const char *user_id, const cJSON *auth,
                            GError **error)
{
    refuse(error);
    return FALSE;
}

gboolean
admission_still_holds(Certificates *certificates, StoreConnection *connection, const char *user_id,
                      GBytes *certificate_sha256, gint64 now_ms, GError **error)
{
    return certificate_binding_holds(certificates, connection, user_id, certificate_sha256, now_ms,
                                     error);
}
