-- Lanes: soft state, which a crash of the server empties. All times are microseconds since the epoch by the server's
-- clock. The row with the key E'\x01' says since when there is anything: where it is missing, everything was lost.
CREATE UNLOGGED TABLE {schema}.lane (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    last bigint NOT NULL DEFAULT 0,               -- the highest token that was granted; 0 for none
    ticket text COLLATE "C",                      -- that has it, and what belongs to it
    worker text COLLATE "C",
    since bigint NOT NULL DEFAULT 0,
    alive bigint NOT NULL DEFAULT 0,              -- until when its lease runs
    lease bigint NOT NULL DEFAULT 0,              -- how long each renewal makes it
    owed boolean NOT NULL DEFAULT false,          -- whether it is to take something back first
    asked boolean NOT NULL DEFAULT false,         -- to stop
    asked_by text COLLATE "C" NOT NULL DEFAULT '',
    grace double precision NOT NULL DEFAULT 0,    -- seconds
    rollback boolean NOT NULL DEFAULT false,      -- whether what it writes is to be taken back
    dropped bytea[] NOT NULL DEFAULT '{}',
    lends boolean NOT NULL DEFAULT false,         -- whether it was granted together with others
    owes boolean NOT NULL DEFAULT false,          -- whether the next one is to take something back first
    paused boolean NOT NULL DEFAULT false,
    used bigint NOT NULL DEFAULT 0                -- when it was granted last
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE {schema}.lane_place (
    key text COLLATE "C" NOT NULL,
    ticket text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    number bigint NOT NULL,                       -- its place in the line
    run bigint NOT NULL,                          -- of those that are granted together
    tag text COLLATE "C" NOT NULL,
    closes bigint NOT NULL,
    since bigint NOT NULL,
    alive bigint NOT NULL,
    lease bigint NOT NULL,
    payload bytea NOT NULL,
    dropped bytea[] NOT NULL,
    lent smallint NOT NULL,                       -- 1: part of the turn that has the lane; 2: and told so
    whom text COLLATE "C" NOT NULL,
    offered bigint NOT NULL,                      -- the token of the turn its message is there for; 0 for none
    PRIMARY KEY (key, ticket)
) WITH (fillfactor = 50);
CREATE INDEX lane_place_line ON {schema}.lane_place (key, number, ticket);

CREATE UNLOGGED TABLE {schema}.lane_fate (
    ticket text COLLATE "C" NOT NULL PRIMARY KEY,
    key text COLLATE "C" NOT NULL,
    how text NOT NULL,
    taker text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    at bigint NOT NULL
);

-- One row, which a crash keeps: no lower than any token of a lane that was forgotten.
CREATE TABLE {schema}.lane_floor (token bigint NOT NULL);
INSERT INTO {schema}.lane_floor (token) VALUES (0);
INSERT INTO {schema}.lane (key) VALUES (E'\x01');
