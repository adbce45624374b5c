"""Writes the small PyTorch files beside it; made with torch 2.15.0 and fastai 2.8.12. The values are made up.

    python make.py FOLDER
"""
import shutil, sys, torch
from collections import OrderedDict
from fastai.vision.all import DataLoaders, Learner, nn

out = sys.argv[1]
base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
state = OrderedDict([
    ("plain", base), ("transposed", base.t()), ("slice", base[1:, ::2]), ("scalar", torch.tensor(7, dtype=torch.int64)),
    ("half", torch.tensor([1.5, -2.0], dtype=torch.float16)), ("bfloat", torch.tensor([0.5, 3.0], dtype=torch.bfloat16)),
    ("double", torch.tensor([0.1], dtype=torch.float64)), ("empty", torch.zeros(0, 3)),
    ("parameter", torch.nn.Parameter(torch.tensor([[2.0]]))),
])
torch.save(state, f"{out}/state_dict.pth")


def set_weights(net):
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0]])); net[0].bias.fill_(3.0)


net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
set_weights(net)
torch.save(net, f"{out}/module.pth")  # needs code to be read: must be refused
torch.save(OrderedDict(w=torch.ones(2)), f"{out}/legacy.pth", _use_new_zipfile_serialization=False)

pairs = [(torch.ones(2), torch.ones(1))] * 4
learner = Learner(DataLoaders.from_dsets(pairs, pairs, bs=2), net, loss_func=nn.MSELoss(), path=out)
with learner.no_bar(), learner.no_logging():
    learner.fit(1)
set_weights(net)
shutil.move(learner.save("fastai"), f"{out}/fastai.pth")  # model and optimizer
