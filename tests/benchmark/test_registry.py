"""Names are found without a list, and what is wrong is said."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec

ONE_METHOD = """
from cellular_bench import MethodSpec

class {name}:
    spec = MethodSpec(method_id="{method_id}", name="Mine", tasks=("annotation",))
    def __init__(self, *, seed=0, k=5): ...

class Helper:
    pass
"""


def write(path, name="Mine", method_id="mine"):
    path.write_text(ONE_METHOD.format(name=name, method_id=method_id))
    return path


def test_built_in_methods_are_found_by_their_own_names() -> None:
    known = registry.methods()
    assert {"pca", "harmony", "scanorama", "combat", "cellular", "knn", "celltypist", "singler"} <= set(known)
    assert all(name == method.spec.method_id for name, method in known.items())


def test_a_plugin_joins_with_its_parameters_and_digest(tmp_path) -> None:
    method = registry.method("mine", [write(tmp_path / "mine.py")])
    assert method.defaults == {"k": 5}
    assert method.origin == str(tmp_path / "mine.py")
    assert len(method.source_digest) == 64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "defines no method, metric, data set or task: no class sets `spec = MethodSpec(...)`"),
        ("import no_such_thing", "cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
    ],
)
def test_a_plugin_that_is_none_is_refused(tmp_path, source: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError) as caught:
        registry.methods([path])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method_id": "a/b"},
            "spec.method_id is 'a/b'; it must be lower-case letters, digits and underscores",
        ),
        ({"method_id": "../up"}, "spec.method_id is '../up'"),
        ({"method_id": "a b"}, "spec.method_id is 'a b'"),
        ({"method_id": 3}, "spec.method_id is 3"),
        ({"name": " "}, "spec.name is ' '; it must be a text that is not empty"),
        ({"tasks": "annotation"}, "spec.tasks is 'annotation'; it must be a tuple of 'integration'"),
        ({"tasks": ("annotate",)}, "spec.tasks is ('annotate',)"),
        ({"tasks": ()}, "spec.tasks is ()"),
        ({"labels": "Train"}, "spec.labels is 'Train'; it must be one of 'none', 'train', 'all'"),
        ({"labels": None}, "spec.labels is None"),
        ({"reads": "raw"}, "spec.reads is 'raw'"),
        ({"features": 2000}, "spec.features is 2000"),
        ({"requires": "torch"}, "spec.requires is 'torch'; it must be a tuple of names of modules"),
        ({"needs_names": 1}, "spec.needs_names is 1; it must be True or False"),
        (
            {"weights": "~/w"},
            "spec.weights is '~/w'; it must be a tuple of folders, absolute or below the home",
        ),
        *(
            ({"weights": (folder,)}, "spec.weights is ")
            for folder in ("w", "", "~", "/", "~/", "~/../x", "/..", "./w", "~other/w", "/a\0", 3, None)
        ),
        ({"version": "1.0"}, "spec.version is '1.0'; it must be a whole number"),
    ],
)
def test_a_misleading_spec_is_refused(changes: dict, message: str) -> None:
    given: dict = {"method_id": "mine", "name": "Mine", "tasks": ("annotation",), "labels": "train"}
    registry.check_spec(MethodSpec(**given), "mine.py")
    with pytest.raises(UserError) as caught:
        registry.check_spec(MethodSpec(**{**given, **changes}), "mine.py")
    assert str(caught.value).startswith(f"mine.py: {message}")


def test_the_spec_of_a_plugin_is_checked(tmp_path) -> None:
    with pytest.raises(UserError, match=r"spec\.method_id is '../mine'"):
        registry.methods([write(tmp_path / "mine.py", method_id="../mine")])


def test_a_plugin_that_changes_the_working_directory_does_not_move_the_results(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "mine.py")
    path.write_text("import os\nos.chdir('/')\n" + path.read_text())
    registry.methods([path])
    assert Path.cwd() == tmp_path


def test_a_plugin_file_must_exist_and_be_python(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        registry.methods([tmp_path / "absent.py"])
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"its name must end in \.py"):
        registry.methods([tmp_path / "notes.txt"])


def test_two_methods_cannot_share_a_name(tmp_path) -> None:
    with pytest.raises(UserError, match="Two methods are called 'pca': built in and "):
        registry.methods([write(tmp_path / "mine.py", method_id="pca")])


def test_entry_points_are_found_and_a_broken_one_is_only_a_warning(tmp_path, monkeypatch) -> None:
    write(tmp_path / "third_party_zoo.py", method_id="third_party")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("zoo", "third_party_zoo", registry.ENTRY_POINT_GROUP),
        EntryPoint("gone", "no_such_module:Thing", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match=r"Entry point 'gone' \(no_such_module:Thing\) cannot be loaded"):
        known = registry.methods()
    assert known["third_party"].origin == "entry point zoo"


def test_labels_that_would_not_be_shown_cannot_be_asked_for(tmp_path) -> None:
    path = write(tmp_path / "mine.py")
    path.write_text(path.read_text().replace('("annotation",)', '("integration",), labels="train"'))
    with pytest.raises(UserError, match="fit_embed sees only the cells that it is called on"):
        registry.methods([path])


def test_an_unknown_name_comes_with_the_closest_known_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.method("harmoni")
    assert str(caught.value).startswith("Unknown method 'harmoni'. Did you mean 'harmony'? Known: ")


def test_a_method_without_its_library_says_which() -> None:
    method = registry.methods()["pca"]
    spec = type(method.spec)(method_id="x", name="X", tasks=("annotation",), requires=("json", "no_such_lib"))
    lonely = registry.Method(spec=spec, factory=object, origin="here")
    assert lonely.missing_modules() == ["no_such_lib"]
