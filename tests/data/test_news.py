from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import data
from lib.checks import ParameterError
from lib.data import news, prepared
from lib.parameters import Experiment
from tests.conftest import left


def test_words_are_cut_and_lower_case():
    assert news.words("A The-Quick x9 fox_2.") == ["the", "quick", "x9", "fox_2"]
    assert len(news.words("word " * 3000)) == news.MAX_WORDS


def test_pooling_agrees_with_averaging_word_by_word():
    rng = np.random.default_rng(0)
    vocabulary = {f"w{i}": i for i in range(20)}
    vectors = rng.normal(size=(20, 5))
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 25, length)) for length in (0, 7, 400, 1500)]
    expected = np.zeros((4, news.POSITIONS, 5))
    for post, text in enumerate(texts):
        places: dict[int, list] = {}
        for place, word in enumerate(text.split()[: news.MAX_WORDS]):
            if word in vocabulary:
                position = int(place / (news.MAX_WORDS / news.POSITIONS))
                places.setdefault(position, []).append(vectors[vocabulary[word]])
        for position, found in places.items():
            expected[post, position] = np.mean(found, axis=0)
    assert np.allclose(news.pool(texts, vocabulary, vectors), expected, atol=1e-6)


def test_corpus_vectors_put_words_of_the_same_posts_together():
    texts = ["disk drive disk drive", "drive disk boot", "goal team goal", "team goal season team"] * 5
    vocabulary, vectors = news.corpus_vectors(texts, dimensions=2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)

    def similarity(a, b):
        return vectors[vocabulary[a]] @ vectors[vocabulary[b]]

    assert similarity("disk", "drive") > 0.9 > 0.1 > abs(similarity("disk", "goal"))


def test_glove_vectors_of_known_words_only(tmp_path, monkeypatch):
    monkeypatch.setattr(news, "DIMENSIONS", 3)
    glove = tmp_path / "glove.txt"
    glove.write_text("the 1 2 3\nunseen 4 5 6\nfox 7 8 9.5\n")
    vocabulary, vectors, _told = news.glove_vectors(glove, {"the", "fox"})
    assert vectors[vocabulary["fox"]].tolist() == [7, 8, 9.5]
    assert set(vocabulary) == {"the", "fox"}
    glove.write_text("the 1 2\n")
    with pytest.raises(ParameterError, match="must hold vectors of 3 numbers for words"):
        news.glove_vectors(glove, {"the"})


def test_word_vectors_as_they_are_published(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(news, "DIMENSIONS", 3)
    lines = [
        b"400000 3",  # the header of word2vec and fastText
        b". . . 1 1 1",
        b"at name@domain.com 2 2 2",
        b"the 1 2 3 ",  # word2vec ends lines with a space
        b"caf\xe9 4 4 4",
        b"fox 7 nan 9",
        b"fox 1 2",
        b"dog 1 1e99 2",
        b"dog 1 x 2",
        b"dog 1e-2 -5 6",
        b"dog 0 0 0",
        b"",
        "über\u00a0uns 8 8 8".encode(),
    ]
    glove = tmp_path / "glove.txt"
    glove.write_bytes(b"\n".join(lines) + b"\n")
    vocabulary, vectors, told = news.glove_vectors(glove, {"the", "at", "fox", "dog", "über", "400000"})
    assert set(vocabulary) == {"the", "dog"}
    assert vectors[vocabulary["the"]].tolist() == [1, 2, 3]
    assert vectors[vocabulary["dog"]] == pytest.approx([0.01, -5, 6])
    assert told == "lines not used: 1 not UTF-8, 3 not finite numbers, 1 too short"
    assert told in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2\nfox 3 4\n", "most lines have 2 numbers"),
        ("the 1 2 3 4\nfox 3 4 5 6\n", "most lines have 4 numbers"),
        ("2 4\nthe 1 2 3 4\nfox 3 4 5 6\n", "most lines have 4 numbers"),
        ("unseen 1 2 3\n", "most lines have 3 numbers"),
        ("", "the file is empty"),
    ],
)
def test_word_vectors_that_do_not_fit_are_refused_in_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(news, "DIMENSIONS", 3)
    (tmp_path / "glove.txt").write_text(content)
    with pytest.raises(ParameterError, match=rf"vectors of 3 numbers for words of the posts, found none; {message}$"):
        news.glove_vectors(tmp_path / "glove.txt", {"the", "fox"})


def test_what_was_not_used_of_word_vectors_is_in_the_source(tmp_path, small_corpus):
    glove = tmp_path / "glove.txt"
    glove.write_bytes(b"disk 1 2 3 4\ngoal 4 3 2 1\nbike 1 1 1 1\nride 1 nan 1 1\n")
    experiment = Experiment(dataset="news", network="news_mlp", data_folder=str(tmp_path), glove_file=str(glove))
    dataset = data.load(experiment)
    assert dataset.source.endswith("GloVe vectors glove.txt (lines not used: 1 not finite numbers)")
    assert dataset.x_train[:].std().item() == pytest.approx(1, abs=1e-3)


def test_a_missing_glove_file_is_an_error_before_anything_is_done(tmp_path):
    (tmp_path / "glove.6B.300d.txt").touch()
    wrong = str(tmp_path / "glove.300d.txt")
    experiment = Experiment(dataset="news", data_folder=str(tmp_path / "data"), glove_file=wrong)
    told = (
        r"glove_file='.*': must be a GloVe text file, found none; in .* found .*; did you mean 'glove\.6B\.300d\.txt'\?"
    )
    with pytest.raises(ParameterError, match=told):
        data.load(experiment)
    assert not (tmp_path / "data").exists()


def test_other_word_vectors_have_another_prepared_file(tmp_path, small_corpus):
    for place, name in enumerate(("", "a.txt", "b.txt", "a.txt")):  # a.txt changes meanwhile
        glove = tmp_path / name
        if name:
            glove.write_text(f"disk 1 2 3 {place}")
        for _ in range(2):
            data.load(replace(news_experiment(tmp_path), glove_file=str(glove) if name else ""))
        assert len(list(tmp_path.glob("news-*.npz"))) == len(small_corpus) == place + 1


@pytest.fixture
def small_corpus(monkeypatch):
    """Stands in for scikit-learn's loader: 60 posts in three groups."""

    class Bunch:
        target_names = ("comp.a", "rec.b", "rec.c")
        target = np.arange(60) % 3
        data = tuple(f"{('disk boot', 'goal team', 'bike ride')[i % 3]} word{i % 7} " * 10 for i in range(60))

    calls = []

    def fetch(**arguments):
        calls.append(arguments)
        return Bunch

    monkeypatch.setattr(news, "fetch_20newsgroups", fetch)
    monkeypatch.setattr(news, "DIMENSIONS", 4)
    return calls


def news_experiment(folder):
    return Experiment(dataset="news", network="news_mlp", data_folder=str(folder))


def test_features_are_computed_once_and_read_back_equal(tmp_path, small_corpus):
    first = data.load(news_experiment(tmp_path))
    second = data.load(news_experiment(tmp_path))
    assert len(small_corpus) == 1
    assert small_corpus[0]["data_home"] == tmp_path
    assert first.x_train.shape == (42, news.POSITIONS, 4)
    assert first.classes == ("comp", "rec")
    assert first.y_train.bincount().tolist() == [14, 28]  # of three groups, two are of one class
    assert torch.equal(first.x_train[:], second.x_train[:])
    assert torch.equal(first.y_test, second.y_test)
    assert [name[-4:] for name in left(tmp_path)] == [".npz"]


def test_a_file_that_cannot_be_written_costs_time_not_the_run(tmp_path, small_corpus, monkeypatch, caplog):
    def full_disk(path, _arrays):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(prepared, "write", full_disk)
    assert len(data.load(news_experiment(tmp_path)).x_test) == 18
    assert "it will be computed again: No space left on device" in caplog.text
    assert left(tmp_path) == []


def test_without_corpus_and_internet_the_error_names_the_file_and_its_place(tmp_path, monkeypatch):
    def offline(**_arguments):
        raise OSError("Name or service not known")

    monkeypatch.setattr(news, "fetch_20newsgroups", offline)
    with pytest.raises(FileNotFoundError, match=rf"20news-bydate_py3\.pkz.* is not in {tmp_path} .*place it there"):
        data.load(news_experiment(tmp_path))
    assert left(tmp_path) == []


def test_word_vectors_do_not_see_the_test_posts(tmp_path, small_corpus, monkeypatch):
    seen = []
    original = news.corpus_vectors
    monkeypatch.setattr(
        news, "corpus_vectors", lambda texts, dimensions: seen.extend(texts) or original(texts, dimensions)
    )
    news.compute(tmp_path)
    assert len(seen) == 42


def test_the_real_corpus(newsgroups_folder):
    dataset = data.load(Experiment(dataset="news", network="news_mlp", data_folder=str(newsgroups_folder)))
    assert dataset.classes == ("alt", "comp", "misc", "rec", "sci", "soc", "talk")
    assert dataset.x_train.shape == (13_192, 20, 300)
    assert dataset.x_test.shape == (5_654, 20, 300)
    assert dataset.x_train[:].std().item() == pytest.approx(1, abs=1e-2)
    assert "SVD" in dataset.source
