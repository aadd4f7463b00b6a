"""How pip itself is fetched where Python has no ensurepip: from the user's index, by pinned checksum."""

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTENT = b"a wheel"


@pytest.fixture
def pip_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module as the set-up imports it, away from this machine's pip settings."""
    spec = importlib.util.spec_from_file_location("pip_wheel", ROOT / "deploy" / "local" / "pip_wheel.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_PROXY", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return module


def index_with(folder: Path, pip_wheel: ModuleType, content: bytes = CONTENT) -> str:
    page = folder / "pip"
    page.mkdir(parents=True)
    (folder / pip_wheel.FILE_NAME).write_bytes(content)
    (page / "index.html").write_text(f'<a href="../{pip_wheel.FILE_NAME}#sha256=x">{pip_wheel.FILE_NAME}</a>')
    return folder.as_uri()


def test_the_wheel_comes_from_the_index_that_pip_would_use(
    pip_wheel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index_with(tmp_path / "index", pip_wheel))
    assert pip_wheel.fetch_pip_wheel(tmp_path).read_bytes() == CONTENT


def test_pip_s_own_settings_file_is_respected(
    pip_wheel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index_with(tmp_path / 'index', pip_wheel)}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert pip_wheel.fetch_pip_wheel(tmp_path).read_bytes() == CONTENT


def test_the_extra_index_is_tried_when_the_first_lacks_the_file(
    pip_wheel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "absent").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index_with(tmp_path / "index", pip_wheel))
    assert pip_wheel.fetch_pip_wheel(tmp_path).read_bytes() == CONTENT


def test_another_checksum_is_refused(pip_wheel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index_with(tmp_path / "index", pip_wheel, b"something else"))
    with pytest.raises(pip_wheel.NoPip, match="checksum"):
        pip_wheel.fetch_pip_wheel(tmp_path)


def test_a_refusal_shows_no_password(pip_wheel: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:1/simple")
    with pytest.raises(pip_wheel.NoPip) as caught:
        pip_wheel.fetch_pip_wheel(tmp_path)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)
