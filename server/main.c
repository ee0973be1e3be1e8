/* server/main.c: the program: one command table. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "server/command/command.h"

static const Command commands[] = {
    {"serve", "[--config FILE]", "run the server", command_serve},
    {"migrate", "[--config FILE]", "bring the database's tables up to this program",
     command_migrate},
    {"login", "--certificate-listener URL --p12 FILE (--output FILE | --print)",
     "log in with a certificate from a terminal", command_login},
    {"partner", "describe | make | sign | import | show …",
     "the signed list of partners, from a server's description to the list in force",
     command_partner},
    {"found", "[--config FILE] --officer A.pem --officer B.pem",
     "name the first two identity officers, on the server, once", command_found},
    {"officer", "VERB …", "identity officers: list, add, remove, approve", command_officer},
    {"enrol", "VERB …", "bind accounts to certificates: propose, approve, list", command_enrol},
    {"revoke", "VERB …", "suspend, reinstate, end bindings, bring revocation lists",
     command_revoke},
    {"device", "VERB …", "devices of an account: list, remove", command_device},
    {"audit", "[--config FILE] [--after N] [--follow]", "print the audit log", command_audit},
    {"check-chain", "[--config FILE] CERTIFICATE",
     "say which rule a certificate fails, and the cure", command_check_chain},
    {"check-config", "[--config FILE | --document]",
     "read a configuration file and say what is wrong, or describe every setting",
     command_check_config},
};

static void
print_help(void)
{
    g_print("chancery: a Matrix homeserver for governments\n\nusage: chancery COMMAND [ARGUMENT "
            "…]\n\n");
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        g_print("  %s %s\n      %s\n", commands[i].name, commands[i].arguments, commands[i].help);
}

int
main(int argc, char **argv)
{
    setlocale(LC_ALL, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        print_help();
        return 0;
    }
    for (guint i = 0; argc >= 2 && i < G_N_ELEMENTS(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argc >= 2)
        g_printerr("chancery: there is no command \"%s\"; chancery --help lists them\n", argv[1]);
    else
        print_help();
    return 2;
}
