"""torchvision's ResNet-18 on a GPU: for each argument `work,precision,size,batch` a line of JSON with images a second."""

import json
import sys
import time

import torch
from torchvision.models import resnet18

assert torch.cuda.is_available(), "this PyTorch knows no GPU"
DEVICE = torch.device("cuda")
BEGIN = time.perf_counter()
# Seconds after which nothing is compiled any more, and after which nothing is measured.
LIMITS = {"compiled": 170, "eager": 230}
torch.backends.cudnn.benchmark = True  # its best: algorithms are timed first


def rate(step, batch):
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    n, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < 1.0 and n < 500:
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        n += 10
    return n * batch / (time.perf_counter() - begin)


def measure(work, precision, size, batch, compiled):
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "f32"
    net = resnet18(num_classes=15).to(DEVICE, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=DEVICE).to(memory_format=torch.channels_last)
    targets = torch.eye(15, device=DEVICE)[torch.arange(batch, device=DEVICE) % 15]
    criterion = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)
    net.train(work == "train")
    run = torch.compile(net, mode="reduce-overhead") if compiled else net
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")

    def train():
        with autocast:
            loss = criterion(run(images).float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer():
        with torch.no_grad(), autocast:
            run(images)

    return rate(train if work == "train" else infer, batch)


for job in sys.argv[1:]:
    work, precision, size, batch = job.split(",")
    answer = {"eager": None, "compiled": None, "problem": None}
    for name in ("eager", "compiled"):
        if time.perf_counter() - BEGIN > LIMITS[name]:
            continue
        try:
            answer[name] = measure(work, precision, int(size), int(batch), name == "compiled")
        except Exception as error:  # whatever PyTorch cannot do here is told, and the rest goes on
            answer["problem"] = f"{name}: {error}".splitlines()[0]
        torch.cuda.empty_cache()
    print(json.dumps(answer), flush=True)
