"""Query tokens: every form, on images whose two sides differ, and everything that is no query."""

import pytest

from atmviz.errors import QueryError
from atmviz.geometry import Placement, Preprocessing
from atmviz.recording.query import Query, fixed_query, parse_queries, query_texts
from atmviz.recording.settings import RecordingSettings

# An image 200 wide and 100 high, seen whole and unscaled: at stage 1 each token is a cell of 4x4 pixels.
WHOLE = Placement(image=(100, 200), resized=(100, 200), origin=(0, 0), size=(100, 200))
GRID = (25, 50)


def tokens(text, placement=WHOLE, grid=GRID, stride=4, **options):
    return [query.token(placement, grid, (stride, stride), **options) for query in parse_queries(text)]


def refusal(call, *arguments, **options):
    """The message of what must be refused; it is one line."""
    with pytest.raises(QueryError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("center", (12, 25)),
        ("centre", (12, 25)),
        ("120,80", (20, 30)),  # x, y in px: column 120 // 4, row 80 // 4
        ("120, 80", (20, 30)),
        ("123.4,83.4", (20, 30)),
        ("0,0", (0, 0)),
        ("199,99", (24, 49)),
        ("1,1", (0, 0)),  # without a point: pixels
        ("0.31,0.87", (21, 15)),  # x = 62 of 200 px, y = 87 of 100 px
        (".31, .87", (21, 15)),
        ("0.0,0.0", (0, 0)),
        ("1.0,1.0", (24, 49)),
        ("1.0,0", (0, 49)),
        ("4:7", (4, 7)),
        ("24:49", (24, 49)),
    ],
)
def test_one_query_gives_one_token(text, token):
    assert tokens(text) == [token]


def test_several_may_be_asked_for_at_once():
    # The middles of two rows and four columns: y = 25 and 75 of 100 px, x = 25, 75, 125 and 175 of 200 px.
    assert tokens("grid:2x4") == [(6, 6), (6, 18), (6, 31), (6, 43), (18, 6), (18, 18), (18, 31), (18, 43)]


@pytest.mark.parametrize(("grid", "center"), [((14, 14), (7, 7)), ((7, 9), (3, 4)), ((19, 25), (9, 12))])
def test_centre_is_half_the_map_rounded_down(grid, center):
    assert tokens("center", grid=grid) == [center]


def test_random_queries_are_seeded_and_inside():
    first = parse_queries("random:50", seed=1)
    assert first == parse_queries("random:50", seed=1)
    assert first != parse_queries("random:50", seed=2)
    drawn = [query.token(WHOLE, GRID, (4, 4)) for query in first]
    assert len(set(drawn)) > 40
    assert max(i for i, _ in drawn) in range(15, 25)
    assert max(j for _, j in drawn) in range(35, 50)


@pytest.mark.parametrize(("anchor", "token"), [("cell", (19, 29)), ("rf", (20, 30))])
def test_anchor_decides_which_token_is_nearest(anchor, token):
    # Cell 19 spans the pixels 76 to 79; receptive fields are centred on 77 and 81, both 2 px from 79.
    assert tokens("119,79", anchor=anchor) == [token]


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_tokens_of_deeper_stages_are_larger(stride):
    assert tokens("120,80", stride=stride) == [(80 // stride, 120 // stride)]


def test_pixels_and_fractions_of_the_image_follow_its_crop():
    # 200x100 -> 256x128 (times 1.28), of which the middle 112x112 is seen, from (72, 8) on.
    placement = Preprocessing((112, 112)).place(100, 200)
    assert (placement.resized, placement.origin) == ((128, 256), (8, 72))
    # (70, 60) px -> (70.5 * 1.28 - 72, 60.5 * 1.28 - 8) = (18.24, 69.44) in the crop
    for text in ("70,60", "0.3525,0.605"):
        assert tokens(text, placement, grid=(28, 28)) == [(17, 4)]


@pytest.mark.parametrize("text", ["5,50", "0.98,0.5"])
def test_pixel_outside_the_crop_is_an_error(text):
    placement = Preprocessing((112, 112)).place(100, 200)
    assert "center crop" in refusal(tokens, text, placement, grid=(28, 28))


@pytest.mark.parametrize("text", ["200,50", "50,120", "-3,5", "5,-1", "99999,0"])
def test_pixel_outside_the_image_is_an_error(text):
    message = refusal(tokens, text)
    assert "outside the image" in message
    assert "x 0-199, y 0-99" in message


@pytest.mark.parametrize("text", ["25:0", "0:50", "49:24"])
def test_token_outside_the_map_is_an_error(text):
    message = refusal(tokens, text)
    assert text in message
    assert "rows 0 to 24, columns 0 to 49" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "middle",
        "1",
        "1,2,3",
        "1:2:3",
        "-1:2",
        "1.5:2",
        "a,b",
        "grid:0x4",
        "grid:4",
        "grid:-1x2",
        "random:0",
        "random:",
    ],
)
def test_other_text_is_no_query(text):
    message = refusal(parse_queries, text)
    assert repr(text) in message
    assert "grid:4x4" in message


@pytest.mark.parametrize("text", ["center", "120,80", "0.3,0.6", "4:7"])
def test_queries_are_written_as_they_are_read(text):
    assert [str(query) for query in parse_queries(text)] == [text]


@pytest.mark.parametrize(
    ("text", "query"),
    [("center", Query("center")), ("0.3,0.6", Query("input", 0.3, 0.6)), ("4:7", Query("token", 4, 7))],
)
def test_queries_of_a_dataset_are_the_same_token_in_every_image(text, query):
    assert fixed_query(text) == query
    crop = Preprocessing((64, 96))
    assert len({query.token(crop.place(*size), (16, 24), (4, 4)) for size in [(48, 64), (300, 100), (90, 400)]}) == 1


@pytest.mark.parametrize("text", ["120,80", "1,1", "grid:2x2", "random:3", "nowhere"])
def test_other_queries_do_not_suit_a_dataset(text):
    refusal(fixed_query, text)


def test_fractions_of_the_input_are_x_then_y():
    # Of 96x64 px: x = 24 px is column 1 of 16 px cells, y = 57.6 px is row 3.
    whole = Placement(image=(64, 96), resized=(64, 96), origin=(0, 0), size=(64, 96))
    assert fixed_query("0.25,0.9").token(whole, (4, 6), (16, 16)) == (3, 1)


@pytest.mark.parametrize("text", ["-0.1,0.5", "1.2,0.5", "0.5,1.01"])
def test_fractions_beyond_the_image_are_not_taken_for_pixels(text):
    assert "fractions from 0 to 1" in refusal(parse_queries, text)


@pytest.mark.parametrize(
    ("queries", "texts"),
    [
        ("center", ("center",)),
        ((0.3, 0.6), ("0.3,0.6",)),
        ((120, 80), ("120,80",)),
        ([(0.3, 0.6), "4:7"], ("0.3,0.6", "4:7")),
        ([], ()),
    ],
)
def test_queries_may_be_texts_and_pairs_of_numbers(queries, texts):
    assert query_texts(queries) == texts


@pytest.mark.parametrize("queries", [0.3, None, [0.3], (0.3, 0.6, 0.9), [("0.3", "0.6")], {"x": 1}])
def test_other_queries_are_refused_with_the_known_forms(queries):
    with pytest.raises(QueryError, match=r"^got query .*, expected center, X,Y in px"):
        query_texts(queries)


@pytest.mark.parametrize(
    ("query", "point"),
    [
        (Query("center"), (31.5, 47.5)),
        (Query("px", 99, 49), (31.5, 63.5)),  # half of the image's size
        (Query("image", 0.5, 0.5), (31.5, 63.5)),
        (Query("input", 0.25, 0.5), (31.5, 23.5)),
        (Query("token", 1, 2), None),
    ],
    ids=str,
)
def test_the_exact_point_of_a_query_is_in_input_pixels(query, point):
    whole = Placement((100, 200), (64, 128), (0, 0), (64, 128 if query.kind in ("px", "image") else 96))
    found = query.point_px(whole)
    assert found == (None if point is None else pytest.approx(point, abs=0.4))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("120,80", "it is another token in images of another size"),
        ("grid:2x2", "it is for several tokens"),
        ("random:3", "it is for several tokens"),
    ],
)
def test_a_query_that_cannot_be_recorded_is_told_why(text, reason):
    assert parse_queries(text)
    assert refusal(fixed_query, text) == (
        f"query {text} cannot be recorded, because {reason}: expected center, fractions (0.3,0.6) or ROW:COL in tokens"
    )


@pytest.mark.parametrize("text", ["middle", "1;2", "4:", "grid:0x1", ""])
def test_recordings_and_overlays_refuse_what_is_no_query_in_the_same_words(text):
    assert refusal(RecordingSettings, query=text) == refusal(query_texts, text) == refusal(parse_queries, text)


@pytest.mark.parametrize("text", ["Center", " CENTER ", "GRID:2X2"])
def test_words_of_a_query_may_be_written_in_any_case(text):
    assert parse_queries(text) == parse_queries(text.strip().lower())


def test_a_recording_keeps_one_spelling_of_its_query():
    assert RecordingSettings(query=" Center").query == "center"


def test_a_path_walks_evenly_from_point_to_point():
    steps = parse_queries("path:0.2,0.5; 0.8,0.5 ;0.8,1")
    assert len(steps) == 25 + 25 + 1
    assert [(steps[k].first, steps[k].second) for k in (0, 25, 50)] == [(0.2, 0.5), (0.8, 0.5), (0.8, 1)]
    assert [query.first for query in steps[:26]] == pytest.approx([0.2 + 0.6 * k / 25 for k in range(26)])
    assert [query.second for query in steps[25:]] == pytest.approx([0.5 + 0.5 * k / 25 for k in range(26)])
    assert {query.kind for query in steps} == {"image"}
    corners = parse_queries("path:0,0;1,1")  # whole numbers too are fractions here
    assert (corners[0], corners[-1]) == (Query("image", 0, 0), Query("image", 1, 1))
    assert refusal(fixed_query, "path:0,0;1,1").startswith("query path:0,0;1,1 cannot be recorded, because it is for")


@pytest.mark.parametrize(
    "points", ["", "0.5,0.5", "0.5,0.5;", "0,0;2,1", "0.1,0.1;1.5,0.5", "1:2;3:4", "0.1,0.1;center"]
)
def test_a_path_needs_two_points_within_the_image(points):
    with pytest.raises(QueryError, match=r"path:0\.2,0\.5;0\.8,0\.5$|is outside the image"):
        parse_queries(f"path:{points}")
    with pytest.raises(QueryError, match="expected 2 to 100 points"):
        parse_queries("path:" + ";".join(["0.5,0.5"] * 101))
