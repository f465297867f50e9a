import pytest
import yaml

from lib.__main__ import main
from lib.checks import ParameterError
from lib.grid.tasks import Task, files, read, read_tasks, write_tasks
from lib.parameters import ROOT, Experiment


def write(tmp_path, name="grid.yaml", **content):
    file = tmp_path / name
    file.write_text(yaml.safe_dump(content))
    return file


def test_lists_expand_to_all_combinations(tmp_path):
    file = write(
        tmp_path,
        notebook="digits",
        parameters={"seed": [0, 1], "criteria": ["cnd", "prediction_changes"]},
        settings=[{"noise": "none", "noise_rate": 0}, {"noise": "symmetric", "noise_rate": [0.2, 0.4]}],
    )
    expanded = [task.experiment for task in read(file, runs_folder="r")]
    assert [(e.noise, e.noise_rate, e.seed) for e in expanded] == [
        ("none", 0, 0),
        ("none", 0, 1),
        ("symmetric", 0.2, 0),
        ("symmetric", 0.4, 0),
        ("symmetric", 0.2, 1),
        ("symmetric", 0.4, 1),
    ]
    assert {e.runs_folder for e in expanded} == {"r"}
    assert expanded[0].criteria == ("cnd", "prediction_changes")


def test_the_grids_of_the_study():
    demo = [task.experiment for task in read(ROOT / "slurm" / "demo.yaml")]
    assert len(demo) == 18  # as README and Makefile say
    settings = {
        ("none", 0),
        ("symmetric", 0.1),
        ("symmetric", 0.2),
        ("symmetric", 0.4),
        ("symmetric", 0.6),
        ("pair", 0.4),
    }
    assert {(e.noise, e.noise_rate) for e in demo} == settings
    news = [task.experiment for task in read(ROOT / "slurm" / "news.yaml")]
    assert {(e.patience, e.window, e.cnd_quantile) for e in news} == {(100, 4, 0.1)}
    assert {(e.noise, e.noise_rate) for e in news} == settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"notebook": "digit"}, "notebook='digit': must be one of"),
        ({"notebook": "digits", "settings": {"noise": "pair"}}, "settings a list of such"),
        ({"notebook": "digits", "parameters": [1]}, "parameters must be names and values"),
        ({"notebook": "digits", "parameters": {1: 2}}, "unknown parameter 1=2"),
        ({"notebook": "digits", "parameters": {"seed": []}}, "seed=[]: must be a value or a list of at least one"),
        ({"notebook": "digits", "parameters": {"learning_rate": "1e-4"}}, "must be a finite number above 0, not text"),
        ({"notebook": "digits", "paramters": {}}, "did you mean 'parameters'?"),
        (
            {"notebook": "digits", "parameters": {"noise_rate": [0.2, 1.2]}},
            "noise_rate=1.2: must be a number in [0, 1)",
        ),
    ],
)
def test_a_wrong_grid_is_one_line_before_anything_runs(tmp_path, capsys, content, message):
    assert main(["run", str(write(tmp_path, **content)), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_wrong_files_and_processes(tmp_path, capsys):
    assert main(["run", str(tmp_path / "nowhere.yaml")]) == 2
    assert main(["run", str(ROOT / "slurm" / "demo.yaml"), "--processes", "0"]) == 2
    assert "processes=0: must be an integer of at least 1" in capsys.readouterr().err
    (tmp_path / "list.yaml").write_text("notebook: [")
    assert main(["run", str(tmp_path / "list.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ParameterError, match="must hold names and values"):
        read(tmp_path / "list.yaml")


def test_a_grid_unites_others_and_names_each_run_once(tmp_path):
    write(tmp_path, "a.yaml", notebook="digits", parameters={"seed": [0, 1]})
    write(tmp_path, "b.yaml", notebook="digits", parameters={"seed": [1, 2]})
    both = read(write(tmp_path, include=["a.yaml", "b.yaml"]), runs_folder="r")
    assert [task.experiment.seed for task in both] == [0, 1, 2]
    assert {task.experiment.runs_folder for task in both} == {"r"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"include": "a.yaml"}, "include='a.yaml': must be a list of grid files"),
        ({"include": ["grid.yaml"]}, "must not include itself"),
        ({"include": ["nowhere.yaml"]}, "must be a readable YAML file"),
        ({"include": [], "notebook": "digits"}, "alone in its file"),
    ],
)
def test_wrong_includes(tmp_path, content, message):
    with pytest.raises(ParameterError, match=message):
        read(write(tmp_path, **content))


def test_a_home_and_variables_in_paths_are_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GRIDS", str(tmp_path / "grids"))
    (tmp_path / "grids").mkdir()
    one = write(tmp_path, "grids/one.yaml", notebook="digits", parameters={"runs_folder": "$GRIDS/runs"})
    expected = (Task(ROOT / "notebooks" / "digits.ipynb", Experiment(runs_folder=str(tmp_path / "grids" / "runs"))),)
    assert read("$GRIDS/one.yaml") == read("~/grids/one.yaml") == expected
    assert read(write(tmp_path, include=["$GRIDS/one.yaml"])) == expected
    assert files(write(tmp_path, include=["${GRIDS}/one.yaml", "~/grids/one.yaml"])) == (one, one)
    assert main(["run", "~/grids/one.yaml", "--runs=$GRIDS/elsewhere", "--dry-run"]) == 0
    assert main(["import", "~/results", "--runs", "$GRIDS/elsewhere"]) != 0
    assert f"{tmp_path}/results" in capsys.readouterr().err
    assert not list(tmp_path.rglob("elsewhere"))


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (["run", "$NOWHERE/grid.yaml"], "grid"),
        (["status", "slurm/demo.yaml", "--data=$NOWHERE/data"], "data"),
        (["submit", "slurm/demo.yaml", "--runs=${NOWHERE}"], "runs"),
        (["report", "--runs=$NOWHERE/runs"], "runs"),
        (["report", "--figures=$NOWHERE/figures"], "figures"),
        (["import", "$NOWHERE/results"], "folder"),
        (["import", ".", "--runs=$NOWHERE/runs"], "runs"),
    ],
)
def test_a_variable_that_is_not_set_is_one_line(arguments, parameter, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {parameter}=")
    assert "must name environment variables that are set" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_full_study_is_all_of_its_grids():
    file = ROOT / "slurm" / "full.yaml"
    parts = [read(one) for one in files(file)]
    assert {"demo", "digits", "news", "cifar10", "cifar100", "tiny_imagenet"} <= {one.stem for one in files(file)}
    assert list(read(file)) == [task for part in parts for task in part]
    assert len(read(ROOT / "slurm" / "digits_study.yaml")) == 267  # as README and grid file say
    assert len(read(ROOT / "slurm" / "small.yaml")) == 12


def test_tasks_are_kept_as_they_are(tmp_path):
    tasks = read(ROOT / "slurm" / "full.yaml", runs_folder="elsewhere")
    write_tasks(tmp_path / "tasks.json", tasks)
    assert read_tasks(tmp_path / "tasks.json") == tasks


@pytest.mark.parametrize("content", ["", "[1]", '[{"notebook": "digits"}]'])
def test_a_damaged_file_of_tasks(tmp_path, content):
    (tmp_path / "tasks.json").write_text(content)
    with pytest.raises(ParameterError, match="must be a file that submitting wrote"):
        read_tasks(tmp_path / "tasks.json")


def test_a_name_given_twice_is_an_error(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("notebook: digits\nparameters: {seed: 0}\nsettings:\n  - {noise: pair, seed: [1], seed: [2]}\n")
    with pytest.raises(ParameterError, match=r"must be a readable YAML file: 'seed' is given twice .*line 4"):
        read(file)
