"""PyTorch's side of the training benchmark: one process, one network of testdata/make_models.py, as its users would tune it.

    torch_train.py MODEL --batch B --seconds S [--channels-last]

Prints "ready" when it is warm, waits for a line on standard input, so that several processes start together, and prints
images_per_second=R. Threads, allocator and instruction set are the environment's business.
"""
import argparse
import importlib.util
import pathlib
import time

import torch

N_BATCHES = 8


def load_models():
    path = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "make_models.py"
    spec = importlib.util.spec_from_file_location("make_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODELS


def make_optimizer(parameters):
    options = {"lr": .01, "momentum": .9, "weight_decay": 5e-4}
    try:
        return torch.optim.SGD(parameters, fused=True, **options)
    except TypeError:  # before PyTorch 2.3
        return torch.optim.SGD(parameters, foreach=True, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(1)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    make, shape = load_models()[args.model]
    net = make().train().to(memory_format=layout)
    batches = [(torch.randn(args.batch, *shape).to(memory_format=layout), torch.randint(0, 10, (args.batch,))) for _ in range(N_BATCHES)]
    optimizer, loss = make_optimizer(net.parameters()), torch.nn.CrossEntropyLoss()

    def train(seconds):
        n, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            image, label = batches[n % N_BATCHES]
            optimizer.zero_grad(set_to_none=True)
            loss(net(image), label).backward()
            optimizer.step()
            n += 1
        return n * args.batch / (time.perf_counter() - begin)

    train(1)
    print("ready", flush=True)
    input()
    print(f"images_per_second={train(args.seconds):.1f}", flush=True)


if __name__ == "__main__":
    main()
