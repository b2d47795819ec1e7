"""The reference data of the catalogue, held against NVIDIA's published least drivers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pipeline.catalog import tables
from pipeline.catalog.tables import TABLES

DATA: Mapping[str, list[dict[str, Any]]] = json.loads(
    resources.files("pipeline.catalog").joinpath("reference_data.json").read_text()
)
DRIVERS = """
12.1 12.1.0 530.30.02; 12.0 12.0.0 525.60.13; 11.8 11.8.0 520.61.05; 11.7 11.7.0 515.65.01;
11.6 11.6.0 510.47.03; 11.5 11.5.0 495.29.05; 11.4 11.4.0 470.57.02; 11.3 11.3.0 465.19.01;
11.2 11.2.0 460.27.03; 11.1 11.1.0 455.23.05; 11.0 11.0.171 450.36.06; 10.2 10.2.89 440.33;
10.1 10.1.105 418.39; 10.0 10.0.130 410.48; 9.2 9.2.88 396.26; 9.1 9.1.85 390.46;
9.0 9.0.76 384.81; 8.0 8.0.61_GA2 375.26; 7.5 7.5.16 352.31; 7.0 7.0.28 346.46; 0.0 0.0 0.0;
12.2 12.2.0 535.54.03; 12.3 12.3.0 545.23.06; 12.4 12.4.0 550.54.14; 12.5 12.5.0 555.42.02;
12.6 12.6.0 560.28.03; 12.8 12.8.0 570.26; 12.9 12.9.0 575.51.03; 13.0 13.0.0 580.65.06
"""
"""Version, full version and least driver (CUDA Toolkit release notes, table of driver versions)."""
COUNTS = {
    **{"cuda": 29, "hardware": 9, "frameworks": 16, "domains": 5, "licences": 14},
    **{"job-contracts": 3, "job-types": 27},
}


def test_every_cuda_version_names_its_least_driver() -> None:
    published = [row.split() for row in DRIVERS.split(";")]
    for row, (version, full, driver) in zip(DATA["cuda"], published, strict=True):
        known = row["version"], row["full_version"], row["min_driver_version"]
        assert known == (version, full.replace("_", " "), driver)


def test_every_table_is_filled_with_rows_that_could_be_entered() -> None:
    assert {name: len(rows) for name, rows in DATA.items()} == COUNTS
    for table in TABLES.values():
        kept: list[Mapping[str, Any]] = []
        for row in DATA[table.name]:
            lists: dict[str, list[str]] = {name: [] for name in table.lists}
            values = tables.read_row(table, row, lists, partial=False)
            assert values | {name: row[name] for name in table.lists} == row
            tables.require_rule(table, values, kept)
            kept.append(values)
