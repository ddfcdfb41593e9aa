-- What the steps of a lane are made of. A lane is locked, changed as a value, and put back at the end.
CREATE FUNCTION {schema}.lane_now_1() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

-- Until when nobody is granted anything, because all was lost and whoever had a lane may say so: for one lease, also if
-- the clock is set back. Asked before any lane is locked: two that find the row missing wait for one another here.
CREATE FUNCTION {schema}.lane_frozen_1(p_lease bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := {schema}.lane_now_1();
    v_until bigint;
BEGIN
    SELECT alive INTO v_until FROM {schema}.lane WHERE key = E'\x01';
    IF NOT FOUND THEN
        INSERT INTO {schema}.lane (key, alive) VALUES (E'\x01', v_now + p_lease) ON CONFLICT DO NOTHING;
        SELECT alive INTO v_until FROM {schema}.lane WHERE key = E'\x01';
    END IF;
    IF v_until > v_now + p_lease THEN
        v_until := v_now + p_lease;
        UPDATE {schema}.lane SET alive = v_until WHERE key = E'\x01' AND alive > v_until;
    END IF;
    RETURN v_until;
END $$;

CREATE FUNCTION {schema}.lane_locked_1(p_key text) RETURNS {schema}.lane LANGUAGE plpgsql AS $$
DECLARE
    v_lane {schema}.lane;
BEGIN
    LOOP
        SELECT * INTO v_lane FROM {schema}.lane WHERE key = p_key FOR UPDATE;
        IF FOUND THEN
            RETURN v_lane;
        END IF;
        INSERT INTO {schema}.lane (key) VALUES (p_key) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

CREATE FUNCTION {schema}.lane_put_1(p_before {schema}.lane, p_lane {schema}.lane) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_lane IS DISTINCT FROM p_before THEN
        UPDATE {schema}.lane SET
            (last, ticket, worker, since, alive, lease, owed, asked, asked_by, grace, rollback, dropped, lends, owes,
             paused, used) =
            (p_lane.last, p_lane.ticket, p_lane.worker, p_lane.since, p_lane.alive, p_lane.lease, p_lane.owed,
             p_lane.asked, p_lane.asked_by, p_lane.grace, p_lane.rollback, p_lane.dropped, p_lane.lends, p_lane.owes,
             p_lane.paused, p_lane.used)
        WHERE key = p_lane.key;
    END IF;
END $$;

CREATE FUNCTION {schema}.lane_text_1(p_message bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT translate(encode(p_message, 'base64'), E'\n', '')
$$;

-- Tells a worker something about one of its tickets; of what is too long, that it is to look for it.
CREATE FUNCTION {schema}.lane_tell_1(p_worker text, p_key text, p_ticket text, p_note json) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(
        'turnlane_' || p_worker,
        CASE WHEN octet_length(p_note::text) < 8000 THEN p_note::text
        ELSE json_build_array('Look', p_key, p_ticket)::text END
    );
END $$;

CREATE FUNCTION {schema}.lane_granted_1(p_lane {schema}.lane) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    v_carried json := '[]';
    v_dropped json := '[]';
BEGIN
    IF p_lane.lends THEN
        SELECT coalesce(json_agg(json_build_array(ticket, {schema}.lane_text_1(payload)) ORDER BY number, ticket), '[]')
        INTO v_carried FROM {schema}.lane_place WHERE key = p_lane.key AND lent > 0;
    END IF;
    IF p_lane.dropped <> '{}' THEN
        SELECT json_agg({schema}.lane_text_1(message) ORDER BY place) INTO v_dropped
        FROM unnest(p_lane.dropped) WITH ORDINALITY AS each (message, place);
    END IF;
    RETURN json_build_array('Granted', p_lane.key, p_lane.ticket, p_lane.last, p_lane.owed, v_carried, v_dropped);
END $$;

CREATE FUNCTION {schema}.lane_ahead_1(p_key text, p_run bigint) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT count(DISTINCT run)::int FROM {schema}.lane_place
    WHERE key = p_key AND lent = 0 AND (p_run IS NULL OR run < p_run)
$$;

CREATE FUNCTION {schema}.lane_queued_1(
    p_lane {schema}.lane, p_ahead int, p_number bigint, p_now bigint, p_frozen bigint
) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_array(
        'Queued', p_ahead, p_number,
        CASE WHEN p_lane.ticket IS NOT NULL THEN greatest(p_lane.alive - p_now, 0) / 1e6 + 0.005
        WHEN p_frozen > p_now THEN (p_frozen - p_now) / 1e6 + 0.005
        WHEN NOT p_lane.paused THEN 0.005 END
    )
$$;

-- Ends the wait of a ticket; what becomes of it is kept, and told.
CREATE FUNCTION {schema}.lane_over_1(
    p_place {schema}.lane_place, p_how text, p_taker text, p_payload bytea, p_now bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM {schema}.lane_place WHERE key = p_place.key AND ticket = p_place.ticket;
    INSERT INTO {schema}.lane_fate (ticket, key, how, taker, payload, at)
    VALUES (p_place.ticket, p_place.key, p_how, p_taker, p_payload, p_now)
    ON CONFLICT (ticket) DO UPDATE
    SET (key, how, taker, payload, at) = (excluded.key, excluded.how, excluded.taker, excluded.payload, excluded.at);
    PERFORM {schema}.lane_tell_1(p_place.worker, p_place.key, p_place.ticket, json_build_array(
        'Over', p_place.key, p_place.ticket, p_how, p_taker, {schema}.lane_text_1(p_payload)));
END $$;

-- The lane without who has it; those who were part of its turn stand where they stood.
CREATE FUNCTION {schema}.lane_ended_1(p_lane {schema}.lane, p_owes boolean, p_scatter boolean) RETURNS {schema}.lane
LANGUAGE plpgsql AS $$
BEGIN
    IF p_lane.lends THEN
        UPDATE {schema}.lane_place SET
            lent = 0,
            tag = CASE WHEN p_scatter THEN '' ELSE tag END,
            run = CASE WHEN p_scatter THEN number ELSE run END
        WHERE key = p_lane.key AND lent > 0;
    END IF;
    p_lane.owes := p_owes OR p_lane.rollback OR p_lane.owes;
    p_lane.ticket := NULL;
    p_lane.worker := NULL;
    p_lane.asked := false;
    p_lane.rollback := false;
    p_lane.dropped := '{}';
    p_lane.lends := false;
    RETURN p_lane;
END $$;

-- The lane without who has it, if that is dead. A lease that ends later than a renewal now would is one of before the
-- clock was set back.
CREATE FUNCTION {schema}.lane_buried_1(p_lane {schema}.lane, p_now bigint) RETURNS {schema}.lane
LANGUAGE plpgsql AS $$
BEGIN
    IF p_lane.ticket IS NULL THEN
        RETURN p_lane;
    END IF;
    p_lane.alive := least(p_lane.alive, p_now + p_lane.lease);
    RETURN CASE WHEN p_lane.alive > p_now THEN p_lane ELSE {schema}.lane_ended_1(p_lane, p_lane.owed, false) END;
END $$;

CREATE FUNCTION {schema}.lane_given_1(
    p_lane {schema}.lane, p_ticket text, p_worker text, p_alive bigint, p_lease bigint, p_now bigint
) RETURNS {schema}.lane LANGUAGE plpgsql AS $$
BEGIN
    IF p_lane.last = 0 THEN
        SELECT token INTO p_lane.last FROM {schema}.lane_floor;
    END IF;
    p_lane.last := greatest(p_lane.last + 1, p_now);
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

-- The lane granted, if it is free, to who is first and alive, which is told.
CREATE FUNCTION {schema}.lane_promoted_1(p_lane {schema}.lane, p_now bigint, p_frozen bigint) RETURNS {schema}.lane
LANGUAGE plpgsql AS $$
DECLARE
    v_run bigint;
    v_newest {schema}.lane_place;
    v_dropped bytea[];
    v_count int;
BEGIN
    IF p_lane.ticket IS NOT NULL OR p_lane.paused OR p_frozen > p_now THEN
        RETURN p_lane;
    END IF;
    LOOP
        SELECT run INTO v_run FROM {schema}.lane_place WHERE key = p_lane.key ORDER BY number, ticket LIMIT 1;
        IF NOT FOUND THEN
            RETURN p_lane;
        END IF;
        DELETE FROM {schema}.lane_place WHERE key = p_lane.key AND run = v_run AND alive <= p_now;
        SELECT * INTO v_newest FROM {schema}.lane_place WHERE key = p_lane.key AND run = v_run
        ORDER BY number DESC, ticket DESC LIMIT 1;
        IF NOT FOUND THEN
            CONTINUE;
        END IF;
        -- one that came later than now came before the clock was set back
        IF v_newest.closes > p_now + 100 AND v_newest.since <= p_now THEN
            RETURN p_lane;
        END IF;
        v_dropped := ARRAY(
            SELECT message FROM {schema}.lane_place, unnest(dropped) WITH ORDINALITY AS each (message, place)
            WHERE key = p_lane.key AND run = v_run ORDER BY number, ticket, place);
        DELETE FROM {schema}.lane_place WHERE key = p_lane.key AND ticket = v_newest.ticket;
        UPDATE {schema}.lane_place SET lent = 1 WHERE key = p_lane.key AND run = v_run;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        p_lane := {schema}.lane_given_1(
            p_lane, v_newest.ticket, v_newest.worker, least(v_newest.alive, p_now + v_newest.lease), v_newest.lease,
            p_now);
        p_lane.dropped := v_dropped;
        p_lane.lends := v_count > 0;
        PERFORM {schema}.lane_tell_1(p_lane.worker, p_lane.key, p_lane.ticket, {schema}.lane_granted_1(p_lane));
        RETURN p_lane;
    END LOOP;
END $$;
