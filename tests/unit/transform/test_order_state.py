"""The state of an order: what goes in comes out, in bytes that stay readable."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.errors import StateCorrupt, StateTooNew
from processor.records import (
    Address,
    Customer,
    LineItem,
    LineItemsRefunded,
    Movement,
    Order,
    OrderCancelled,
    OrderEvent,
    OrderId,
    OrderPlaced,
    Pairing,
    Protection,
    Record,
)
from processor.transform.order_state import LineTotals, OrderState, ParkedEvent, Standing, Unheard, decode, encode, peek
from processor.transform.transitions import Rules
from tests.unit.order_events import NOW_MS, cancelled, fulfilled, placed, product, record
from tests.unit.transform.histories import any_history, any_rules, steps, take

# Written out, not made by the builders of other tests: these values belong to the bytes below and never change.
PLACED = OrderPlaced(
    "placed",
    OrderId("ord-1"),
    1_699_913_600_000,
    "EUR",
    Customer("Max", "Mustermann", "max.mustermann@example.com", None),
    Address("Musterstraße", "1", None, "123456", "DE"),
    (
        LineItem("a", 3, 89_900, "prd-a", "A product", "Apple", None),
        LineItem("p", 2, 8_499, "prd-p", "Care", "Hakuna", Protection("a", "off-1", None)),
    ),
)
PLACED_STATE = OrderState(
    Standing.PLACED,
    NOW_MS,
    Order(
        PLACED,
        (Movement("a", 1, 1_699_913_600_000),),
        (Movement("a", 1, 1_699_913_600_001),),
        (Movement("p", 1, 1_699_913_600_002),),
        1_700_000_000_000,
        (
            Pairing("ffulfilled", (), (Movement("p", 1, 1_699_913_600_000),)),
            Pairing("lsaid", (Movement("p", 1, 2),), ()),
        ),
    ),
    (LineTotals(1, 1, 0, 1, 1, 0), LineTotals(0, 0, 1, 1, 1, 0)),
    ("ffulfilled", "rrefunded", "llines-cancelled", "ccancelled"),
    (),
    None,
    ("old",),
)
PARKED = (
    ParkedEvent(
        LineItemsRefunded("refunded", OrderId("ord-1"), (Movement("a", 2**63 - 1, 0),)),
        Record("orders.refunded", 3, 41, 1_699_913_600_000, b"ord-1", b"\x00\xff", [("a", b"\xfe"), ("a", None)]),
        NOW_MS - 1,
    ),
    ParkedEvent(
        OrderCancelled("cancelled", OrderId("ord-1"), -(2**63)),
        Record("orders.cancelled", 3, 42, -1, b"ord-1", b"\x00", []),
        NOW_MS,
    ),
)
WAITING_STATE = OrderState(Standing.WAITING, NOW_MS, None, (), (), PARKED)
UNPROTECTED_STATE = OrderState(
    Standing.UNPROTECTED,
    NOW_MS,
    None,
    (),
    ("pplaced", "rrefunded"),
    (),
    Unheard(
        (("a", 3),),
        (LineTotals(0, 1, 0, 0, 1, 0),),
        1_700_000_000_000,
        (
            ParkedEvent(
                LineItemsRefunded("refunded", OrderId("ord-1"), (Movement("a", 1, 1_699_913_600_001),)),
                Record("orders.refunded", 3, 41, 1_699_913_600_000, b"ord-1", None, []),
                0,
            ),
        ),
    ),
    (),
)
STATES = {"placed": PLACED_STATE, "waiting": WAITING_STATE, "unprotected": UNPROTECTED_STATE}

# What version 1 knew of its three states, below, in today's words: of each road the product's movement is the shop's,
# and that of the protection at the same time is what pairing added to it.
READ_FROM_VERSION_1 = {
    "placed": OrderState(
        Standing.PLACED,
        NOW_MS,
        Order(
            PLACED,
            (Movement("a", 1, 1_699_913_600_000),),
            (Movement("a", 1, 1_699_913_600_001),),
            (Movement("a", 1, -1),),
            1_700_000_000_000,
            (
                Pairing("f", (), (Movement("p", 1, 1_699_913_600_000),)),
                Pairing("r", (), (Movement("p", 1, 1_699_913_600_001),)),
                Pairing("l", (), (Movement("p", 1, -1),)),
            ),
        ),
        (LineTotals(1, 1, 1, 1, 1, 1), LineTotals(0, 0, 0, 1, 1, 1)),
        (),
        (),
        None,
        ("fulfilled", "refunded", "lines-cancelled", "cancelled"),
    ),
    "waiting": WAITING_STATE,
    "unprotected": OrderState(
        Standing.UNPROTECTED, NOW_MS, None, (), (), (), Unheard(None, (), None, ()), ("placed", "fulfilled")
    ),
}

VERSION_1 = {
    "placed": """
        010000018bcfe56800000000000000000096a170cf0000018bcfe568009598a170a6706c61636564a56f72642d31cf000001
        8bcabf0c00a345555294a34d6178aa4d75737465726d616e6eba6d61782e6d75737465726d616e6e406578616d706c652e63
        6f6dc095ad4d757374657273747261c39f65a131c0a6313233343536a244459297a16103ce00015f2ca57072642d61a94120
        70726f64756374a54170706c65c097a17002cd2133a57072642d70a443617265a648616b756e6193a161a56f66662d31c092
        93a16101cf0000018bcabf0c0093a17001cf0000018bcabf0c009293a16101cf0000018bcabf0c0193a17001cf0000018bca
        bf0c019293a16101ff93a17001ffcf0000018bcfe5680092930101019301010194a966756c66696c6c6564a8726566756e64
        6564af6c696e65732d63616e63656c6c6564a963616e63656c6c656490
    """,
    "waiting": """
        010000018bcfe568000000018bcfe567ff96a177cf0000018bcfe56800c09090929394a172a8726566756e646564a56f7264
        2d319193a161cf7fffffffffffffff0097af6f72646572732e726566756e6465640329cf0000018bcabf0c00c4056f72642d
        31c40200ff9292a161c401fe92a161c0cf0000018bcfe567ff9394a163a963616e63656c6c6564a56f72642d31d380000000
        0000000097b06f72646572732e63616e63656c6c6564032affc4056f72642d31c4010090cf0000018bcfe56800
    """,
    "unprotected": """
        010000018bcfe56800000000000000000096a175cf0000018bcfe56800c09092a6706c61636564a966756c66696c6c656490
    """,
}
"""States as version 1 stored them. These bytes are in users' changelogs: they are never edited."""


VERSION_2 = {
    "placed": """
        020000018bcfe56800000000000000000098a170cf0000018bcfe568009698a170a6706c61636564a56f72642d31cf000001
        8bcabf0c00a345555294a34d6178aa4d75737465726d616e6eba6d61782e6d75737465726d616e6e406578616d706c652e63
        6f6dc095ad4d757374657273747261c39f65a131c0a6313233343536a244459297a16103ce00015f2ca57072642d61a94120
        70726f64756374a54170706c65c097a17002cd2133a57072642d70a443617265a648616b756e6193a161a56f66662d31c091
        93a16101cf0000018bcabf0c009193a16101cf0000018bcabf0c019193a17001cf0000018bcabf0c02cf0000018bcfe56800
        9293aa6666756c66696c6c6564909193a17001cf0000018bcabf0c0093a56c736169649193a1700102909296010100010100
        9600000101010094aa6666756c66696c6c6564a972726566756e646564b06c6c696e65732d63616e63656c6c6564aa636361
        6e63656c6c656490c091a36f6c64
    """,
    "waiting": """
        020000018bcfe568000000018bcfe567ff98a177cf0000018bcfe56800c09090929394a172a8726566756e646564a56f7264
        2d319193a161cf7fffffffffffffff0097af6f72646572732e726566756e6465640329cf0000018bcabf0c00c4056f72642d
        31c40200ff9292a161c401fe92a161c0cf0000018bcfe567ff9394a163a963616e63656c6c6564a56f72642d31d380000000
        0000000097b06f72646572732e63616e63656c6c6564032affc4056f72642d31c4010090cf0000018bcfe56800c090
    """,
    "unprotected": """
        020000018bcfe56800000000000000000098a175cf0000018bcfe56800c09092a770706c61636564a972726566756e646564
        90949192a161039196000100000100cf0000018bcfe56800919394a172a8726566756e646564a56f72642d319193a16101cf
        0000018bcabf0c0197af6f72646572732e726566756e6465640329cf0000018bcabf0c00c4056f72642d31c0900090
    """,
}
"""The same of version 2."""


@pytest.mark.parametrize("standing", VERSION_1)
def test_version_1_is_read_for_ever(standing: str) -> None:
    state = decode(bytes.fromhex(VERSION_1[standing]))
    assert state == READ_FROM_VERSION_1[standing]
    assert decode(encode(state)) == state


@pytest.mark.parametrize("standing", STATES)
def test_version_2_is_read_for_ever(standing: str) -> None:
    assert decode(bytes.fromhex(VERSION_2[standing])) == STATES[standing]


@pytest.mark.parametrize("standing", STATES)
def test_version_2_is_what_is_written(standing: str) -> None:
    """Goes with the constant above: a change of the written bytes that raises no version fails here."""
    assert encode(STATES[standing]) == bytes.fromhex(VERSION_2[standing])


@given(any_history, any_rules)
@settings(max_examples=60)
def test_every_state_comes_back_from_its_bytes(history: list[OrderEvent], by: Rules) -> None:
    for state in (transition.state for transition in steps(history, by)):
        assert state is None or decode(encode(state)) == state


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe_text = st.none() | text
int64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(
        OrderPlaced,
        text,
        text.map(OrderId),
        int64,
        text,
        st.builds(Customer, maybe_text, maybe_text, maybe_text, maybe_text),
        st.builds(Address, maybe_text, maybe_text, maybe_text, maybe_text, text),
        st.just((product("a"),)),
    ),
    st.lists(st.builds(Movement, text, int64, int64), max_size=3).map(tuple),
    st.lists(text, max_size=3).map(tuple),
    int64,
)
@settings(max_examples=60)
def test_any_unicode_and_any_long_is_kept(
    order: OrderPlaced, moves: tuple[Movement, ...], event_ids: tuple[str, ...], touched_at_ms: int
) -> None:
    state = OrderState(
        Standing.PLACED,
        touched_at_ms,
        Order(order, moves, moves, moves, touched_at_ms),
        (LineTotals(2**31, 0, 1, 2**31, 0, 1),),
        event_ids,
        (),
    )
    assert decode(encode(state)) == state
    assert peek(encode(state)) == (touched_at_ms, 0)


def test_peek_tells_when_it_was_touched_and_since_when_events_wait() -> None:
    early = take(None, fulfilled(("a", 1)), now_ms=NOW_MS).state
    later = take(early, cancelled(), now_ms=NOW_MS + 5).state
    assert later is not None
    assert peek(encode(later)) == (NOW_MS + 5, NOW_MS)


def test_peek_finds_the_earliest_though_the_clock_was_set_back() -> None:
    early = take(None, fulfilled(("a", 1)), now_ms=NOW_MS).state
    later = take(early, cancelled(), now_ms=NOW_MS - 5).state
    assert later is not None
    assert peek(encode(later)) == (NOW_MS - 5, NOW_MS - 5)


def test_peek_of_an_order_without_parked_events_says_0() -> None:
    assert peek(encode(PLACED_STATE)) == (NOW_MS, 0)
    assert peek(encode(UNPROTECTED_STATE)) == (NOW_MS, 0)


@pytest.mark.parametrize("version", [0, 32, 255])
def test_what_is_no_version_is_corrupt(version: int) -> None:
    with pytest.raises(StateCorrupt, match=f"version {version} "):
        decode(bytes([version]) + encode(PLACED_STATE)[1:])


@pytest.mark.parametrize("version", [3, 31])
def test_a_later_version_is_no_damage(version: int) -> None:
    with pytest.raises(StateTooNew, match=f"version {version} "):
        decode(bytes([version]) + encode(PLACED_STATE)[1:])


@pytest.mark.parametrize("length", [0, 1, 16])
def test_a_state_shorter_than_its_prefix_is_corrupt(length: int) -> None:
    stored = encode(PLACED_STATE)[:length]
    with pytest.raises(StateCorrupt):
        decode(stored)
    with pytest.raises(StateCorrupt):
        peek(stored)


@pytest.mark.parametrize("at", [8, 16], ids=["touched_at_ms", "parked_since_ms"])
def test_a_prefix_that_disagrees_with_its_body_is_corrupt(at: int) -> None:
    stored = bytearray(encode(WAITING_STATE))
    stored[at] ^= 1
    with pytest.raises(StateCorrupt, match="disagree"):
        decode(bytes(stored))


@pytest.mark.parametrize("standing", ["placed", "waiting", "unprotected"])
def test_a_standing_that_does_not_fit_what_is_kept_is_corrupt(standing: str) -> None:
    stored = encode(STATES[standing])
    other = b"\xa1p" if standing != "placed" else b"\xa1w"
    at = 18
    assert stored[at : at + 2] == b"\xa1" + standing[0].encode()
    with pytest.raises(StateCorrupt, match="never was"):
        decode(stored[:at] + other + stored[at + 2 :])


@given(st.data())
@settings(max_examples=120)
def test_damaged_bytes_are_a_state_or_corrupt(data: st.DataObject) -> None:
    stored = bytearray(encode(data.draw(st.sampled_from(list(STATES.values())))))
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    stored = stored[: data.draw(st.integers(0, len(stored)) | st.just(len(stored)))]
    try:
        state = decode(bytes(stored))
    except (StateCorrupt, StateTooNew):
        return
    assert decode(encode(state)) == state


def test_a_state_against_its_invariants_is_never_written() -> None:
    parked = ParkedEvent(cancelled(), record(cancelled()), NOW_MS)
    with pytest.raises(AssertionError):
        encode(OrderState(Standing.UNPROTECTED, NOW_MS, None, (), (), (parked,)))
    with pytest.raises(AssertionError):
        encode(OrderState(Standing.PLACED, NOW_MS, None, (), (), ()))
    with pytest.raises(AssertionError):
        encode(OrderState(Standing.PLACED, NOW_MS, Order(placed(product("a"))), (), (), ()))
