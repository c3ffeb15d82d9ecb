"""Names, paths and secrets."""

from pathlib import Path

import pytest

from slurm import TrialJob, profiles
from slurm.submit import submit
from slurm.trust import check_key, check_payload, is_secret, redact, secret_in_script


def attempt(key="a", folder=None, logs="/home/x/slurm", entry="slurm.worker:resolve", payload=None):
    job = TrialJob(key, folder or Path("/home/x/trials") / key, "t", "s", False)
    return submit([job], entry, payload or {}, profiles.load("testcluster"), Path(logs), dry_run=True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": "../escape"}, "trial key: '../escape' is unusable"),
        ({"key": "a b"}, "trial key"),
        ({"key": "-rf"}, "trial key"),
        ({"key": "a\nb"}, "trial key"),
        ({"key": "x" * 200}, "trial key"),
        ({"folder": Path("trials/a")}, "trial folder: 'trials/a' is unusable; expected an absolute path"),
        ({"folder": Path("/home/x/trials/b")}, "ends in a"),
        ({"folder": Path("/home/x/../trials/a")}, "trial folder"),
        ({"folder": Path("/home/\nx/trials/a")}, "trial folder"),
        ({"logs": "/home/%j/slurm"}, "which SLURM expands"),
        ({"logs": "/home/a\\b"}, "which SLURM expands"),
        ({"logs": "/home/a\nb"}, "logs"),
        ({"entry": "__main__:run"}, "entry: '__main__:run' is unusable; expected 'package.module:function'"),
        ({"entry": "os.system('x')"}, "entry"),
        ({"entry": "nosuch.module:run"}, "module 'nosuch.module' cannot be found"),
        ({"payload": {"tracking": {"uri": "https://me:pw@host"}}}, "payload.tracking.uri: looks like a secret"),
        ({"payload": {"api_key": "abc"}}, "payload.api_key: looks like a secret"),
    ],
)
def test_what_could_do_harm_is_refused_in_one_line(wrong, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is what is tested)
        attempt(**wrong)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_harmless_passes():
    assert len(attempt()) == 1
    assert check_key("4f0c-a_b.c") == "4f0c-a_b.c"
    check_payload({"tokens": 5, "uri": "sqlite:////x", "token": "", "list": [1, "a"]})


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "token"]
)
def test_names_of_secrets(name):
    assert is_secret(name, "x")


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "KEY", "PATH", "MONKEY", "SECRETARY"])
def test_names_that_only_sound_like_secrets(name):
    assert not is_secret(name, "x")


def test_secrets_in_lines_of_shell():
    assert secret_in_script("export A=1 HF_TOKEN=abc") == "HF_TOKEN"
    assert secret_in_script('export HF_TOKEN="$(cat token)"') == "HF_TOKEN"
    assert secret_in_script("git clone https://me:pw@host/x") == "a URL's credentials"
    assert secret_in_script("module load cuda && export TOKENIZERS_PARALLELISM=false") is None


def test_redaction(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcdef123")
    assert redact("at https://me:pw@host/x with abcdef123") == "at https://***@host/x with ***"
    assert redact("mail me@host") == "mail me@host"
