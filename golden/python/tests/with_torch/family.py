"""What each site of the model is computed from, as `measure/models/nemotron-vl.toml` says it."""

import re
import tomllib
from fnmatch import fnmatchcase

from conftest import ROOT

FILE = ROOT / "measure/models/nemotron-vl.toml"


def inputs_of(names):
    """For each site among the names that the file has: the names that it is computed from."""
    lines = {}
    for section in tomllib.loads(FILE.read_text())["modules"]:
        for line in section["sites"]:
            site = _full(line["site"], section.get("module", ""))
            for numbers in _numbers(site, names):
                given = line.get("from", [])
                given = (
                    [*given[: given.index("x")], *_x(section, numbers), *given[given.index("x") + 1 :]]
                    if "x" in given
                    else given
                )
                found = set()
                for choice in given:
                    if isinstance(choice, dict):
                        if not any(fnmatchcase(name, when) for name in names for when in choice.get("when", ["*"])):
                            continue
                        choice = choice["site"]
                    options = [
                        _fill(_full(option, section.get("module", "")), numbers, names)
                        for option in choice.split(" | ")
                    ]
                    found.update([next((option for option in options if option in names), options[-1])])
                lines[_fill(site, numbers, names)] = found
    return lines


def _x(section, numbers):
    x = section["x"]
    return [x["first"] if numbers["n"] == 0 else x["then"]]


def _full(site, module):
    return module if site == "." else module + site if site.startswith(".") else site


def _numbers(site, names):
    """The numbers of layers for which a site was recorded."""
    if "{n}" not in site:
        return [{}] if site in names or "{last}" in site else []
    pattern = re.compile(re.escape(site).replace(re.escape("{n}"), r"(\d+)"))
    return [{"n": int(found[1])} for name in names if (found := pattern.fullmatch(name))]


def _fill(site, numbers, names):
    for number, value in numbers.items():
        site = site.replace(f"{{{number}}}", str(value)).replace(f"{{{number}-1}}", str(value - 1))
    if "{last}" in site:
        before = site.partition("{last}")[0]
        layers = [int(name[len(before) :].split(".")[0]) for name in names if name.startswith(before)]
        site = site.replace("{last}", str(max(layers)))
    return site
