#include "server/command/officer_desk.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "identity/cms.h"
#include "identity/statement.h"
#include "identity/unpadded_base64.h"

#define API "/_chancery/officer/v1"

static void G_GNUC_PRINTF(2, 3) set_error(GError **error, const char *sentence, ...)
{
    va_list values;
    va_start(values, sentence);
    g_autofree char *text = g_strdup_vprintf(sentence, values);
    va_end(values);
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, text);
}

/* ---- the command line ---- */

/* --help of an officer's command: its verbs stand above the options that they share. */
static gboolean
read_options(const OfficerVerb *verbs, int *argc, char ***argv, const GOptionEntry *entries,
             GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new("VERB …");
    g_autoptr(GString) summary =
        g_string_new("An identity officer's command, from any desk.\n\nVerbs:");

    for (const OfficerVerb *verb = verbs; verb->name != NULL; verb++)
        g_string_append_printf(summary, "\n  %s %s%s%s\n      %s", g_get_prgname(), verb->name,
                               verb->arguments[0] != '\0' ? " " : "", verb->arguments, verb->help);
    g_option_context_set_summary(context, summary->str);
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

static const OfficerVerb *
find_verb(const OfficerVerb *verbs, const char *name)
{
    for (const OfficerVerb *verb = verbs; verb->name != NULL; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}

static int
run_verb(const OfficerVerb *verbs, OfficerCall *call, const DeskOptions *options)
{
    g_autoptr(GError) error = NULL;
    const OfficerVerb *verb = call->count > 0 ? find_verb(verbs, call->words[0]) : NULL;
    if (verb == NULL && call->crl != NULL)
        verb = find_verb(verbs, "crl"); /* chancery revoke --crl FILE */
    if (verb == NULL || (call->count < verb->words + 1 && call->crl == NULL)) {
        g_printerr("%s: %s; %s --help\n", g_get_prgname(),
                   verb == NULL ? "say what to do" : "something is missing", g_get_prgname());
        return 2;
    }
    call->desk = desk_new(options, &error);
    gboolean done = call->desk != NULL && verb->run(call, &error);
    g_clear_pointer(&call->desk, desk_free);
    if (done)
        return 0;
    g_printerr("%s %s: %s\n", g_get_prgname(), verb->name, error->message);
    return 1;
}

int
officer_command(const OfficerVerb *verbs, int argc, char **argv)
{
    DeskOptions options = {NULL};
    OfficerCall call = {NULL};
    const GOptionEntry entries[] = {
        {"user", 0, 0, G_OPTION_ARG_STRING, &call.user_id, "The account", "@NAME:SERVER"},
        {"certificate", 0, 0, G_OPTION_ARG_FILENAME, &call.certificate,
         "The certificate of the person (PEM or DER)", "FILE"},
        {"person", 0, 0, G_OPTION_ARG_STRING, &call.person,
         "The national identifier that the certificate must name", "REF"},
        {"clearance", 0, 0, G_OPTION_ARG_STRING, &call.clearance, "The person's clearance",
         "LABEL"},
        {"ticket", 0, 0, G_OPTION_ARG_STRING, &call.ticket, "The paper that this rests on", "REF"},
        {"reason", 0, 0, G_OPTION_ARG_STRING, &call.reason, "Why, for the audit log", "TEXT"},
        {"crl", 0, 0, G_OPTION_ARG_FILENAME, &call.crl, "A revocation list (PEM or DER)", "FILE"},
        {"until", 0, 0, G_OPTION_ARG_STRING, &call.until,
         "The day on which the enrolment ends, before the certificate does", "YYYY-MM-DD"},
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &call.yes, "Sign without asking on the terminal", NULL},
        {NULL},
    };
    g_autoptr(GError) error = NULL;
    g_autofree GOptionEntry *all = desk_option_entries(&options, entries);
    int status = 2;

    if (!read_options(verbs, &argc, &argv, all, &error)) {
        g_printerr("%s: %s\n", g_get_prgname(), error->message);
    } else {
        call.words = argv + 1;
        call.count = (guint)(argc - 1);
        status = run_verb(verbs, &call, &options);
    }
    g_free(call.user_id);
    g_free(call.certificate);
    g_free(call.person);
    g_free(call.clearance);
    g_free(call.ticket);
    g_free(call.reason);
    g_free(call.crl);
    g_free(call.until);
    desk_options_clear(&options);
    return status;
}

/* ---- statements ---- */

static void
show(const Statement *statement)
{
    const struct {
        const char *name;
        const char *value;
    } rows[] = {
        {"kind", statement_kind_name(statement->kind)},
        {"server", statement->server_name},
        {"account", statement->user_id},
        {"device", statement->device_id},
        {"agency", statement->agency},
        {"clearance", statement->clearance},
        {"certificate", statement->cert_sha256},
        {"person", statement->person_ref},
        {"policy", statement->policy_oid},
        {"role", statement->role},
        {"ticket", statement->ticket},
        {"reason", statement->reason},
        {"digest", statement->digest_hex},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].value[0] != '\0')
            g_printerr("  %-12s %s\n", rows[i].name, rows[i].value);
}

/* A terminal is asked; a script that feeds no terminal has said so by running the command. */
static gboolean
confirmed(const OfficerCall *call, GError **error)
{
    char line[16];
    if (call->yes || !isatty(STDIN_FILENO))
        return TRUE;
    g_printerr("Sign this? [y/N] ");
    if (fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y'))
        return TRUE;
    set_error(error, "not signed");
    return FALSE;
}

/* What was shown and confirmed, signed with the officer's own card: CMS in base64. */
static char *
sign_shown(const OfficerCall *call, const Statement *statement, GError **error)
{
    g_autoptr(GBytes) cms = NULL;
    show(statement);
    if (confirmed(call, error))
        cms = cms_sign(desk_credential(call->desk), statement->bytes, error);
    return cms != NULL ? unpadded_base64_encode(g_bytes_get_data(cms, NULL), g_bytes_get_size(cms),
                                                BASE64_STANDARD)
                       : NULL;
}

static gboolean
member_agrees(const cJSON *request, const char *key, const char *said, GError **error)
{
    const char *asked = json_get_string(request, key);
    if (asked == NULL || strcmp(asked, said) == 0)
        return TRUE;
    set_error(error, "the server drafted another %s than was asked for: nothing is signed", key);
    return FALSE;
}

/* The draft comes from the server: an officer's card signs only what the officer asked for. */
static gboolean
draft_agrees(const OfficerCall *call, const char *kind, const cJSON *request,
             const Statement *statement, const Certificate *certificate, GError **error)
{
    if (strcmp(statement_kind_name(statement->kind), kind) != 0) {
        set_error(error, "the server drafted another kind of statement: nothing is signed");
        return FALSE;
    }
    if (certificate != NULL &&
        (strcmp(statement->cert_sha256, certificate_sha256(certificate)) != 0 ||
         strcmp(statement->spki_sha256, certificate_spki_sha256(certificate)) != 0 ||
         statement->not_after_ms > certificate_not_after_ms(certificate))) {
        set_error(error,
                  "the server drafted a statement about another certificate than %s: "
                  "nothing is signed",
                  call->certificate);
        return FALSE;
    }
    gint64 until_ms = 0;
    if (json_get_integer(request, "not_after", &until_ms) && statement->not_after_ms != until_ms) {
        set_error(error, "the server drafted another end than was asked for: nothing is signed");
        return FALSE;
    }
    return member_agrees(request, "user_id", statement->user_id, error) &&
           member_agrees(request, "clearance", statement->clearance, error) &&
           member_agrees(request, "ticket", statement->ticket, error) &&
           member_agrees(request, "reason", statement->reason, error) &&
           member_agrees(request, "device_id", statement->device_id, error) &&
           (certificate != NULL ||
            member_agrees(request, "cert_sha256", statement->cert_sha256, error));
}

static Statement *
statement_of(const char *text, GError **error)
{
    g_autoptr(GBytes) bytes = g_bytes_new(text, strlen(text));
    return statement_from_bytes(bytes, error);
}

static gboolean
print_outcome(cJSON *answer)
{
    const char *state = json_get_string(answer, "state");
    const char *id = json_get_string(answer, "proposal");
    g_print("%s %s\n", state != NULL ? state : "?", id != NULL ? id : "");
    return TRUE;
}

static gboolean
read_person(OfficerCall *call, cJSON *request, Certificate **ret_certificate, GError **error)
{
    if (call->certificate == NULL)
        return TRUE;
    *ret_certificate = certificate_from_file(call->certificate, NULL, error);
    if (*ret_certificate == NULL)
        return FALSE;
    GBytes *der = certificate_der(*ret_certificate);
    g_autofree char *text =
        unpadded_base64_encode(g_bytes_get_data(der, NULL), g_bytes_get_size(der), BASE64_STANDARD);
    cJSON_AddStringToObject(request, "certificate", text);
    return TRUE;
}

gboolean
officer_act(OfficerCall *call, const char *kind, const cJSON *asked, GError **error)
{
    g_autoptr(cJSON) request = asked != NULL ? cJSON_Duplicate(asked, TRUE) : cJSON_CreateObject();
    g_autoptr(Certificate) certificate = NULL;
    cJSON_AddStringToObject(request, "kind", kind);
    if (!read_person(call, request, &certificate, error))
        return FALSE;
    g_autoptr(cJSON) draft = desk_request(call->desk, "POST", API "/drafts", request, NULL, error);
    const char *text = draft != NULL ? json_require_string(draft, "statement", error) : NULL;
    g_autoptr(Statement) statement = text != NULL ? statement_of(text, error) : NULL;
    if (statement == NULL || !draft_agrees(call, kind, request, statement, certificate, error))
        return FALSE;
    g_autofree char *signature = sign_shown(call, statement, error);
    if (signature == NULL)
        return FALSE;
    g_autoptr(cJSON) proposal = cJSON_CreateObject();
    cJSON_AddStringToObject(proposal, "statement", text);
    cJSON_AddStringToObject(proposal, "signature", signature);
    const char *der = json_get_string(request, "certificate");
    if (der != NULL)
        cJSON_AddStringToObject(proposal, "certificate", der);
    g_autoptr(cJSON) answer =
        desk_request(call->desk, "POST", API "/proposals", proposal, NULL, error);
    return answer != NULL && print_outcome(answer);
}

/* ---- shared verbs ---- */

static const cJSON *
find_proposal(const cJSON *answer, const char *id, GError **error)
{
    const cJSON *found = NULL;
    const cJSON *proposal = NULL;
    gsize length = strlen(id);
    cJSON_ArrayForEach(proposal, json_get_array(answer, "proposals"))
    {
        const char *digest = json_get_string(proposal, "digest");
        if (digest == NULL || length < 8 || strncmp(digest, id, length) != 0)
            continue;
        if (found != NULL) {
            set_error(error, "several proposals begin with %s: give more of the ID", id);
            return NULL;
        }
        found = proposal;
    }
    if (found == NULL)
        set_error(error, "no open proposal %s (done, expired, or less than 8 digits given)", id);
    return found;
}

gboolean
officer_verb_approve(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) open = desk_request(call->desk, "GET", API "/proposals", NULL, NULL, error);
    const cJSON *proposal = open != NULL ? find_proposal(open, call->words[1], error) : NULL;
    const char *text = proposal != NULL ? json_require_string(proposal, "statement", error) : NULL;
    g_autoptr(Statement) statement = text != NULL ? statement_of(text, error) : NULL;
    if (statement == NULL)
        return FALSE;
    /* What is signed is what is shown: the ID is its digest, and this desk made it anew. */
    if (strncmp(statement->digest_hex, call->words[1], strlen(call->words[1])) != 0) {
        set_error(error, "the server shows another statement under this ID: nothing is signed");
        return FALSE;
    }
    g_autofree char *signature = sign_shown(call, statement, error);
    if (signature == NULL)
        return FALSE;
    g_autoptr(cJSON) body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "signature", signature);
    g_autofree char *path = g_strdup_printf(API "/proposals/%s/approval", statement->digest_hex);
    g_autoptr(cJSON) answer = desk_request(call->desk, "POST", path, body, NULL, error);
    return answer != NULL && print_outcome(answer);
}

gboolean
officer_verb_proposals(OfficerCall *call, GError **error)
{
    g_autoptr(cJSON) answer = desk_request(call->desk, "GET", API "/proposals", NULL, NULL, error);
    const cJSON *proposal = NULL;
    if (answer == NULL)
        return FALSE;
    cJSON_ArrayForEach(proposal, json_get_array(answer, "proposals"))
    {
        const char *text = json_get_string(proposal, "statement");
        g_autoptr(Statement) statement = text != NULL ? statement_of(text, NULL) : NULL;
        if (statement != NULL)
            g_print("%s %s %s\n", statement->digest_hex, statement_kind_name(statement->kind),
                    statement->user_id[0] != '\0' ? statement->user_id : statement->cert_sha256);
    }
    return TRUE;
}

gboolean
officer_verb_crl(OfficerCall *call, GError **error)
{
    const char *path = call->crl != NULL ? call->crl : call->count > 1 ? call->words[1] : NULL;
    g_autofree char *bytes = NULL;
    gsize length = 0;
    if (path == NULL) {
        set_error(error, "say which file");
        return FALSE;
    }
    if (!g_file_get_contents(path, &bytes, &length, error))
        return FALSE;
    g_autoptr(GBytes) list = g_bytes_new_take(g_steal_pointer(&bytes), length);
    g_autoptr(cJSON) answer =
        desk_request_bytes(call->desk, "POST", API "/crls", list, "application/pkix-crl", error);
    gint64 ended = 0;
    if (answer == NULL)
        return FALSE;
    (void)json_get_integer(answer, "ended", &ended);
    const char *state = json_get_string(answer, "state");
    const char *issuer = json_get_string(answer, "issuer");
    g_print("%s %s, %" G_GINT64_FORMAT " accounts ended\n", state != NULL ? state : "?",
            issuer != NULL ? issuer : "", ended);
    return TRUE;
}
