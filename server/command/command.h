/* server/command/command.h: the program's commands: their tables, their options, their help.
 * One file a command in server/command/.  A command returns the exit status: 0 done, 1 failed, 2
 * called wrongly.  For server/main.c and server/command/. */
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

/* Runs the one of @commands (@count rows) that argv[1] names; --help and help print the table.  The
 * program's name (g_get_prgname) becomes "… NAME". */
int command_run(const Command *commands, guint count, int argc, char **argv);
/* Says on standard error how the running command is called; returns 2. */
int command_wrong_usage(void);
/* Says on standard error what went wrong; returns 1. */
int command_failed(const GError *error);

/* Reads the options of the running command; --help shows its row and @entries.  *argc and *argv
 * keep what was not an option.  FALSE after saying on standard error what is wrong. */
gboolean command_options(int *argc, char ***argv, const GOptionEntry *entries);

/* The same with `--config FILE` beside @entries (may be NULL), and that file (or
 * /etc/chancery/chancery.conf) loaded; NULL after saying what is wrong. */
Config *command_config(int *argc, char ***argv, const GOptionEntry *entries);
