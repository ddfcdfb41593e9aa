-- Tokens go on growing where the lanes were lost and the clock of the server that has them now is behind, as that of a
-- standby may be: `reserved`, which is logged, is higher than any token that was granted, and after a loss tokens begin
-- there.
ALTER TABLE {schema}.lane_floor ADD COLUMN reserved bigint NOT NULL DEFAULT 0;
UPDATE {schema}.lane_floor
SET reserved = greatest(token, (SELECT max(last) FROM {schema}.lane), {schema}.lane_now_1()) + 60000000;

-- A row once tokens have begun there; a loss takes it with the lanes.
CREATE UNLOGGED TABLE {schema}.lane_floor_known (known boolean NOT NULL PRIMARY KEY);
INSERT INTO {schema}.lane_floor_known VALUES (true);

CREATE OR REPLACE FUNCTION {schema}.lane_given_1(
    p_lane {schema}.lane, p_ticket text, p_worker text, p_alive bigint, p_lease bigint, p_now bigint
) RETURNS {schema}.lane LANGUAGE plpgsql AS $$
DECLARE
    v_floor {schema}.lane_floor;
BEGIN
    IF p_lane.last = 0 AND NOT EXISTS (SELECT FROM {schema}.lane_floor_known) THEN
        UPDATE {schema}.lane_floor SET token = reserved WHERE token < reserved;
        INSERT INTO {schema}.lane_floor_known VALUES (true) ON CONFLICT DO NOTHING;
    END IF;
    SELECT * INTO v_floor FROM {schema}.lane_floor;
    p_lane.last := greatest(CASE WHEN p_lane.last = 0 THEN v_floor.token ELSE p_lane.last END + 1, p_now);
    IF p_lane.last >= v_floor.reserved - 30000000 THEN
        -- twice a minute; whoever else does it just now need not be waited for
        PERFORM FROM {schema}.lane_floor FOR UPDATE SKIP LOCKED;
        IF FOUND OR p_lane.last >= v_floor.reserved THEN
            UPDATE {schema}.lane_floor SET reserved = p_lane.last + 60000000 WHERE reserved < p_lane.last + 60000000;
        END IF;
    END IF;
    p_lane.ticket := p_ticket;
    p_lane.worker := p_worker;
    p_lane.since := p_now;
    p_lane.used := p_now;
    p_lane.alive := p_alive;
    p_lane.lease := p_lease;
    p_lane.owed := p_lane.owes;
    p_lane.owes := false;
    p_lane.asked := false;
    p_lane.asked_by := '';
    p_lane.grace := 0;
    p_lane.rollback := false;
    p_lane.dropped := '{}';
    p_lane.lends := false;
    RETURN p_lane;
END $$;
