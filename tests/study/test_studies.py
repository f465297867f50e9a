import pandas as pd
import pytest

from lib.parameters import Experiment
from lib.runs import table as runs
from lib.study.studies import Study, studies


@pytest.fixture(scope="module")
def table(runs_folder):
    return runs.load(runs_folder)


def names(*tables):
    return [study.name for study in studies(pd.concat(tables))]


def test_runs_that_differ_in_noise_and_seed_are_one_study(table):
    (study,) = studies(table)
    assert (study.name, study.title, study.stem, study.variants) == ("digits", "Digits", "digits", [])
    pd.testing.assert_frame_equal(study.runs, table)


def test_other_training_is_another_study(table):
    longer = table.assign(epochs=9, runs_folder="elsewhere")
    found = studies(pd.concat([table, longer]))
    assert [study.name for study in found] == ["digits epochs=3", "digits epochs=9"]
    assert found[1].title == "Digits (epochs 9)"
    assert found[0].stem != found[1].stem
    pd.testing.assert_frame_equal(found[0].runs, table, check_dtype=False, check_categorical=False)
    assert studies(runs.load("nowhere")) == []
    deeper = studies(pd.concat([table, table.assign(network="preact_resnet110")]))
    assert [study.title for study in deeper] == ["Digits (MLP)", "Digits (PreAct ResNet-110)"]
    assert [study.stem for study in deeper] == ["digits-mlp", "digits-preact_resnet110"]


def file_stem(name):
    return Study(name, pd.DataFrame()).stem


def test_long_names_make_short_file_names():
    assert file_stem("digits") == "digits"
    assert len(file_stem("digits " + 300 * "x")) < 30
    assert "/" not in file_stem("a/b c=d/e")
    assert file_stem("digits a=b c=d") == "digits-a_b_c_d"
    assert file_stem("d/set+1.npz") != file_stem("d/set 1.npz")


def test_the_fewest_parameters_that_tell_studies_apart_name_them(table):
    other = table.assign(epochs=30, network="small_cnn", window=3)
    assert names(table, other) == ["digits network=mlp", "digits network=small_cnn"]
    third = other.assign(batch_size=5)
    assert set(names(table, other, third)) == {
        "digits network=mlp batch_size=64",
        "digits network=small_cnn batch_size=64",
        "digits network=small_cnn batch_size=5",
    }


def test_what_is_measured_otherwise_is_a_variant(study_folder):
    (study,) = studies(runs.load(study_folder))
    assert study.runs["run"].nunique() == 4
    changed = {tuple(variant.changed): variant for variant in study.variants}
    assert set(changed) == {("validation_share",), ("cnd_bins",)}
    assert changed["cnd_bins",].changed == {"cnd_bins": 10}
    assert changed["validation_share",].runs["run"].nunique() == 2


def test_the_study_is_what_most_runs_are_then_what_is_nearest_to_the_defaults(table):
    other = table.assign(cnd_bins=10, run=table["run"].astype(str) + "x")
    (study,) = studies(pd.concat([other, table]))
    assert study.runs["cnd_bins"].unique().tolist() == [Experiment().cnd_bins]
    fewer = table[table["seed"] == 0]
    (study,) = studies(pd.concat([other, fewer]))
    assert study.runs["cnd_bins"].unique().tolist() == [10]


def test_runs_that_hold_nothing_out_are_the_study_however_few(table):
    many = pd.concat([table.assign(validation_share=0.05, run=table["run"].astype(str) + str(i)) for i in range(3)])
    (study,) = studies(pd.concat([many, table.assign(validation_share=0.0)]))
    assert study.runs["validation_share"].unique().tolist() == [0]


def test_trainings_repeated_with_other_signals_change_nothing(table):
    fewer = table[table["seed"] == 0].assign(criteria="cnd", run=table["run"].astype(str) + "x")
    (study,) = studies(pd.concat([table, fewer]))
    assert [variant.changed for variant in study.variants] == [{}]
