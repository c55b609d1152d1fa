import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.language import GenerationOptions, PrefixCache, PrefixTree, TransformersEngine, tiny_backbone
from thinkrank.language.engines import transformers
from thinkrank.language.engines.base import BASE
from thinkrank.language.engines.joining import CancelledError, JoiningEngine, Watch, watching
from thinkrank.language.kept_states import KeptStates
from thinkrank.language.logprobs import logits
from thinkrank.language.text import encode_text
from thinkrank.testing import EngineContract
from thinkrank.testing.engine import GREEDY, SAMPLED, TREE, assert_same_completions


class TestContract(EngineContract):
    @pytest.fixture(params=["nothing kept", "prefixes kept"])
    def engine(self, backbone, request):
        kept = PrefixCache(backbone, 1000) if request.param == "prefixes kept" else None
        return JoiningEngine(backbone, kept, batch_size=4, max_kept=0)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(["a small film about trains", "another film"], seed=3)


def watched(engine, watch, *arguments, **more):
    """Ask in a thread whose calls are watched."""
    token = watching.set(watch)
    try:
        return engine.sample(*arguments, **more)
    finally:
        watching.reset(token)


def test_calls_of_many_threads_get_what_each_gets_alone(backbone):
    """Of different prompts, lengths, settings and numbers of samples; more than are written together."""
    calls = [
        (
            PrefixTree.groups([([5, 6, 7 + n], [[n + 1, 2], [3]])]) if n % 3 else PrefixTree.rows([[4, 5 + n, 9]]),
            GenerationOptions(max_new_tokens=3 + n, temperature=(0, 0.7, 1.3)[n % 3], seed=n),
            1 + n % 2,
        )
        for n in range(12)
    ]
    reference = TransformersEngine(backbone)
    alone = [reference.sample(tree, options, num_samples=samples, suffix=(21,)) for tree, options, samples in calls]
    engine = JoiningEngine(backbone, batch_size=5)
    together = threading.Barrier(len(calls))

    def ask(call):
        together.wait()
        tree, options, samples = call
        return engine.sample(tree, options, num_samples=samples, suffix=(21,))

    with ThreadPoolExecutor(len(calls)) as pool:
        for written, expected in zip(pool.map(ask, calls), alone, strict=True):
            assert_same_completions(written, expected)
    assert engine.num_writing == 0


def test_a_call_joins_while_another_is_being_written(backbone):
    engine = JoiningEngine(backbone)
    second, most = {}, []

    def first_wrote(place, text):
        most.append(engine.num_writing)
        if len(most) == 1:
            asker.start()
            while not engine._waiting:
                time.sleep(0.001)

    def join():
        second["written"] = engine.sample(PrefixTree.rows([[9, 10]]), GREEDY)

    asker = threading.Thread(target=join)
    options = GenerationOptions(max_new_tokens=30)
    watched(engine, Watch(first_wrote), PrefixTree.rows([[5, 6, 7, 8]]), options)
    asker.join()
    assert max(most) == 2
    assert_same_completions(second["written"], TransformersEngine(backbone).sample(PrefixTree.rows([[9, 10]]), GREEDY))


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_prompts_that_go_on_from_others_are_read_from_there(architecture):
    backbone = tiny_backbone(["a film"], architecture=architecture, seed=2)
    states = KeptStates(1000)
    engine, reference = JoiningEngine(backbone, states=states, max_kept=0), TransformersEngine(backbone)
    grows = [[5, 6, 7, 8], [5, 6, 7, 9, 10], [5, 6, 7, 9, 10, 11], [3, 4], [5, 6, 7, 9, 10, 11]]
    for prompt in grows:
        for options in (GREEDY, SAMPLED):
            tree = PrefixTree.rows([prompt])
            ours, theirs = (one.sample(tree, options, num_samples=2, suffix=(21,)) for one in (engine, reference))
            assert_same_completions(ours, theirs, atol=1e-4)
    together = PrefixTree.rows([*grows, [5, 6, 30]])
    assert_same_completions(engine.sample(together, SAMPLED), reference.sample(together, SAMPLED), atol=1e-4)
    assert states.hits == 2 * len(grows) + len(grows) + 1 - 2  # not: the very first, and the other one
    assert states.tokens_read < states.tokens_kept
    kept = states.tokens_kept
    engine.sample(PrefixTree.rows([grows[0]]), GREEDY, writer=BASE)
    assert states.tokens_kept == kept  # what one writer read is nothing to another


def test_the_head_is_read_once_for_calls_that_differ_in_their_seeds(backbone, monkeypatch):
    """Each request that is drawn has a seed of its own."""
    sizes = []

    def counted(model, states_RD):
        sizes.append(len(states_RD))
        return logits(model, states_RD)

    monkeypatch.setattr(transformers, "logits", counted)
    engine, together = JoiningEngine(backbone, batch_size=8), threading.Barrier(8)

    def ask(seed):
        together.wait()
        return engine.sample(TREE, GenerationOptions(max_new_tokens=12, temperature=1.0, seed=seed))

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(ask, range(8)))
    tokens = sum(len(completion.ids) for call in written for samples in call for completion in samples)
    assert sum(sizes) == tokens
    assert max(sizes) == 8
    assert len(sizes) < tokens / 4


def test_one_that_waits_lets_many_go_on_for_a_few_tokens(backbone):
    engine, calls = JoiningEngine(backbone), []
    step, asker = engine._step, threading.Thread(target=lambda: engine.sample(PrefixTree.rows([[9, 10]]), GREEDY))

    def counted(writer):
        step(writer)
        calls.append(len(engine._jobs))
        if len(calls) == 1:
            asker.start()
            while not engine._waiting:
                time.sleep(0.001)

    engine._step = counted
    many = PrefixTree.rows([[5 + n, 6, 7] for n in range(8)])
    engine.sample(many, GenerationOptions(max_new_tokens=12, temperature=1.0))
    asker.join()
    assert 2 <= calls.index(2) <= 5


def test_what_is_shown_piece_by_piece_is_the_text(backbone):
    engine, pieces = JoiningEngine(backbone, max_kept=8), {}
    (free,) = engine.sample(PrefixTree.rows([[5, 6, 7, 8]]), GREEDY)[0]
    stop = backbone.tokenizer.decode(list(free.ids[3:5]))
    watch = Watch(lambda place, text: pieces.setdefault(place, []).append(text))
    written = watched(engine, watch, TREE, SAMPLED, num_samples=2, stop=stop)
    for place, (one, _) in enumerate(written):
        assert "".join(pieces.get(place, [])) == one.text
    assert max(map(len, pieces.values())) > 2
    pieces.clear()
    again = watched(engine, watch, TREE, SAMPLED, num_samples=2, stop=stop)
    assert again == written
    assert ["".join(pieces[place]) for place in pieces] == [one.text for one, _ in written]
    assert (engine.hits, engine.misses) == (1, 2)


def test_a_call_is_given_up_when_nobody_waits_and_the_others_go_on(backbone):
    engine, shown = JoiningEngine(backbone), []
    watch = Watch(lambda place, text: shown.append(text), gone=lambda: len(shown) >= 1)
    options = GenerationOptions(max_new_tokens=40)
    with ThreadPoolExecutor(2) as pool:
        given_up = pool.submit(watched, engine, watch, PrefixTree.rows([[5, 6, 7, 8]]), options)
        other = pool.submit(engine.sample, PrefixTree.rows([[9, 10]]), options)
        with pytest.raises(CancelledError):
            given_up.result()
        expected = TransformersEngine(backbone).sample(PrefixTree.rows([[9, 10]]), options)
        assert_same_completions(other.result(), expected)
    assert len(shown) == 1


def test_a_given_text_is_not_written(backbone):
    engine = JoiningEngine(backbone)
    ((one,),) = watched(engine, Watch(given="a small film"), PrefixTree.rows([[5, 6]]), GREEDY)
    assert one.ids == one.ids_before_stop == tuple(encode_text(backbone.tokenizer, "a small film"))[:8]
    assert one.last_state is None
    assert engine.tokens == 0


def test_settings_of_one_call_may_be_others(backbone):
    engine = JoiningEngine(backbone)
    changed = watched(engine, Watch(changes={"temperature": 1.3, "seed": 5}), TREE, GREEDY)
    assert_same_completions(changed, TransformersEngine(backbone).sample(TREE, SAMPLED))


def test_what_does_not_fit_is_refused_and_the_next_call_is_answered(backbone):
    engine = JoiningEngine(backbone, kv_gib=1e-4)
    with pytest.raises(ThinkrankError, match=r"does not fit into the 0\.0001 GiB"):
        engine.sample(PrefixTree.rows([[5] * 500]), GREEDY)
    assert len(engine.sample(PrefixTree.rows([[5]]), GREEDY)[0][0].ids) >= 1


def test_a_fault_while_writing_reaches_all_who_were_written_for_and_no_later_call(backbone):
    engine = JoiningEngine(backbone)

    def fails(place, text):
        raise RuntimeError("no ear")

    with pytest.raises(RuntimeError, match="no ear"):
        watched(engine, Watch(fails), PrefixTree.rows([[5, 6]]), GREEDY)
    written = engine.sample(TREE, GREEDY)
    assert_same_completions(written, TransformersEngine(backbone).sample(TREE, GREEDY))
    assert all(one.seconds >= 0 for one in chain(*written))


def test_the_oldest_texts_are_forgotten_first(backbone):
    engine = JoiningEngine(backbone, max_kept=2)
    for token in (5, 6, 5, 7, 5, 6):
        engine.sample(PrefixTree.rows([[token]]), GREEDY)
    assert (engine.hits, engine.misses) == (2, 4)
