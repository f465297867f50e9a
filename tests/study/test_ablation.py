import json

import numpy as np
import pytest

from lib.criteria import stops
from lib.runs import table as runs
from lib.runs.folder import ARGS, divergence_by_layer
from lib.stopping import select_record
from lib.study import ablation
from lib.study.ablation import Divergences
from lib.study.studies import Study, Variant, studies

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(study_folder):
    (study,) = studies(runs.load(study_folder))
    return study


@pytest.fixture(scope="module")
def stored(study, study_folder):
    return Divergences(study.runs, study_folder)


def test_the_recorded_signal_follows_from_the_stored_divergence(study, stored):
    for run in stored.runs:
        recorded = study.runs.loc[study.runs["run"] == run.folder.name, "cnd"]
        bits = divergence_by_layer(run.folder)[run.own.layer]
        assert np.quantile(bits, run.own.quantile, axis=1) == pytest.approx(recorded.to_numpy(), abs=1e-5)


def test_gaps_as_in_the_study_are_those_of_its_stops(study, stored):
    chosen = stops(study.runs).query("criterion == 'cnd'").sort_values("run")
    assert stored.gaps()[0, 0, 0] == pytest.approx(chosen["gap"].to_numpy())


def test_runs_that_stop_as_published_are_compared_with_their_own_stops(study, stored, study_folder):
    published = study.runs.assign(stopping_rule="published")
    chosen = stops(published).query("criterion == 'cnd'").sort_values("run")
    gaps = Divergences(published, study_folder).gaps()[0, 0, 0]
    assert gaps == pytest.approx(chosen["gap"].to_numpy())
    assert gaps != pytest.approx(stored.gaps()[0, 0, 0])


def test_a_choice_is_changed_alone(study, stored, study_folder):
    name = stored.runs[0].folder.name
    bits = np.load(study_folder / name / "divergence.npy")
    layers = json.loads((study_folder / name / ARGS).read_text())["layers"]
    accuracy = study.runs.loc[study.runs["run"] == name, "test_accuracy"].to_numpy()
    neurons = next(iter(layers.values()))
    signal = np.quantile(bits[:, :neurons], 0.9, axis=1)
    record = select_record(signal, "max", 1, 1).record
    expected = 100 * (accuracy.max() - accuracy[record - 1])
    assert stored.gaps(windows=[1], layer=stored.layers[0])[0, 0, 0, 0] == pytest.approx(expected)
    assert len(stored.layers) == 2


def test_where_no_record_can_be_kept_there_is_no_gap(stored):
    too_long = stored.runs[0].records + 1
    assert np.isnan(stored.gaps(windows=[too_long])).all()


def test_the_table_compares_with_the_study_on_the_same_runs(study, study_folder):
    table = ablation.table(study, study_folder).set_index(["choice", "value"])
    assert table.loc[("as in the study", ""), "difference"] == 0
    assert table.loc[("aggregation over neurons", "90% quantile"), "difference"] == 0
    assert table.loc[("window", "2 records"), "difference"] == 0
    assert ("window", "8 records") not in table.index  # longer than the runs
    assert table.loc[("CND bins", "10"), "runs"] == 1
    assert {value for choice, value in table.index if choice == "layer"} == set(
        Divergences(study.runs, study_folder).layers
    )
    assert not any("validation" in choice for choice, _ in table.index)


def test_what_the_average_reaches_back_is_read_from_the_average_that_is_kept(study, study_folder):
    better = study.runs.assign(test_accuracy_average=study.runs["test_accuracy_average"] + 0.01)
    changed = Study("digits", study.runs, [Variant({"average_epochs": 2.0}, better)])
    table = ablation.table(changed, study_folder).set_index("choice")
    row = table.loc["average epochs, consensus, average kept"]
    own = stops(study.runs).query("criterion == 'consensus'")["gap_average"].mean()
    assert row["gap"] == pytest.approx(own - 1)
    assert row["difference"] == pytest.approx(-1)


def test_cnd_of_all_samples_needs_no_runs_of_its_own(study, study_folder):
    backwards = study.runs.groupby("run")["cnd"].transform(lambda bits: bits.to_numpy()[::-1])
    runs = study.runs.assign(cnd_given_all=backwards)
    gaps = stops(runs.assign(cnd=backwards)).query("criterion == 'cnd'")["gap"]
    table = ablation.table(Study("digits", runs, []), study_folder).set_index(["choice", "value"])
    assert table.loc[("CND filter", "all"), "gap"] == pytest.approx(gaps.mean())
    filtered = ablation.table(Study("digits", runs.assign(cnd_filter="all"), []), study_folder)
    assert "CND filter" not in set(filtered["choice"])


def test_a_study_without_divergences_has_no_stored_choices(study):
    assert set(ablation.table(study, "nowhere")["choice"]) == {"CND bins", "CND filter"}


def test_heat_maps_hold_means_over_runs(stored):
    maps = ablation.heat_maps(stored)
    assert list(maps) == ["window × patience", "window × quantile", "patience × quantile"]
    both = maps["window × patience"]
    assert both.loc[2, 1] == pytest.approx(stored.gaps((None,), [2], [1]).mean())
    assert np.isnan(both.loc[12, 1])  # no run has as many records
    assert maps["patience × quantile"].loc[1, "90%"] == pytest.approx(stored.gaps().mean())


def test_layer_signals_are_named_by_noise_and_epoch(stored):
    table = ablation.layer_signals(stored)
    assert set(table["layer"]) == set(stored.layers)
    assert set(table["noise"]) == {"symmetric 20%", "symmetric 40%"}
    assert table.groupby(["noise", "seed", "layer"])["epoch"].apply(list).iloc[0] == [1, 2, 3, 4]


def test_layers_come_from_runs_that_repeat_trainings_where_the_study_stores_one(study):
    one = study.runs.assign(cnd_stored_layers="")
    repeated = Variant({}, study.runs.query("seed == 0"))
    assert len(ablation.runs_with_layers(Study("digits", one, [repeated]))) == len(repeated.runs)
    assert ablation.runs_with_layers(Study("digits", one, [])) is one
    assert ablation.runs_with_layers(study) is study.runs
