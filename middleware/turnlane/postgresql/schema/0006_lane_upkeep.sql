-- What keeps tickets alive, and takes out what is not.

-- Renews tickets. Of each: its place in the arguments, and a note, if there is one, with `p_offers` also of what is told
-- no second time: offers, and that somebody shares the turn that has the lane; the row with place 0 says in how many
-- microseconds the first lease of somebody ends whom one of them waits for.
CREATE FUNCTION {schema}.lane_renew_1(
    p_worker text, p_lease bigint, p_keys text[], p_tickets text[], p_tokens bigint[], p_offers boolean
) RETURNS TABLE (place bigint, note json) LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane;
    v_lane {schema}.lane;
    v_now bigint;
    v_mine record;
    v_fate {schema}.lane_fate;
    v_other {schema}.lane_place;
    v_waits boolean;
    v_look bigint;
BEGIN
    FOR v_mine IN
        SELECT * FROM unnest(p_keys, p_tickets, p_tokens) WITH ORDINALITY AS each (key, ticket, token, place)
        ORDER BY each.key COLLATE "C", each.place -- all who lock several lanes do it in this order
    LOOP
        v_before := {schema}.lane_locked_1(v_mine.key);
        v_now := {schema}.lane_now_1();
        v_lane := v_before;
        IF v_lane.ticket = v_mine.ticket THEN
            v_lane.alive := v_now + p_lease;
            v_lane.lease := p_lease;
        ELSIF v_lane.ticket IS NULL
            AND v_mine.token > (CASE v_lane.last WHEN 0 THEN (SELECT token FROM {schema}.lane_floor) ELSE v_lane.last END)
        THEN -- it was lost, and nobody had it since
            v_lane.last := v_mine.token; -- it is no new token: those begin higher after a loss, these do not
            v_lane := {schema}.lane_given_1(v_lane, v_mine.ticket, p_worker, v_now + p_lease, p_lease, v_now);
            v_lane.last := v_mine.token;
            v_lane.owes := v_lane.owed;
            v_lane.owed := false;
        END IF;
        UPDATE {schema}.lane_place SET alive = v_now + p_lease, lease = p_lease
        WHERE key = v_mine.key AND ticket = v_mine.ticket
        RETURNING * INTO v_other;
        v_waits := FOUND;
        v_lane := {schema}.lane_promoted_1({schema}.lane_buried_1(v_lane, v_now), v_now, v_frozen);
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        place := v_mine.place;
        IF v_lane.ticket = v_mine.ticket THEN
            note := {schema}.lane_granted_1(v_lane);
            RETURN NEXT;
            IF v_lane.asked THEN
                note := json_build_array(
                    'Interrupted', v_mine.key, v_mine.ticket, v_lane.asked_by, v_lane.grace, v_lane.rollback);
                RETURN NEXT;
            END IF;
            IF p_offers THEN
                FOR v_other IN
                    UPDATE {schema}.lane_place SET offered = 0
                    WHERE key = v_mine.key AND offered = v_lane.last AND lent = 0 RETURNING *
                LOOP
                    note := json_build_array(
                        'Offered', v_mine.key, v_mine.ticket, v_other.ticket, v_other.whom,
                        {schema}.lane_text_1(v_other.payload));
                    RETURN NEXT;
                END LOOP;
            END IF;
            CONTINUE;
        END IF;
        IF v_waits THEN
            IF p_offers AND v_other.lent = 2 AND v_lane.ticket IS NOT NULL THEN
                note := json_build_array('Over', v_mine.key, v_mine.ticket, 'shared', v_lane.ticket, '');
                RETURN NEXT;
            END IF;
            v_look := least(v_look, CASE WHEN v_lane.ticket IS NOT NULL THEN v_lane.alive - v_now
                WHEN v_frozen > v_now THEN v_frozen - v_now END);
            CONTINUE;
        END IF;
        SELECT * INTO v_fate FROM {schema}.lane_fate WHERE lane_fate.ticket = v_mine.ticket;
        IF FOUND THEN
            note := json_build_array(
                'Over', v_fate.key, v_mine.ticket, v_fate.how, v_fate.taker, {schema}.lane_text_1(v_fate.payload));
        ELSE
            note := json_build_array('Lost', v_mine.key, v_mine.ticket);
        END IF;
        RETURN NEXT;
    END LOOP;
    place := 0;
    note := to_json(v_look);
    RETURN NEXT;
END $$;

-- Takes a worker out; what it had is granted to who is next.
CREATE FUNCTION {schema}.lane_close_1(p_worker text, p_lease bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane;
    v_lane {schema}.lane;
    v_now bigint;
    v_key text;
BEGIN
    FOR v_key IN
        SELECT key FROM {schema}.lane WHERE worker = p_worker
        UNION SELECT key FROM {schema}.lane_place WHERE worker = p_worker ORDER BY key
    LOOP
        v_before := {schema}.lane_locked_1(v_key);
        v_now := {schema}.lane_now_1();
        v_lane := v_before;
        DELETE FROM {schema}.lane_place WHERE key = v_key AND worker = p_worker AND lent = 0;
        UPDATE {schema}.lane_place SET alive = 0 WHERE key = v_key AND worker = p_worker;
        IF v_lane.worker = p_worker THEN
            v_lane.alive := 0;
        END IF;
        v_lane := {schema}.lane_promoted_1({schema}.lane_buried_1(v_lane, v_now), v_now, v_frozen);
        PERFORM {schema}.lane_put_1(v_before, v_lane);
    END LOOP;
END $$;

-- Forgets lanes that were idle for so long, some at a time, and fates that nobody will ask for.
CREATE FUNCTION {schema}.lane_sweep_1(p_lease bigint, p_idle bigint, p_fates bigint, p_most int) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane;
    v_lane {schema}.lane;
    v_now bigint := {schema}.lane_now_1();
    v_highest bigint := 0;
    v_count int := 0;
BEGIN
    DELETE FROM {schema}.lane_fate WHERE ticket IN (
        SELECT ticket FROM {schema}.lane_fate WHERE at < v_now - p_fates FOR UPDATE SKIP LOCKED);
    FOR v_before IN
        SELECT * FROM {schema}.lane
        WHERE used < v_now - p_idle AND key <> E'\x01' AND NOT paused AND NOT owes AND (ticket IS NULL OR alive <= v_now)
        LIMIT p_most FOR UPDATE SKIP LOCKED
    LOOP
        v_lane := {schema}.lane_promoted_1({schema}.lane_buried_1(v_before, v_now), v_now, v_frozen);
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        IF v_lane.ticket IS NULL AND NOT v_lane.owes
            AND NOT EXISTS (SELECT FROM {schema}.lane_place WHERE key = v_lane.key)
        THEN
            DELETE FROM {schema}.lane WHERE key = v_lane.key;
            v_highest := greatest(v_highest, v_lane.last);
            v_count := v_count + 1;
        END IF;
    END LOOP;
    IF v_highest > 0 THEN
        UPDATE {schema}.lane_floor SET token = v_highest WHERE token < v_highest;
    END IF;
    RETURN v_count;
END $$;

-- The lanes that live now: key, ticket and age of who has it, tickets and ages of who waits, whether it is paused.
CREATE FUNCTION {schema}.lane_look_1(p_key text) RETURNS TABLE (lane json) LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := {schema}.lane_now_1();
BEGIN
    RETURN QUERY
    SELECT json_build_array(
        l.key, held.ticket, (v_now - l.since) / 1e6,
        (SELECT coalesce(json_agg(json_build_array(p.ticket, (v_now - p.since) / 1e6) ORDER BY p.number, p.ticket), '[]')
         FROM {schema}.lane_place p WHERE p.key = l.key AND p.alive > v_now),
        l.paused)
    FROM {schema}.lane l
    CROSS JOIN LATERAL (SELECT CASE WHEN l.alive > v_now THEN l.ticket END) AS held (ticket)
    WHERE l.key <> E'\x01' AND (p_key IS NULL OR l.key = p_key)
        AND (held.ticket IS NOT NULL OR l.owes OR l.paused
             OR EXISTS (SELECT FROM {schema}.lane_place p WHERE p.key = l.key AND p.alive > v_now))
    ORDER BY l.key;
END $$;
