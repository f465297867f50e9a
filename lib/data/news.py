"""NEWS: 20 Newsgroups in 7 top-level classes, each post as word vectors averaged into a few positions.

A post is cut at 1,000 words. Its words stand at 1,000 places, which 16 equal positions share; the vectors of the
known words of a position are averaged, and a position without any is zero. Vectors are GloVe's where the user has
the file, else computed from the training posts alone: TF-IDF, truncated SVD, 300 dimensions.
"""

import hashlib
import logging
import re
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from sklearn.datasets import fetch_20newsgroups
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from lib.checks import ParameterError
from lib.parameters import ROOT

CACHE = "20news-bydate_py3.pkz"
"""scikit-learn's file of the corpus."""
MAX_WORDS = 1000
POSITIONS = 16
DIMENSIONS = 300
_WORD = re.compile(r"\b\w\w+\b")
_log = logging.getLogger("lib")


def glove_path(glove_file: str) -> Path | None:
    """The GloVe file that a parameter names; None where it is empty. Raises ParameterError where no file is there."""
    if glove_file and not (ROOT / glove_file).is_file():
        raise ParameterError(f"glove_file={glove_file!r}: must be a GloVe text file, found none at {ROOT / glove_file}")
    return ROOT / glove_file if glove_file else None


def file_name(glove: Path | None) -> str:
    """Name of the prepared file, other for other word vectors: a GloVe file counts by its name, size and date."""
    vectors = "svd"
    if glove:
        stat = glove.stat()
        content = f"{glove.name} {stat.st_size} {stat.st_mtime_ns}"
        vectors = f"glove-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    return f"news-{vectors}-{POSITIONS}x{DIMENSIONS}.npz"


def compute(folder: Path, glove: Path | None = None) -> dict[str, np.ndarray]:
    """Read the corpus, split it, and pool the word vectors.

    Args:
        folder: where scikit-learn's cache of the corpus lies, or is downloaded to.
        glove: GloVe text file ("word v1 ... v300" a line); None: vectors from the training posts.

    Returns:
        x_train, x_test: float16, shape (n, POSITIONS, DIMENSIONS), scaled to unit standard deviation over the
        training set; y_train, y_test: int64; classes; source.

    Raises:
        ParameterError: for a GloVe file of another width.
        FileNotFoundError: where the corpus is absent and cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (train_texts, y_train), (test_texts, y_test), classes = posts(folder)
    _log.info("NEWS: word vectors of %d training posts", len(train_texts))
    if glove:
        vocabulary, vectors = glove_vectors(glove, {word for text in train_texts for word in words(text)})
    else:
        vocabulary, vectors = corpus_vectors(train_texts, DIMENSIONS)
    x_train, x_test = (pool(texts, vocabulary, vectors) for texts in (train_texts, test_texts))
    scale = x_train.std()
    origin = f"GloVe vectors {glove.name}" if glove else "TF-IDF + truncated SVD vectors of the training posts"
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
    classes, class_of_group = top_level_classes(bunch.target_names)
    labels = class_of_group[bunch.target]
    split = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    train, test = (([bunch.data[i] for i in rows], labels[rows]) for rows in split)
    return train, test, classes


def top_level_classes(groups: list[str]) -> tuple[list[str], np.ndarray]:
    """The first part of each group's name (alt, comp, misc, rec, sci, soc, talk), and each group's class."""
    classes = sorted({group.split(".")[0] for group in groups})
    return classes, np.array([classes.index(group.split(".")[0]) for group in groups], dtype=np.int64)


def words(text: str) -> list[str]:
    """The first MAX_WORDS words of a text, in lower case, of two letters or digits at least."""
    return _WORD.findall(text.lower())[:MAX_WORDS]


def pool(texts: list[str], vocabulary: dict[str, int], vectors: np.ndarray) -> np.ndarray:
    """Average word vectors into positions.

    Args:
        texts: n posts.
        vocabulary: row of each known word in `vectors`.
        vectors: shape (words, dimensions).

    Returns:
        float32, shape (n, POSITIONS, dimensions).
    """
    rows, columns = [], []
    for post, text in enumerate(texts):
        for place, word in enumerate(words(text)):
            if word in vocabulary:
                rows.append(post * POSITIONS + place * POSITIONS // MAX_WORDS)
                columns.append(vocabulary[word])
    shape = (len(texts) * POSITIONS, len(vectors))
    counts = coo_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape).tocsr()
    known = np.maximum(np.asarray(counts.sum(axis=1)), 1)
    pooled = (counts @ vectors.astype(np.float32)) / known
    return np.asarray(pooled, dtype=np.float32).reshape(len(texts), POSITIONS, -1)


def corpus_vectors(texts: list[str], dimensions: int) -> tuple[dict[str, int], np.ndarray]:
    """Word vectors of a corpus: right singular vectors of its TF-IDF matrix, one row a word, of unit length.

    Returns:
        (vocabulary, vectors): the row of each word, and float32 of shape (words, dimensions).
    """
    tfidf = TfidfVectorizer(analyzer=words, min_df=5, max_features=30_000, sublinear_tf=True, dtype=np.float32)
    matrix = tfidf.fit_transform(texts)
    svd = TruncatedSVD(dimensions, random_state=0).fit(matrix)
    return tfidf.vocabulary_, normalize(svd.components_.T)


def glove_vectors(glove: Path, known_words: set[str]) -> tuple[dict[str, int], np.ndarray]:
    """The vectors of the known words in a GloVe text file; vocabulary and vectors as in `corpus_vectors`."""
    vocabulary, vectors = {}, []
    with glove.open(encoding="utf-8") as lines:
        for line in lines:
            word, _, numbers = line.partition(" ")
            if word in known_words:
                vocabulary[word] = len(vectors)
                vectors.append(np.array(numbers.split(), dtype=np.float32))
    widths = {len(vector) for vector in vectors}
    if widths != {DIMENSIONS}:
        raise ParameterError(f"glove_file={str(glove)!r}: must hold vectors of {DIMENSIONS} numbers, found {widths}")
    return vocabulary, np.stack(vectors)
