-- Who is who: accounts, the officers who make them, signed statements, revocation lists, the audit log.
-- Statements carry the officers' signatures, states carry a MAC under a key outside the database
-- (identity/record_key.h): a row written by hand makes no account and re-instates nobody.

CREATE TABLE account (
    user_id text COLLATE "C" PRIMARY KEY,
    created_ms bigint NOT NULL
);

-- One signed statement that binds an account to a certificate.  States: identity/enrolment.h.
CREATE TABLE enrolment (
    user_id text COLLATE "C" NOT NULL REFERENCES account,
    digest bytea NOT NULL UNIQUE,     -- SHA-256 of the statement
    statement bytea NOT NULL,         -- canonical JSON, exactly as both officers signed it
    signature_first bytea NOT NULL,   -- CMS, DER
    signature_second bytea NOT NULL,
    certificate bytea NOT NULL,       -- SHA-256 of the person's certificate
    spki text COLLATE "C" NOT NULL,   -- SHA-256 of its key, hex
    person_ref text COLLATE "C" NOT NULL,
    issuer_key text COLLATE "C" NOT NULL,
    serial text COLLATE "C" NOT NULL,
    not_after_ms bigint NOT NULL,     -- of the certificate
    approved_ms bigint NOT NULL,
    state bigint NOT NULL,
    changed_ms bigint NOT NULL,
    mac bytea NOT NULL,               -- over digest, approved_ms, state, changed_ms
    PRIMARY KEY (user_id, digest)
);
-- One account, one certificate, one key, one person, while active (1) or suspended (2).
CREATE UNIQUE INDEX enrolment_one_by_user ON enrolment (user_id) WHERE state <= 2;
CREATE UNIQUE INDEX enrolment_one_by_certificate ON enrolment (certificate) WHERE state <= 2;
CREATE UNIQUE INDEX enrolment_one_by_spki ON enrolment (spki) WHERE state <= 2;
CREATE UNIQUE INDEX enrolment_one_by_person ON enrolment (person_ref) WHERE state <= 2;
CREATE INDEX enrolment_by_certificate ON enrolment (certificate);
CREATE INDEX enrolment_by_spki ON enrolment (spki);
CREATE INDEX enrolment_by_person ON enrolment (person_ref);
CREATE INDEX enrolment_by_issuer ON enrolment (issuer_key, serial);

-- Founders have no signatures: their MAC is made by `chancery found`, on the server.
CREATE TABLE officer (
    certificate text COLLATE "C" PRIMARY KEY, -- SHA-256, hex
    person_ref text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,           -- the certificate's subject, for people to read
    statement bytea NOT NULL,
    signature_first bytea NOT NULL,           -- empty for founders
    signature_second bytea NOT NULL,
    issuer_key text COLLATE "C" NOT NULL,
    serial text COLLATE "C" NOT NULL,
    approved_ms bigint NOT NULL,
    removed_ms bigint NOT NULL,               -- 0 while in office
    mac bytea NOT NULL                        -- over certificate, person_ref, statement, approved_ms, removed_ms
);
CREATE INDEX officer_by_person ON officer (person_ref);

-- Statements that wait for the second signature, and those done, so that none counts twice.
CREATE TABLE proposal (
    digest bytea PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    statement bytea NOT NULL,
    certificate bytea NOT NULL,       -- DER of the person's certificate; emptied once it is done
    proposer text COLLATE "C" NOT NULL, -- the first officer's certificate
    signature bytea NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    state bigint NOT NULL,            -- 1 open, 2 done
    done_ms bigint NOT NULL
);
CREATE INDEX proposal_open ON proposal (created_ms) WHERE state = 1;
CREATE INDEX proposal_by_expiry ON proposal (expires_ms);

-- The list in force of each issuer's key and distribution point; number never falls.
CREATE TABLE crl (
    issuer_key text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL, -- 40 hex digits
    this_update_ms bigint NOT NULL,
    next_update_ms bigint NOT NULL,
    imported_ms bigint NOT NULL,
    der bytea NOT NULL,
    PRIMARY KEY (issuer_key, scope)
);

-- The audit log: appended to, never changed.  The head's lock makes the order of numbers the order of commits.
CREATE TABLE audit_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
INSERT INTO audit_head (seq) VALUES (0);

CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    time_ms bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    decision text COLLATE "C" NOT NULL,
    rule text COLLATE "C" NOT NULL,
    refs text COLLATE "C" NOT NULL -- canonical JSON
);

-- The second belt: whoever asks, the owner of the table included.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever appended to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_only_grows;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_stays;

-- What the serving role may do, run by the owner after every migration (storage/serving_role.h): all tables, but the
-- audit log only to read and append, and no migration.
CREATE FUNCTION grant_serving_role(role_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), role_name);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), role_name);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit FROM %I', role_name);
    EXECUTE format('REVOKE INSERT, DELETE, TRUNCATE ON audit_head FROM %I', role_name);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON migration FROM %I', role_name);
END
$$;
REVOKE ALL ON FUNCTION grant_serving_role(text) FROM PUBLIC;
