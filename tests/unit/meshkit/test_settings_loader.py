from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from meshkit.settings import ServiceSettings, SettingsError, describe, load

PREFIX = "MESH_CACHE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    price: float = 1.0
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    size_bytes: int = 10
    ratio: float = 0.5
    is_on: bool = False
    names: tuple[str, ...] = ("a",)
    folder: Path = Path("here")
    limit: int | None = None
    mode: Literal["fast", "safe"] = "fast"
    tiers: dict[str, Tier] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise ValueError("size_bytes must be >= 0")
        if self.ratio > 1:
            raise ValueError("group.ratio must be at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLikeSettings(ServiceSettings):
    group: Group = field(default_factory=Group)


@pytest.fixture
def loaded(tmp_path):
    def from_text(toml="", **environ):
        path = tmp_path / "settings.toml"
        path.write_text(toml)
        return load(CacheLikeSettings, env_prefix=PREFIX, path=path, environ=environ)

    return from_text


def refusal(loaded, toml="", **environ) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(toml, **environ)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_give_way_to_the_file_and_the_file_to_the_environment(loaded):
    toml = "[group]\nsize_bytes = 20\nratio = 0.25"
    value = loaded(
        toml, MESH_CACHE_GROUP__RATIO="0.75", MESH_CACHE_SERVER__PORT="50052", MESH_OTHER_X="1", HOME="/"
    ).value
    assert (value.group.size_bytes, value.group.ratio, value.group.is_on) == (20, 0.75, False)
    assert value.server.port == 50052


def test_no_file_is_fine():
    assert load(CacheLikeSettings, env_prefix=PREFIX, path=None, environ={}).value == CacheLikeSettings()


def test_every_kind_of_value_can_come_from_the_environment(loaded):
    group = loaded(
        MESH_CACHE_GROUP__SIZE_BYTES="5",
        MESH_CACHE_GROUP__IS_ON="Yes",
        MESH_CACHE_GROUP__NAMES="x, y,",
        MESH_CACHE_GROUP__FOLDER="/tmp/z",
        MESH_CACHE_GROUP__LIMIT="7",
        MESH_CACHE_GROUP__MODE="safe",
        MESH_CACHE_GROUP__TIERS__SMALL__PRICE="2",
    ).value.group
    assert group == Group(
        size_bytes=5,
        is_on=True,
        names=("x", "y"),
        folder=Path("/tmp/z"),
        limit=7,
        mode="safe",
        tiers={"small": Tier(price=2.0)},
    )


def test_tables_of_tables_and_lists_come_from_the_file(loaded):
    group = loaded(
        '[group]\nnames = ["x"]\n[group.tiers.small]\nmodel = "m"\n[group.tiers.large]\nprice = 3'
    ).value.group
    assert group.names == ("x",)
    assert group.tiers == {"small": Tier(model="m"), "large": Tier(price=3.0)}


def test_an_empty_variable_unsets_an_optional_value(loaded):
    assert loaded("[group]\nlimit = 3", MESH_CACHE_GROUP__LIMIT="").value.group.limit is None


UNKNOWN = [
    ("[group]\nsise_bytes = 7", {}, ("group.sise_bytes", "7", "settings.toml", "size_bytes")),
    ("[grupp]\nsize_bytes = 7", {}, ("grupp", "settings.toml", "group")),
    ("", {"MESH_CACHE_GROUP__SISE": "7"}, ("group.sise", "'7'", "MESH_CACHE_GROUP__SISE")),
    (
        "",
        {"MESH_CACHE_GROUP__TIERS__S__PRIZE": "7"},
        ("group.tiers.s.prize", "'7'", "MESH_CACHE_GROUP__TIERS__S__PRIZE"),
    ),
    ("", {"MESH_CACHE_": "7"}, ("MESH_CACHE_",)),
    ("", {"MESH_CACHE_GROUP__": "7"}, ("MESH_CACHE_GROUP__",)),
]


@pytest.mark.parametrize(("toml", "environ", "named"), UNKNOWN)
def test_an_unknown_key_is_named_with_value_and_source(loaded, toml, environ, named):
    text = refusal(loaded, toml, **environ)
    assert all(part in text for part in named), text


BAD = [
    ("[group]\nsize_bytes = 1.5", ("group.size_bytes = 1.5", "settings.toml", "int")),
    ("[group]\nsize_bytes = true", ("group.size_bytes = True", "int")),
    ('[group]\nsize_bytes = "many"', ("group.size_bytes = 'many'", "int")),
    ("[group]\nratio = nan", ("group.ratio", "float")),
    ("[group]\nratio = inf", ("group.ratio", "float")),
    ("[group]\nis_on = 2", ("group.is_on", "bool")),
    ("[group]\nfolder = 3", ("group.folder", "Path")),
    ("[group]\nnames = 3", ("group.names = 3", "list")),
    ("[group]\nnames = [3]", ("group.names", "str")),
    ('[group]\nmode = "reckless"', ("group.mode", "fast, safe")),
    ("group = 3", ("group = 3", "table")),
    ("[group]\ntiers = 3", ("group.tiers = 3", "table")),
    ("[group]\nsize_bytes = -1", ("group.size_bytes must be >= 0", "settings.toml")),
    ("[group]\nratio = 2.0", ("group.ratio must be at most 1", "settings.toml")),
    ("not toml", ("not valid TOML", "settings.toml")),
    ("[server]\nport = 70000", ("server.port must be in 0..65535", "settings.toml")),
    ("[server]\nmax_message_bytes = 0", ("server.max_message_bytes",)),
    ('[server]\ntls_key = "/x"', ("server.tls_certificate and tls_key must be set together",)),
    ('[server]\ntls_key = "/x"\ntls_certificate = "/y"', ("server.tls_certificate must name a file", "/y")),
    ('[registry]\nkind = "etcd"', ("registry.kind must be one of consul, file, none",)),
    ('[registry]\nconsul_url = "127.0.0.1:8500"', ("registry.consul_url must start with http://",)),
    ("[telemetry]\ntrace_sample_ratio = 2", ("telemetry.trace_sample_ratio must be in [0, 1]",)),
    ('[telemetry]\nlog_level = "loud"', ("telemetry.log_level must be one of debug",)),
]


@pytest.mark.parametrize(("toml", "named"), BAD)
def test_a_bad_value_is_refused_in_one_sentence_that_names_it(loaded, toml, named):
    text = refusal(loaded, toml)
    assert all(part in text for part in named), text


@pytest.mark.parametrize("path", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, path):
    with pytest.raises(SettingsError, match=str(tmp_path / path)):
        load(CacheLikeSettings, env_prefix=PREFIX, path=tmp_path / path, environ={})


def test_a_value_beside_a_table_of_the_same_name_is_refused(loaded):
    assert "group" in refusal(loaded, "[group]\nratio = 0.5", MESH_CACHE_GROUP="7")


def test_describe_shows_every_value_with_its_source(loaded):
    text = describe(loaded("[group.tiers.small]\nprice = 3", MESH_CACHE_GROUP__NAMES="x"))
    rows = {line.split(" = ")[0]: " ".join(line.split(" = ", 1)[1].split()) for line in text.splitlines()}
    assert rows["group.size_bytes"] == "10 # default"
    assert rows["group.names"] == '["x"] # MESH_CACHE_GROUP__NAMES'
    assert rows["group.tiers.small.price"].startswith("3.0 # ")
    assert rows["group.tiers.small.price"].endswith("settings.toml")
    assert rows["group.folder"] == '"here" # default'
    assert rows["server.tls_key"] == "null # default"
