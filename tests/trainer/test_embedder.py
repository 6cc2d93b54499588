"""A model in this process as an embedder: on a tiny one made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from envs.search.embedder import Embedder, EmbedderError, EndpointEmbedder
from trainer.config import Tiny
from trainer.embedder import ModelEmbedder, open_embedder
from trainer.learning.tiny import make_tiny

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tmp_path_factory.mktemp("embedder")
    text = ["def parse(text): return text.split()"] * 20
    return ModelEmbedder(make_tiny(folder / "model", Tiny(), text=text, tools=[], context_tokens=128))


def test_a_text_has_the_same_vector_alone_and_beside_longer_ones(embedder: Embedder) -> None:
    texts = ["def parse", "", "def parse(text): return text.split() " * 9, "return"]
    together = embedder.embed(texts, timeout_s=60)
    assert len({len(vector) for vector in together}) == 1
    for text, vector in zip(texts, together, strict=True):
        assert embedder.embed([text], timeout_s=60)[0] == pytest.approx(vector, abs=1e-4)
    assert together[0] != pytest.approx(together[3], abs=1e-3)


def test_a_deadline_and_a_folder_without_a_model_are_one_sentence(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match="too slow"):
        embedder.embed(["a"], timeout_s=0)
    with pytest.raises(EmbedderError, match="holds no model"):
        ModelEmbedder(tmp_path)


def test_a_spec_opens_what_it_names_and_anything_else_is_one_sentence() -> None:
    with open_embedder("") as nothing, open_embedder("endpoint:http://127.0.0.1:1/v1#small") as server:
        assert nothing is None
        assert isinstance(server, EndpointEmbedder)
    for spec in ("small", "endpoint:http://127.0.0.1:1/v1", "model:", "model:/nowhere"):
        with pytest.raises(EmbedderError), open_embedder(spec):
            pass
