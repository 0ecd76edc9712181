"""The measuring half of scripts/benches/record, which builds what it imports and calls it."""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nvl_golden
import torch
import transformers
from machine import machine
from nvl_golden.flow import Follower


def main() -> int:
    """Measures every way in turns and prints the table."""
    parser = argparse.ArgumentParser(prog="bench record", description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="where the recordings go (default: a temporary folder)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, input_ids = build(arguments)

    with tempfile.TemporaryDirectory(dir=arguments.work) as work, torch.inference_mode():
        folder = Path(work)
        size = check(model, input_ids, folder)
        payload = [torch.empty(1 << 26, dtype=torch.uint8).random_().numpy() for _ in range(2)]
        ways: dict[str, Callable[[], None]] = {
            "forward": lambda: run(model, input_ids),
            "disk": lambda: write(payload, size, folder / "disk"),
            "plain": lambda: plain(model, input_ids, folder / "plain.pt"),
            "followed": lambda: followed(model, input_ids),
            "no flow": lambda: ours(model, input_ids, folder / "ours", flow=False),
            "ours": lambda: ours(model, input_ids, folder / "ours"),
            "sketch": lambda: ours(model, input_ids, folder / "sketch", sketch=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(arguments.rounds + 1):
            for name in random.Random(round_).sample(list(ways), len(ways)):
                settle()
                begun = time.perf_counter()
                ways[name]()
                elapsed = time.perf_counter() - begun
                remove(folder)
                # The first round warms up.
                if round_:
                    seconds[name].append(elapsed)
                    print(f"round {round_}, {name}: {elapsed:.3f} s", file=sys.stderr)
    print(table(arguments, size, seconds))
    return 0


def build(arguments: argparse.Namespace) -> tuple[torch.nn.Module, torch.Tensor]:
    """A Llama of random weights, and a prompt."""
    config = transformers.LlamaConfig(
        vocab_size=32000,
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 7 // 2,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(2, arguments.width // 128),
        num_key_value_heads=max(1, arguments.width // 512),
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(getattr(torch, arguments.dtype)).eval()
    return model, torch.randint(0, 32000, (1, arguments.tokens))


def run(model: torch.nn.Module, input_ids: torch.Tensor) -> None:
    """The forward pass; of the logits only the last row, as in a prefill."""
    model(input_ids=input_ids, use_cache=False, logits_to_keep=1)


def followed(model: torch.nn.Module, input_ids: torch.Tensor) -> None:
    """The forward pass with each operator followed, and nothing recorded."""
    follower = Follower()
    follower.begin()
    follower.begins("input_ids", 0, input_ids)
    run(model, input_ids)
    follower.end()


def ours(model: torch.nn.Module, input_ids: torch.Tensor, out: Path, **options: bool) -> None:
    """Every site, hashed; the disk has it, or its sketches, when the block is left."""
    with nvl_golden.record(model, out, **options):
        run(model, input_ids)


def hooked(model: torch.nn.Module, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What everybody writes: a hook that clones."""
    seen: dict[str, torch.Tensor] = {}

    def hook_of(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: object, output: object) -> None:
            first = (
                output
                if isinstance(output, torch.Tensor)
                else next(iter(output.values() if hasattr(output, "values") else output))
            )
            seen[name] = first.detach().clone()

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in model.named_modules()]
    run(model, input_ids)
    for handle in handles:
        handle.remove()
    return seen


def plain(model: torch.nn.Module, input_ids: torch.Tensor, out: Path) -> None:
    """Plain hooks and one `torch.save`, without hashes, until the disk has it."""
    torch.save(hooked(model, input_ids), out)
    sync(out)


def write(payload: list[object], size: int, out: Path) -> None:
    """As many bytes as a recording has, written and synchronised."""
    with out.open("wb", buffering=0) as file:
        written = 0
        while written < size:
            chunk = memoryview(payload[written // (1 << 26) % 2])[: size - written]
            written += file.write(chunk)
    sync(out)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def check(model: torch.nn.Module, input_ids: torch.Tensor, folder: Path) -> int:
    """The size of a recording, which must be what plain hooks see, to the last bit."""
    ours(model, input_ids, folder / "ours")
    dump = nvl_golden.Dump(folder / "ours")
    dump.verify()
    for name, tensor in hooked(model, input_ids).items():
        found = next(other for other in (name, f"{name}.cos", "output") if other in dump)
        if not torch.equal(dump.tensor(found), tensor):
            sys.exit(f"bench: {found} was recorded with other bits than plain hooks see")
    size = dump.size_bytes
    remove(folder)
    return size


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def settle() -> None:
    """Waits until the disk is quiet: what was deleted is freed in the background."""
    os.sync()
    stats = Path("/proc/diskstats")
    quiet_since, before = time.monotonic(), stats.read_text() if stats.exists() else ""
    deadline = quiet_since + 30
    while before and time.monotonic() < min(quiet_since + 0.5, deadline):
        time.sleep(0.1)
        if (now := stats.read_text()) != before:
            quiet_since, before = time.monotonic(), now


def table(arguments: argparse.Namespace, size: int, seconds: dict[str, list[float]]) -> str:
    """The medians as Markdown, with the machine and the goals."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    forward = median["forward"]
    labels = {
        "forward": "forward pass alone",
        "disk": "the bytes alone, to disk",
        "plain": "plain hooks and `torch.save`",
        "followed": "forward pass with data flow, nothing recorded",
        "no flow": "`nvl_golden.record(flow=False)`, with SHA-256",
        "ours": "`nvl_golden.record`, with SHA-256 and data flow",
        "sketch": "`nvl_golden.record(sketch=True)`, with SHA-256",
    }
    shape = f"{arguments.layers} layers of {arguments.width}, {arguments.tokens} tokens, {arguments.dtype}"
    lines = [
        f"Every site of a Llama ({shape}): {size / 1e9:.2f} GB. Medians of {arguments.rounds}, on {machine()}, "
        f"{arguments.threads} threads.",
        f"nvl-golden {nvl_golden.__version__}, torch {torch.__version__}, transformers {transformers.__version__}.",
        "",
        "| | seconds | beyond the forward pass |",
        "|---|---|---|",
    ]
    for name, label in labels.items():
        beyond = "" if name in ("forward", "disk") else f"{median[name] - forward:.3f} s"
        lines.append(f"| {label} | {median[name]:.3f} s | {beyond} |")
    allowed = median["disk"] + 0.15 * forward
    cost = median["ours"] - forward
    flow = 100 * (median["followed"] / forward - 1)
    ratio = (median["plain"] - forward) / cost if cost > 0 else float("inf")
    lines += [
        "",
        f"Recording costs {cost:.2f} s beyond the forward pass; the bytes alone and 15 % of the forward pass are {allowed:.2f} s. "
        f"Plain hooks cost {ratio:.1f} times as much. Sketches cost {100 * (median['sketch'] / forward - 1):.0f} % of the forward pass, "
        f"and data flow costs {flow:.0f} %.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
