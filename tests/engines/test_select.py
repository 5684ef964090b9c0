"""Which backend is taken: what was asked for, or a refusal that lists what is here."""

from pathlib import Path

import numpy as np
import pytest

from engines.engine import EngineError
from engines.select import choose, open_engine
from tests.small_bundle import head


def test_auto_takes_onnx_and_says_why() -> None:
    assert choose("auto") == ("onnx", "auto: the TensorRT backend is not part of this version")


def test_a_backend_by_name_is_taken() -> None:
    assert choose("onnx") == ("onnx", "asked for")


def test_tensorrt_is_refused_with_what_is_available() -> None:
    with pytest.raises(EngineError, match="engine 'tensorrt' is not available in this version; available: onnx"):
        choose("tensorrt")


@pytest.mark.parametrize("name", ["onx", "", "ONNX"])
def test_a_misspelt_name_is_not_guessed(name: str) -> None:
    with pytest.raises(EngineError, match=f"expected an engine of auto, onnx, tensorrt, got '{name}'"):
        choose(name)


def test_a_chosen_backend_opens_a_graph(tmp_path: Path) -> None:
    engine = open_engine("onnx", head(tmp_path / "a.onnx"), threads=2)
    features = np.zeros((1, 3), np.float32)
    np.testing.assert_allclose(engine.run({"face": features, "voice": features})["posterior"], 1 / 3)
    assert engine.backend == "onnx"
    engine.close()


def test_what_was_not_chosen_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected a chosen backend, got 'auto'; available: onnx"):
        open_engine("auto", head(tmp_path / "a.onnx"))
