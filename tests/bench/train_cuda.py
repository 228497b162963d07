"""tests/bench/train --device cuda[:N] [--seconds S] [--rounds R] [--precision P ...] [MODEL ...]: training speed on a GPU, beside PyTorch's

ResNet-20 and ResNet-18 for 3x32x32, ResNet-50 and ViT-S/16 for 3x224x224, each as one ONNX file that PyTorch exports into
build/bench-models: papa trains the file (populations of 1 and 3, plans tuned), PyTorch the network it came from (torch.compile
with CUDA graphs, channels-last, and the same precision: TF32 on, or bfloat16 autocast). Images per second of all members
together, and which share of the card's peak that is, by the operations of papa's plan for the card where testdata/gpus has it.

Needs build-cuda/bin/papa_bench and papa-train (tests/run --gpu makes them), and torch, torchvision, timm and onnx, which pip installs
into build/venv-bench-cuda (some gigabytes).
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "build/bench-models"
VENV = ROOT / "build/venv-bench-cuda"
BATCHES = {"resnet20": 128, "resnet18-cifar": 256, "resnet50": 256, "vit-s": 256}
PRECISIONS = ("fp32", "tf32", "bf16")
POPULATIONS = (1, 3)


def need_python():
    python = VENV / "bin/python"
    if not python.exists():
        print("installing PyTorch into build/venv-bench-cuda", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch", "torchvision", "timm", "onnx", "onnxscript"], check=True)
    return python


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"tests/bench/train: {command[0]}: {done.stderr.strip()}")
    return done.stdout


def figure(text, name):
    return float(re.search(rf"^{name}=([0-9.]+)", text, re.M).group(1))


def run_papa(path, model, device, precision, population, seconds):
    return figure(run(ROOT / "build-cuda/bin/papa_bench", path, "--batch", BATCHES[model], "-p", population, "--seconds", seconds, "--device", device,
                      "--precision", precision, "--tune"), "images_per_second")


def run_torch(python, model, device, precision, seconds):
    return figure(run(python, ROOT / "tests/bench/torch_train_cuda.py", model, "--batch", BATCHES[model], "--seconds", seconds, "--device", device,
                      "--precision", precision), "images_per_second")


def plan(path, model, precision, gpu):
    """(GFLOP of a step's products, the card's peak in GFLOP/s), or None where the card is not described."""
    import json
    for file in sorted((ROOT / "testdata/gpus").glob("*.json")):
        card = json.loads(file.read_text())
        if card["name"] in gpu or gpu in card["name"]:
            text = run(ROOT / "build-cuda/bin/papa-train", path, "--plan-for", file, "--precision", precision, "--batch", BATCHES[model], "-p", 1)
            return float(re.search(r"([0-9.]+) GFLOP of products", text).group(1)), card[f"peak_{precision}"] / 1e9
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["tf32", "bf16"])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    args = parser.parse_args()
    unknown = [m for m in args.models if m not in BATCHES]
    if unknown:
        parser.error(f"no model {unknown[0]}; there are {', '.join(BATCHES)}")
    if not (ROOT / "build-cuda/bin/papa_bench").exists():
        sys.exit("tests/bench/train: no build-cuda/bin/papa_bench: run tests/run --gpu before")
    python = need_python()
    MODELS.mkdir(parents=True, exist_ok=True)
    index = args.device.partition(":")[2].split(",")[0] or "0"
    words = run(python, "-c", f"import torch; print(torch.cuda.get_device_name({index})); print(torch.__version__)").split("\n")
    print(f"Images per second in training on {words[0]}; median of {args.rounds} rounds of {args.seconds:g} s; PyTorch {words[1]}, compiled\n")
    print(f"{'model':15} {'batch':>5} {'':5} {'PyTorch':>9} " + " ".join(f"{f'papa p={p}':>9} {'ratio':>6} {'of peak':>8}" for p in POPULATIONS), flush=True)
    for model in args.models or BATCHES:
        path = MODELS / f"{model}.onnx"
        if not path.exists():
            run(python, ROOT / "tests/bench/torch_train_cuda.py", model, "--export", path)
        for precision in args.precision:
            torch_rates, papa_rates = [], {p: [] for p in POPULATIONS}
            for _ in range(args.rounds):
                torch_rates.append(run_torch(python, model, f"cuda:{index}", precision, args.seconds))
                for population, rates in papa_rates.items():
                    rates.append(run_papa(path, model, args.device, precision, population, args.seconds))
            theirs, known = statistics.median(torch_rates), plan(path, model, precision, words[0])
            line = f"{model:15} {BATCHES[model]:5} {precision:5} {theirs:9.0f} "
            for rates in papa_rates.values():
                ours = statistics.median(rates)
                share = f"{100 * ours / BATCHES[model] * known[0] / known[1]:7.1f}%" if known else "       ?"
                line += f"{ours:9.0f} {ours / theirs:6.2f} {share} "
            print(line, flush=True)


if __name__ == "__main__":
    main()
