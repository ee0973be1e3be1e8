/* identity/audit.h: every decision leaves a line.
 *
 * Table audit is append-only: the serving role may insert and read, a trigger refuses change and
 * removal to everybody.  A line is written in the transaction of the act that it tells of; sequence
 * numbers are given under the lock of one head row, so their order is the order of commits and no
 * number is missing.  Never in a line: content, tokens, nonces, PINs, national identifiers.
 *
 * For identity/, federation/ and server/.
 * Lock order: the audit head before every other table of identity/ (audit_line() first, then the
 * rest). */
#pragma once

#include <cjson/cJSON.h>

#include "storage/lane.h"
#include "storage/writes.h"

/* What happened; all strings are copied by the calls below.  NULL reads as "". */
typedef struct {
    const char *type;     /* "login", "enrolment", "suspension", "crl", "partner_refused" … */
    const char *actor;    /* certificate SHA-256 of an officer, a user id, a partner, "server" */
    const char *subject;  /* whom it concerns: a user id, a certificate SHA-256, a partner */
    const char *object;   /* what was acted on: a device id, a statement's digest, a room … */
    const char *decision; /* "done", "accepted", "refused" */
    const char *rule;     /* the rule that decided, when refused */
    const cJSON *refs;    /* further facts, an object; NULL reads as {} */
} AuditLine;

/* Add the line to an act. */
void audit_line(StoreWrites *writes, const AuditLine *line);
void audit_line_to_batch(LaneBatch *batch, const AuditLine *line);

/* ---- lines that are an act of their own ---- */
typedef struct Audit Audit;

/* Borrows @lane.  At most @refusals_max refusals of one (type, rule) a minute get lines of their
 * own; the others are counted in one line when their minute is over. */
Audit *audit_new(Lane *lane, guint refusals_max);
void audit_free(Audit *audit); /* writes the counts still open; before lane_stop() */

/* A refused log-in, a refused partner: aggregated above the rate, or strangers fill the log. */
void audit_refusal(Audit *audit, const AuditLine *line);
/* Writes counts whose minute is over; called by whoever keeps time, at least every 10 s. */
void audit_tick(Audit *audit);

/* ---- reading ---- */
/* Lines after @after, oldest first, at most @lines_max (rows of storage/audit_store.h). */
typedef gboolean (*AuditReader)(gint64 seq, gint64 time_ms, const AuditLine *line, const char *refs,
                                gpointer data);
gboolean audit_read(StoreConnection *connection, gint64 after, guint lines_max, AuditReader reader,
                    gpointer data, gint64 *ret_last, GError **error);
