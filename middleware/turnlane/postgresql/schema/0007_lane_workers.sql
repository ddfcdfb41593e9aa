-- What workers share beside the lanes.

-- The last word to all workers, one row which a crash keeps: whoever can not hear it finds it. Numbers only grow.
CREATE TABLE {schema}.lane_drain (number bigint NOT NULL, draining boolean NOT NULL);
INSERT INTO {schema}.lane_drain (number, draining) VALUES (0, false);

-- Tells all workers, and returns the number of that.
CREATE FUNCTION {schema}.lane_drain_1(p_channel text, p_draining boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
BEGIN
    UPDATE {schema}.lane_drain SET number = number + 1, draining = p_draining RETURNING number INTO v_number;
    PERFORM pg_notify(p_channel, json_build_array('Draining', v_number, p_draining)::text);
    RETURN v_number;
END $$;

-- One row: what only who may read this table knows, with which workers tell each other's turns from what is made up.
CREATE TABLE {schema}.lane_secret (secret bytea NOT NULL);
INSERT INTO {schema}.lane_secret (secret)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');
