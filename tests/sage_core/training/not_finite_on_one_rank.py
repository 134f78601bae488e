"""Run by torch.distributed.run: a sample's loss is not finite, so on one of the ranks alone.

Arguments: the run's folder, and the steps whose last sample is bad. Each rank prints what it found as JSON.
"""

import json
import sys
from pathlib import Path

import torch
from test_training_engine import parts, routine

from sage_core.errors import TrainingError
from sage_core.training.ending import leave
from sage_core.training.engine import Trainer
from sage_core.training.ranks import joined

folder, steps = Path(sys.argv[1]), [int(step) for step in sys.argv[2:]]
how = routine(max_skipped=2)
bad = {str(how.order.step(step)[-1]) for step in steps}
with joined("cpu", 1) as ranks:
    trainer = Trainer(parts(bad=bad), how, folder, ranks)
    try:
        trainer.run()
        error = None
    except TrainingError as raised:
        error = str(raised)
    weights = torch.cat([p.detach().flatten() for p in trainer.parts.model.parameters()])
    found = {
        "rank": ranks.rank,
        "skipped": trainer.state.skipped,
        "step": trainer.state.step,
        "weights": weights.double().sum().item(),
        "error": error,
    }
    (folder / f"rank_{ranks.rank}.json").write_text(json.dumps(found))
leave(0)
