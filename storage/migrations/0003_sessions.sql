-- Devices and log-in sessions.  Rows of session, token, login_token and uia carry a MAC under a key outside the
-- database (identity/token_key.h), so a row written by hand opens nothing.

CREATE TABLE device (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    display_name text COLLATE "C" NOT NULL, -- '' when none was given
    created_ms bigint NOT NULL,
    last_seen_ms bigint NOT NULL,
    -- the device's identity keys where a signed challenge named them ('' otherwise): an upload must match
    ed25519 text COLLATE "C" NOT NULL,
    curve25519 text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

-- One session a device: a new log-in on a device ends the one before.
CREATE TABLE session (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL UNIQUE, -- 16 random bytes
    kind bigint NOT NULL,                        -- identity/session.h, LoginKind
    client text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    certificate bytea NOT NULL, -- SHA-256
    proof_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    newest_generation bigint NOT NULL, -- of the pair handed out last
    used_generation bigint NOT NULL,   -- of the newest pair that was used: refresh tokens below it are stolen ones
    mac bytea NOT NULL,                -- over all the above
    PRIMARY KEY (user_id, device_id),
    FOREIGN KEY (user_id, device_id) REFERENCES device ON DELETE CASCADE
);
CREATE INDEX session_by_certificate ON session (certificate);

CREATE TABLE token (
    session_id text COLLATE "C" NOT NULL REFERENCES session (session_id) ON DELETE CASCADE,
    token_hash bytea NOT NULL, -- SHA-256
    kind bigint NOT NULL,      -- identity/token.h, TokenKind
    generation bigint NOT NULL,
    expires_ms bigint NOT NULL,
    mac bytea NOT NULL, -- over user, device, session, hash, kind, generation, expiry
    PRIMARY KEY (session_id, token_hash)
);

-- The loginToken between the certificate page and POST /login: 30 s, once, for one redirect address.
CREATE TABLE login_token (
    token_hash bytea NOT NULL PRIMARY KEY,
    redirect_url text COLLATE "C" NOT NULL,
    chain bytea NOT NULL, -- the certificates shown, DER one after the other, leaf first
    proof_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX login_token_by_expiry ON login_token (expires_ms);

-- User-interactive authentication: one fresh proof for one request of one session.
CREATE TABLE uia (
    uia_id text COLLATE "C" NOT NULL PRIMARY KEY, -- 16 random bytes
    user_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL REFERENCES session (session_id) ON DELETE CASCADE,
    what text COLLATE "C" NOT NULL, -- for the person who is asked to confirm
    request_hash bytea NOT NULL,  -- method, path and body: the proof is good for this alone
    completed_ms bigint NOT NULL, -- 0 until the proof came
    expires_ms bigint NOT NULL,
    mac bytea NOT NULL
);
CREATE INDEX uia_by_expiry ON uia (expires_ms);
CREATE INDEX uia_by_session ON uia (session_id);
