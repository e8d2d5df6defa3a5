import pytest

from stream.instruments.names import expand_names


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        (["a", "b"], ("a", "b")),
        (["1..3"], ("1", "2", "3")),
        (["A-008..A-011"], ("A-008", "A-009", "A-010", "A-011")),
        (["u8..u11"], ("u8", "u9", "u10", "u11")),
        (["u8..10", "x"], ("u8", "u9", "u10", "x")),
        (["unit.3"], ("unit.3",)),
    ],
)
def test_ranges_are_written_out_as_wide_as_their_first_name(given, expanded) -> None:
    assert expand_names(given) == expanded


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "at least one name"),
        (["a", "a"], "'a' is named twice"),
        (["1..3", "2"], "'2' is named twice"),
        (["A-001..B-003"], "is no range"),
        (["9..3"], "is no range"),
        (["1..10000000"], "is no range"),
    ],
)
def test_what_is_no_list_of_names_is_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        expand_names(given)
