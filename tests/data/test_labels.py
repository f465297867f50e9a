import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.checks import ParameterError
from lib.data import labels

TRUE = np.arange(12) % 3
NAMES = np.array(["cat", "dog", "emu"])


def read(train, test=None, classes=None):
    return labels.read(train, train[:6] if test is None else test, classes, "own.npz")


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
    found = read(written)
    assert found.train.tolist() == TRUE.tolist()
    assert found.test.tolist() == TRUE[:6].tolist()
    assert found.classes == classes
    assert found.taken_from == taken_from


def test_truth_values_are_two_classes():
    found = read(TRUE == 1)
    assert found.train.tolist() == (TRUE == 1).astype(int).tolist()
    assert (found.classes, found.taken_from) == (("0", "1"), "truth values")


def test_parts_of_different_types_are_read_by_one_rule():
    found = read(TRUE[:, None] + 1, (TRUE[:6] + 1).astype(float))
    assert found.test.tolist() == TRUE[:6].tolist()
    # A 0 in the test part alone means that the training part begins at 0 as well, and lacks it.
    with pytest.raises(ParameterError, match=r"must hold every class 0 \.\.\. K - 1 or 1 \.\.\. K"):
        read(TRUE + 1, np.array([0, 1]))


def test_named_classes_decide_where_numbers_begin():
    assert read(TRUE + 1, classes=NAMES).train.tolist() == TRUE.tolist()
    more = np.array(["ant", *NAMES])
    found = read(TRUE + 1, classes=more)  # four names: 0 may well be a class, which does not occur
    assert found.train.tolist() == (TRUE + 1).tolist()
    assert found.classes == ("ant", "cat", "dog", "emu")


def test_text_takes_the_order_of_the_named_classes():
    found = read(NAMES[TRUE], classes=NAMES[[2, 0, 1]])
    assert found.classes == ("emu", "cat", "dog")
    assert found.train[:3].tolist() == [1, 2, 0]


def test_a_column_of_one_hot_rows_need_not_occur():
    found = read(np.eye(5)[TRUE])
    assert found.classes == ("0", "1", "2", "3", "4")


@given(st.lists(st.text(min_size=1).filter(lambda t: "\0" not in t), min_size=2, max_size=30), st.data())
def test_text_comes_back_by_its_class(train, data):
    if len(set(train)) < 2:
        train.append(train[0] + "x")
    test = data.draw(st.lists(st.sampled_from(train), min_size=1))
    found = read(np.array(train), np.array(test))
    assert [found.classes[place] for place in found.train] == train
    assert [found.classes[place] for place in found.test] == test


BAD = [
    (
        TRUE - 1,
        None,
        None,
        r"y_train of own\.npz: must be whole numbers of at least 0, which 4 of 12 are not, such as -1",
    ),
    (TRUE, np.array([0, -1]), None, r"y_test of own\.npz: .* which 1 of 2 are not, such as -1"),
    (TRUE, np.array([], dtype=np.int64), None, r"y_test of own\.npz: must hold at least one label, is empty"),
    (NAMES[:0], NAMES, None, r"y_train of own\.npz: must hold at least one label, is empty"),
    (np.where(TRUE == 2, np.nan, TRUE), None, None, r"which 4 of 12 are not, such as nan"),
    (np.where(TRUE == 2, np.inf, TRUE), None, None, r"which 4 of 12 are not, such as inf"),
    (TRUE + 0.25, None, None, r"which 12 of 12 are not, such as 0\.25"),
    (np.array([[1, 0], [1, 1], [0, 0]]), None, None, r"rows must be one-hot, .* which 2 of 3 are not, such as row 1"),
    (np.eye(3)[TRUE] * 0.9, None, None, r"rows must be one-hot"),
    (
        np.zeros((3, 2, 2)),
        None,
        None,
        r"must have the shape \(n,\), \(n, 1\) or \(n, K\) for one-hot rows, not \(3, 2, 2\)",
    ),
    (np.array([[0], [1, 2]], dtype=object), None, None, r"must be numbers, truth values or text, not object"),
    (TRUE + 1j, None, None, r"must be numbers, truth values or text, not complex128"),
    (NAMES[TRUE], TRUE, None, r"y_test of own\.npz: must be written like y_train, which holds text, not numbers"),
    (np.eye(3)[TRUE], TRUE, None, r"which holds one-hot rows of 3, not numbers"),
    (np.eye(3)[TRUE], np.eye(4)[TRUE], None, r"which holds one-hot rows of 3, not one-hot rows of 4"),
    (NAMES[TRUE], np.array(["cat", "Dog", "owl"]), None, r"not Dog, owl; found cat, dog, emu; did you mean 'dog'\?"),
    (NAMES[TRUE], None, np.array(["cat", "dog"]), r"y_train of own\.npz: .*, not emu; found cat, dog"),
    (NAMES[TRUE], None, np.array(["cat", "dog", "emu", "cat"]), r"classes must name each class once"),
    (NAMES[TRUE * 0], None, None, r"classes of own\.npz: must be at least 2, found cat"),
    (np.array([b"\xff", b"a"]), None, None, r"must be text in UTF-8"),
    (np.eye(3)[TRUE], None, NAMES[:2], r"must name the 3 columns, found \['cat', 'dog'\]"),
    (TRUE, None, NAMES[:2], r"must name at least 3, not \['cat', 'dog'\]"),
    (TRUE * 2, None, None, r"found 3 classes and labels up to 4"),
    (TRUE + 1, np.array([4]), None, r"found 3 classes and labels up to 4"),
    (TRUE + 1e20, None, None, r"must be whole numbers"),
]


@pytest.mark.parametrize(("train", "test", "classes", "message"), BAD)
def test_the_rest_is_refused_with_what_is_wrong(train, test, classes, message):
    with pytest.raises(ParameterError, match=message):
        read(train, test, classes)
