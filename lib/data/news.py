"""NEWS: 20 Newsgroups in 7 top-level classes, each post as word vectors averaged into a few positions.

A post is cut at 1,000 words. Its words stand at 1,000 places, which 20 equal positions share, as in CND's paper; the
vectors of the known words of a position are averaged, and a position without any is zero. Vectors are GloVe's where the
user has the file, else computed from the training posts alone: TF-IDF, truncated SVD, 300 dimensions.
"""

import logging
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_20newsgroups
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from lib.checks import ParameterError
from lib.data.dataset import Dataset, from_arrays
from lib.data.prepared import prepared
from lib.files import digest, there
from lib.parameters import ROOT, Experiment

CACHE = "20news-bydate_py3.pkz"
"""scikit-learn's file of the corpus."""
MAX_WORDS = 1000
POSITIONS = 20
DIMENSIONS = 300
_LOOKED_AT = 1000  # lines of a file of word vectors, to tell their width
_WORD = re.compile(r"\b\w\w+\b")
_log = logging.getLogger("lib")


def load(experiment: Experiment) -> Dataset:
    """NEWS, prepared in one file for each file of word vectors, which counts by its name, size and date.

    Raises:
        ParameterError: where `glove_file` is none, has vectors of another width, or none of a known word.
        FileNotFoundError: where the corpus is absent and cannot be downloaded.
    """
    folder, glove, vectors = ROOT / experiment.data_folder, None, "svd"
    if experiment.glove_file:
        glove = ROOT / experiment.glove_file
        if not glove.is_file():
            allowed = f"must be a GloVe text file, found none; {there(glove)}"
            raise ParameterError(f"glove_file={experiment.glove_file!r}: {allowed}")
        vectors = f"glove-{digest(f'{glove.name} {glove.stat().st_size} {glove.stat().st_mtime_ns}')}"
    file = folder / f"news-{vectors}-{POSITIONS}x{DIMENSIONS}.npz"
    return from_arrays(prepared(file, lambda: compute(folder, glove)), "news", axes="features", scaling="none")


def compute(folder: Path, glove: Path | None = None) -> dict[str, np.ndarray]:
    """Read the corpus, split it, and pool the word vectors.

    Args:
        folder: where scikit-learn's cache of the corpus lies, or is downloaded to.
        glove: text file of vectors, see `glove_vectors`; None: vectors from the training posts.

    Returns:
        x_train, x_test: float16, shape (n, POSITIONS, DIMENSIONS), scaled to unit standard deviation over the
        training set; y_train, y_test: int64; classes; source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (train_texts, y_train), (test_texts, y_test), classes = posts(folder)
    _log.info("NEWS: word vectors of %d training posts", len(train_texts))
    if glove:
        vocabulary, vectors, told = glove_vectors(glove, {word for text in train_texts for word in words(text)})
        origin = f"GloVe vectors {glove.name}{f' ({told})' if told else ''}"
    else:
        vocabulary, vectors = corpus_vectors(train_texts, DIMENSIONS)
        origin = "TF-IDF + truncated SVD vectors of the training posts"
    x_train, x_test = (pool(texts, vocabulary, vectors) for texts in (train_texts, test_texts))
    scale = x_train.std()
    return {
        "x_train": (x_train / scale).astype(np.float16),
        "y_train": y_train,
        "x_test": (x_test / scale).astype(np.float16),
        "y_test": y_test,
        "classes": np.array(classes),
        "source": np.array(f"20 Newsgroups by date (scikit-learn), stratified 70/30 split, {origin}"),
    }


def posts(folder: Path) -> tuple[tuple[list[str], np.ndarray], tuple[list[str], np.ndarray], list[str]]:
    """Texts and classes of the training and of the test posts, int64 of shape (n,), and the names of the classes.

    Raises FileNotFoundError where the corpus is not in the folder and cannot be downloaded.
    """
    try:
        bunch = fetch_20newsgroups(data_home=folder, subset="all", shuffle=False)
    except OSError as error:
        raise FileNotFoundError(
            f"data_folder: {CACHE}, scikit-learn's cache of 20 Newsgroups, is not in {folder} and could not be "
            f"downloaded ({error}); place it there"
        ) from error
    classes, class_of_group = np.unique([name.split(".")[0] for name in bunch.target_names], return_inverse=True)
    labels = class_of_group[bunch.target]
    split = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    train, test = (([bunch.data[i] for i in rows], labels[rows]) for rows in split)
    return train, test, classes.tolist()


def words(text: str) -> list[str]:
    """The first MAX_WORDS words of a text, in lower case, of two letters or digits at least."""
    return _WORD.findall(text.lower())[:MAX_WORDS]


def pool(texts: list[str], vocabulary: dict[str, int], vectors: np.ndarray) -> np.ndarray:
    """Average word vectors into positions.

    Args:
        texts: n posts.
        vocabulary: row of each known word in `vectors`, whose shape is (words, dimensions).

    Returns:
        float32, shape (n, POSITIONS, dimensions).
    """
    starts = [-(-position * MAX_WORDS // POSITIONS) for position in range(POSITIONS + 1)]
    segments = (found[here:end] for found in map(words, texts) for here, end in pairwise(starts))
    # The words are cut already.
    counts = CountVectorizer(analyzer=list, vocabulary=vocabulary, dtype=np.float32).transform(segments)
    known = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    pooled = (counts @ vectors.astype(np.float32)) / known
    return np.asarray(pooled, dtype=np.float32).reshape(len(texts), POSITIONS, -1)


def corpus_vectors(texts: list[str], dimensions: int) -> tuple[dict[str, int], np.ndarray]:
    """Word vectors of a corpus: right singular vectors of its TF-IDF matrix, one row a word, of unit length.

    Returns the row of each word, and the vectors, float32 of shape (words, dimensions).
    """
    tfidf = TfidfVectorizer(analyzer=words, min_df=5, max_features=30_000, sublinear_tf=True, dtype=np.float32)
    matrix = tfidf.fit_transform(texts)
    svd = TruncatedSVD(dimensions, random_state=0).fit(matrix)
    return tfidf.vocabulary_, normalize(svd.components_.T)


def glove_vectors(glove: Path, known_words: set[str]) -> tuple[dict[str, int], np.ndarray, str]:
    """The vectors of the known words in a text file as of GloVe, word2vec or fastText, with or without a header line.

    A vector is the last DIMENSIONS fields of a line, its token what stands before them, spaces too.

    Returns:
        Vocabulary and vectors as in `corpus_vectors`, and how many lines of which kind could not be used, in words.

    Raises:
        ParameterError: for a file of vectors of another width, or without any known word.
    """
    vectors: dict[str, np.ndarray] = {}
    unusable: Counter[str] = Counter()
    widths: Counter[int] = Counter()
    with glove.open("rb") as lines:
        for number, line in enumerate(filter(bytes.strip, lines)):
            if number < _LOOKED_AT:
                widths[len(line.split()) - 1] += 1
            token, *numbers = line.rsplit(maxsplit=DIMENSIONS)
            try:
                word = token.decode()
            except UnicodeDecodeError:
                unusable["not UTF-8"] += 1
                continue
            if len(numbers) < DIMENSIONS:
                unusable["too short"] += number > 0 or len(numbers) > 1  # a header has two fields
            elif word in known_words:
                vector = _vector(numbers)
                if np.isfinite(vector).all():
                    vectors.setdefault(word, vector)
                else:
                    unusable["not finite numbers"] += 1
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(unusable.items()) if count)
    told = f"lines not used: {told}" if told else ""
    if not vectors:
        found = f"most lines have {widths.most_common(1)[0][0]} numbers" if widths else "the file is empty"
        allowed = f"must hold vectors of {DIMENSIONS} numbers for words of the posts"
        raise ParameterError(f"glove_file={str(glove)!r}: {allowed}, found none; {found}")
    if told:
        _log.warning("glove_file=%r: %s", str(glove), told)
    return {word: row for row, word in enumerate(vectors)}, np.stack(list(vectors.values())), told


def _vector(fields: list[bytes]) -> np.ndarray:
    """The fields as float32; NaN where one is no number."""
    try:
        with np.errstate(over="ignore"):
            return np.array(fields, dtype=np.float32)
    except ValueError:
        return np.array([np.nan])
