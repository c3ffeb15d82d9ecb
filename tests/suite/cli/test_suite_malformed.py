"""A thousand things nobody should say, drawn from a seed: each gets an exit code and a line, never a traceback."""

from __future__ import annotations

import copy
import random
import time
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from suite.cli import VERBS, main

pytestmark = pytest.mark.slow

EACH = 128
LONGEST = 20.0  # seconds of a core for one answer
ODD = [
    *(None, True, False, 0, -1, 1, 3.5, 2**31, 2**63, 10**20, 10**400, -(10**20), 1e308, 1e-308),
    *(
        *(float(text) for text in ("nan", "inf", "-inf")),
        *("", " ", "x", "none", "aux_loss", "ü" * 300, "\x1b[31m", "a\nb", "../x"),
    ),
    *("/etc/passwd", "<b>", "[1", "{", "%s", "{0}", "\u202e", "2001-13-45", "12:30:00", "0x10", "1_000", "9" * 5000),
    *([], [None], [[]], {}, {"": None}, {"a": {"b": []}}, [0] * 3, list(range(50)), ["aux_loss"] * 2, [-1], ["x", 1]),
]


def words(text):
    return text.split()


SUITE_KEYS = words(
    "seeds baseline control aa horizons margin track tune_seeds backend precision device threads title hypothesis "
    "suite tasks strategies digest changed nothing"
)
TASK_KEYS = words(
    "steps width layers depth heads experts top_k expert_width vocab_size horizon sequence_length batch_sequences name "
    "micro_batches moe_positions recipe score learning_rate warmup_steps eval_sequences checkpoint_every nothing"
)
ARM_KEYS = words("rate coefficient terms.z terms.aux nothing")
CORPUS_KEYS = words("kind path exponent content nothing")
NAMES = words(
    "quick tiny tiny-tuned claims:x tune:quick tune: sweep:x x.yaml . - -- smebu a/b/c quick/smebu/mix-nano suites "
    "strategies nothing.tar.gz ü 1e9 \x1b[31m"
)
NAMES += ["", " "]
OPTIONS = words(
    "--seeds --tasks --strategies --set --plugin --jobs --json --profile --profile-set --by --suite --date --rerun "
    "--need --experts --recipe --machine --seed --nothing -x"
)


def flow(value):
    """A value as YAML on one line, if it is any; else whatever it is as text."""
    try:
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    except (yaml.YAMLError, ValueError):
        return str(value)


def places(value, path=()):
    """Every place in a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(dice, value):
    """A copy with one place changed, left out, or joined by another."""
    value = copy.deepcopy(value)
    *folders, leaf = dice.choice(list(places(value)))
    inside = value
    for key in folders:
        inside = inside[key]
    kind = dice.randrange(4)
    if kind == 0:
        del inside[leaf]
    elif kind == 1 and isinstance(inside, dict):
        inside[dice.choice(["nothing", "", 3, None, "x" * 200, f"{leaf}s"])] = dice.choice(ODD)
    else:
        inside[leaf] = dice.choice(ODD)
    return value


def as_file(dice, value, path):
    """The value as YAML; now and then with characters knocked out, put in or doubled."""
    try:
        text = yaml.safe_dump(value)
    except ValueError:
        text = str(value)
    content = text.encode("utf-8", "surrogatepass")
    for _ in range(dice.choice([0, 0, 0, 1, 3])):
        at = dice.randrange(len(content) + 1)
        content = (
            content[:at]
            + dice.choice([b"", b"\0", b"\xff", b"\t", b"[", b": ", b"&a ", b"*a", b"- ", b"!!python/x "])
            + content[at + dice.randrange(3) :]
        )
    path.write_bytes(content)
    return str(path)


def odd_suite(dice, folder, suite):
    return ["plan", as_file(dice, changed(dice, suite), folder / "odd.yaml")]


def odd_setting(dice, folder, suite):
    head = dice.choice(["", "rung.", "rung.", "corpus.", "aux_loss.", "smebu.", "nobody."])
    keys = {"": SUITE_KEYS, "rung.": TASK_KEYS, "corpus.": CORPUS_KEYS}.get(head, ARM_KEYS)
    value = dice.choice(ODD)
    setting = dice.choice([f"{head}{dice.choice(keys)}={flow(value)}"] * 8 + [flow(value), "=", f"{head}=1"])
    return ["plan", str(folder / "tiny.yaml"), "--set", setting]


def odd_profile(dice, folder, suite):
    profile = {"description": "d", "partition": "cpu", "time": "04:00:00", "cpus_per_task": 8, "memory": "16GB"}
    profile |= {
        "array_parallelism": 200,
        "env": {"A": 1},
        "per_task": {"zipf-nano": {"time": 10}},
        "packing": 2,
        "setup": ["true"],
    }
    if dice.random() < 0.3:
        setting = f"{dice.choice([*profile, 'gpus_per_node', 'extra', 'nothing'])}={flow(dice.choice(ODD))}"
        return ["submit", str(folder / "tiny.yaml"), "--dry-run", "--profile", "example-cpu", "--profile-set", setting]
    file = as_file(dice, changed(dice, profile), folder / "profile.yaml")
    return ["submit", str(folder / "tiny.yaml"), "--dry-run", "--profile", file]


def odd_command(dice, folder, suite):
    verbs = [verb for verb in VERBS if verb != "claims"]  # judging every claim is long work, and no mistake
    said = [dice.choice([*verbs, "frobnicate", ""])]
    for _ in range(dice.randrange(4)):
        said.append(dice.choice(NAMES + OPTIONS))
        if said[-1].startswith("--") and dice.random() < 0.8:
            said.append(dice.choice([*NAMES, "0", "-1", "99999999", "9" * 5000, "a=b", "rung.steps=x", "0,0", ","]))
    return said


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", [odd_suite, odd_setting, odd_profile, odd_command])
def test_no_traceback(kind, seed, tiny_suite, tmp_path, monkeypatch):
    import tasks
    from suite.running import tracking
    from suite.running.runner import Outcome, Runner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EQUIPOISE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Runner, "run", lambda _: Outcome())  # what turns out to be no mistake trains nothing here
    monkeypatch.setattr(tasks, "prepare", lambda *_: None)
    monkeypatch.setattr(tracking, "BackgroundMirror", lambda *_: SimpleNamespace(close=lambda _: 0, error=None))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_suite))
    dice = random.Random(f"{kind.__name__} {seed}")
    for _ in range(EACH):
        said = kind(dice, tmp_path, tiny_suite)
        start = time.process_time()
        result = CliRunner().invoke(main, said)
        seconds = time.process_time() - start
        about = f"{said!r:.2000} {result.output!r:.2000}"
        assert result.exception is None or isinstance(result.exception, SystemExit), about
        assert result.exit_code in (0, 1, 2), about
        assert "Traceback" not in result.output, about
        assert seconds < LONGEST, about
        assert result.exit_code != 1 or kind is odd_command, about  # nothing was begun that could have failed
        if result.exit_code == 2 and said != ["new"]:  # which alone shows what there is of it
            lines = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
            assert len(lines) == 1, about
