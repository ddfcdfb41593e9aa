/* The fence of a transcript file, as `turnlane.transcripts` keeps it, for the model checker spin.
 *
 * Who takes part: turns (open, append, release, return, append, close), a peer that joins for one append, a writer of a
 * third party behind `owned_write`, somebody who edits the file and asks nobody, a clock, and, when all are done, one
 * more opener who looks at what is left. A process may be killed before each of its writes and before it tells anybody.
 *
 * What a step is: one call that another process, an editor or a kill could come between. What only the holder of the
 * lock can see is done with the call before it.
 *
 * How it is kept small: a line is a digit of a number to the base 16, so a digest can not collide, and an owned state
 * is the content itself; a fingerprint is inode, lines and stamp; the journal is one record that is replaced whole or
 * not at all (journal.pml shows that of the two places).
 *
 * Not in here: errors of the disk, a power loss and what `durability="power"` does against it, waiting that ends in
 * TranscriptBusy, a journal that is removed or an older copy, a turn that writes a lost record anew (here it refuses),
 * deletion and rollback, `on_takeover="accept"`, stores through an old
 * mapping, edits within a line, lines without a line feed, more than LOOKS looks at a file that goes on changing, clocks
 * that are set back, two third parties, an owned write of a third party inside a release. A third party that is killed
 * before its write was approved has made an edit nobody owns.
 *
 * Found with it, and repaired: READ_NEW and SETTLED_ANEW below, which the code did. Both are staged against real files
 * in tests/transcripts/test_staged_edits.py.
 *
 * Results (spin 6.5.2, all states, no error; verifier compiled without optimization, 2 cores shared with others):
 *
 *   three writers, two kills                       453,951 states   0.5 s
 *   three writers, an edit                         987,752          1.0 s
 *   a turn and a peer, two edits                   729,006          0.6 s
 *   the same, an edit and a kill                   266,411          0.2 s
 *   two turns, an edit and a kill                  434,707          0.4 s
 *   a large file, two edits                        727,476          0.6 s
 *   coarse stamps, an edit                         647,927          0.6 s
 *   coarse stamps of a large file, an edit         735,910          0.7 s
 *   a new transcript, an edit and a kill           221,965          0.2 s
 *   two turns, an edit and a lost record           327,230          0.4 s
 *   a third party that appends, an edit, a kill    308,410          0.3 s
 *   a third party that rewrites, an edit, a kill   287,383          0.2 s
 *
 * Each rule that is left out is found broken within 400,000 states. tests/models/test_fence_model.py runs all of it.
 */

/* -- bounds */

#ifndef TURNS
#define TURNS 2         /* turn N has token N */
#endif
#ifndef PEERS
#define PEERS 1
#endif
#ifndef THIRD
#define THIRD 0         /* one owned write of a third party: 1 appends, 2 rewrites */
#endif
#ifndef EDITS
#define EDITS 0         /* changes of the content that nobody owns */
#endif
#ifndef TOUCHES
#define TOUCHES 0       /* changes of the stamp alone */
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSSES
#define LOSSES 0        /* how often the record is lost, while nobody has the lock */
#endif
#ifndef INSIDE
#define INSIDE 0        /* 1: turn 1 also appends while it is out */
#endif
#ifndef LARGE
#define LARGE 0         /* 1: above `verify_up_to`, so that release and return believe a fingerprint */
#endif
#ifndef TICKS
#define TICKS 0         /* more than 0: stamps are coarse, and the clock ticks so often; 0: each change has its own */
#endif
#ifndef NEW
#define NEW 0           /* 1: neither file nor record is there when it begins */
#endif
#define LOOKS 2

/* -- rules of the protocol that can be left out, each with the property that is broken then */

/* REREAD          the owned digest is what is read back after a write                      laundered
 * TRUSTING        whatever a third party has written is approved                           laundered
 * READ_NEW        what is in a file that was just made is taken for owned                  laundered
 * NO_INTENT       nothing is noted before a write                                          false_alarm
 * FORGETFUL       recovery gives up a write that is whole in the file                      false_alarm
 * NO_LOCK         a peer does not take the lock                                            false_alarm
 * ONE_PLACE       a record is written over the one that counts                             false_alarm
 * CUT_BLIND       recovery cuts off whatever is behind the owned content                   destroyed
 * FRESH_STAT      a release notes the fingerprint that is there, without looking inside    blind
 * UNSETTLED       a fingerprint is believed however young it is                            blind
 * TAKEN_LATE      the time a fingerprint is taken at is read after it                      blind
 * SETTLED_ANEW    an append settles a fingerprint although the one before was not          blind
 * UNPROVEN_PEER   a peer appends without looking                                           blind
 * UNPROVEN_RETURN a turn that is back goes on where it left                                blind
 * UNRECORDED      an adoption is no version of its own                                     unseen
 * BY_VERSION      an adoption is told by its version, and has no name                      unseen
 * NO_TOKEN        nobody asks for the token                                                zombie
 * ACK_EARLY       an append is acknowledged when its intent is noted                       lost
 * UNSALVAGED      what recovery gives up is not salvaged                                   lost
 * GIVEN_UP_FIRST  recovery notes that it gives up before it has salvaged                   lost
 * LASTING_LOCK    the lock of a killed process stays                                       an invalid end state
 */

/* -- promises the protocol does not make; each can be asked for, and is found broken */

/* AT_ONCE         an edit of a large file inside an owned write is found before the next open          blind
 * CUT_APART       an edit of what recovery cuts off, between its look and its cut, is not lost         destroyed
 */

#ifndef REREAD
#define REREAD 0
#endif
#ifndef TRUSTING
#define TRUSTING 0
#endif
#ifndef READ_NEW
#define READ_NEW 0
#endif
#ifndef NO_INTENT
#define NO_INTENT 0
#endif
#ifndef FORGETFUL
#define FORGETFUL 0
#endif
#ifndef NO_LOCK
#define NO_LOCK 0
#endif
#ifndef ONE_PLACE
#define ONE_PLACE 0
#endif
#ifndef CUT_BLIND
#define CUT_BLIND 0
#endif
#ifndef FRESH_STAT
#define FRESH_STAT 0
#endif
#ifndef UNSETTLED
#define UNSETTLED 0
#endif
#ifndef TAKEN_LATE
#define TAKEN_LATE 0
#endif
#ifndef SETTLED_ANEW
#define SETTLED_ANEW 0
#endif
#ifndef UNPROVEN_PEER
#define UNPROVEN_PEER 0
#endif
#ifndef UNPROVEN_RETURN
#define UNPROVEN_RETURN 0
#endif
#ifndef UNRECORDED
#define UNRECORDED 0
#endif
#ifndef BY_VERSION
#define BY_VERSION 0
#endif
#ifndef NO_TOKEN
#define NO_TOKEN 0
#endif
#ifndef ACK_EARLY
#define ACK_EARLY 0
#endif
#ifndef UNSALVAGED
#define UNSALVAGED 0
#endif
#ifndef LASTING_LOCK
#define LASTING_LOCK 0
#endif
#ifndef CUT_APART
#define CUT_APART 0
#endif
#ifndef AT_ONCE
#define AT_ONCE 0
#endif
#ifndef GIVEN_UP_FIRST
#define GIVEN_UP_FIRST 0
#endif

/* -- content: a line is a digit, and their number stands before them. 1 to 7 are owned, 8 to 14 the torn halves of
 * those, 15 is somebody else's. */

#define BEGUN 7         /* the line that is there from the beginning */
#define FOREIGN 15
#define TORN(line) ((line) + 7)
#define BIT(line) (1 << (line))
#define MOST 7
#define ABSENT -1
#define ONE(line) ((1 << 28) | (line))
#define LINES(content) ((content >> 28) & 7)
#define AT(content, place) ((content >> (4 * (place))) & 15)
#define PLUS(content, line) ((content + (1 << 28)) | ((line) << (4 * LINES(content))))
#define FIRST(content, lines) (((lines) << 28) | (content & ((1 << (4 * (lines))) - 1)))
#define BEHIND(content, lines) ((content & ((1 << 28) - 1)) >> (4 * (lines)))
#define HOLDS(content, line) (AT(content, 0) == line || AT(content, 1) == line || AT(content, 2) == line || \
                              AT(content, 3) == line || AT(content, 4) == line || AT(content, 5) == line || \
                              AT(content, 6) == line)

/* -- the file: inode 0, and inode 1 when it is replaced or made anew */

#define GONE 2
int file[2];
byte stamp[2];
byte name = GONE;       /* the inode that has the name */
byte used = GONE;       /* the newest there was */
byte now = 1;           /* counts ticks, or changes where each has a stamp of its own */

#define FINGERPRINT(inode) ((stamp[inode] * 2 + inode) * 8 + LINES(file[inode]))
#define NAMED (name == GONE -> 0 : FINGERPRINT(name))
#define INODE_IN(fingerprint) ((fingerprint / 8) % 2)
#define LINES_IN(fingerprint) (fingerprint % 8)
#define STAMP_IN(fingerprint) (fingerprint / 16)

#if TICKS
#define STAMP(inode) stamp[inode] = now
#define IS_SETTLED(fingerprint, taken) (taken > STAMP_IN(fingerprint))
#else
#define STAMP(inode) now++; stamp[inode] = now
#define IS_SETTLED(fingerprint, taken) true
#endif

/* -- the journal: the lock, and the record that counts */

byte lock = 0;
bool known = false;
int owned = 0;
short owned_print = 0;  /* 0: not known */
bool settled = false;
byte version = 0;
byte adopted = 0;       /* names the adoption it goes back to */
byte rewritten = 0;
byte token = 0;
byte intent = 0;        /* the line that is being appended */

/* -- what only the model knows */

int truth = 0;          /* what the owned writes and the adoptions made of it */
byte edits = 0;         /* unowned, so far */
byte touches = 0;
byte crashes = 0;
byte losses = 0;
byte drawn = 0;         /* names of adoptions, so far */
byte adopted_edits = 0; /* those that the adoptions have seen */
byte adoptions = 0;
byte highest = 0;       /* token that has written */
byte wanted = 0;        /* lines whose writing has begun, as bits */
byte acknowledged = 0;
byte salvaged = 0;
byte taken_away = 0;    /* by an edit */
bool told = false;      /* somebody was told of an edit */
bool writing = false;   /* a writer is between its last look before and its first look after a write */
bool slipped_in = false;/* an edit was made there, of a file that is large: found at the next open */
byte ended = 0;

/* -- the properties, by what must not be */

bool laundered;         /* what is owned is not what the owned writes and the recorded adoptions have made */
bool false_alarm;       /* somebody is told of an edit, and there was none since the last adoption or his own open */
bool blind;             /* a turn goes on, or the last opener ends, with content that is not what is owned */
bool unseen;            /* a turn goes on behind an adoption it was not there for */
bool zombie;            /* somebody writes with a lower token than one that has written */
bool lost;              /* what was acknowledged is not in the file, and no edit that was told of took it away; or what
                         * was begun is neither in the file nor salvaged nor taken away by an edit */
bool destroyed;         /* recovery cuts off bytes that are not those of the write it gives up */
bool deadlock;          /* never set: stands for spin's own check, that nobody waits for ever */


#ifdef ONLY     /* the one property that is asked for */
inline MUST_NOT(broken, condition) { broken = (condition); assert(!ONLY) }
#else
inline MUST_NOT(broken, condition) { broken = (condition); assert(!broken) }
#endif

inline tell(already) { d_step { MUST_NOT(false_alarm, edits <= already); told = true } }

#define MAY_DIE if :: crashes < CRASHES -> crashes++; goto dead :: true fi
#if ONE_PLACE
#define NOTE if :: crashes < CRASHES -> crashes++; known = false; owned = 0; intent = 0; goto dead :: true fi
#else
#define NOTE MAY_DIE    /* the half of a record does not count */
#endif

#define LOCALS \
    int content = 0, fenced = 0; short print = 0, after = 0; bool young = false, same = false, strange = false; \
    byte taken = 0, k = 0, held = 0, since = 0, since_look = 0, fence = 0, origin = 0, seen = 0
#define FORGET content = 0; fenced = 0; print = 0; after = 0; taken = 0; k = 0; held = 0; since = 0; since_look = 0; \
    fence = 0; origin = 0; seen = 0; young = false; same = false; strange = false

/* -- OwnedFile: what is there, and what is owned. `held` is the inode this process has open */

/* content() */
inline look(before_write) {
    atomic { k = 0; print = NAMED; since_look = edits }
    do
    :: print == 0 -> content = ABSENT; young = false; break
    :: else ->
#if TICKS && !TAKEN_LATE
       taken = now;
#endif
       atomic {
           held = INODE_IN(print); writing = before_write;
           content = (LINES(file[held]) < LINES_IN(print) -> file[held] : FIRST(file[held], LINES_IN(print)))
       }
       atomic {
           after = NAMED; same = (after == print && LINES(content) == LINES_IN(print)); k++;
           if
           :: same || k == LOOKS
           :: else -> print = after; since_look = edits
           fi
       }
#if TICKS && TAKEN_LATE
       taken = now;
#endif
       atomic {
           if
           :: same -> young = !IS_SETTLED(print, taken); break
           :: !same && k == LOOKS -> print = 0; young = true; break
           :: else
           fi
       }
    od;
    atomic { k = 0; after = 0; taken = 0 }
}

/* compare(content()): `same` tells what comes out */
inline compare() {
    atomic {
        same = (content == owned);
        if
        :: same && (print != owned_print || settled == young) -> NOTE; owned_print = print; settled = !young
        :: else
        fi
    }
}

/* recovery() */
inline settle() {
    if
    :: intent != 0 ->
       look(false);
       if
       :: content == PLUS(owned, intent) && !FORGETFUL -> atomic {
              NOTE; truth = PLUS(truth, intent); owned = content; owned_print = print; settled = !young; version++;
              intent = 0; MUST_NOT(laundered, owned != truth) }
       :: else ->
#if !UNSALVAGED && !GIVEN_UP_FIRST
          atomic { MAY_DIE; salvaged = salvaged | BIT(intent) }
#endif
          if
          :: content == PLUS(owned, TORN(intent)) || (CUT_BLIND && LINES(content) > LINES(owned)) ->
             if
             :: LINES(file[held]) != LINES(content)
             :: LINES(file[held]) == LINES(content) -> atomic {
                    MAY_DIE;
                    MUST_NOT(destroyed, (edits == since_look || CUT_APART) &&
                             BEHIND(file[held], LINES(owned)) != TORN(intent) && file[held] != owned);
                    file[held] = FIRST(file[held], LINES(owned)); STAMP(held) }
             fi
          :: else
          fi;
          atomic { NOTE; k = intent; intent = 0 }
#if GIVEN_UP_FIRST
          atomic { MAY_DIE; salvaged = salvaged | BIT(k) }
#endif
          k = 0
       fi
    :: else
    fi
}

/* create(): fails where somebody was quicker */
inline create() {
    atomic {
        MAY_DIE;
        if
        :: name != GONE -> goto refused
        :: else -> name = (used == GONE -> 0 : 1); used = name; file[name] = 0; STAMP(name); held = name
        fi;
        content = 0; print = 0; young = true; since_look = edits
    }
#if READ_NEW
    look(false);
    content = (content == ABSENT -> 0 : content)
#endif
}

/* adopt(content()); `taken_in` is whether somebody was told that it is not owned */
inline adopt(taken_in) {
    if
    :: content == ABSENT -> create()
    :: else
    fi;
    atomic {
        NOTE; version++; owned = content; owned_print = print; settled = !young; known = true;
#if !UNRECORDED
        drawn++; adopted = (BY_VERSION -> version : drawn); rewritten = version;
#endif
        token = (my_token > token -> my_token : token);
        if
        :: taken_in || losses ->            /* where the record is lost and the file empty, nobody can tell any more */
           truth = content; adopted_edits = since_look; adoptions++; slipped_in = false; told = true
        :: else
        fi;
        MUST_NOT(laundered, owned != truth)
    }
}

#define IS_STALE (!NO_TOKEN && my_token && my_token < token)

/* append() */
inline append(line) {
    if
    :: IS_STALE -> goto refused
    :: else
    fi;
    atomic {
        NOTE; wanted = wanted | (NO_INTENT -> 0 : BIT(line)); token = (my_token > token -> my_token : token);
#if !NO_INTENT
        intent = line;
#endif
#if ACK_EARLY
        acknowledged = acknowledged | BIT(line)
#endif
    }
    atomic {
        assert(LINES(file[held]) < MOST);
        if
        :: crashes < CRASHES -> crashes++; goto dead
        :: crashes < CRASHES -> crashes++; file[held] = PLUS(file[held], TORN(line)); STAMP(held); goto dead
        :: file[held] = PLUS(file[held], line); STAMP(held)
        fi;
        taken_away = taken_away | (held != name -> BIT(line) : 0);      /* with the file that had the name */
        MUST_NOT(zombie, my_token && my_token < highest);
        highest = (my_token > highest -> my_token : highest)
    }
#if TICKS && !TAKEN_LATE
    taken = now;
#endif
    atomic { print = FINGERPRINT(held); writing = false }
#if TICKS && TAKEN_LATE
    taken = now;
#endif
    atomic {
        content = file[held]; same = (LINES_IN(print) == LINES(owned) + 1 && AT(content, LINES(owned)) == line);
        young = !(same && (settled || SETTLED_ANEW) && IS_SETTLED(print, taken))
    }
    atomic {
        NOTE;
#if REREAD
        owned = content;
#else
        owned = PLUS(owned, line);
#endif
        truth = PLUS(truth, line); MUST_NOT(laundered, owned != truth);
        owned_print = (same -> print : 0); settled = !young; version++; intent = 0;
        fence = version; fenced = owned; taken = 0
    }
    if
    :: !same -> look(false); compare();
       if
       :: !same -> tell(since); goto refused
       :: else
       fi
    :: else
    fi;
    atomic { MAY_DIE; acknowledged = acknowledged | BIT(line) }
}

/* -- FencedFile: what one opener has proven */

inline load() {
    look(false);
    if
    :: known -> compare()
    :: else -> same = (content <= 0)
    fi;
    if
    :: IS_STALE -> goto refused
    :: else -> strange = !same
    fi;
    if
    :: strange -> tell(adopted_edits)
    :: else
    fi;
    if
    :: strange || !known -> adopt(strange)
    :: else
    fi;
    atomic { since = since_look; seen = adoptions; fence = version; origin = adopted; fenced = owned }
}

/* prove() and is_as_it_was(): the last line that is known, and what was added to it, are compared in any case */
inline prove(thorough, before_write) {
    if
    :: !known || (BY_VERSION -> adopted > fence : adopted != origin) -> tell(since); goto refused
    :: else
    fi;
    atomic {
        print = NAMED; held = (print -> INODE_IN(print) : held);
        same = (print && print == owned_print && (settled || !(thorough) || UNSETTLED));
        if
        :: same && rewritten <= fence && !((thorough) && !LARGE) ->
           content = file[held]; writing = before_write;
           k = LINES(fenced) - (version == fence && fenced > 0);
           same = (BEHIND(FIRST(content, LINES(owned)), k) == BEHIND(owned, k)); k = 0
        :: else -> goto_look = true
        fi
    }
    if
    :: goto_look -> goto_look = false; look(before_write); compare()
    :: else
    fi;
    if
    :: !same -> tell(since); goto refused
    :: else
    fi;
    go_on(thorough)
}

/* What a turn believes when it goes on */
inline go_on(thorough) {
    if
    :: IS_STALE -> goto refused
    :: else
    fi;
    d_step {
        MUST_NOT(blind, (thorough) && content != truth && !(LARGE && slipped_in && !AT_ONCE));
        MUST_NOT(unseen, seen != adoptions);
        fence = version; fenced = owned
    }
}

inline join() {
    atomic {
        print = NAMED; held = (print -> INODE_IN(print) : held); same = (known && print && print == owned_print);
        writing = same
    }
#if UNPROVEN_PEER
    atomic {
        if
        :: name == GONE -> goto refused
        :: else -> same = true; held = name
        fi
    }
#endif
    since = adopted_edits;
    if
    :: same
    :: else ->
       look(true);
       if
       :: known -> compare()
       :: else -> same = (content <= 0)
       fi;
       if
       :: !same -> tell(since); goto refused
       :: same && !known -> adopt(false)
       :: else
       fi
    fi
}

/* -- who takes part */

#define LOCK atomic { lock == 0 -> lock = me }
#define UNLOCK lock = 0

#define LAST 9          /* the turn that is begun when all others have ended; nobody is left to kill it */

inline audit() {
    atomic {
        MUST_NOT(blind, file[name] != truth || owned != truth);
        line = 1;
        do
        :: line <= BEGUN ->
           same = HOLDS(file[name], line);
           MUST_NOT(lost, (acknowledged & BIT(line)) && !same && !((taken_away & BIT(line)) && told));
           MUST_NOT(lost, (wanted & BIT(line)) && !same && !((taken_away | salvaged) & BIT(line)));
           line++
        :: else -> break
        od
    }
}

proctype Turn(byte me) {
    LOCALS;
    byte phase = 0, line = 0, my_token = (me == LAST -> 0 : me);
    bool goto_look = false;
    do
    :: phase <= 2 ->
       LOCK;
       settle();
       if
       :: phase == 0 -> load(); line = (me == 1 -> 1 : 0);
          if
          :: me == LAST -> audit(); goto refused
          :: else
          fi
       :: phase == 1 -> line = 3
       :: phase == 2 -> line = (me == 1 -> 2 : 4)
       fi;
       if
       :: line ->
#if UNPROVEN_RETURN
          if
          :: phase == 2 && name != GONE -> atomic { held = name; content = file[name] }; go_on(true)
          :: else -> prove(phase > 0, true)
          fi;
#else
          prove(phase > 0, true);
#endif
          append(line)
       :: else
       fi;
       if
#if FRESH_STAT
       :: phase == 0 -> atomic { NOTE; owned_print = NAMED; settled = true }
#endif
       :: phase != 1 && !(FRESH_STAT && phase == 0) -> prove(true, false)
       :: phase == 1
       fi;
       UNLOCK;
       phase = (phase == 0 && (me != 1 || !INSIDE) -> 2 : phase + 1)
    :: else -> break
    od;
    goto done;
refused:
    atomic { lock = 0; writing = false }
    goto done;
dead:
    atomic { lock = (LASTING_LOCK -> lock : 0); writing = false }
done:
    atomic { FORGET; phase = 0; line = 0; my_token = 0; goto_look = false; ended++ }
}

#if PEERS
proctype Peer(byte me) {
    LOCALS;
    byte my_token = 0;
#if !NO_LOCK
    LOCK;
#endif
    settle();
    join();
    append(5);
refused:
    atomic { lock = (lock == me -> 0 : lock); writing = false }
    goto done;
dead:
    atomic { lock = (lock == me && !LASTING_LOCK -> 0 : lock); writing = false }
done:
    atomic { FORGET; ended++ }
}

#endif

#if THIRD
/* A turn that does nothing but `owned_write` */
#define APPROVED (THIRD == 1 -> PLUS(fenced, 6) : ONE(6))

proctype Third(byte me) {
    LOCALS;
    byte my_token = 0;
    bool has_run = false, goto_look = false;
    LOCK;
    settle();
    load();
    prove(true, false);
    look(true);
    compare();
    if
    :: !same -> tell(since); goto refused
    :: else
    fi;
    atomic {
        MAY_DIE;
        if
        :: name == GONE -> goto refused
        :: else ->
           taken_away = taken_away | (THIRD == 2 -> acknowledged | wanted : 0);    /* it may; else it is told of */
           file[name] = (THIRD == 1 -> PLUS(file[name], 6) : ONE(6)); STAMP(name); has_run = true
        fi
    }
    writing = false;
    look(false);
    if
    :: content == fenced -> goto refused        /* nothing was changed: nothing is done */
    :: content != fenced && content != ABSENT && (content == APPROVED || TRUSTING) -> atomic {
           NOTE; truth = APPROVED; owned = content; owned_print = print; settled = !young; version++; has_run = false;
           if
           :: THIRD == 2 -> rewritten = version; acknowledged = 0; wanted = 0
           :: else
           fi;
           MUST_NOT(laundered, owned != truth) }
    :: else -> tell(since); goto refused
    fi;
    atomic { MAY_DIE; acknowledged = acknowledged | BIT(6) }
refused:
    atomic { lock = 0; writing = false }
    goto done;
dead:
    atomic {
        edits = edits + has_run;                /* what nobody has approved is nobody's */
        lock = (LASTING_LOCK -> lock : 0); writing = false
    }
done:
    atomic { FORGET; has_run = false; goto_look = false; ended++ }
}

#endif

inline take_away(line) {
    taken_away = taken_away | ((line) == FOREIGN || (line) == 0 -> 0 : BIT(((line) > BEGUN -> (line) - 7 : (line))))
}

#define END (LINES(file[name]) - 1)

proctype Editor() {
    byte k = 0;
    do
    :: atomic {
           edits < EDITS + losses ->
           if
           :: name != GONE && LINES(file[name]) < MOST - 1 ->
              file[name] = PLUS(file[name], FOREIGN); STAMP(name)
           :: name != GONE && file[name] && AT(file[name], 0) != FOREIGN ->
              take_away(AT(file[name], 0)); file[name] = file[name] | FOREIGN; STAMP(name)
           :: name != GONE && LINES(file[name]) > 1 && AT(file[name], END) != FOREIGN ->
              take_away(AT(file[name], END)); file[name] = file[name] | (FOREIGN << (4 * END)); STAMP(name)
           :: name != GONE && file[name] ->
              take_away(AT(file[name], END)); file[name] = FIRST(file[name], END); STAMP(name)
           :: name == 0 ->
              do
              :: k < MOST -> take_away(AT(file[0], k)); k++
              :: else -> k = 0; break
              od;
              name = GONE
           :: name == 0 && LINES(file[0]) < MOST - 1 ->
              used = 1; name = 1; file[1] = PLUS(file[0], FOREIGN); STAMP(1)
           :: name == GONE ->
              name = (used == GONE -> 0 : 1); used = name; file[name] = ONE(FOREIGN); STAMP(name)
           fi;
           edits++; slipped_in = slipped_in || (LARGE && writing) }
#if LOSSES
    :: atomic {
           losses < LOSSES && known && lock == 0 ->
           taken_away = taken_away | (intent -> BIT(intent) : 0);
           known = false; owned = 0; owned_print = 0; settled = false; version = 0; adopted = 0; rewritten = 0;
           token = 0; highest = 0; intent = 0;      /* nobody is stale any more: that is lost too */
           losses++; edits++ }
#endif
    :: atomic { touches < TOUCHES && name != GONE -> touches++; STAMP(name) }
    :: break
    od;
    ended++
}

#if TICKS
proctype Time() {
    do
    :: now <= TICKS -> now++
    :: break
    od
}
#endif

init {
    atomic {
#if !NEW
        name = 0; used = 0; file[0] = ONE(BEGUN); STAMP(0); owned = ONE(BEGUN); truth = ONE(BEGUN);
        acknowledged = BIT(BEGUN); owned_print = FINGERPRINT(0); settled = !TICKS; version = 1; known = true;
#endif
        run Turn(1);
#if TURNS > 1
        run Turn(2);
#endif
#if PEERS
        run Peer(4);
#endif
#if THIRD
        run Third(5);
#endif
#if TICKS
        run Time();
#endif
        run Editor()
    }
    atomic { ended == TURNS + PEERS + (THIRD > 0) + 1 -> crashes = CRASHES; run Turn(LAST) }
}
