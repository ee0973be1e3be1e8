-- Device keys, one-time and fallback keys, cross-signing keys and the to-device inbox of local users.
-- What clients upload is kept as canonical bytes and given out as it came, unknown algorithms included.

CREATE TABLE device_key (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

-- Claimed in the order of upload, each at most once.
CREATE TABLE one_time_key (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    upload_order bigint NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm, key_id)
);
CREATE INDEX one_time_key_order ON one_time_key (user_id, device_id, algorithm, upload_order);

CREATE TABLE fallback_key (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    algorithm text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    used boolean NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm)
);

CREATE TABLE cross_signing_key (
    user_id text COLLATE "C" NOT NULL,
    usage text COLLATE "C" NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, usage)
);

-- Signatures uploaded after the key: target is a device id or a cross-signing public key of user_id.
CREATE TABLE key_signature (
    user_id text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    signer_user_id text COLLATE "C" NOT NULL,
    signer_key_id text COLLATE "C" NOT NULL,
    signature text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, target, signer_user_id, signer_key_id)
);

CREATE INDEX key_signature_by_signer ON key_signature (signer_user_id, user_id);

-- The log entry (kind to-device, ref = message_id) gives the position; the row goes when the device has it.
CREATE TABLE to_device (
    user_id text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    json bytea NOT NULL,
    PRIMARY KEY (user_id, message_id)
);
CREATE INDEX to_device_inbox ON to_device (user_id, device_id);
CREATE INDEX log_to_device ON log (user_id, ref) WHERE kind = 4;
