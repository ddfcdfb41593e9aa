/* The two places of a journal, for the model checker spin: that they act as one record which is replaced whole or not
 * at all, with the payload that belongs to it. fence.pml takes that for granted.
 *
 * Writers take the lock one after another, read the record that counts (`Journal.read`, `newest`), settle a write that
 * was not ended, and make one: payload, intent, commit. Each may be killed before a call, or when half of what it
 * writes is there. Half a record has no checksum; half a payload is none.
 *
 * Not in here: what two records or payloads hold (their number stands for it), a checksum that is met by chance.
 */

#ifndef WRITERS
#define WRITERS 3
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef WRITES
#define WRITES 2        /* of each writer */
#endif

/* Rules that can be left out, and the property beside it that finds it out:
 *
 * ONE_PLACE      each record is written over the one before                    forgotten
 * NO_CHECKSUM    half a record counts                                          torn
 * OLDEST         the record with the lower number counts                       old
 * PAYLOAD_LATE   the payload is written when the intent is noted               unknown
 */
#ifndef ONE_PLACE
#define ONE_PLACE 0
#endif
#ifndef NO_CHECKSUM
#define NO_CHECKSUM 0
#endif
#ifndef OLDEST
#define OLDEST 0
#endif
#ifndef PAYLOAD_LATE
#define PAYLOAD_LATE 0
#endif

byte number[2];
byte begun[2];          /* the write whose intent the record in that place is; 0 for none */
bool whole[2];
byte payload = 0;       /* of which write; 0 for half of one */

byte lock = 0;
byte crashes = 0;
byte writes = 0;
byte newest = 0;        /* the number of the last record that was written to its end */
byte ended = 0;

bool forgotten, torn, old, unknown;

inline MUST_NOT(broken, condition) { broken = (condition); assert(!broken) }

#define COUNTS(place) (number[place] && (whole[place] || NO_CHECKSUM))
#define WINS(place) (COUNTS(place) && (!COUNTS(1 - place) || (OLDEST -> number[place] < number[1 - place] : \
                                                                          number[place] > number[1 - place])))

/* Journal.read */
inline read() {
    atomic {
        if
        :: WINS(0) -> place = 0
        :: WINS(1) -> place = 1
        :: else -> place = 2
        fi;
        if
        :: place < 2 -> current = number[place]; intent = begun[place];
           MUST_NOT(torn, !whole[place]);
           MUST_NOT(old, number[place] != newest)
        :: else -> current = 0; intent = 0; MUST_NOT(forgotten, newest)
        fi
    }
}

/* Journal.write */
inline write(what) {
    atomic {
        current++; place = (ONE_PLACE -> 0 : current % 2);
        if
        :: crashes < CRASHES -> crashes++; goto dead
        :: crashes < CRASHES -> crashes++; number[place] = current; begun[place] = what; whole[place] = false; goto dead
        :: number[place] = current; begun[place] = what; whole[place] = true; newest = current
        fi
    }
}

/* Journal.write_payload */
inline keep_payload(what) {
    atomic {
        if
        :: crashes < CRASHES -> crashes++; goto dead
        :: crashes < CRASHES -> crashes++; payload = 0; goto dead
        :: payload = what
        fi
    }
}

proctype Writer() {
    byte current = 0, intent = 0, place = 0, n = 0, mine = 0;
    atomic { lock == 0 -> lock = 1 }
    read();
    if
    :: intent -> atomic { MUST_NOT(unknown, payload != intent) }
       write(0)
    :: else
    fi;
    do
    :: n < WRITES -> atomic { n++; writes++; mine = writes }
#if !PAYLOAD_LATE
       keep_payload(mine);
#endif
       write(mine);
#if PAYLOAD_LATE
       keep_payload(mine);
#endif
       write(0)
    :: else -> break
    od;
dead:
    atomic { lock = 0; current = 0; intent = 0; place = 0; n = 0; mine = 0; ended++ }
}

/* Who reads last is not killed */
init {
    byte current = 0, intent = 0, place = 0, n = 0;
    atomic {
        do
        :: n < WRITERS -> run Writer(); n++
        :: else -> break
        od
    }
    ended == WRITERS;
    read();
    if
    :: intent -> atomic { MUST_NOT(unknown, payload != intent) }
    :: else
    fi
}
