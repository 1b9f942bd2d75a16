"""Write the folder ``results`` with the ``run-benchmark`` on the PATH; see README.md."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE / "results"
RUN = "run-benchmark run --out results --plugin methods.py --no-figures --jobs 1 --suite"
#: Facts of one machine, which no test may depend on.
NEUTRAL = {
    "platform": "Linux", "cpu": "a CPU", "n_cpus": 2, "git_commit": None, "git_dirty": None,
    "command_line": ["run-benchmark", "run"],
}  # fmt: skip


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    for suite in ("embeddings.toml", "study.toml", "cells.toml --method sleeps --time-limit 2", "cells.toml"):
        # Exit code 1 says that some runs did not end well, as is intended.
        assert subprocess.run([*RUN.split(), *suite.split()], cwd=HERE).returncode in (0, 1)
    shutil.rmtree(ROOT / "data")  # any run writes it again
    for name in (".lock", "leaderboard.html", "leaderboard.md", "scores.csv"):
        (ROOT / name).unlink()
    for log in ROOT.glob("**/log.txt"):
        log.write_text(without_folders(log.read_text()))
    stamps = dict(neutral(path) for path in ROOT.glob("runs/*/record.json"))
    lines = [json.loads(line)[1] for line in (ROOT / "index.jsonl").read_text().splitlines()]
    index = (json.dumps([stamps[fields["run_id"]], fields], separators=(",", ":")) for fields in lines)
    (ROOT / "index.jsonl").write_text("".join(f"{line}\n" for line in index))


def neutral(path: Path) -> tuple[str, list[int]]:
    """Take the facts of this machine out of a record; return its name with time and size of the file."""
    modified = path.stat().st_mtime_ns
    record = json.loads(path.read_text())
    record["log_tail"] = without_folders(record["log_tail"])
    record["environment"] |= NEUTRAL
    path.write_text(json.dumps(record, indent=1) + "\n")
    os.utime(path, ns=(modified, modified))
    return record["run_id"], [modified, path.stat().st_size]


def without_folders(log: str) -> str:
    return re.sub(r'File "[^"]*/', 'File "', log)


if __name__ == "__main__":
    main()
