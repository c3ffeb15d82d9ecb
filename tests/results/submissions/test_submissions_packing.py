"""What leaves home: the same bytes for the same trials, and nothing of the machine."""

from __future__ import annotations

import getpass
import gzip
import json
import os
import shutil
import socket

import pytest

from results.submissions import archive, packing
from results.submissions.safe import parse


def pack(home, path, **changes):
    manifest = json.loads((home / "suites" / "tiny.json").read_text())
    options = {"by": "Ada Lovelace", "version": "0.1.0", "plugins": {"strange": "# a rule\n"}, **changes}
    return packing.pack(path, [manifest], home / "trials", **options)


def test_nothing_of_the_machine_leaves_home(trained, packed):
    content = gzip.decompress(packed.read_bytes())
    words = {socket.gethostname(), os.uname().nodename, str(trained), str(trained.parent), "/tmp", "/home", "slurm"}
    words |= {getpass.getuser() + "@", os.path.expanduser("~") + "/", trained.name}
    found = [word for word in words if len(word) > 1 and word.encode() in content.replace(b"pytest", b"")]
    assert found == []
    assert b"host-1" in content


def test_two_hosts_stay_two(trained, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    names = sorted((home / "trials").iterdir())
    for index, folder in enumerate(names):
        record = json.loads((folder / "record.json").read_text())
        record["attempts"][-1]["host"] = f"node{index % 2}.cluster.example.org"
        record["attempts"][-1]["slurm_job"] = "job 4711"
        (folder / "record.json").write_text(json.dumps(record))
    pack(home, tmp_path / "a.tar.gz")
    files = dict(archive.read(tmp_path / "a.tar.gz"))
    hosts = [
        json.loads(content)["attempts"][-1]["host"] for name, content in files.items() if name.endswith("record.json")
    ]
    assert sorted(set(hosts)) == ["host-1", "host-2"]
    assert b"example.org" not in b"".join(files.values())
    assert b"job 4711" not in b"".join(files.values())


def test_the_same_home_elsewhere_gives_the_same_bytes(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "elsewhere")
    for folder in (tmp_path / "elsewhere" / "trials").iterdir():
        os.utime(folder / "record.json", (0, 0))
    pack(trained, tmp_path / "one.tar.gz")
    pack(tmp_path / "elsewhere", tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_the_archive_holds_what_the_records_hold(trained, packed):
    files = dict(archive.read(packed))
    for name, content in files.items():
        if name.endswith("record.json"):
            here = json.loads((trained / name).read_text())
            there = parse(content)
            for part in ("config", "facts", "measures", "timing", "task", "status"):
                assert there[part] == here[part]
    assert sum(name.endswith("record.json") for name in files) == 8
    assert files["plugins/strange.py"].startswith(b"\nfrom dataclasses")


def test_a_text_of_ones_own_is_not_for_others(trained, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    folder = next((home / "trials").iterdir())
    record = json.loads((folder / "record.json").read_text())
    record["config"]["task"]["corpus"] = {"kind": "text", "path": "/home/ada/diary.txt"}
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"texts of your own \(diary.txt\), which nobody else has"):
        pack(home, tmp_path / "a.tar.gz")


def test_loads_that_are_not_there(trained, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    (next((home / "trials").iterdir()) / "load.npz").unlink()
    with pytest.raises(ValueError, match="a published record is without its loads"):
        pack(home, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("by", ["", "<b>", "x" * 61, "a\nb", "[me](https://example.org)"])
def test_a_name_that_no_board_shows(trained, tmp_path, by):
    with pytest.raises(ValueError, match="--by: "):
        pack(trained, tmp_path / "a.tar.gz", by=by)


def test_a_part_of_a_suite(trained):
    manifest = json.loads((trained / "suites" / "tiny.json").read_text())
    part = packing.cut(manifest, [0], ["aux_loss", "strange"], [])
    assert {(cell["arm"], cell["seed"]) for cell in part["trials"]} == {("aux_loss", 0), ("strange", 0)}
    assert [arm["arm"] for arm in part["arms"]] == ["aux_loss", "strange"]
    assert part["aa_arm"] is None
    assert packing.cut(manifest, [], [], ["nothing"])["trials"] == []


def test_seeds_that_are_whole(trained, tmp_path):
    manifest = json.loads((trained / "suites" / "tiny.json").read_text())
    assert packing.whole_seeds(manifest, trained / "trials") == 2
    shutil.copytree(trained / "trials", tmp_path / "trials")
    second = next(cell for cell in manifest["trials"] if cell["seed"] == 1)
    (tmp_path / "trials" / second["trial_key"] / "record.json").unlink()
    assert packing.unfinished(manifest, tmp_path / "trials") == [second]
    assert packing.whole_seeds(manifest, tmp_path / "trials") == 1
