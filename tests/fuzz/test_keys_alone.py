"""Extractors and the canonical form, asked directly."""

import unicodedata
from collections import Counter
from random import Random
from time import process_time

import pytest

from support.fuzz_bytes import CONTENT_TYPES, draw_key
from support.fuzz_exchange import expected_of
from support.fuzz_requests import Drawn, draw_request
from support.fuzz_run import Campaign, driven, failure, generator_of
from support.fuzz_targets import EXTRACTORS
from turnlane import keys
from turnlane.errors import SessionKeyInvalid

CHARACTERS = (
    "aZ09 ~:/%é\u0301\u0308\u0323\u0338\u1100\u1161\u11a8\u212b\u1e9b\u00df\u0130\u0131\ufb01\ufdfa"
    "\t\n\r\0\x0b\x1b\x1c\x7f\x85\xa0\xad\u061c\u180e\u200b\u200d\u200e\u2028\u2029\u202e\u2060\u2066\u3000\ufeff\ufffe"
    "\ud800\udc00\udfff\ue000\U0001f600\U000e0001\U0010ffff"
)
FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
OVERRIDES = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def draw_text(rng: Random) -> str:
    """Return text that may be a key: short or at a limit, plain or of odd characters."""
    choice = rng.random()
    if choice < 0.2:
        return draw_key(rng).decode("utf-8", "surrogateescape")
    length = (
        rng.choice((0, 1, 2, 3, 5, 9, 30)) if choice < 0.9 else rng.choice((127, 128, 170, 171, 511, 512, 513, 2049))
    )
    if choice < 0.6:
        return "".join(rng.choice(CHARACTERS) for _ in range(length))
    return "".join(chr(rng.randrange(0x110000) if rng.random() < 0.3 else rng.randrange(0x180)) for _ in range(length))


def look_at(text: str) -> tuple[str, list[str]]:
    """Return what became of a text, and what is wrong with that."""
    try:
        key = keys.canonical(text, "p")
    except SessionKeyInvalid:
        return "refused", []
    if key is None:
        return "blank", [f"{text!r} names no session"] if text.strip() else []
    wrong: list[str] = []
    if keys.canonical(key, "p") != key:
        wrong.append("not its own canonical form")
    if not 0 < len(key.encode("utf-8", "surrogatepass")) <= keys.MAX_KEY_BYTES:
        wrong.append("out of bounds")
    if key != key.strip() or not unicodedata.is_normalized("NFC", key) or len(key.splitlines()) != 1:
        wrong.append("not trimmed, not composed, or more than one line")
    if any(unicodedata.category(each) in FORBIDDEN or unicodedata.bidirectional(each) in OVERRIDES for each in key):
        wrong.append("holds a control character")
    forms = [unicodedata.normalize("NFC", text.strip()), unicodedata.normalize("NFD", text.strip())]
    if any(keys.canonical(f"\u2003{form}\t", "p") != key for form in forms):
        wrong.append("the same text in another form is another key")
    return "a key", [f"{problem}: {text!r} became {key!r}" for problem in wrong]


@pytest.mark.parametrize("campaign", [(20_000, 300_000)], indirect=True, ids=["texts"])
def test_the_canonical_form(campaign: Campaign) -> None:
    """It is its own canonical form, bounded, one line, and free of what could forge another."""
    outcomes: Counter[str] = Counter()
    for index in campaign.indices():
        text = draw_text(generator_of(campaign.seed, index))
        outcome, wrong = look_at(text)
        if wrong:
            raise failure("test_the_canonical_form", campaign.seed, index, wrong, ascii(text))
        outcomes[outcome] += 1
    print(f"canonical: {dict(outcomes)}")
    assert campaign.only is not None or min(outcomes[each] for each in ("a key", "refused", "blank")) > 100


@pytest.mark.parametrize("campaign", [(1_500, 20_000)], indirect=True, ids=["requests"])
def test_every_extractor_answers_every_request(campaign: Campaign) -> None:
    """With a key, with none, or with a refusal; and asked again, with the same."""
    extractors = {name: keys.from_setting(make()) for name, (_, make) in EXTRACTORS.items()}
    found: Counter[str] = Counter()
    for index in campaign.indices():
        rng = generator_of(campaign.seed, index)
        drawn = draw_request(rng, rng.choice(("scope", "json", "form")))
        for name, extractor in extractors.items():
            (first, error), (second, _) = (driven(expected_of(extractor, drawn)) for _ in range(2))
            wrong = [] if error is None else [f"{name} raised {error!r}"]
            if first != second:
                wrong.append(f"{name} says {first!r}, then {second!r}")
            if isinstance(first, str):
                _, more = look_at(first)
                wrong += [f"{name}: {problem}" for problem in more]
                found[name] += 1
            if wrong:
                raise failure(
                    "test_every_extractor_answers_every_request", campaign.seed, index, wrong, repr(drawn)[:4000]
                )
    print(f"keys found: {dict(found)}")
    assert campaign.only is not None or set(found) == set(extractors), "an extractor never found a key"


def costly_form(content_type: bytes, body: bytes) -> Drawn:
    """Return a form that is to be parsed slowly."""
    return Drawn({"type": "http", "path": "/"}, ((b"content-type", content_type),), "list", [], body, False)


def costly(kind: str, size: int) -> Drawn:
    """Return a request of about that many bytes that is as hard to read as can be."""
    match kind:
        case "quotes in a content type":
            return costly_form(b'multipart/form-data; boundary=b; "' + b";" * size, b"--b--")
        case "quotes in a part":
            return costly_form(CONTENT_TYPES[0], b'--b\r\nContent-Disposition: a; "' + b";" * size + b"\r\n\r\n--b--")
        case "all but a boundary":
            return costly_form(CONTENT_TYPES[0], b"--b\r\nX: y\r\n\r\n" + b"\r\n--b?" * (size // 6) + b"\r\n--b--")
        case "nested arrays":
            return Drawn({"type": "http"}, None, "list", [], b"[" + b"[[[[[[[]]]]]]]," * (size // 15) + b"1]", False)
        case "long numbers":
            return Drawn(
                {"type": "http"}, None, "list", [], b"[" + (b"9" * 4300 + b",") * (size // 4300) + b"1]", False
            )
        case "percent signs":
            return costly_form(b"application/x-www-form-urlencoded", b"s=" + b"%c3" * (size // 3))
        case _:
            return Drawn({"type": "http"}, ((b"cookie", b"s=a;" * (size // 4)),), "list", [], b"", False)


@pytest.mark.parametrize(
    "kind",
    [
        "quotes in a content type",
        "quotes in a part",
        "all but a boundary",
        "nested arrays",
        "long numbers",
        "percent signs",
        "many cookies",
    ],
)
def test_what_is_hard_to_read_costs_no_more_than_its_length(kind: str) -> None:
    """Four times as much is read in about four times the time: nobody holds up the loop with a few kilobytes."""
    extractor = keys.first_of(keys.cookie("s"), keys.json_body("s"), keys.form_field("s"))

    def seconds(size: int) -> float:
        drawn = costly(kind, size)
        took: list[float] = []
        for _ in range(3):
            began = process_time()
            driven(expected_of(extractor, drawn))
            took.append(process_time() - began)
        return min(took)

    once, four_times = seconds(2**14), seconds(2**16)
    assert four_times < max(9 * once, 0.25), f"{once:.4f} s for 16 KiB, {four_times:.4f} s for 64 KiB"
