-- As lane_leave_1; where p_owes is null the next one owes what this one did.
CREATE FUNCTION {schema}.lane_leave_2(p_lease bigint, p_key text, p_ticket text, p_owes boolean, p_scatter boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_frozen bigint := {schema}.lane_frozen_1(p_lease);
    v_before {schema}.lane := {schema}.lane_locked_1(p_key);
    v_now bigint := {schema}.lane_now_1();
    v_lane {schema}.lane := v_before;
BEGIN
    IF v_lane.ticket = p_ticket THEN
        v_lane := {schema}.lane_ended_1(v_lane, coalesce(p_owes, v_lane.owed), p_scatter);
    ELSE
        DELETE FROM {schema}.lane_place WHERE key = p_key AND ticket = p_ticket;
        v_lane := {schema}.lane_buried_1(v_lane, v_now);
    END IF;
    PERFORM {schema}.lane_put_1(v_before, {schema}.lane_promoted_1(v_lane, v_now, v_frozen));
END $$;
