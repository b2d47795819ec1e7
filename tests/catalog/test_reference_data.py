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
HARDWARE = """
Fermi 2 3; Kepler 3 5; Maxwell 5 6; Pascal 6 7; Volta 7 7.5; Turing 7.5 8; Ampere 8 8.9;
Hopper 9 10; Ada 8.9 9
"""
FRAMEWORKS = {
    "tensorflow": ["1.14"],
    "mmclassification": ["0.23.1", "0.25.0"],
    "dogs_dummy": ["1"],
    "mmsegmentation": ["0.30.0"],
    "yolact": ["2020-02-11", "2020-02-11_slim"],
    "mmdetection": ["2020-03-01", "2020-03-01_cuda10", "2020-10-11"],
    "yolo": ["v5", "v7"],
    "weka": ["classifier"],
    "coqui_stt": ["1.3.0", "1.4.0", "1.15.2"],
}
DOMAINS = {
    "ic": "Image Classification",
    "is": "Image Segmentation",
    "od": "Object Detection",
    "sc": "Spectrum Classification",
    "sp": "Speech",
}
JOB_TYPES = {
    "base": "UFDLType UFDLJSONType FiniteJSONType ServerResidentType NamedServerType ValueType"
    " str=String int=Integer float=Float bool=Boolean",
    "standard.container": "Array Map",
    "standard.server": "CUDAVersion Dataset DockerImage Domain Framework Hardware PretrainedModel",
    "standard.util": "BLOB Compressed JSON Nothing",
    "standard": "JobOutput Model Name PK",
}
"""By package below `ufdl.jobtypes`; a name, and its class where that is called otherwise."""
LISTS = {
    "permissions": "Distribution,Modification,Patent use,Commercial use,Private use",
    "conditions": "Network use is distribution,License and copyright notice,Same license"
    ",Disclose source,State changes,Same license (library),Same license (file)",
    "limitations": "Liability,Warranty,Trademark use,Patent use",
    "domains": "Software,Models,Data",
}
OSI, CC = "https://opensource.org/licenses/", "creativecommons.org"
LICENCES = f"""
AGPL3|12345/12345/12/12|{OSI}AGPL-3.0
Apache 2.0|12345/25/123/12|{OSI}Apache-2.0
BSD 2-clause|1245/2/12/12|{OSI}BSD-2-Clause
BSD 3-clause|1245/2/12/12|{OSI}BSD-3-Clause
CC0|1245//1234/23|https://{CC}/share-your-work/public-domain/cc0/
CC-BY-4.0|1245/25/1234/23|https://{CC}/licenses/by/4.0/
CC-BY-SA-4.0|1245/235/1234/23|http://{CC}/licenses/by-sa/4.0/
GPL2|1245/2345/12/12|{OSI}GPL-2.0
GPL3|12345/2345/12/12|{OSI}GPL-3.0
LGPL3|12345/2456/12/12|{OSI}LGPL-3.0
MIT|1245/2/12/12|{OSI}MIT
Mozilla Public License 2.0|12345/247/123/12|{OSI}MPL-2.0
The Unlicense|1245//12/12|https://unlicense.org/
Proprietary|/2//12|https://en.wikipedia.org/wiki/All_rights_reserved
"""
"""Each digit is a position in the list of that place."""


def test_every_cuda_version_names_its_least_driver() -> None:
    published = [row.split() for row in DRIVERS.split(";")]
    for row, (version, full, driver) in zip(DATA["cuda"], published, strict=True):
        known = row["version"], row["full_version"], row["min_driver_version"]
        assert known == (version, full.replace("_", " "), driver)


def test_every_table_is_filled_with_rows_that_could_be_entered() -> None:
    assert DATA.keys() == set(TABLES)
    for table in TABLES.values():
        kept: list[Mapping[str, Any]] = []
        for row in DATA[table.name]:
            lists: dict[str, list[str]] = {name: [] for name in table.lists}
            values = tables.read_row(table, row, lists, partial=False)
            assert values | {name: row[name] for name in table.lists} == row
            tables.require_rule(table, values, kept)
            kept.append(values)


def test_hardware_frameworks_and_domains_are_those_that_clients_know() -> None:
    generations = [
        (row["generation"], row["min_compute_capability"], row["max_compute_capability"])
        for row in DATA["hardware"]
    ]
    known = (row.split() for row in HARDWARE.split(";"))
    assert generations == [(name, float(low), float(high)) for name, low, high in known]
    frameworks = [(row["name"], row["version"]) for row in DATA["frameworks"]]
    assert frameworks == [(name, each) for name, all_ in FRAMEWORKS.items() for each in all_]
    assert {row["name"]: row["description"] for row in DATA["domains"]} == DOMAINS
    assert [row["name"] for row in DATA["domains"]] == list(DOMAINS)


def test_contracts_and_types_of_jobs_name_their_packages_and_classes() -> None:
    contracts = [(row["name"], row["pkg"], row["cls"]) for row in DATA["job-contracts"]]
    below = "ufdl.jobcontracts"
    assert contracts == [
        (name, below, f"{below}.standard.{name}") for name in ("Predict", "Train", "Export")
    ]
    types = [(row["name"], row["pkg"], row["cls"]) for row in DATA["job-types"]]
    pairs = [
        (package, *each.partition("=")[::2])
        for package, names in JOB_TYPES.items()
        for each in names.split()
    ]
    below = "ufdl.jobtypes"
    assert types == [(name, below, f"{below}.{at}.{other or name}") for at, name, other in pairs]


def test_licences_name_what_they_permit_and_demand() -> None:
    for row, line in zip(DATA["licences"], LICENCES.strip().splitlines(), strict=True):
        name, digits, url = line.split("|")
        assert (row["name"], row["url"]) == (name, url)
        for (kind, known), chosen in zip(LISTS.items(), digits.split("/"), strict=True):
            assert row[kind] == [known.split(",")[int(digit) - 1] for digit in chosen], (name, kind)
