"""keyvid-cache shows and removes what is kept."""

from pathlib import Path

import pytest

from keyvid.engines.cache_cli import main
from keyvid.engines.plan_cache import PlanCache, key_of

PLAN = {"kind": "tensorrt plan", "file": "vae.onnx", "tensorrt": "11.1", "gpu": "NVIDIA Test"}


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    cache = PlanCache(tmp_path / "plans")

    def make(path: Path, lock: int) -> dict[str, float]:
        path.write_bytes(b"x" * 2_500_000)
        return {"seconds": 81.6}

    cache.get_or_make(PLAN, make)
    cache.put({"kind": "tensorrt timings"}, b"timings")
    return cache


def test_list(cache: PlanCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--folder", str(cache.folder)]) == 0
    output = capsys.readouterr()
    rows = {line.split("  ")[0]: line for line in output.out.splitlines()}
    assert len(rows) == 2
    assert "2.5 MB  vae.onnx  TensorRT 11.1, NVIDIA Test, built in 82 s" in rows[key_of(PLAN)[:12]]
    assert output.err == f"2 in {cache.folder}, 2.5 MB\n"


def test_list_names_what_is_damaged(cache: PlanCache, capsys: pytest.CaptureFixture[str]) -> None:
    (cache.folder / key_of(PLAN) / "plan").write_bytes(b"")
    main(["list", "--folder", str(cache.folder)])
    assert f"{key_of(PLAN)[:12]}  damaged" in capsys.readouterr().out


def test_clear(cache: PlanCache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clear", "--folder", str(cache.folder)]) == 0
    assert capsys.readouterr().err == f"2 removed from {cache.folder}\n"
    assert list(cache.entries()) == []


@pytest.mark.parametrize("command", ["list", "clear"])
def test_the_usual_folder_is_not_made_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([command]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others(cache: PlanCache, capsys: pytest.CaptureFixture[str]) -> None:
    cache.folder.chmod(0o755)
    assert main(["clear", "--folder", str(cache.folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keyvid-cache: ")
    assert "want drwx------" in error
    assert len(list(cache.folder.iterdir())) == 3
