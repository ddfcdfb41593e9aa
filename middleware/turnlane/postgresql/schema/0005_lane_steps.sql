-- The steps of lanes, as workers ask for them: each is one call, and one transaction.
CREATE FUNCTION {schema}.lane_acquire_1(
    p_worker text, p_lease bigint, p_key text, p_ticket text, p_room int, p_over text, p_grace double precision,
    p_tag text, p_window bigint, p_most int, p_overflow text, p_steer boolean, p_whom text, p_payload bytea,
    p_number bigint
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := {schema}.lane_buried_1(v_before, v_now);
    v_last {schema}.lane_place;
    v_other {schema}.lane_place;
    v_fate {schema}.lane_fate;
    v_waited boolean;
    v_number bigint;
    v_run bigint;
    v_ahead int;
    v_together int := 0;
    v_dropped bytea[] := '{}';
    v_closes bigint := v_now;
BEGIN
    -- a lane that is free goes to who is first before anybody else comes
    IF v_lane.ticket IS NULL THEN
        v_lane := {schema}.lane_promoted_1(v_lane, v_now, v_frozen);
    END IF;
    SELECT * INTO v_last FROM {schema}.lane_place WHERE key = p_key ORDER BY number DESC, ticket DESC LIMIT 1;
    v_waited := FOUND;
    -- asked again
    IF v_lane.ticket = p_ticket THEN
        v_lane.alive := v_now + p_lease;
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        RETURN {schema}.lane_granted_1(v_lane);
    END IF;
    IF v_waited THEN
        UPDATE {schema}.lane_place SET alive = v_now + p_lease WHERE key = p_key AND ticket = p_ticket
        RETURNING * INTO v_other;
        IF FOUND THEN
            PERFORM {schema}.lane_put_1(v_before, v_lane);
            v_ahead := {schema}.lane_ahead_1(p_key, v_other.run) + (v_lane.ticket IS NOT NULL)::int;
            RETURN {schema}.lane_queued_1(v_lane, v_ahead, v_other.number, v_now, v_frozen);
        END IF;
    END IF;
    IF v_before.ticket IS NOT NULL OR v_before.owes OR v_before.paused OR v_waited THEN
        SELECT * INTO v_fate FROM {schema}.lane_fate WHERE ticket = p_ticket;
        IF FOUND THEN
            PERFORM {schema}.lane_put_1(v_before, v_lane);
            RETURN json_build_array(
                'Over', v_fate.key, p_ticket, v_fate.how, v_fate.taker, {schema}.lane_text_1(v_fate.payload));
        END IF;
    END IF;
    -- nobody else wants it
    IF NOT v_waited AND v_lane.ticket IS NULL AND NOT v_lane.paused AND v_frozen <= v_now THEN
        v_lane := {schema}.lane_given_1(v_lane, p_ticket, p_worker, v_now + p_lease, p_lease, v_now);
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        RETURN {schema}.lane_granted_1(v_lane);
    END IF;
    v_number := CASE WHEN p_number > 0 THEN p_number ELSE greatest(v_now, coalesce(v_last.number + 1, 0)) END;
    v_run := v_number;
    IF p_over <> '' THEN
        FOR v_other IN SELECT * FROM {schema}.lane_place WHERE key = p_key AND lent <> 2 ORDER BY number, ticket LOOP
            PERFORM {schema}.lane_over_1(v_other, 'superseded', p_ticket, '', v_now);
        END LOOP;
        IF v_lane.ticket IS NOT NULL THEN
            v_lane := {schema}.lane_asked_1(v_lane, p_ticket, p_grace, p_over = 'rollback');
        ELSIF p_over = 'rollback' THEN
            v_lane.owes := true;
        END IF;
    ELSIF v_waited AND p_tag <> '' AND v_last.tag = p_tag AND v_last.lent = 0 THEN
        v_run := v_last.run;
        SELECT count(*) INTO v_together FROM {schema}.lane_place WHERE key = p_key AND run = v_run;
        IF p_most IS NOT NULL AND v_together >= p_most THEN
            IF p_overflow = 'refuse' THEN
                PERFORM {schema}.lane_put_1(v_before, v_lane);
                RETURN json_build_array('Full', v_together, true);
            END IF;
            SELECT * INTO v_other FROM {schema}.lane_place WHERE key = p_key AND run = v_run
            ORDER BY number, ticket LIMIT 1;
            v_dropped := v_other.dropped || v_other.payload;
            PERFORM {schema}.lane_over_1(v_other, 'superseded', p_ticket, '', v_now);
            v_together := v_together - 1;
        END IF;
    ELSIF p_room IS NOT NULL AND {schema}.lane_ahead_1(p_key, NULL) >= p_room THEN
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        RETURN json_build_array(
            'Full', {schema}.lane_ahead_1(p_key, NULL) + (v_lane.ticket IS NOT NULL)::int, false);
    END IF;
    IF p_tag <> '' AND (p_most IS NULL OR v_together + 1 < p_most) THEN
        v_closes := v_now + p_window;
    END IF;
    INSERT INTO {schema}.lane_place (
        key, ticket, worker, number, run, tag, closes, since, alive, lease, payload, dropped, lent, whom, offered)
    VALUES (
        p_key, p_ticket, p_worker, v_number, v_run, p_tag, v_closes, v_now, v_now + p_lease, p_lease, p_payload,
        v_dropped, 0, p_whom, CASE WHEN p_steer AND v_lane.ticket IS NOT NULL THEN v_lane.last ELSE 0 END);
    IF v_lane.ticket IS NULL THEN
        v_lane := {schema}.lane_promoted_1(v_lane, v_now, v_frozen);
        PERFORM {schema}.lane_put_1(v_before, v_lane);
        IF v_lane.ticket = p_ticket THEN
            RETURN {schema}.lane_granted_1(v_lane);
        END IF;
        v_ahead := {schema}.lane_ahead_1(p_key, v_run) + (v_lane.ticket IS NOT NULL)::int;
        RETURN {schema}.lane_queued_1(v_lane, v_ahead, v_number, v_now, v_frozen);
    END IF;
    PERFORM {schema}.lane_put_1(v_before, v_lane);
    IF p_steer THEN
        PERFORM {schema}.lane_tell_1(v_lane.worker, p_key, v_lane.ticket, json_build_array(
            'Offered', p_key, v_lane.ticket, p_ticket, p_whom, {schema}.lane_text_1(p_payload)));
    END IF;
    RETURN {schema}.lane_queued_1(v_lane, {schema}.lane_ahead_1(p_key, v_run) + 1, v_number, v_now, v_frozen);
END $$;

-- Whoever has the lane is asked to stop.
CREATE FUNCTION {schema}.lane_asked_1(p_lane {schema}.lane, p_by text, p_grace double precision, p_rollback boolean)
RETURNS {schema}.lane LANGUAGE plpgsql AS $$
BEGIN
    p_lane.asked := true;
    p_lane.asked_by := p_by;
    p_lane.grace := p_grace;
    p_lane.rollback := p_lane.rollback OR p_rollback;
    PERFORM {schema}.lane_tell_1(p_lane.worker, p_lane.key, p_lane.ticket, json_build_array(
        'Interrupted', p_lane.key, p_lane.ticket, p_by, p_grace, p_rollback));
    RETURN p_lane;
END $$;

CREATE FUNCTION {schema}.lane_leave_1(p_lease bigint, p_key text, p_ticket text, p_owes boolean, p_scatter boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := v_before;
BEGIN
    IF v_lane.ticket = p_ticket THEN
        v_lane := {schema}.lane_ended_1(v_lane, p_owes, p_scatter);
    ELSE
        DELETE FROM {schema}.lane_place WHERE key = p_key AND ticket = p_ticket;
        v_lane := {schema}.lane_buried_1(v_lane, v_now);
    END IF;
    PERFORM {schema}.lane_put_1(v_before, {schema}.lane_promoted_1(v_lane, v_now, v_frozen));
END $$;

CREATE FUNCTION {schema}.lane_settle_1(
    p_lease bigint, p_key text, p_ticket text, p_tickets text[], p_hows text[], p_payloads bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := {schema}.lane_promoted_1({schema}.lane_buried_1(v_before, v_now), v_now, v_frozen);
    v_place {schema}.lane_place;
BEGIN
    PERFORM {schema}.lane_put_1(v_before, v_lane);
    IF v_lane.ticket IS DISTINCT FROM p_ticket THEN
        RETURN; -- it is too late: they stand where they stood
    END IF;
    FOR i IN 1 .. cardinality(p_tickets) LOOP
        SELECT * INTO v_place FROM {schema}.lane_place WHERE key = p_key AND ticket = p_tickets[i];
        CONTINUE WHEN NOT FOUND;
        IF p_hows[i] = 'shared' THEN
            UPDATE {schema}.lane_place SET lent = 2 WHERE key = p_key AND ticket = p_tickets[i];
            PERFORM {schema}.lane_tell_1(v_place.worker, p_key, v_place.ticket, json_build_array(
                'Over', p_key, v_place.ticket, 'shared', p_ticket, {schema}.lane_text_1(p_payloads[i])));
        ELSE
            PERFORM {schema}.lane_over_1(v_place, p_hows[i], p_ticket, p_payloads[i], v_now);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION {schema}.lane_interrupt_1(p_lease bigint, p_key text, p_grace double precision) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := {schema}.lane_buried_1(v_before, v_now);
    v_held boolean := v_lane.ticket IS NOT NULL;
BEGIN
    IF v_held THEN
        v_lane := {schema}.lane_asked_1(v_lane, '', p_grace, false);
    ELSE
        v_lane := {schema}.lane_promoted_1(v_lane, v_now, v_frozen);
    END IF;
    PERFORM {schema}.lane_put_1(v_before, v_lane);
    RETURN v_held;
END $$;

CREATE FUNCTION {schema}.lane_pause_1(p_lease bigint, p_key text, p_paused boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := {schema}.lane_buried_1(v_before, v_now);
BEGIN
    v_lane.paused := p_paused;
    PERFORM {schema}.lane_put_1(v_before, {schema}.lane_promoted_1(v_lane, v_now, v_frozen));
END $$;
