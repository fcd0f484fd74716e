import itertools

from hypothesis import given
from hypothesis import strategies as st

from fewbits_client.sse import Frame, frames

STREAM = (
    '\ufeff: keep-alive\n\nid: 7\r\nevent: job.event\r\ndata: {"a":\r\ndata: "x\u2028y"}\r\n\r\n'
    "event: progress\rdata:{}\r\rretry: 5\nunknown: 1\nid: 9\n\ndata: last\n\nid: 10\ndata: cut off"
).encode()
EXPECTED = [
    Frame("job.event", '{"a":\n"x\u2028y"}', "7"),
    Frame("progress", "{}", None),
    Frame("message", "last", None),
]


@given(st.sets(st.integers(0, len(STREAM))))
def test_frames_do_not_depend_on_how_the_bytes_were_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    assert list(frames(pieces)) == EXPECTED
