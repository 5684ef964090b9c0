"""The bench takes a compiled graph in where there is one, and says so where there is none."""

import json
from pathlib import Path

import pytest

from tests.gpu import fake_gpu
from tests.small_bundle import small_bundle
from tools.cli import run
from tools.engine.bench import bench, default_backends


def test_a_gpu_adds_its_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "cache"))
    bundle = str(small_bundle(tmp_path / "bundle").folder)
    assert "tensorrt" not in default_backends(1)
    with fake_gpu(monkeypatch) as gpu:
        backends = {name: opens for name, opens in default_backends(1).items() if name in ("onnx", "tensorrt")}

        def measured() -> dict[tuple[str, str], dict[str, object]]:
            assert (
                bench(bundle, batches=(1, 2), rounds=2, as_json=True, picture=None, backends=backends, budget_s=0.5)
                == 0
            )
            return {(row["graph"], row["backend"]): row for row in json.loads(capsys.readouterr().out)["rows"]}

        assert "no plan was built and accepted" in json.dumps(measured()["head", "tensorrt"])
        assert run(["engine", "build", bundle, "--batch", "1,2"]) == 0
        capsys.readouterr()
        row = measured()["head", "tensorrt"]
        assert {at["difference"] for at in row["at"].values()} == {0.0}  # type: ignore[attr-defined]
        assert gpu.left() == {}
