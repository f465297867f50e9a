"""What notebooks/report.ipynb says about numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.criteria import CRITERIA
from lib.grid.tasks import NOTEBOOKS
from lib.study import baselines
from lib.study.results import Result, results
from lib.study.statistics import Friedman
from tests.cells import defined

pytestmark = pytest.mark.slow

report = defined("report")


@pytest.fixture(scope="module")
def found(study_folder):
    return results(study_folder)


@pytest.fixture
def result(found):
    return found.studies[0]


def with_summary(result, summary):
    """A result that would have computed another summary."""
    other = Result(result.study)
    vars(other)["summary"] = summary
    return other


def changed(found, **columns):
    """Results whose summary has other values."""
    one = with_summary(found.studies[0], found.studies[0].summary.assign(**columns))
    return dataclasses.replace(found, studies=[one])


def test_numbers_in_the_abstract_are_those_of_the_results(found):
    text = report.abstract(found, found.across())
    assert "on Digits, 4 runs in 2 settings of label noise (and 3 runs for ablations and baselines)" in text
    end = found.studies[0].summary.query("criterion == 'end'")["gap_mean"].mean()
    assert f"means by study: not stopping {end:.1f}, CND " in text
    kept = found.studies[0].summary.query("criterion == 'end'")["gap_average_mean"].mean()
    assert f"With the average of the weights kept: not stopping {kept:.1f}, CND " in text


@pytest.mark.parametrize(
    ("across", "said"),
    [
        (Friedman(np.nan, np.nan, 0), "No criterion chose a record in every setting"),
        (
            Friedman(np.nan, np.nan, 1, {"cnd": 1.0}),
            "Of 1 way to stop and to keep, ranked by the gap to the oracle over 1 dataset (1 the best), the lowest "
            "average ranks have CND (1.00); too little to be tested.",
        ),
        (Friedman(1.0, 0.4, 9, {"cnd": 1.0, "end": 2.0}), "not significant (Friedman p = 0.4)"),
        (
            Friedman(9.0, 0.01, 9, {"cnd": 2.0, "prediction_changes": 1.0}),
            "PC (1.00) and CND (2.00); not all rank alike (Friedman p = 0.01), and the first and the last differ by",
        ),
    ],
)
def test_ranks_are_told_as_far_as_they_go(across, said):
    assert said in report.ranking(across)


def test_findings_name_winners_and_failures(found, result):
    few = report.findings(changed(found, friedman_p=np.nan, note="no test of a single block").studies[0])
    assert "No difference can be tested (no test of a single block)." in few
    won = changed(found, friedman_p=0.01, winner=result.summary["criterion"] == "prediction_changes").studies[0]
    assert (
        "Criteria differ in 2 of 2 tested settings (Friedman, p < 0.05); best ranked there: PC (2)."
        in report.findings(won)
    )
    failed = changed(found, failed=(result.summary["criterion"] == "cnd").astype(int)).studies[0]
    assert "No record could be chosen by CND in symmetric 20% (1 of 3 runs)" in report.findings(failed)


def test_measures_of_repeated_trainings_stand_beside_cnd_and_pc_of_the_same(result):
    repeated = result.summary[result.summary["noise_rate"] == 0.4]
    dear = repeated[repeated["criterion"] == "cnd"].assign(criterion="von_neumann_entropy", gap_mean=1.25)
    text = report.told_of_measures(pd.concat([repeated, dear]), result.summary)
    gaps = repeated.set_index("criterion")["gap_mean"]
    assert "recorded in 2 trainings made again: von Neumann 1.2 points below the oracle;" in text
    assert text.endswith(f"on the same ones CND {gaps['cnd']:.1f} and PC {gaps['prediction_changes']:.1f}.")


def test_what_is_missing_is_said_of_each_study(found, runs_folder):
    told = " ".join(report.not_asked(found))
    assert "No run has pair, instance and human noise." in told
    assert "Digits: no symmetric noise above 40%." in told
    other = " ".join(report.not_asked(results(runs_folder)))
    assert "no baseline on held-out data and no other estimator, weights or bins." in other


def test_departures_from_the_published_settings_are_named(found, result):
    assert "none are published for, or others are used on, Digits (1, 2, 0.9)." in report.departures(found)
    news = result.study.runs.assign(dataset="news", patience=100, window=4, cnd_quantile=0.1)
    study = dataclasses.replace(result.study, name="news", runs=news)
    text = report.departures(dataclasses.replace(found, studies=[dataclasses.replace(result, study=study)]))
    assert text.endswith("they are those published for NEWS (100, 4, 0.1).")
    finer = dataclasses.replace(study, runs=news.assign(records_per_epoch=2))
    text = report.departures(dataclasses.replace(found, studies=[dataclasses.replace(result, study=finer)]))
    assert text.endswith("though of epochs and not of records, for NEWS (100, 4, 0.1), 2 records an epoch.")


def test_the_method_tells_how_the_consensus_reads_runs():
    told = " ".join((NOTEBOOKS / "report.ipynb").read_text().replace('\\n",', "").replace('"', "").split())
    consensus = CRITERIA["consensus"]
    assert f"a window of {consensus.window} records and patience {consensus.patience}, which" in told
    assert f"a run of fewer than {consensus.least_records} records is too short for these" in told


def test_studies_too_short_for_the_consensus_are_named(found, result):
    assert report.too_short(found).startswith("Runs of Digits have fewer than 40 records: ")
    runs = result.study.runs
    long = dataclasses.replace(result.study, runs=runs.assign(record=10 * runs["record"]))
    assert report.too_short(dataclasses.replace(found, studies=[dataclasses.replace(result, study=long)])) == ""
    without = dataclasses.replace(result)
    vars(without)["stops"] = result.stops[result.stops["criterion"] != "consensus"]
    assert report.too_short(dataclasses.replace(found, studies=[without])) == ""


def test_wrong_labels_of_the_probe_are_told_as_a_share(found, result):
    data = pd.DataFrame({"Study": ["Digits"], "Training samples": [200]})
    share = 100 * result.study.runs["probe_size"].iloc[0] / 200
    assert f"with wrong labels, {share:.1f} % of their number, which runs" in report.of_the_probe(found, data)
    unknown = data.assign(**{"Training samples": ""})
    assert "with wrong labels, which runs on clean labels have too." in report.of_the_probe(found, unknown)


def test_studies_that_criteria_do_not_stop_are_named(found, result):
    assert report.looks_back(found) == ""
    study = dataclasses.replace(result.study, runs=result.study.runs.assign(patience=4))
    told = report.looks_back(dataclasses.replace(found, studies=[dataclasses.replace(result, study=study)]))
    assert told.startswith("Patience is as long as the runs of Digits, or longer")


def test_settings_in_which_little_is_memorized_are_named(found, result):
    runs = result.study.runs
    last = runs["record"] == runs["record"].max()
    shares = (0.25 * last).where(runs["noise_rate"] == 0.2, 0.75)
    study = dataclasses.replace(result.study, runs=runs.assign(corrupted_accuracy_given=shares))
    told = report.little_memorized(dataclasses.replace(found, studies=[dataclasses.replace(result, study=study)]))
    assert told.startswith(
        "Less than 50 % of the wrong labels are fitted at the end of training in Digits (symmetric 20% 25 %):"
    )
    assert report.little_memorized(found, least=0) == ""


def test_settings_are_told_in_the_order_of_tables_or_by_their_number():
    settings = [("worse_label", 0), ("none", 0), ("symmetric", 0.2)]
    assert report.settings_told(settings[:2], settings) == "clean labels and CIFAR-10N worse"
    assert report.settings_told(settings, settings) == "all 3 settings"
    assert report.settings_told(settings[:2], settings[:2]) == "clean labels and CIFAR-10N worse"


def test_a_criterion_that_failed_everywhere_has_no_part_in_the_numbers(found, result):
    failed = result.summary["gap_mean"].where(result.summary["criterion"] != "cnd")
    some = changed(found, gap_mean=failed)
    assert "nan" not in report.findings(some.studies[0]) + report.cost(some)


def test_reduced_and_re_encoded_data_are_named(found, result):
    assert report.data_limits(found) == []
    runs = result.study.runs.assign(source="CIFAR-10, images re-encoded: not the official pixels")
    study = dataclasses.replace(result.study, runs=runs)
    reduced = dataclasses.replace(found, studies=[dataclasses.replace(result, study=study)])
    assert report.data_limits(reduced) == ["**Digits**: CIFAR-10, images re-encoded: not the official pixels."]


def test_whether_cnd_finds_the_peak_is_counted(result):
    stops = result.stops.query("criterion == 'cnd'")
    near = int(((stops["gap"] <= 1) & ~stops["fallback"]).sum())
    text = report.finds_the_peak(result)
    assert f"CND stops within 1 point of the best record in {near} of {len(stops)} runs, PC in " in text
    fallen = dataclasses.replace(result)
    vars(fallen)["stops"] = result.stops.assign(fallback=True)
    assert "in 0 of 4 runs" in report.finds_the_peak(fallen)
    assert "In 4 runs it never rose, and what it keeps is no choice." in report.finds_the_peak(fallen)
    without = dataclasses.replace(result.study, runs=result.study.runs.assign(cnd=np.nan))
    assert report.finds_the_peak(dataclasses.replace(result, study=without)) == ""


@pytest.mark.parametrize(("hits", "answer"), [(0, "no"), (1, "sometimes"), (2, "sometimes"), (3, "mostly"), (4, "yes")])
def test_the_answer_follows_how_often_cnd_is_near(result, hits, answer):
    near = dataclasses.replace(result)
    places = result.stops.groupby("criterion").cumcount()
    vars(near)["stops"] = result.stops.assign(fallback=False, gap=np.where(places < hits, 0.5, 9.0))
    assert report.finds_the_peak(near).startswith(f"**Digits: {answer}.** ")


def choices(*rows):
    """A table of an ablation: choice, value, gap, difference to a study that leaves 8, and the ends of its interval."""
    columns = ["choice", "value", "gap", "difference", "difference_low", "difference_high"]
    return pd.DataFrame([("as in the study", "", 8.0, 0.0, 0.0, 0.0), *rows], columns=columns).assign(runs=9)


def test_what_filter_and_aggregation_have_to_do_with_it_is_told():
    changed = choices(
        ("aggregation over neurons", "mean", 6.0, -2.0, -3.0, 1.0),
        ("aggregation over neurons", "50% quantile", 5.0, -3.0, -4.0, -1.25),
        ("aggregation over neurons", "90% quantile", 8.0, 0.0, 0.0, 0.0),
        ("CND filter", "all", 10.5, 2.5, np.nan, np.nan),
    )
    assert report.because(changed) == (
        "Counting all samples, and not those alone that are predicted as labelled, would leave 10.5 points, and not "
        "8.0 (+2.5, 9 runs). Of other aggregations over the neurons, the least would be left by the 50% quantile: 5.0 "
        "points, and not 8.0 (−3.0 [−4.0, −1.2], 9 runs)."
    )
    assert report.because(choices()) == ""


def test_choices_that_make_a_clear_difference_are_named():
    changed = choices(
        ("window", "1 record", 9.0, 1.0, 0.5, 2.0),
        ("window", "8 records", 7.0, -1.0, -2.0, -0.5),
        ("patience", "1 record", 7.0, -1.0, -2.0, -0.5),
        ("patience", "2 records", 7.0, -1.0, -2.0, -0.5),
        ("layer", "4", 7.0, -1.0, -2.0, 0.5),
        ("CND filter", "all", 7.0, -1.0, np.nan, np.nan),
    )
    assert report.told_of_choices(changed, 3) == (
        "Of 5 changes that move a stop, each by itself, window (8 records) and patience (1 record, 2 records) leave "
        "less; window (1 record) leaves more; 1 change makes no clear difference (intervals of the difference, which "
        "3 seeds make too narrow: of changes without effect 25 % or more would be named)."
    )
    own = ("window", "5 records", 8.0, 0.0, 0.0, 0.0)
    assert report.told_of_choices(choices(own, ("layer", "4", 7.0, -1.0, -2.0, 0.5)), 5).startswith(
        "Of 1 change that moves a stop, each by itself, 1 change makes no clear difference"
    )
    assert report.told_of_choices(choices(("CND filter", "all", 7.0, -1.0, np.nan, np.nan)), 3) == ""


def test_cnd_by_true_labels_is_told_at_the_best_record_and_at_the_end(result):
    runs = result.study.runs.assign(cnd_given_all=0.25, cnd_true_all=lambda table: table["record"] / 8)
    text = report.by_labels(dataclasses.replace(result, study=dataclasses.replace(result.study, runs=runs)))
    assert "from 0.250 to 0.250 bits by the labels as given" in text
    assert "to 0.500 bits by the true ones." in text  # the fourth and last record
    assert text.endswith("As predicted, the first rises in 0 and the second falls in 0 of 4 runs.")
    early = runs["record"].eq(runs["seed"].map({0: 1, 1: 4}))  # the best record: of one seed the first
    moving = {"cnd_given_all": runs["record"] / 8, "cnd_true_all": -runs["record"], "test_accuracy": 1.0 * early}
    text = report.by_labels(
        dataclasses.replace(result, study=dataclasses.replace(result.study, runs=runs.assign(**moving)))
    )
    assert text.endswith("As predicted, the first rises in 2 and the second falls in 2 of 4 runs.")
    missing = dataclasses.replace(result.study, runs=runs.drop(columns="cnd_true_all"))
    assert report.by_labels(dataclasses.replace(result, study=missing)) == ""


def test_what_to_do_is_told_with_the_worst_setting(found, result):
    stops = result.stops[result.stops["criterion"] == "consensus"]
    settings = stops.groupby(["noise", "noise_rate"])["gap_average"].mean()
    clean = result.stops.assign(noise="none", gap=50.0, gap_average=50.0)  # changes nothing in what is told
    with_clean = dataclasses.replace(result)
    vars(with_clean)["stops"] = pd.concat([result.stops, clean])
    text = report.tomorrow(dataclasses.replace(found, studies=[with_clean]))
    assert text == report.tomorrow(found)
    vars(with_clean)["stops"] = clean
    assert report.tomorrow(dataclasses.replace(found, studies=[with_clean])) == ""
    worst = f"{settings.max():.1f} in the worst setting, Digits, symmetric {100 * settings.idxmax()[1]:g}%"
    assert f"made wrong yourself leaves {settings.mean():.1f} ({worst})" in text
    end = (
        result.stops[result.stops["criterion"] == "end"].groupby(["noise", "noise_rate"])[["gap", "gap_average"]].mean()
    )
    assert f"over the 2 noisy settings of this report not to stop leaves {end['gap'].mean():.1f} points below" in text
    other = dataclasses.replace(result, study=dataclasses.replace(result.study, name="other"))
    vars(other)["stops"] = result.stops.assign(dataset="news")
    assert ", each of 2 datasets counted alike, not to" in report.tomorrow(
        dataclasses.replace(found, studies=[result, other])
    )
    assert f"and {end['gap_average'].mean():.1f} where that average is kept" in text


def test_published_numbers_stand_beside_ours_with_what_differs(found, result):
    one = {
        "what": "CE",
        "by": "somebody",
        "dataset": "digits",
        "noise": "symmetric",
        "noise_rate": 0.2,
        "ours": "oracle",
    }
    alike = one | {"network": "MLP", "epochs": int(result.study.runs["epochs"].iloc[0]), "test_accuracy": 91.25}
    elsewhere = one | {"dataset": "cifar10"}
    table = report.beside_published(found, [one, alike, elsewhere])
    assert table["Theirs (%)"].tolist() == ["could not be read", "91.2"]
    assert table["Comparable"][0].startswith("not comparable: network MLP, not told; ")
    assert table["Comparable"][1] == "yes"
    oracle = result.summary.query("criterion == 'oracle' and noise_rate == 0.2")["test_accuracy_mean"].iloc[0]
    assert table["Ours (%)"].tolist() == [f"{oracle:.1f}"] * 2


def test_high_rates_are_told_by_their_numbers(result):
    cnd = result.summary.query("criterion == 'cnd'")
    text = report.high_rates(result, 10)
    assert f"{cnd['gap_mean'].iloc[0]:.1f} at 20%, {cnd['gap_mean'].iloc[1]:.1f} at 40%" in text
    assert "nothing can be learned" not in text
    one = with_summary(result, result.summary[result.summary["noise_rate"] == 0.2])
    assert report.high_rates(one, 10) == ""
    high = with_summary(result, result.summary.assign(noise_rate=result.summary["noise_rate"] + 0.5))
    assert "At 90% of 10 classes" in report.high_rates(high, 10)
    assert "nothing can be learned" not in report.high_rates(high, 100)


def test_held_out_data_are_told_by_their_numbers(result):
    compared = baselines.table(result.study)
    text = report.told_of_held_out(compared)
    means = compared.set_index(["held_out", "criterion"])["test_accuracy_mean"]
    assert text.startswith("Test accuracy, averaged over 1 setting, ends with 10 % held out at ")
    assert f"{means[0.1, 'validation_accuracy_noisy']:.1f} % with noisy labels" in text
    assert f"the oracle at {means[0.0, 'oracle']:.1f} %" in text
    assert "CND, which trains on everything, at" in text
    assert f"PC, likewise, at {means[0.0, 'prediction_changes']:.1f} %" in text
    assert f"the consensus, likewise, at {means[0.0, 'consensus']:.1f} %" in text


def test_lists_and_counts():
    assert [report.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert (report.counted(1, "run"), report.counted(1200, "run")) == ("1 run", "1,200 runs")
