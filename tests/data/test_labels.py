import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.data import labels

TRUE = np.arange(12) % 3
NAMES = np.array(["cat", "dog", "emu"])


def read(train, test=None, classes=None):
    y_train, y_test, names, taken_from = labels.read(train, train[:6] if test is None else test, classes, "own.npz")
    return y_train.tolist(), y_test.tolist(), names, taken_from


@pytest.mark.parametrize(
    ("written", "classes", "taken_from"),
    [
        (TRUE, ("0", "1", "2"), ""),
        (TRUE.astype(np.uint8), ("0", "1", "2"), ""),
        (TRUE.astype(">i2"), ("0", "1", "2"), ""),
        (TRUE[:, None], ("0", "1", "2"), "shape (n, 1)"),
        (TRUE.astype(np.float32), ("0", "1", "2"), "whole numbers of float32"),
        (TRUE[:, None] + 1.0, ("1", "2", "3"), "shape (n, 1), whole numbers of float64, 1 to 3"),
        (TRUE + 1, ("1", "2", "3"), "1 to 3"),
        (np.eye(3)[TRUE], ("0", "1", "2"), "one-hot rows"),
        (np.eye(3, dtype=bool)[TRUE], ("0", "1", "2"), "one-hot rows"),
        (NAMES[TRUE], tuple(NAMES), "text"),
        (NAMES[TRUE].astype(bytes), tuple(NAMES), "text"),
        (NAMES[TRUE].astype(object), tuple(NAMES), "text"),
        (NAMES[TRUE][:, None], tuple(NAMES), "shape (n, 1), text"),
    ],
)
def test_what_is_unambiguous_is_taken_and_said(written, classes, taken_from):
    assert read(written) == (TRUE.tolist(), TRUE[:6].tolist(), classes, taken_from)


def test_truth_values_are_two_classes():
    places = (TRUE == 1).astype(int).tolist()
    assert read(TRUE == 1) == (places, places[:6], ("0", "1"), "truth values")


def test_parts_of_different_types_are_read_by_one_rule():
    assert read(TRUE[:, None] + 1, (TRUE[:6] + 1).astype(float))[1] == TRUE[:6].tolist()
    # A 0 in the test part alone means that the training part begins at 0 as well, and lacks it.
    with pytest.raises(ParameterError, match=r"must hold every class 0 \.\.\. K - 1 or 1 \.\.\. K"):
        read(TRUE + 1, np.array([0, 1]))


MORE = np.array(["ant", *NAMES])


@pytest.mark.parametrize(
    ("written", "named", "places"),
    [
        (TRUE + 1, NAMES, TRUE),
        (TRUE + 1, MORE, TRUE + 1),  # four names: 0 may well be a class, which does not occur
        (TRUE, np.array(["crane", "emu", "crane"]), TRUE),  # a bird and a machine
        (NAMES[TRUE], NAMES[[2, 0, 1]], np.array([1, 2, 0])[TRUE]),
        (np.eye(4)[TRUE], MORE, TRUE),
        (np.eye(5)[TRUE], None, TRUE),  # nor need the class of a column occur
    ],
)
def test_named_classes_decide_where_numbers_begin_and_the_order_of_text(written, named, places):
    found = read(written, classes=named)
    assert found[0] == places.tolist()
    assert found[2] == (("0", "1", "2", "3", "4") if named is None else tuple(named))


@pytest.mark.slow
@given(st.lists(st.text(min_size=1).filter(lambda t: "\0" not in t), min_size=2, max_size=30), st.data())
def test_text_comes_back_by_its_class(train, data):
    if len(set(train)) < 2:
        train.append(train[0] + "x")
    test = data.draw(st.lists(st.sampled_from(train), min_size=1))
    y_train, y_test, classes, _ = read(np.array(train), np.array(test))
    assert [classes[place] for place in y_train] == train
    assert [classes[place] for place in y_test] == test


BAD = [
    (TRUE - 1, None, None, r"y_train of own\.npz: must be whole numbers .*, which 4 of 12 are not, such as -1"),
    (TRUE, np.array([0, -1]), None, r"y_test of own\.npz: .* which 1 of 2 are not, such as -1"),
    (TRUE, np.array([], dtype=np.int64), None, r"y_test of own\.npz: must hold at least one label, is empty"),
    (NAMES[:0], NAMES, None, r"y_train of own\.npz: must hold at least one label, is empty"),
    (np.where(TRUE == 2, np.nan, TRUE), None, None, r"which 4 of 12 are not, such as nan"),
    (np.where(TRUE == 2, np.inf, TRUE), None, None, r"which 4 of 12 are not, such as inf"),
    (TRUE + 0.25, None, None, r"which 12 of 12 are not, such as 0\.25"),
    (np.array([[1, 0], [1, 1], [0, 0]]), None, None, r"rows must be one-hot, .* which 2 of 3 are not, such as row 1"),
    (np.eye(3)[TRUE] * 0.9, None, None, r"rows must be one-hot"),
    (np.zeros((3, 2, 2)), None, None, r"must be numbers, truth values or text of .*, not float64 \(3, 2, 2\)"),
    (NAMES[np.zeros((3, 2), int)], None, None, r"must be numbers, truth values or text of .*, not <U3 \(3, 2\)"),
    (np.array([[0], [1, 2]], dtype=object), None, None, r"must be numbers, truth values or text of .*, not object"),
    (TRUE + 1j, None, None, r"must be numbers, truth values or text of .*, not complex128 \(12,\)"),
    (NAMES[TRUE], TRUE, None, r"y_test of own\.npz: must be written like y_train, which holds text, not numbers"),
    (np.eye(3)[TRUE], TRUE, None, r"which holds one-hot rows of 3, not numbers"),
    (np.eye(3)[TRUE], np.eye(4)[TRUE], None, r"which holds one-hot rows of 3, not one-hot rows of 4"),
    (NAMES[TRUE], np.array(["cat", "Dog", "owl"]), None, r"not Dog, owl; found cat, dog, emu; did you mean 'dog'\?"),
    (NAMES[TRUE], None, np.array(["cat", "dog"]), r"labels of own\.npz: .*, not emu; found cat, dog"),
    (NAMES[TRUE], None, np.array(["cat", "dog", "emu", "cat"]), r"classes of own\.npz: must name each class once"),
    (NAMES[TRUE * 0], None, None, r"classes of own\.npz: must be at least 2, found cat"),
    (np.array([b"\xff", b"a"]), None, None, r"must be text in UTF-8"),
    (np.eye(3)[TRUE], None, NAMES[:2], r"must name the 3 columns, found \['cat', 'dog'\]"),
    (TRUE, None, NAMES[:2], r"must name at least 3, not \['cat', 'dog'\]"),
    (TRUE, None, np.array("a"), r"classes of own\.npz: must be names of shape \(K,\), not 'a'"),
    (TRUE * 2, None, None, r"found 3 classes and labels up to 4"),
    (TRUE + 1, np.array([4]), None, r"found 3 classes and labels up to 4"),
    (TRUE + 2, None, None, r"must hold every class 0 \.\.\. K - 1 or 1 \.\.\. K .* labels up to 4"),
    (TRUE + 1e20, None, None, r"must be whole numbers"),
]


@pytest.mark.parametrize(("train", "test", "classes", "message"), BAD)
def test_the_rest_is_refused_with_what_is_wrong(train, test, classes, message):
    with pytest.raises(ParameterError, match=message):
        read(train, test, classes)
