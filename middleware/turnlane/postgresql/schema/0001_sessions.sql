-- Session entries, one row for each session key.
CREATE TABLE {schema}.session (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    version bigint NOT NULL,
    fields json NOT NULL,
    created_at double precision NOT NULL,        -- these three in seconds since the epoch
    updated_at double precision NOT NULL,
    last_activity_at double precision NOT NULL,
    request uuid NOT NULL                        -- names the write that made it what it is; a touch is none
);

-- One row: the highest version an entry had when it was deleted, so that its key never repeats one.
CREATE TABLE {schema}.session_floor (floor bigint NOT NULL);
INSERT INTO {schema}.session_floor (floor) VALUES (0);
