-- Transcripts: what is owned, one row for each session; it does for the table `entry` what a journal does for a file.
CREATE TABLE {schema}.transcript (
    session_id text COLLATE "C" NOT NULL PRIMARY KEY,
    life bigint NOT NULL,       -- grows by one when it is deleted
    version bigint NOT NULL,    -- grows by one with each owned write
    entries bigint NOT NULL,    -- what is owned: as many, so many bytes as JSONL, with that digest
    bytes bigint NOT NULL,
    digest bytea NOT NULL,
    token bigint NOT NULL,      -- the highest that has written
    turn text NOT NULL,         -- that wrote last
    unended text NOT NULL,      -- the live turn that wrote last and has not ended, where turns can be rolled back
    adopted bigint NOT NULL,    -- names the adoption it goes back to
    rewritten bigint NOT NULL,  -- the version that was no append
    deleted bigint NOT NULL,    -- the version that took the transcript away
    present boolean NOT NULL,   -- false from then until it begins again
    request uuid NOT NULL       -- names the write that made it what it is
) WITH (fillfactor = 50);

CREATE TABLE {schema}.entry (
    session_id text COLLATE "C" NOT NULL,
    life bigint NOT NULL DEFAULT 1,
    seq bigint NOT NULL,        -- from 1
    line text NOT NULL,         -- one JSON object
    digest bytea,               -- chained over all lines up to this one
    turn text,                  -- that wrote it, where turns can be rolled back
    PRIMARY KEY (session_id, life, seq)
);

CREATE TABLE {schema}.tombstone (
    session_id text COLLATE "C" NOT NULL,
    life bigint NOT NULL,
    deleted_at double precision NOT NULL,  -- seconds since the epoch
    PRIMARY KEY (session_id, life)
);

CREATE TABLE {schema}.salvage (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id text COLLATE "C" NOT NULL,
    life bigint NOT NULL,
    at double precision NOT NULL,          -- seconds since the epoch
    reason text NOT NULL,
    turn text,
    token bigint,
    line text NOT NULL,                    -- as it would have been stored
    request uuid NOT NULL                  -- names the write that put it here
);
CREATE INDEX salvage_session ON {schema}.salvage (session_id, life);

-- Who has the write lock of a transcript, until when by the server's clock. A crash of the server may forget it: it only
-- saves work, and what is written is checked by its version.
CREATE UNLOGGED TABLE {schema}.transcript_lease (
    session_id text COLLATE "C" NOT NULL PRIMARY KEY,
    holder uuid NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);
