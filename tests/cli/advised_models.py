"""Models that `lhp advise` is tried on."""

MODELS = """
import torch
from torch import nn

def make():
    print("building")
    return nn.ModuleDict({
        "up": nn.Linear(317, 1197),
        "middle": nn.Sequential(nn.Linear(317, 1197), nn.GRU(5, 6)),
    })

def run():
    return nn.Sequential(nn.Linear(317, 1197), nn.Flatten(0, 0))

def wide(): return nn.Sequential(nn.Linear(1, 10**9, device="meta"), nn.Linear(2, 3))
def too_wide(): return nn.Linear(1, 10**9, device="meta")
def example(): return torch.zeros(4, 8, 317)
def misfit(): return torch.zeros(4, 8, 318)
def fails(): raise ValueError("no weights")
def nothing(): return 5
def needs(width): return nn.Linear(width, width)
def chatty():
    import os
    print("building")
    os.system("echo from a process of its own")
    return nn.Linear(5, 6)
def large(): return nn.Sequential(nn.Linear(4096, 151936, device="meta"), nn.Linear(2, 3))
def huge(): return nn.Linear(2**21, 2**21)
def rows(): return torch.zeros(3, 2**21)
def plain(): return nn.ReLU()
def cubes():
    return nn.Sequential(*(nn.Conv3d(2, 2, 1, bias=False) for _ in range(5)), nn.Linear(4, 20))
def only_cubes(): return nn.Conv3d(2, 2, 1)
class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.attention = nn.MultiheadAttention(6, 3)
        self.spare = nn.Linear(6, 9)
    def forward(self, batch):
        words = self.words(batch["words"])
        return self.attention(words, words, words)
class Once(nn.Linear):
    def __init__(self):
        super().__init__(317, 1197)
        self.runs = 0
    def forward(self, x):
        self.runs += 1
        assert self.runs == 1
        return super().forward(x)
def words(): return {"words": torch.zeros(5, 2, dtype=torch.long)}
"""
