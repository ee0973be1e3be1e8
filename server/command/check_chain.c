/* chancery check-chain: which rule a certificate fails, and the cure.  Asks the configuration and
 * the lists of its folder, no database. */
#include "identity/clock.h"
#include "identity/refusal.h"
#include "server/command/command.h"
#include "server/identity_setup.h"

static void
print_facts(const Certificate *certificate)
{
    g_print("subject      %s\nissuer       %s\nserial       %s\nsha-256      %s\n",
            certificate_subject(certificate), certificate_issuer(certificate),
            certificate_serial(certificate), certificate_sha256(certificate));
}

static int
check(Certificates *certificates, const char *file)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = NULL;
    g_autoptr(Certificate) checked = NULL;
    const CertificateRule *rule = NULL;
    CertificateQuery query = {.at_ms = clock_wall_ms()};
    g_autoptr(Certificate) certificate = certificate_from_file(file, &chain, &error);

    if (certificate == NULL) {
        g_print("%s\n", error->message);
        return 1;
    }
    print_facts(certificate);
    if (!certificates_check(certificates, chain, &query, &checked, &rule, &error)) {
        g_print("rule         %s\nfield        %s\nfault        %s\ncure         %s\n", rule->name,
                rule->field, rule->says, rule->cure);
        const char *sentence = NULL;
        g_autofree char *errcode = refusal_errcode(error, &sentence);
        g_printerr("%s\n", sentence);
        return 1;
    }
    g_print("policy       %s\nissuer key   %s\nthe chain holds\n",
            certificates_policy_of(certificates, checked), certificate_issuer_key(checked));
    return 0;
}

int
command_check_chain(int argc, char **argv)
{
    g_autoptr(Config) config = command_config(&argc, &argv, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Certificates) certificates = NULL;

    if (config == NULL)
        return 2;
    if (argc != 2)
        return command_wrong_usage();
    certificates = certificates_from_config(config, NULL, &error); /* no row is looked at here */
    const char *lists = config_text(config, "identity", "crl_directory");
    if (certificates == NULL ||
        (lists != NULL && !crls_from_directory(certificates, lists, &error))) {
        g_printerr("%s: %s\n", g_get_prgname(),
                   error != NULL ? error->message : "the configuration names no trust anchors");
        return 2;
    }
    return check(certificates, argv[1]);
}
