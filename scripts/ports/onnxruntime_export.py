"""The model on onnxruntime, under test: the port to transformers' classes, exported, and run by an engine of another make.

    onnxruntime_export.py --vision DIR --text DIR --golden DUMP --out DUMP

Two graphs are exported, tower and projector from pixel_values and the language model from inputs_embeds, each with the
outputs of its modules as outputs of the graph, under the modules' names. onnxruntime runs them in float32 on the CPU.
Compare with `nvl-validate diff GOLDEN DUMP --names transformers-nemotron`. It answers with one token: a graph without a
cache has no further steps. Needs onnx and onnxruntime besides.
"""

import argparse
import tempfile
from pathlib import Path

import nvl_golden
import onnxruntime
import torch
from torch import nn
from transformers_native import Port, pixel_shuffle


class Exported(nn.Module):
    """A part of the port whose result is what its modules compute, in order of execution."""

    def __init__(self, port: Port, run) -> None:
        """`run(port, input)` runs the part."""
        super().__init__()
        self.port, self.run = port, run
        #: Each module's output by name: its place in the result. Several modules may give the same tensor.
        self.places: dict[str, int] = {}

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of all modules, each tensor once."""
        outputs: list[torch.Tensor] = []
        self.places.clear()

        def keep(name: str, output) -> None:
            if isinstance(output, (tuple, dict)):
                for part, value in output.items() if isinstance(output, dict) else enumerate(output):
                    keep(f"{name}.{part}", value)
            elif isinstance(output, torch.Tensor):
                known = [place for place, other in enumerate(outputs) if other is output]
                self.places[name] = known[0] if known else len(outputs)
                if not known:
                    outputs.append(output)

        hooks = [
            module.register_forward_hook(lambda _module, _given, output, name=name: keep(name, output))
            for name, module in self.port.named_modules()
        ]
        try:
            self.run(self.port, given)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(outputs)


def see(port: Port, pixel_values: torch.Tensor) -> None:
    """Tower and projector."""
    port.multi_modal_projector(pixel_shuffle(port.vision_tower(pixel_values).features))


def read(port: Port, inputs_embeds: torch.Tensor) -> None:
    """The language model, without a cache. Mask and positions are given: the exporter can't follow how they are made."""
    length = inputs_embeds.shape[1]
    hidden = torch.full((length, length), torch.finfo(inputs_embeds.dtype).min).triu(1)
    port.language_model(
        inputs_embeds=inputs_embeds,
        attention_mask=hidden[None, None],
        position_ids=torch.arange(length)[None],
        use_cache=False,
    )


@torch.no_grad()
def run(port: Port, part, given: torch.Tensor, folder: Path) -> dict[str, torch.Tensor]:
    """Exports a part for inputs of this shape, runs it in onnxruntime, and gives each module's output its name."""
    module, file = Exported(port, part).eval(), folder / f"{part.__name__}.onnx"
    names = [f"output{place}" for place in range(len(module(given)))]
    torch.onnx.export(module, (given,), file, input_names=["given"], output_names=names, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    outputs = session.run(names, {"given": given.numpy()})
    return {name: torch.from_numpy(outputs[place]) for name, place in module.places.items()}


def main() -> None:
    """Records what onnxruntime computes from a golden's inputs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for option in ("--vision", "--text", "--golden", "--out"):
        parser.add_argument(option, type=Path, required=True)
    arguments = parser.parse_args()

    golden = nvl_golden.Dump(arguments.golden)
    port = Port(arguments.vision, arguments.text, torch.float32)
    pixel_values, input_ids = golden.tensor("pixel_values"), golden.tensor("input_ids")
    # The exporter traces, and what onnxruntime computes is not followed.
    recording = nvl_golden.record(nn.Identity(), arguments.out, flow=False)
    with tempfile.TemporaryDirectory() as folder, recording as recorder:
        recorder.producer |= {"name": "onnxruntime", "version": onnxruntime.__version__, "dtype": "float32"}
        recorder.request = golden.manifest["request"] | {"max_new_tokens": 1}
        recorder.prompt = golden.manifest["prompt"]
        recorder.add("pixel_values", pixel_values, role="input")
        recorder.add("input_ids", input_ids, role="input")
        seen = run(port, see, pixel_values, Path(folder))
        # Token ids are looked up outside the graphs, as engines do.
        embeds = port.language_model.get_input_embeddings()(input_ids).detach()
        recorder.add("language_model.model.embed_tokens", embeds)
        embeds = embeds.clone()
        embeds[input_ids == port.image_token_id] = seen["multi_modal_projector.linear_2"].flatten(0, 1)
        recorder.add("inputs_embeds", embeds)
        answered = run(port, read, embeds, Path(folder))
        for name, tensor in (seen | answered).items():
            recorder.add(name, tensor)
        print(f"first token: {int(answered['language_model.lm_head'][0, -1].argmax())}")


if __name__ == "__main__":
    main()
