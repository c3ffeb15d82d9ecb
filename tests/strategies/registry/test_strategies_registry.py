"""Discovery, plug-ins, configurations and the digest of a rule's code."""

import importlib
import importlib.metadata
import json
import runpy
import subprocess
import sys
import textwrap
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from strategy_lab import layer

from strategies import BiasStrategy, Strategy, registry
from strategies.conformance import check
from strategies.framework.contract import Knob
from strategies.registry import lookup
from strategies.registry.source_text import text_digest
from strategies.smebu import Smebu

RULE = '''
from strategies import BiasStrategy


class Mine(BiasStrategy):
    """A rule of one's own."""

    name = "{name}"
    title = "Mine"

    def step(self, violation_E):
        return self.rate * violation_E
'''


@pytest.fixture
def own(monkeypatch):
    """A registry whose plug-ins vanish with the test."""
    monkeypatch.setattr(lookup, "_plugins", {})
    yield registry
    lookup._installed.cache_clear()


def write(folder, text, name="plugin.py"):
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


# Discovery


def test_the_roster_is_found_without_a_warning():
    lookup._built_in.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = list(registry.available())
    roster = """aux_loss base bip dense expert_choice expert_threshold hash none proportional_bias quantile remoe
    sign_bias simbal sinkhorn smebu stable_moe"""
    assert set(roster.split()) <= set(names)
    assert names == sorted(names)


def test_one_file_is_one_strategy_and_carries_its_name():
    for name, cls in registry.available().items():
        if cls.__module__.startswith("strategies."):
            assert cls.__module__ == f"strategies.{name}"


def test_every_knob_is_a_parameter_with_five_values_and_its_default_among_them():
    for cls in registry.available().values():
        if cls.knob:
            default = getattr(cls.Config(), cls.knob.parameter)
            assert len(set(cls.knob.grid)) == 5
            assert default in cls.knob.grid
            for value in cls.knob.grid:
                registry.make_config(cls, {cls.knob.parameter: value})


def test_importing_the_package_is_light():
    code = "import sys, strategies; print([m for m in ('scipy', 'pandas', 'strategies.smebu') if m in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root)}
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_get_names_the_nearest():
    assert registry.get("smebu") is Smebu
    with pytest.raises(ValueError, match=r"strategy: 'smeub' is unknown; nearest is 'smebu'"):
        registry.get("smeub")


def test_build_takes_a_mapping_a_config_or_nothing():
    spec = layer()
    assert registry.build(Smebu, spec).config == Smebu.Config()
    assert registry.build(Smebu, spec, {"rate": 1}).config.rate == 1.0
    assert registry.build(Smebu, spec, Smebu.Config(kappa=3.0)).config.kappa == 3.0
    assert [term.name for term in registry.build(Smebu, spec, {}, {"z_loss": 0.1}).terms] == ["z_loss"]


# Entry points


def entry_points(monkeypatch, **loaded):
    """Installed plug-ins that load to the values given, or raise them."""

    def load(value):
        if isinstance(value, Exception):
            raise value
        return value

    found = [
        types.SimpleNamespace(name=name, value=f"package:{name}", load=lambda value=value: load(value))
        for name, value in loaded.items()
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == lookup.ENTRY_POINTS else [])
    lookup._installed.cache_clear()


def make(name, **members):
    members = {"name": name, "title": name.title(), "step": lambda self, violation_E: violation_E} | members
    return type("Made", (BiasStrategy,), members)


def test_an_installed_strategy_is_one_like_any_other(own, monkeypatch):
    cls = make("installed")
    module = types.ModuleType("package")
    in_module = make("in_module", __module__="package")
    module.Made = in_module
    entry_points(monkeypatch, one=cls, two=module)
    assert own.get("installed") is cls
    assert own.get("in_module") is in_module


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ImportError("no such module"), "ImportError: no such module"),
        (int, "int is not a strategy"),
        (make("smebu"), "'smebu' is already taken"),
        (make("x", step=BiasStrategy.step), "misses a method; expected step"),
        (make("Bad Name"), "expected small letters"),
        (make("x", title=None), "has no title"),
        (make("x", Config=type("Config", (BiasStrategy.Config,), {"rate": 0.5})), "has a Config that is no dataclass"),
    ],
)
def test_a_broken_entry_point_warns_and_the_others_go_on(own, monkeypatch, value, words):
    entry_points(monkeypatch, broken=value, good=make("good"))
    with pytest.warns(RuntimeWarning, match=f"entry point broken = package:broken is skipped.*{words}"):
        names = own.available()
    assert "good" in names
    assert names["smebu"] is Smebu


# Plug-in files


def test_a_plugin_is_loaded_and_found(own, tmp_path):
    file = write(tmp_path, RULE.format(name="mine"))
    (cls,) = own.load_plugin(file)
    assert own.get("mine") is cls
    assert own.build(cls, layer()).config.rate == 1e-3


def test_loading_a_plugin_again_replaces_it(own, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "dont_write_bytecode", False
    )  # same size, same second: a cached compilation would be stale
    file = write(tmp_path, RULE.format(name="mine"))
    (first,) = own.load_plugin(file)
    write(tmp_path, RULE.format(name="ours"))
    (second,) = own.load_plugin(file)
    assert "mine" not in own.available()
    assert own.get("ours") is second is not first


def test_a_helper_class_in_a_plugin_is_no_strategy(own, tmp_path):
    text = """
    from strategies import BiasStrategy

    class Family(BiasStrategy):
        pass

    class One(Family):
        name, title = "one", "One"
        def step(self, violation_E):
            return violation_E

    class Two(Family):
        name, title = "two", "Two"
        def step(self, violation_E):
            return -violation_E
    """
    assert [cls.name for cls in own.load_plugin(write(tmp_path, text))] == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import strategies\nimport no_such_module\n", r":2: does not import: ModuleNotFoundError: .*no_such_module"),
        ("x = 1\ny = (\n", r":2: does not import: SyntaxError"),
        ("raise SystemExit(3)\n", r":1: does not import: SystemExit"),
        ("def f():\n    1 / 0\n\nf()\n", r":2: does not import: ZeroDivisionError"),
        ("x = 1\n", r":1: defines no strategy"),
        ("from strategies.smebu import Smebu\n", r":1: defines no strategy"),
        (
            "from strategies import BiasStrategy\n\n\nclass Mine(BiasStrategy):\n    name = title = 'mine'\n",
            r":4: Mine misses a method; expected step\(self, violation_E",
        ),
        (
            "from strategies import Strategy\n\nclass Mine(Strategy):\n    name = title = 'mine'\n",
            r":3: Mine misses a method; expected route\(self, hidden_TD",
        ),
        (RULE.format(name="smebu"), r":5: Mine.name 'smebu' is already taken"),
        (RULE.format(name="twice") + RULE.format(name="twice").replace("Mine", "Yours"), "'twice' is already taken"),
        (RULE.format(name="Not This"), r":5: Mine has name 'Not This'; expected small letters"),
        (
            "from strategies.smebu import Smebu\n\nclass Mine(Smebu):\n    title = 'Mine'\n",
            r":3: Mine has no name of its own",
        ),
    ],
)
def test_a_plugin_that_does_not_work_is_refused_with_file_and_line(own, tmp_path, text, words):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=words) as caught:
        own.load_plugin(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert own.get("smebu") is Smebu


def test_a_plugin_may_not_take_another_plugins_name(own, tmp_path):
    own.load_plugin(write(tmp_path, RULE.format(name="mine"), "a.py"))
    with pytest.raises(ValueError, match="already taken"):
        own.load_plugin(write(tmp_path, RULE.format(name="mine"), "b.py"))


def test_a_missing_plugin_is_said_to_be_missing(own, tmp_path):
    with pytest.raises(ValueError, match=r"none.py: there is no such file"):
        own.load_plugin(tmp_path / "none.py")


# Configurations


class Sample(Strategy):
    name = "sample"
    title = "Sample"
    knob = Knob("rate", (0.1, 0.2, 0.3, 0.4, 0.5))

    @dataclass(frozen=True, kw_only=True)
    class Config:
        rate: float = 0.1
        steps: int = 3
        center: bool = False
        form: Literal["one", "two"] = "one"
        limit: float | None = None
        shares: tuple[float, ...] = (0.5,)

        def __post_init__(self):
            if self.rate < 0:
                raise ValueError(f"rate: {self.rate} is negative; expected 0 or more")


def test_values_are_taken_over_defaults():
    given = {"rate": 1, "steps": 5, "center": True, "form": "two", "limit": 2, "shares": [1, 0.5]}
    config = registry.make_config(Sample, given)
    assert config == Sample.Config(rate=1.0, steps=5, center=True, form="two", limit=2.0, shares=(1.0, 0.5))
    assert type(config.rate) is type(config.limit) is float  # 1 and 1.0 name the same trial
    assert registry.make_config(Sample, {"limit": None}) == Sample.Config()


def test_config_dict_is_json_with_defaults_and_comes_back():
    config = registry.make_config(Sample, {"limit": 2})
    plain = json.loads(json.dumps(registry.config_dict(config)))
    assert plain == {"rate": 0.1, "steps": 3, "center": False, "form": "one", "limit": 2.0, "shares": [0.5]}
    assert registry.make_config(Sample, plain) == config


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"raet": 1}, "sample.raet: 1 has no such parameter; expected one of rate, .*nearest is rate"),
        ({"rate": "0.1"}, "sample.rate: '0.1' is a text; expected a number"),
        ({"rate": True}, "sample.rate: True is true or false; expected a number"),
        ({"rate": None}, "sample.rate: None is nothing; expected a number"),
        ({"rate": float("nan")}, "sample.rate: nan is not finite"),
        ({"rate": -1}, "sample.rate: -1.0 is negative; expected 0 or more"),
        ({"steps": 1.5}, "sample.steps: 1.5 is a number; expected an integer"),
        ({"steps": True}, "sample.steps: True is true or false; expected an integer"),
        ({"center": 1}, "sample.center: 1 is an integer; expected true or false"),
        ({"form": "tow"}, "sample.form: 'tow' is none of 'one', 'two'; nearest is 'two'"),
        ({"form": 1}, "sample.form: 1 is none of"),
        ({"limit": "x"}, "sample.limit: 'x' is a text; expected a number"),
        ({"shares": 0.5}, "sample.shares: 0.5 is not"),
        ({"shares": [0.5, "x"]}, r"sample.shares\[1\]: 'x' is a text"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given, words):
    with pytest.raises(ValueError, match=words):
        registry.make_config(Sample, given)


def test_a_strategy_without_parameters_says_so():
    with pytest.raises(ValueError, match=r"none.rate: 1 has no such parameter; expected none"):
        registry.make_config(registry.get("none"), {"rate": 1})


# The digest


def digest_of(own, folder, text):
    (cls,) = own.load_plugin(write(folder, text))
    return own.source_digest(cls)


def test_the_digest_sees_the_rule_and_nothing_else(own, tmp_path):
    rule = RULE.format(name="mine")
    first = digest_of(own, tmp_path, rule)
    commented = rule.replace("A rule of one's own.", "Said otherwise.").replace(
        "        return", "        # why\n        return"
    )
    assert digest_of(own, tmp_path, commented) == first
    assert digest_of(own, tmp_path, rule.replace("self.rate *", "2 * self.rate *")) != first


def test_the_digest_does_not_depend_on_where_the_file_lies(own, monkeypatch, tmp_path):
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        monkeypatch.setattr(lookup, "_plugins", {})
        digests.append(digest_of(own, folder, RULE.format(name="mine")))
    assert digests[0] == digests[1]


def test_digests_of_the_roster_differ():
    digests = [registry.source_digest(cls) for cls in registry.available().values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("file", ["smebu", "biased", "router"])
def test_the_digest_covers_bases_and_what_they_import(monkeypatch, file):
    """Editing any file a rule is made of changes its digest; editing another rule does not."""
    before = registry.source_digest(Smebu), registry.source_digest(registry.get("hash"))
    edited(monkeypatch, f"{file}.py")
    assert registry.source_digest(Smebu) != before[0]
    assert registry.source_digest(registry.get("hash")) == before[1]


def edited(monkeypatch, name):
    """Every file of that name reads as if a line had been added."""
    read = Path.read_text

    def changed(self, *args, **kwargs):
        return read(self, *args, **kwargs) + ("\nEDITED = 1\n" if self.name == name else "")

    monkeypatch.setattr(Path, "read_text", changed)


@pytest.mark.parametrize(
    ("imported", "used"),
    [
        ("from strategies import Strategy, gates", "gates"),
        ("from strategies import Strategy, gates as weights", "weights"),
        ("from strategies import *\nfrom strategies import Strategy", "gates"),
        ("import strategies\nfrom strategies import Strategy", "strategies.gates"),
        ("from strategies import framework, Strategy", "framework.router.gates"),
        ("from strategies import Strategy\nimport strategies.framework.router as r", "r.gates"),
    ],
)
def test_the_digest_covers_what_a_plug_in_takes_from_the_package_itself(own, monkeypatch, tmp_path, imported, used):
    """The router, but neither the contract nor another rule's file; the same from the text alone."""
    text = f"""{imported}
class Mine(Strategy):
    name = "mine"
    title = "Mine"
    def route(self, hidden_TD, tokens_T, context):
        return {used}(hidden_TD)
"""
    before = digest_of(own, tmp_path, text)
    assert text_digest("mine", text) == before
    for name, covered in (("router.py", True), ("contract.py", False), ("smebu.py", False)):
        with monkeypatch.context() as patch:
            edited(patch, name)
            (cls,) = lookup._plugins.values()
            assert (own.source_digest(cls) != before) == covered, name
            assert text_digest("mine", text) == own.source_digest(cls)


@pytest.mark.parametrize(
    ("imported", "covered"),
    [
        ("from mine_{n} import helper", True),
        ("from mine_{n}.helper import slope", True),
        ("import mine_{n}.helper", True),
        ("from . import helper", True),
        ("from .helper import slope", True),
        ("def late():\n    from .parts import helper", True),
        ("import json", False),
    ],
)
def test_the_digest_covers_the_package_that_a_rule_comes_in(monkeypatch, tmp_path, imported, covered):
    package = f"mine_{abs(hash(imported))}"
    folder = tmp_path / package
    (folder / "parts").mkdir(parents=True)
    for name in ("__init__.py", "parts/__init__.py", "helper.py", "parts/helper.py"):
        (folder / name).write_text("slope = 1\n")
    write(folder, imported.format(n=package.removeprefix("mine_")) + RULE.format(name="mine"), "rule.py")
    monkeypatch.syspath_prepend(tmp_path)
    cls = importlib.import_module(f"{package}.rule").Mine
    before = registry.source_digest(cls)
    edited(monkeypatch, "helper.py")
    assert (registry.source_digest(cls) != before) == covered
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


# A strategy of one's own


def test_a_new_strategy_is_short_and_passes_its_own_test(own, tmp_path):
    rule, test = own.write_strategy("my_first_rule", tmp_path / "mine", own.available())
    code = [line for line in rule.read_text().splitlines() if line.strip()]
    assert len(code) <= 30
    assert "Once you change it, work these out anew." in test.read_text()
    written = runpy.run_path(str(test))
    written["test_step_against_numbers_worked_by_hand"]()
    outcomes = check(written["MyFirstRule"])
    assert [outcome for outcome in outcomes if outcome.status == "failed"] == []
    assert "passed" in {outcome.status for outcome in outcomes}
    (cls,) = own.load_plugin(rule)
    assert (cls.name, cls.title, cls.__name__) == ("my_first_rule", "My first rule", "MyFirstRule")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1st", "cannot name a strategy"),
        ("My", "cannot name a strategy"),
        ("a-b", "cannot name a strategy"),
        ("../a", "cannot name a strategy"),
        ("class", "cannot name a strategy"),
        ("smebu", "already a strategy"),
        ("torch", "is a Python module"),
    ],
)
def test_a_name_that_cannot_be_is_refused(own, tmp_path, name, words):
    with pytest.raises(ValueError, match=f"name: .*{words}"):
        own.write_strategy(name, tmp_path, own.available())
    assert not list(tmp_path.iterdir())


def test_a_new_strategy_overwrites_nothing(own, tmp_path):
    (tmp_path / "test_mine.py").write_text("precious")
    with pytest.raises(ValueError, match=r"test_mine.py: there is already a file"):
        own.write_strategy("mine", tmp_path, own.available())
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]
