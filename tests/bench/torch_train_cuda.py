"""PyTorch's side of the training benchmark on a GPU: one network as its users would tune it; and the ONNX file that papa trains.

    torch_train_cuda.py MODEL --batch B --seconds S --device cuda:N --precision fp32|tf32|bf16    prints images_per_second=R
    torch_train_cuda.py MODEL --export FILE.onnx
"""
import argparse
import contextlib
import importlib.util
import pathlib
import time

import torch

N_BATCHES = 8


def make_resnet20():
    path = pathlib.Path(__file__).resolve().parents[2] / "testdata/make_models.py"
    spec = importlib.util.spec_from_file_location("make_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODELS["resnet20-cifar"][0]()


def make_resnet18_cifar():
    import torchvision
    net = torchvision.models.resnet18(num_classes=10)
    net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = torch.nn.Identity()
    return net


def make_resnet50():
    import torchvision
    return torchvision.models.resnet50()


def make_vit_s():
    import timm
    return timm.create_model("vit_small_patch16_224")


MODELS = {"resnet20": (make_resnet20, (3, 32, 32), 10), "resnet18-cifar": (make_resnet18_cifar, (3, 32, 32), 10),
          "resnet50": (make_resnet50, (3, 224, 224), 1000), "vit-s": (make_vit_s, (3, 224, 224), 1000)}


def export(make, shape, path):
    net = make().train()
    torch.onnx.export(net, (torch.randn(2, *shape),), path, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False, opset_version=17,
                      input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}}, dynamo=False)


def measure(args, make, shape, n_classes):
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision != "fp32"
    net = make().train().to(args.device, memory_format=torch.channels_last)
    batches = [(torch.randn(args.batch, *shape, device=args.device).to(memory_format=torch.channels_last),
                torch.randint(0, n_classes, (args.batch,), device=args.device)) for _ in range(N_BATCHES)]
    optimizer = torch.optim.SGD(net.parameters(), lr=.01, momentum=.9, weight_decay=5e-4, fused=True)
    loss = torch.nn.CrossEntropyLoss()
    cast = torch.autocast("cuda", torch.bfloat16) if args.precision == "bf16" else contextlib.nullcontext()

    @torch.compile(mode="reduce-overhead")
    def loss_of(image, label):
        with cast:
            return loss(net(image), label)

    def train(seconds):
        n, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            image, label = batches[n % N_BATCHES]
            optimizer.zero_grad(set_to_none=True)
            loss_of(image, label).backward()
            optimizer.step()
            n += 1
            if n % 16 == 0:
                torch.cuda.synchronize()
        torch.cuda.synchronize()
        return n * args.batch / (time.perf_counter() - begin)

    train(2)
    train(2)
    print(f"images_per_second={train(args.seconds):.1f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--export")
    args = parser.parse_args()
    make, shape, n_classes = MODELS[args.model]
    if args.export:
        export(make, shape, args.export)
    else:
        measure(args, make, shape, n_classes)


if __name__ == "__main__":
    main()
