/* server/command/command.h: a row of the program's command table (server/main.c).
 * One file a command in server/command/.  A command returns the exit status: 0 done, 1 failed, 2
 * called wrongly. */
#pragma once

#include <glib.h>

#include "server/config.h"

typedef struct {
    const char *name;
    const char *arguments;             /* as --help shows them */
    const char *help;                  /* one line */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} Command;

int command_audit(int argc, char **argv);
int command_check_chain(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_device(int argc, char **argv);
int command_enrol(int argc, char **argv);
int command_found(int argc, char **argv);
int command_login(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_officer(int argc, char **argv);
int command_partner(int argc, char **argv);
int command_revoke(int argc, char **argv);
int command_serve(int argc, char **argv);

/* The file of `--config FILE` (or /etc/chancery/chancery.conf) loaded; NULL after saying on
 * standard error what is wrong. @entries: further options, may be NULL; *argc and *argv keep what
 * was not an option. */
Config *command_config(int *argc, char ***argv, const GOptionEntry *entries);
