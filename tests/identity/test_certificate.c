/* The chain check of people's certificates: every rule, bad beside good. */
#include <openssl/x509.h>
#include <string.h>

#include "identity/clock.h"
#include "identity/refusal.h"
#include "tests/support/pki.h"

#define HOUR_MS ((gint64)3600 * 1000)

static TestPki *pki;

/* The name of the rule that @chain fails, or "" when it passes. */
static const char *
rule_of_chain(Certificates *certificates, GPtrArray *chain, const CertificateQuery *query)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Certificate) certificate = NULL;
    const CertificateRule *rule = NULL;
    if (certificates_check(certificates, chain, query, &certificate, &rule, &error)) {
        g_assert_no_error(error);
        g_assert_cmpint(strlen(certificate_issuer_key(certificate)), ==, 64);
        return "";
    }
    g_assert_error(error, REFUSAL, 403);
    g_assert_nonnull(rule);
    g_assert_nonnull(strstr(error->message, rule->name));
    g_assert_nonnull(strstr(error->message, rule->field));
    g_assert_nonnull(strstr(error->message, rule->cure));
    return rule->name;
}

static const char *
rule_of(Certificates *certificates, const char *person, const CertificateQuery *query)
{
    g_autoptr(GPtrArray) chain = test_pki_chain(pki, person);
    return rule_of_chain(certificates, chain, query);
}

static Certificates *
fresh(gboolean strict_age)
{
    static RecordKey *key;
    if (key == NULL)
        key = record_key_new_for_tests();
    return test_pki_certificates(pki, key, strict_age);
}

/* One person of each kind is there for every case: a case leans on no other. */
static const struct {
    const char *kind;
    const char *rule;
} kinds[] = {
    {"good", ""},
    {"rsa", ""},
    {"wrong-policy", "explicit-policy"},
    {"second-policy", "explicit-policy"}, /* the CA may issue it, this server does not take it */
    {"no-policy", "explicit-policy"},
    {"no-eku", "extended-key-usage"},
    {"server-eku", "extended-key-usage"},
    {"non-repudiation", "key-usage"}, /* the card's certificate for signing documents */
    {"rsa1024", "key-strength"},
    {"sha1", "digest-strength"},
    {"expired", "expired"},
    {"future", "not-yet-valid"},
    {"foreign-country", "name-constraints"},
};

static void
test_every_kind(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        g_assert_cmpstr(rule_of(certificates, kinds[i].kind, &now), ==, kinds[i].rule);
}

static void
test_policy_asked_for(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery first = {.at_ms = clock_wall_ms(), .policy = "2.999.1.1"};
    CertificateQuery second = {.at_ms = clock_wall_ms(), .policy = "2.999.1.2"};
    g_assert_cmpstr(rule_of(certificates, "good", &first), ==, "");
    g_assert_cmpstr(rule_of(certificates, "good", &second), ==, "explicit-policy");
    g_assert_cmpstr(rule_of(certificates, "second-policy", &second), ==, "");
}

static void
test_issuer_not_on_the_statement(void)
{
    const char *const others[] = {
        "0000000000000000000000000000000000000000000000000000000000000000", NULL};
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery query = {.at_ms = clock_wall_ms(), .issuers = others};
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "issuer-listed");
    query.issuers = certificates_issuers(certificates);
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "");
}

/* A CA of the same name under the same root: same serial, subject and key in the leaf, even its
 * list in force. */
static void
test_twin_authority(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    g_autoptr(GError) error = NULL;
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    g_autoptr(GPtrArray) true_chain = test_pki_chain(pki, "good");
    g_autoptr(GPtrArray) twin_chain = test_pki_chain(pki, "good-twin");
    GBytes *true_der = g_ptr_array_index(true_chain, 0);
    GBytes *twin_der = g_ptr_array_index(twin_chain, 0);
    g_autoptr(Certificate) real =
        certificate_from_der(g_bytes_get_data(true_der, NULL), g_bytes_get_size(true_der), &error);
    g_autoptr(Certificate) twin =
        certificate_from_der(g_bytes_get_data(twin_der, NULL), g_bytes_get_size(twin_der), &error);
    g_assert_no_error(error);
    g_assert_cmpstr(certificate_subject(real), ==, certificate_subject(twin));
    g_assert_cmpstr(certificate_issuer(real), ==, certificate_issuer(twin));
    g_assert_cmpstr(certificate_serial(real), ==, certificate_serial(twin));
    g_assert_cmpstr(certificate_spki_sha256(real), ==, certificate_spki_sha256(twin));
    g_assert_cmpstr(certificate_sha256(real), !=, certificate_sha256(twin));
    g_assert_cmpstr(rule_of_chain(certificates, twin_chain, &now), ==, "issuer-listed");
    /* Without its CA in the chain there is no path at all. */
    g_ptr_array_set_size(twin_chain, 1);
    g_assert_cmpstr(rule_of_chain(certificates, twin_chain, &now), ==, "chain");
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "");
}

static void
test_foreign_root(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    test_pki_run(pki, "foreign", "good", NULL);
    g_assert_cmpstr(rule_of(certificates, "good-foreign", &now), ==, "chain");
}

static void
test_garbage(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    g_autoptr(GPtrArray) good = test_pki_chain(pki, "good");
    GBytes *der = g_ptr_array_index(good, 0);
    gsize length = g_bytes_get_size(der);
    const guint8 *bytes = g_bytes_get_data(der, NULL);

    g_assert_cmpstr(rule_of_chain(certificates, NULL, &now), ==, "parse");
    for (gsize cut = 0; cut < length; cut += 7) {
        g_autoptr(GPtrArray) chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        g_ptr_array_add(chain, g_bytes_new(bytes, cut));
        g_assert_cmpstr(rule_of_chain(certificates, chain, &now), ==, "parse");
    }
    g_autoptr(GByteArray) longer = g_byte_array_new();
    g_byte_array_append(longer, bytes, (guint)length);
    g_byte_array_append(longer, (const guint8 *)"x", 1);
    g_autoptr(GPtrArray) trailing = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_ptr_array_add(trailing, g_bytes_new(longer->data, longer->len));
    g_assert_cmpstr(rule_of_chain(certificates, trailing, &now), ==, "parse");

    /* Eight certificates are looked at, nine are not. */
    while (good->len < 8)
        g_ptr_array_add(good, g_bytes_ref(g_ptr_array_index(good, 1)));
    g_assert_cmpstr(rule_of_chain(certificates, good, &now), ==, "");
    g_ptr_array_add(good, g_bytes_ref(g_ptr_array_index(good, 1)));
    g_assert_cmpstr(rule_of_chain(certificates, good, &now), ==, "chain");

    /* A bit of the signature changed. */
    g_autoptr(GByteArray) changed = g_byte_array_new();
    g_byte_array_append(changed, bytes, (guint)length);
    changed->data[length - 1] ^= 1;
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_ptr_array_add(damaged, g_bytes_new(changed->data, changed->len));
    g_assert_cmpstr(rule_of_chain(certificates, damaged, &now), ==, "signature");
}

/* A CA's own certificate is nobody's card. */
static void
test_authority_as_person(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    g_autoptr(GPtrArray) good = test_pki_chain(pki, "good");
    g_ptr_array_remove_index(good, 0);
    g_assert_cmpstr(rule_of_chain(certificates, good, &now), !=, "");
}

static void
test_sixty_seconds_and_no_more(void)
{
    g_autoptr(Certificates) certificates = fresh(FALSE);
    g_autoptr(GError) error = NULL;
    test_pki_run(pki, "person", "brief", "--days", "1", NULL);
    g_autofree char *path = test_pki_path(pki, "people/brief.pem");
    g_autoptr(Certificate) brief = certificate_from_file(path, NULL, &error);
    g_assert_no_error(error);
    CertificateQuery query = {.at_ms = certificate_not_after_ms(brief) + 60 * 1000};
    g_assert_cmpstr(rule_of(certificates, "brief", &query), ==, "");
    query.at_ms += 1000;
    g_assert_cmpstr(rule_of(certificates, "brief", &query), ==, "expired");
    test_pki_run(pki, "person", "soon", "--kind", "future", NULL);
    g_autofree char *soon_path = test_pki_path(pki, "people/soon.pem");
    g_autoptr(Certificate) soon = certificate_from_file(soon_path, NULL, &error);
    query.at_ms = certificate_not_before_ms(soon) - 60 * 1000;
    g_assert_cmpstr(rule_of(certificates, "soon", &query), ==, "");
    query.at_ms -= 1000;
    g_assert_cmpstr(rule_of(certificates, "soon", &query), ==, "not-yet-valid");
}

/* ---- revocation lists ---- */

static GBytes *
issuing_list(gint64 number, gint64 this_update_ms, gint64 next_update_ms, const char *revokes)
{
    TestCrl wanted = {.authority = "issuing",
                      .number = number,
                      .this_update_ms = this_update_ms,
                      .next_update_ms = next_update_ms,
                      .revokes = revokes,
                      .revoked_ms = this_update_ms - 10 * 1000};
    return test_pki_crl(pki, &wanted);
}

static void
test_without_lists_nothing_passes(void)
{
    static const char *const policies[] = {TEST_POLICY, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *anchors = test_pki_path(pki, "root.pem");
    g_autofree char *issuers = test_pki_path(pki, "issuing.pem");
    g_autoptr(RecordKey) key = record_key_new_for_tests();
    CertificatesSettings settings = {.server_name = TEST_SERVER,
                                     .anchors_file = anchors,
                                     .issuers_file = issuers,
                                     .policies = policies};
    g_autoptr(Certificates) certificates = certificates_new(&settings, key, &error);
    g_assert_no_error(error);
    CertificateQuery now = {.at_ms = clock_wall_ms()};
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "crl-missing");
    /* That of the issuing CA alone is not enough: the CA itself might be revoked. */
    g_autoptr(GBytes) issuing = test_pki_file(pki, "crl/issuing.crl");
    test_pki_take_crl(certificates, issuing);
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "crl-missing");
    g_autoptr(GBytes) root = test_pki_file(pki, "crl/root.crl");
    test_pki_take_crl(certificates, root);
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "");
}

static void
test_revoked(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    gint64 now_ms = clock_wall_ms();
    CertificateQuery now = {.at_ms = now_ms};
    g_autoptr(GBytes) list = issuing_list(0x7000, now_ms, now_ms + 24 * HOUR_MS, "good");
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "");
    test_pki_take_crl(certificates, list);
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "revoked");
    g_assert_cmpstr(rule_of(certificates, "rsa", &now), ==, "");
    /* As of a time before the revocation it was good. */
    CertificateQuery past = {.at_ms = now_ms - 15 * 1000, .past = TRUE};
    g_assert_cmpstr(rule_of(certificates, "good", &past), ==, "");
    past.at_ms = now_ms - 5 * 1000;
    g_assert_cmpstr(rule_of(certificates, "good", &past), ==, "revoked");
}

static void
test_expired_list(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    gint64 now_ms = clock_wall_ms();
    g_autoptr(GBytes) list = issuing_list(0x7000, now_ms, now_ms + HOUR_MS, NULL);
    test_pki_take_crl(certificates, list);
    CertificateQuery query = {.at_ms = now_ms + HOUR_MS + 55 * 1000};
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "");
    query.at_ms = now_ms + HOUR_MS + 62 * 1000;
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "crl-expired");
}

static void
test_old_list(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    gint64 now_ms = clock_wall_ms() / 1000 * 1000;
    g_autoptr(GBytes) list = issuing_list(0x7000, now_ms, now_ms + 2400 * HOUR_MS, NULL);
    test_pki_take_crl(certificates, list);
    const char *issuer = certificates_issuers(certificates)[0];
    CertificateQuery query = {.at_ms = now_ms + 24 * HOUR_MS + 60 * 1000};
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "");
    query.at_ms += 1;
    g_assert_cmpstr(rule_of(certificates, "good", &query), ==, "crl-age");
    /* Live sessions go on for longer, but not for ever; the root's list is of no age. */
    g_assert_true(
        certificates_sessions_may_live(certificates, issuer, now_ms + 72 * HOUR_MS + 60 * 1000));
    g_assert_false(certificates_sessions_may_live(certificates, issuer,
                                                  now_ms + 72 * HOUR_MS + 60 * 1000 + 1));
}

static void
test_revoked_authority(void)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    gint64 now_ms = clock_wall_ms();
    CertificateQuery now = {.at_ms = now_ms};
    TestCrl wanted = {.authority = "root",
                      .number = 0x7000,
                      .this_update_ms = now_ms,
                      .next_update_ms = now_ms + 2400 * HOUR_MS,
                      .revokes = "issuing",
                      .revoked_ms = now_ms - HOUR_MS};
    g_autoptr(GBytes) list = test_pki_crl(pki, &wanted);
    const char *issuer = certificates_issuers(certificates)[0];
    g_assert_true(certificates_sessions_may_live(certificates, issuer, now_ms));
    test_pki_take_crl(certificates, list);
    g_assert_cmpstr(rule_of(certificates, "good", &now), ==, "revoked");
    g_assert_false(certificates_sessions_may_live(certificates, issuer, now_ms));
}

static void
test_list_refused(const TestCrl *wanted, const char *rule_name)
{
    g_autoptr(Certificates) certificates = fresh(TRUE);
    g_autoptr(GError) error = NULL;
    const CertificateRule *rule = NULL;
    g_autoptr(GBytes) list = test_pki_crl(pki, wanted);
    g_autoptr(Crl) crl = crl_judge(certificates, list, &rule, &error);
    g_assert_null(crl);
    g_assert_error(error, REFUSAL, 403);
    g_assert_cmpstr(rule->name, ==, rule_name);
}

static void
test_bad_lists(void)
{
    gint64 now_ms = clock_wall_ms();
    TestCrl good = {.authority = "issuing",
                    .number = 0x7000,
                    .this_update_ms = now_ms,
                    .next_update_ms = now_ms + HOUR_MS};
    TestCrl bad = good;
    bad.this_update_ms = now_ms + 3 * 60 * 1000;
    test_list_refused(&bad, "crl-not-yet-valid");
    bad = good;
    bad.this_update_ms = now_ms - 2 * HOUR_MS;
    bad.next_update_ms = now_ms - HOUR_MS;
    test_list_refused(&bad, "crl-expired");
    bad = good;
    bad.next_update_ms = 0;
    test_list_refused(&bad, "crl-expired");
    bad = good;
    bad.number = -1;
    test_list_refused(&bad, "crl-number");
    bad = good;
    bad.delta = TRUE;
    test_list_refused(&bad, "crl-parse");
    bad = good;
    bad.authority = "twin"; /* bears the issuing CA's name */
    test_list_refused(&bad, "crl-signature");
    bad.authority = "server-root";
    test_list_refused(&bad, "crl-issuer");
}

static void
test_rules_are_whole(void)
{
    guint count = 0;
    for (const CertificateRule *rule = certificate_rules; rule->name != NULL; rule++, count++) {
        g_assert_true(rule->field != NULL && rule->says != NULL && rule->cure != NULL);
        g_assert_true(certificate_rule(rule->name) == rule);
    }
    g_assert_cmpuint(count, >, 20);
}

static void
test_national_identifier(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RecordKey) key = record_key_new_for_tests();
    test_pki_run(pki, "person", "named", "--serial", "PNOAA-4711", NULL);
    g_autofree char *path = test_pki_path(pki, "people/named.pem");
    g_autoptr(Certificate) named = certificate_from_file(path, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(certificate_national_identifier(named), ==, "PNOAA-4711");
    /* What is kept tells nothing of it. */
    g_autofree char *reference = record_key_person_ref(key, "PNOAA-4711");
    g_autofree char *other = record_key_person_ref(key, "PNOAA-4712");
    g_assert_cmpint(strlen(reference), ==, 64);
    g_assert_null(strstr(reference, "4711"));
    g_assert_cmpstr(reference, !=, other);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pki = test_pki_new();
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        test_pki_run(pki, "person", kinds[i].kind, "--kind", kinds[i].kind, NULL);
    test_pki_run(pki, "twin", "good", NULL);
    g_test_add_func("/certificate/rules-are-whole", test_rules_are_whole);
    g_test_add_func("/certificate/every-kind", test_every_kind);
    g_test_add_func("/certificate/policy-asked-for", test_policy_asked_for);
    g_test_add_func("/certificate/issuer-not-on-the-statement", test_issuer_not_on_the_statement);
    g_test_add_func("/certificate/twin-authority", test_twin_authority);
    g_test_add_func("/certificate/foreign-root", test_foreign_root);
    g_test_add_func("/certificate/garbage", test_garbage);
    g_test_add_func("/certificate/authority-as-person", test_authority_as_person);
    g_test_add_func("/certificate/sixty-seconds-and-no-more", test_sixty_seconds_and_no_more);
    g_test_add_func("/certificate/national-identifier", test_national_identifier);
    g_test_add_func("/crl/without-lists-nothing-passes", test_without_lists_nothing_passes);
    g_test_add_func("/crl/revoked", test_revoked);
    g_test_add_func("/crl/expired-list", test_expired_list);
    g_test_add_func("/crl/old-list", test_old_list);
    g_test_add_func("/crl/revoked-authority", test_revoked_authority);
    g_test_add_func("/crl/bad-lists", test_bad_lists);
    int status = g_test_run();
    test_pki_free(pki);
    return status;
}
