-- What a local user shows to others.
CREATE TABLE profile (
    user_id text COLLATE "C" NOT NULL PRIMARY KEY,
    displayname text COLLATE "C",
    avatar_url text COLLATE "C"
);
