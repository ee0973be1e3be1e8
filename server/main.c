/* server/main.c: the program: one command table. */
#include <locale.h>
#include <signal.h>

#include "server/command/command.h"

static const Command commands[] = {
    {"serve", "[--config FILE]", "run the server", command_serve},
    {"migrate", "[--config FILE] [--owner CONNINFO]",
     "bring the database's tables up to this program", command_migrate},
    {"login", "--certificate-listener URL --p12 FILE (--output FILE | --print) [OPTION …]",
     "log in with a certificate from a terminal", command_login},
    {"partner", "describe | make | sign | import | show …",
     "the signed list of partners, from a server's description to the list in force",
     command_partner},
    {"found", "[--config FILE] --officer A.pem --officer B.pem",
     "name the first two identity officers, on the server, once", command_found},
    {"officer", "list | add | remove | proposals | approve | crl …",
     "identity officers, and what every officer does", command_officer},
    {"enrol", "propose | approve | proposals | list …", "bind accounts to certificates",
     command_enrol},
    {"revoke", "suspend | certificate | reinstate | approve | crl …",
     "suspend and reinstate accounts, end bindings, bring revocation lists", command_revoke},
    {"device", "list | remove …", "devices of an account", command_device},
    {"audit", "[--config FILE] [--after N] [--follow]", "print the audit log", command_audit},
    {"check-chain", "[--config FILE] CERTIFICATE",
     "say which rule a certificate fails, and the cure", command_check_chain},
    {"check-config", "[--config FILE | --document]",
     "read a configuration file and say what is wrong, or describe every setting",
     command_check_config},
};

int
main(int argc, char **argv)
{
    setlocale(LC_ALL, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    g_set_prgname("chancery");
    return command_run(commands, G_N_ELEMENTS(commands), argc, argv);
}
