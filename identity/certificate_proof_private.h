/* identity/certificate_proof_private.h: the inside of a proof.
 *
 * Who can write one can log anybody in.  identity/certificate_proof.c includes this, and the
 * admission file of the binary for public test suites; `make lint` refuses anybody else. */
#pragma once

#include "identity/certificate_proof.h"

struct CertificateProof {
    gint references; /* atomic */
    char *user_id;
    GBytes *certificate; /* SHA-256 */
    char *issuer_key;
    char *clearance;
    gint64 made_ms;
    gint64 not_after_ms;
};
