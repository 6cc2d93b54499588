"""One cluster and two engines, a tied and an untied model, for the whole module: a start takes 20 s and more.

The tests that break an engine come last, and each breaks its own.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agents.engine import Sampling
from agents.types import Completion, PolicyError
from trainer.config import Engine

pytestmark = [pytest.mark.train, pytest.mark.slow]
pytest.importorskip("vllm")

VOCABULARY = 512
CONTEXT = 1024
TOLERANCE = 1e-4


def make_model(*, tied: bool, seed: int) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        eos_token_id=1,
        bos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config).to(torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    return model


def reference(model: Any, ids: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities of `ids[1:]` under transformers in float32."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0, :-1].float() / temperature
    targets = torch.tensor(list(ids)[1:])
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0].tolist()


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def soon(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


def prompt(seed: int, length: int = 100) -> list[int]:
    return [random.Random(seed).randrange(3, VOCABULARY) for _ in range(length)]


@dataclass
class Running:
    client: Any
    model: Any
    """What the engine should be computing, in transformers."""
    tied: bool
    scratch: Path
    version: int = 0
    seeds: Iterator[int] = field(default_factory=lambda: iter(range(100, 10_000)))

    def swap(self) -> Any:
        """Give the engine the weights of another model; returns the model it had."""
        from trainer.engine.client import FileSender
        from trainer.engine.weights import WeightProbe

        new = make_model(tied=self.tied, seed=next(self.seeds))
        old, self.model = self.model, new
        self.version += 1
        ids = tuple(prompt(7, 40))
        canary = WeightProbe(ids, tuple(reference(new, ids)))
        FileSender(self.client, new, self.scratch).send(self.version, timeout_s=60, canary=canary)
        return old

    def check(self, ids: Sequence[int], completion: Completion, temperature: float = 1.0) -> None:
        expected = reference(self.model, [*ids, *completion.token_ids], temperature)
        assert distance(completion.logprobs, expected[len(ids) - 1 :]) <= TOLERANCE


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    from trainer.cluster import session as cluster

    with cluster.start() as ray:
        yield ray.scratch()


@pytest.fixture(scope="module")
def engines(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    from trainer.engine.client import EngineSpec, start_engine

    models = {name: make_model(tied=name == "tied", seed=1) for name in ("tied", "untied")}
    folders = {name: tmp_path_factory.mktemp(name) for name in models}
    for name, model in models.items():
        model.save_pretrained(folders[name])

    def start(name: str) -> Running:
        options = Engine(max_num_seqs=64, kv_cache_gib=0.25, seeded=name == "tied")
        client = start_engine(EngineSpec(str(folders[name]), options, CONTEXT))
        return Running(client, models[name], name == "tied", scratch)

    with ThreadPoolExecutor(2) as pool:
        running = dict(zip(models, pool.map(start, models), strict=True))
    yield running
    for engine in running.values():
        engine.client.close()


@pytest.fixture(params=["tied", "untied"])
def engine(request: pytest.FixtureRequest, engines: dict[str, Running]) -> Running:
    return engines[request.param]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_are_those_of_transformers(engine: Running, temperature: float) -> None:
    for seed in range(3):
        ids = prompt(seed)
        completion = engine.client.generate(ids, Sampling(temperature, 64), seed=seed, deadline=soon())
        assert len(completion.token_ids) == 64 and completion.finish_reason == "length"
        engine.check(ids, completion, temperature)


def test_a_conversation_that_hits_the_prefix_cache_keeps_parity(engine: Running) -> None:
    before = engine.client.stats()
    ids = prompt(50)
    for turn in range(4):
        completion = engine.client.generate(ids, Sampling(1.0, 40), seed=turn, deadline=soon())
        engine.check(ids, completion)
        ids += [*completion.token_ids, *prompt(turn, 30)]
    after = engine.client.stats()
    assert after["cached_tokens"] - before["cached_tokens"] > 300


def test_scoring_agrees_with_sampling_and_with_transformers(engine: Running) -> None:
    ids = prompt(3)
    completion = engine.client.generate(ids, Sampling(1.0, 20), seed=3, deadline=soon())
    scores = engine.client.score([*ids, *completion.token_ids], timeout_s=30)
    assert distance(scores, reference(engine.model, [*ids, *completion.token_ids])) <= TOLERANCE
    assert distance(scores[-20:], completion.logprobs) <= TOLERANCE


def test_a_seed_decides_what_is_sampled(engines: dict[str, Running]) -> None:
    client, ids = engines["tied"].client, prompt(4)
    once, again, other = (client.generate(ids, Sampling(1.0, 30), seed=s, deadline=soon()) for s in (1, 1, 2))
    assert once.token_ids == again.token_ids != other.token_ids


def test_without_seeds_equal_requests_are_sampled_differently(engines: dict[str, Running]) -> None:
    client, ids = engines["untied"].client, prompt(4)
    once, again = (client.generate(ids, Sampling(1.0, 30), seed=1, deadline=soon()) for _ in range(2))
    assert once.token_ids != again.token_ids
    engines["untied"].check(ids, again)


def test_a_stop_id_ends_a_completion_and_is_part_of_it(engines: dict[str, Running]) -> None:
    client, ids = engines["tied"].client, prompt(5)
    free = client.generate(ids, Sampling(1.0, 30), seed=9, deadline=soon())
    stop = free.token_ids[10]
    stopped = client.generate(ids, Sampling(1.0, 30, stop_ids=(stop,)), seed=9, deadline=soon())
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert stopped.finish_reason == "stop"


def test_at_the_deadline_comes_what_was_sampled_so_far(engines: dict[str, Running]) -> None:
    running, ids = engines["tied"], prompt(6)
    started = time.monotonic()
    completion = running.client.generate(ids, Sampling(1.0, 900), seed=1, deadline=soon(0.7))
    assert time.monotonic() - started < 6
    assert completion.finish_reason == "abort" and 0 < len(completion.token_ids) < 900
    running.check(ids, completion)
    late = running.client.generate(ids, Sampling(1.0, 9), seed=1, deadline=soon(-1))
    assert late == Completion(finish_reason="abort")


def test_more_ids_than_the_context_holds_are_refused_in_one_line(engines: dict[str, Running]) -> None:
    with pytest.raises(PolicyError, match="the engine refused 2000 ids") as caught:
        engines["tied"].client.generate(prompt(1, 2000), Sampling(1.0, 9), seed=1, deadline=soon())
    assert "\n" not in str(caught.value)


def test_a_refused_request_harms_none_that_travels_with_it(engines: dict[str, Running]) -> None:
    client = engines["tied"].client

    def ask(number: int) -> Completion | str:
        try:
            ids = prompt(number, 2000 if number % 4 == 0 else 50)
            return client.generate(ids, Sampling(1.0, 8), seed=number, deadline=soon())
        except PolicyError as error:
            return str(error)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    for number, answer in enumerate(answers):
        if number % 4 == 0:
            assert isinstance(answer, str) and "refused 2000 ids" in answer
        else:
            assert isinstance(answer, Completion)
            engines["tied"].check(prompt(number, 50), answer)


def test_many_seeded_requests_with_long_prompts_are_served_at_once(engines: dict[str, Running]) -> None:
    client = engines["tied"].client

    def ask(number: int) -> Completion:
        return client.generate(prompt(number, 900), Sampling(1.0, 20), seed=number, deadline=soon())

    with ThreadPoolExecutor(64) as pool:
        completions = list(pool.map(ask, range(64)))
    assert all(len(completion.token_ids) == 20 for completion in completions)
    engines["tied"].check(prompt(63, 900), completions[63])


def test_new_weights_show_in_the_very_next_token(engine: Running) -> None:
    ids = prompt(8)
    engine.client.generate(ids, Sampling(1.0, 8), seed=0, deadline=soon())  # fills the prefix cache
    for _ in range(3):
        old = engine.swap()
        completion = engine.client.generate(ids, Sampling(1.0, 16), seed=0, deadline=soon())
        engine.check(ids, completion)
        stale = reference(old, [*ids, *completion.token_ids])[len(ids) - 1 :]
        assert abs(stale[0] - completion.logprobs[0]) > 100 * TOLERANCE, "the old weights say something else"
        assert [span.version for span in completion.versions] == [engine.version]
        assert engine.client.version() == engine.version
    assert list(engine.scratch.glob("*.safetensors*")) == []


def test_a_request_in_flight_goes_on_with_the_new_weights(engine: Running) -> None:
    ids = prompt(9)
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(engine.client.generate, ids, Sampling(1.0, 900), seed=s, deadline=soon())
            for s in range(4)
        ]
        before = engine.client.stats()["requests"]
        time.sleep(0.5)
        assert engine.client.stats()["requests"] == before, "the requests should still be in flight"
        old = engine.swap()
        completions = [call.result(timeout=90) for call in calls]
    for completion in completions:
        assert [span.version for span in completion.versions] == [engine.version - 1, engine.version]
        cut = completion.versions[1].start
        assert 0 < cut < 900 and completion.versions[1].end == len(completion.token_ids)
        full = [*ids, *completion.token_ids]
        was = reference(old, full)[len(ids) - 1 :]
        now = reference(engine.model, full)[len(ids) - 1 :]
        assert distance(completion.logprobs[:cut], was[:cut]) <= TOLERANCE
        assert distance(completion.logprobs[cut:], now[cut:]) <= TOLERANCE


def test_weights_that_do_not_fit_are_refused_and_nothing_changes(engine: Running, tmp_path: Path) -> None:
    from trainer.engine.weights import WeightError, publish

    state = make_model(tied=engine.tied, seed=99).state_dict()
    short = {k: v for k, v in state.items() if k != "model.norm.weight"}
    wrong = {**state, "model.norm.weight": state["model.norm.weight"][:32].clone()}
    torn = publish(state, 9, tmp_path)
    torn.write_bytes(torn.read_bytes()[:-100])
    cases = [
        (publish(short, 7, tmp_path), "lack model.norm.weight"),
        (publish(wrong, 8, tmp_path), "has shape"),
        (torn, "not complete"),
        (tmp_path / "nothing.safetensors", "No such file"),
    ]
    for path, words in cases:
        with pytest.raises(WeightError, match=words):
            engine.client.update_weights_from(path, engine.version + 1, timeout_s=30)
    ids = prompt(10)
    completion = engine.client.generate(ids, Sampling(1.0, 16), seed=0, deadline=soon())
    engine.check(ids, completion)
    assert completion.versions[0].version == engine.version


def test_a_client_works_from_another_process(engines: dict[str, Running]) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def elsewhere(client: Any, ids: list[int]) -> Completion:
        return client.generate(ids, Sampling(1.0, 8), seed=1, deadline=time.monotonic() + 30)

    ids = prompt(11)
    completion = ray.get(elsewhere.remote(engines["tied"].client, ids), timeout=60)
    engines["tied"].check(ids, completion)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    from trainer.config import Policy
    from trainer.engine.client import VLLMPolicy

    with pytest.raises(PolicyError, match="neither a model folder nor a name on the hub"):
        VLLMPolicy.open(Policy(model=str(tmp_path / "nothing")))
    with pytest.raises(PolicyError, match="no tokenizer can be loaded") as caught:
        VLLMPolicy.open(Policy(model=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_model_made_for_less_than_the_default_context_is_run_with_what_it_has(tmp_path: Path) -> None:
    from trainer.config import Policy
    from trainer.engine.client import fitting_context

    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}')
    assert fitting_context(Policy(model=str(tmp_path))) == 1024
    assert fitting_context(Policy(model=str(tmp_path), context_tokens=64, max_turn_tokens=8)) == 64
    (tmp_path / "config.json").write_text("[]")
    assert fitting_context(Policy(model=str(tmp_path))) == Policy().context_tokens
    assert fitting_context(Policy(model="owner/model")) == Policy().context_tokens


def test_an_engine_that_contradicts_the_canary_gives_up(engines: dict[str, Running]) -> None:
    from trainer.engine.client import FileSender
    from trainer.engine.weights import WeightProbe

    running = engines["tied"]
    ids = tuple(prompt(12, 20))
    canary = WeightProbe(ids, tuple(reference(running.model, ids)))  # of the old weights
    other = make_model(tied=True, seed=5)
    with pytest.raises(PolicyError, match="differ from the learner's"):
        FileSender(running.client, other, running.scratch).send(50, timeout_s=60, canary=canary)
    with pytest.raises(PolicyError, match="differ from the learner's"):
        running.client.generate(ids, Sampling(1.0, 4), seed=1, deadline=soon())


@pytest.mark.parametrize("stale", [False, True], ids=["new weights", "old weights"])
def test_weights_that_stayed_are_noticed_after_an_update_far_below_the_tolerance(
    engines: dict[str, Running], stale: bool
) -> None:
    """An update as at a learning rate of 1e-6: no log-probability moves by a tenth of the tolerance."""
    import torch

    from trainer.engine.client import FileSender
    from trainer.engine.weights import WeightProbe

    running = engines["untied"]
    running.swap()
    old, new = running.model, make_model(tied=False, seed=0)
    new.load_state_dict(old.state_dict())
    with torch.no_grad():
        chance = torch.Generator().manual_seed(1)
        for parameter in new.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=chance).sign(), alpha=1e-6)
    ids = tuple(prompt(21, 64))
    before, after = tuple(reference(old, ids)), tuple(reference(new, ids))
    assert 0 < distance(before, after) < 1e-4
    canary = WeightProbe(ids, after, before)
    complaint = ""
    if stale:
        complaint = canary.complaint(running.client.score(ids, timeout_s=60))
    else:
        running.version += 1
        running.model = new
        FileSender(running.client, new, running.scratch).send(running.version, timeout_s=60, canary=canary)
    assert ("still has the weights before" in complaint) == stale


def test_a_killed_engine_is_a_policy_error_in_bounded_time(engines: dict[str, Running]) -> None:
    client = engines["untied"].client
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.generate(prompt(13), Sampling(1.0, 900), seed=1, deadline=soon())
        except PolicyError as error:
            caught.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    os.kill(client.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(timeout=20)
    assert len(caught) == 4 and time.monotonic() - started < 20
    assert all("died" in str(error) for error in caught)
    with pytest.raises(PolicyError, match="died"):
        client.generate(prompt(13), Sampling(1.0, 4), seed=1, deadline=soon())
    client.close()
