"""What a benchmark found, side by side with its baseline, kept for the table in the docs."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

KEPT = Path(".cache", "bench")
DOCS = Path("docs", "benchmarks.md")
COMPARISON = "for comparison"
"""The target of a row that has none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison, measured in one run. `target` is what the ratio should be, as text."""

    what: str
    ours: str
    baseline: str
    ratio: float
    target: str
    met: bool

    def __str__(self) -> str:
        verdict = "" if self.target == COMPARISON else ": met" if self.met else ": MISSED"
        return (
            f"{self.what}: {self.ours} against {self.baseline},"
            f" ratio {self.ratio:.2f} ({self.target}{verdict})"
        )


def keep(bench: str, rows: list[Row]) -> None:
    """Print the rows and remember them as the newest of this benchmark."""
    for row in rows:
        print(row)
    KEPT.mkdir(parents=True, exist_ok=True)
    facts = {"at": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine()}
    facts["rows"] = [asdict(row) for row in rows]  # type: ignore[assignment]
    (KEPT / f"{bench}.json").write_text(json.dumps(facts, indent=2))


def machine() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return f"{len(names)} × {names[0] if names else platform.machine()}, {memory} GiB"


def table() -> str:
    """All kept rows as one page."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Each row is measured side by side with its baseline in one run;",
        "only the ratio means something on another machine.",
    ]
    for file in sorted(KEPT.glob("*.json")):
        facts = json.loads(file.read_text())
        lines += ["", f"## {file.stem}", "", f"{facts['at']}, {facts['machine']}", ""]
        lines += ["| What | Modelyard | Baseline | Ratio | Target | |", "|---|---|---|---|---|---|"]
        for row in facts["rows"]:
            verdict = "met" if row["met"] else "missed"
            verdict = "" if row["target"] == COMPARISON else verdict
            lines.append(
                f"| {row['what']} | {row['ours']} | {row['baseline']} | {row['ratio']:.2f}"
                f" | {row['target']} | {verdict} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCS.write_text(table())
    print(f"{DOCS} is written.")
