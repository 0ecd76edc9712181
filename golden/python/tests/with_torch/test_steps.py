"""Every step of a generation is recorded like the prefill, under the same names."""

import nvl_golden
import pytest
import torch
import transformers
from conftest import LLAMA, read_back
from nvl_golden import comparison
from nvl_golden.steps import Steps
from torch import nn

IDS = torch.arange(1, 8)[None]


class Attention(nn.Module):
    """Keeps what it has seen, as engines do."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.seen = None

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        k, v = (
            (k, v) if self.seen is None else (torch.cat([a, b], dim=1) for a, b in zip(self.seen, (k, v), strict=True))
        )
        self.seen = k, v
        return (q @ k.mT).softmax(-1) @ v


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(32, 8)
        self.layer, self.act = Attention(), nn.GELU()

    def forward(self, ids=None, embeds=None):
        x = self.embed_tokens(ids) if embeds is None else embeds
        return self.act(self.layer(self.act(x)))


class Engine(nn.Module):
    """A tower, a decoder and a head that is called behind it, as vLLM's models are."""

    def __init__(self):
        super().__init__()
        self.tower, self.decoder, self.lm_head = nn.Linear(4, 8), Decoder(), nn.Linear(8, 32)

    def forward(self, ids=None, embeds=None):
        return self.decoder(ids, embeds)


@pytest.fixture
def engine():
    torch.manual_seed(4)
    return Engine().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(5)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, initializer_range=0.3)).eval()


def generate(model, **options):
    with torch.inference_mode():
        return model.generate(IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False, **options)


def of_step(dump, step):
    return [entry.name for entry in dump if entry.step == step]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("0:4", [0, 1, 2, 3]),
        ("2:", list(range(2, 10))),
        (":2", [0, 1]),
        ("every:4", [0, 4, 8]),
        ("0,3, 7", [0, 3, 7]),
        ("0:2,every:5", [0, 1, 5]),
        (3, [3]),
        ([5, 1], [1, 5]),
    ],
    ids=str,
)
def test_a_choice_of_steps(choice, chosen):
    assert [step for step in range(10) if step in Steps(choice)] == chosen


@pytest.mark.parametrize("choice", ["", "4:4", "5:2", "every:0", "every", "last:2", "-1", "0,x", [-1], [], "1:2:3"])
def test_a_choice_of_steps_that_makes_no_sense_is_refused(choice, engine, tmp_path):
    expected = "steps: expected `START:STOP`, `every:N` or a list of numbers from 0 on, found `"
    with pytest.raises(nvl_golden.GoldenError, match=expected):
        nvl_golden.record(engine, tmp_path / "dump", steps=choice)


def test_each_step_is_what_hooks_see(llama, tmp_path):
    seen = []
    handles = [
        module.register_forward_hook(lambda _module, _args, output, name=name: seen.append((name, output.clone())))
        for name, module in llama.named_modules()
        if name.endswith(("embed_tokens", "_proj", "mlp", "norm", "lm_head"))
    ]
    with nvl_golden.record(llama, tmp_path / "dump", steps="0:"):
        answer = generate(llama)
    for handle in handles:
        handle.remove()
    dump = read_back(tmp_path / "dump")
    assert dump.manifest["version"] == 2
    assert [of_step(dump, step) for step in range(1, 5)] == [of_step(dump, 0)] * 4 and len(of_step(dump, 5)) == 0
    assert not [name for name in dump.names() if "#" in name]
    names = {name for name, _ in seen}
    each = len(seen) // 5
    for step in range(5):
        for name, output in seen[step * each : (step + 1) * each]:
            key = f"{name}@{step}" if step else name
            assert torch.equal(dump.tensor(key), output), key
            assert (dump.entry(key).step, dump.entry(key).name) == (step, name)
    assert names == {entry.name for entry in dump if entry.name in names}
    assert dump.entry("model").shape == (1, 7, 32) and dump.entry("model@4").shape == (1, 1, 32)
    assert [int(dump.tensor(f"output@{n}" if n else "output")[0, -1].argmax()) for n in range(5)] == answer[
        0, 7:
    ].tolist()


def test_only_chosen_steps_are_recorded_and_the_prefill_by_default(llama, tmp_path):
    with nvl_golden.record(llama, tmp_path / "some", steps="1,3", sites="*.mlp", tokens="last:1"):
        generate(llama)
    dump = read_back(tmp_path / "some")
    assert dump.names() == [f"model.layers.{layer}.mlp@{step}" for step in (1, 3) for layer in (0, 1)]
    with nvl_golden.record(llama, tmp_path / "all", sites="*.0.mlp", flow=False):
        generate(llama)
    # As ever: without steps, what runs again is another call.
    dump = read_back(tmp_path / "all")
    assert dump.names() == ["model.layers.0.mlp", *(f"model.layers.0.mlp#{call}" for call in range(1, 5))]
    assert dump.manifest["version"] == 1


def test_names_and_keys_choose_what_is_recorded(llama, tmp_path):
    def names(**options):
        with nvl_golden.record(llama, tmp_path / "dump", steps="0:3", overwrite=True, **options):
            generate(llama)
        return read_back(tmp_path / "dump").names()

    assert names(only={"lm_head"}) == ["lm_head", "lm_head@1", "lm_head@2"]
    assert names(only={"lm_head@2", "model.norm@1"}) == ["model.norm@1", "lm_head@2"]
    assert names(sites="lm_head@*") == ["lm_head@1", "lm_head@2"]


def test_inputs_have_the_step_of_their_module(llama, tmp_path):
    with nvl_golden.record(llama, tmp_path / "dump", steps="0:2", inputs=True, sites=["lm_head", "*.0.mlp"]):
        generate(llama)
    names = ["model.layers.0.mlp.input", "model.layers.0.mlp", "lm_head.input", "lm_head"]
    dump = read_back(tmp_path / "dump")
    assert dump.names() == [*names, *(f"{name}@1" for name in names)]
    assert dump.entry("lm_head.input@1").shape == (1, 1, 32)


def test_what_an_engine_runs_around_its_forward_pass_belongs_to_the_right_step(engine, tmp_path):
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:"):
        engine.tower(torch.ones(1, 4))
        for ids in (IDS, IDS[:, :1], IDS[:, :1]):
            hidden = engine(embeds=engine.decoder.embed_tokens(ids))
            engine.lm_head(hidden[:, -1:])
    dump = read_back(tmp_path / "dump")
    step = ["decoder.embed_tokens", "decoder.act", "decoder.layer.qkv", "decoder.layer", "decoder.act#1", "decoder"]
    step += ["output", "lm_head"]
    assert of_step(dump, 0) == ["tower", *step]
    assert of_step(dump, 1) == of_step(dump, 2) == step
    assert dump.entry("decoder.embed_tokens@1").shape == (1, 1, 8)


@pytest.mark.parametrize("calls", ["the model", "the decoder"])
def test_the_outermost_call_around_the_decoder_is_a_step(calls, engine, tmp_path):
    called = engine if calls == "the model" else engine.decoder
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:2", sites=["*embed_tokens", "lm_head"]):
        for ids in (IDS, IDS[:, :1], IDS[:, :1]):
            engine.lm_head(called(ids))
            engine.lm_head(torch.zeros(1, 8))
    names = ["decoder.embed_tokens", "lm_head", "lm_head#1"]
    assert read_back(tmp_path / "dump").names() == [*names, *(f"{name}@1" for name in names)]


def test_a_model_without_a_vocabulary_has_a_step_for_each_call(model, given, tmp_path):
    with nvl_golden.record(model, tmp_path / "dump", steps="0:", max_calls=1, sites="first"):
        model(given)
        model.first(given)
        model(given)
    # A call of a part that had run begins the next step, to which the call of the whole behind it belongs.
    assert read_back(tmp_path / "dump").names() == ["first", "first@1"]


def test_a_prompt_in_pieces_is_one_step_if_the_engine_says_so(engine, tmp_path):
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:3", sites="lm_head") as recorder:
        for ids in (IDS[:, :4], IDS[:, 4:]):
            recorder.begin_step(0)
            engine.lm_head(engine(ids))
        for step in range(1, 5):
            recorder.begin_step()
            assert recorder.step == step
            engine.lm_head(engine(IDS[:, :1]))
        with pytest.raises(nvl_golden.GoldenError, match="step: expected a number from 4 on, found 2"):
            recorder.begin_step(2)
    dump = read_back(tmp_path / "dump")
    assert dump.names() == ["lm_head", "lm_head#1", "lm_head@1", "lm_head@2"]
    assert dump.entry("lm_head#1").shape == (1, 3, 32)
    with pytest.raises(nvl_golden.GoldenError, match="step 6: expected a running recording"):
        recorder.begin_step(6)


def test_without_steps_an_engine_can_say_where_the_prefill_ends(engine, tmp_path):
    with nvl_golden.record(engine, tmp_path / "dump", sites="decoder") as recorder:
        engine(IDS)
        recorder.begin_step()
        engine(IDS)
        recorder.begin_step(1)
        engine(IDS)
    assert read_back(tmp_path / "dump").names() == ["decoder", "decoder#1"]


def test_a_call_that_failed_does_not_keep_later_ones_from_being_steps(engine, tmp_path):
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:", sites="*embed_tokens"):
        engine(IDS)
        with pytest.raises(RuntimeError):
            engine(embeds=torch.ones(1, 1, 3))
        engine(IDS[:, :1])
    assert read_back(tmp_path / "dump").names() == ["decoder.embed_tokens", "decoder.embed_tokens@2"]


def test_plain_entries_may_have_a_step(engine, tmp_path):
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:", sites="{block_table,lm_head}") as recorder:
        recorder.add("block_table", [[0]], step=0)
        recorder.add("block_table", [[0, 1]], step=1)
        with pytest.raises(nvl_golden.GoldenError, match="entry `block_table@1`: expected a unique name"):
            recorder.add("block_table", [[1]], step=1)
    assert read_back(tmp_path / "dump").names() == ["block_table", "block_table@1"]


def test_an_encoder_runs_in_the_first_step_alone(tmp_path):
    torch.manual_seed(6)
    sizes = {"vocab_size": 64, "d_model": 16, "d_ff": 32, "d_kv": 4, "num_heads": 4, "num_layers": 1}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0)).eval()
    with nvl_golden.record(model, tmp_path / "dump", steps="0:", kv=True):
        generate(model)
    dump = read_back(tmp_path / "dump")
    assert {entry.step for entry in dump if entry.name.startswith("encoder")} == {0}
    assert dump.entry("lm_head@4").shape == (1, 1, 64)
    assert dump.entry("past_key_values.0.keys@4").shape == (1, 4, 5, 4)
    assert dump.entry("past_key_values.0.cross_attention.keys@4").shape == (1, 4, 7, 4)


def test_a_class_with_its_own_call_begins_steps_too(engine, tmp_path):
    class Decorated(Engine):
        def __call__(self, *args, **kwargs):
            return self.forward(*args, **kwargs)

    engine.__class__ = Decorated
    with nvl_golden.record(engine, tmp_path / "dump", steps="0:", sites="*embed_tokens"):
        for _ in range(2):
            engine(IDS)
    assert read_back(tmp_path / "dump").names() == ["decoder.embed_tokens", "decoder.embed_tokens@1"]
    assert "forward" not in vars(engine)


def test_calls_of_a_compiled_model_are_steps(engine, tmp_path):
    expected = [engine(ids) for ids in (IDS, IDS)]
    engine.decoder.layer.seen = None
    compiled = torch.compile(engine.decoder, backend="eager", fullgraph=True)
    with nvl_golden.record(compiled, tmp_path / "dump", steps="0:"):
        found = [compiled(ids) for ids in (IDS, IDS)]
    torch.compiler.reset()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    dump = read_back(tmp_path / "dump")
    assert dump.names() == ["output", "output@1"] and torch.equal(dump.tensor("output@1"), expected[1])


@pytest.mark.parametrize("options", [{"steps": "0,2"}, {"steps": "0:2", "kv": True}, {"kv": True}], ids=str)
def test_a_model_that_is_held_to_a_golden_is_recorded_at_its_steps(options, llama, tmp_path):
    sites = ["*.1.mlp", "past_key_values.1.*", "input_ids"]
    with nvl_golden.record(llama, tmp_path / "golden", sites=sites, **options) as recorder:
        recorder.add("input_ids", IDS, role="input")
        generate(llama)
    golden = read_back(tmp_path / "golden")
    recorded = comparison._recorded(golden, llama, tmp_path / "candidate", generate, "", mapped=False)
    candidate = read_back(recorded)
    assert candidate.names() == golden.names()[1:] != []
    assert [entry.sha256 for entry in candidate] == [entry.sha256 for entry in golden][1:]
