"""
Were these samples changed? The seal
====================================

`sample` writes a seal: the sha256 of every file, signed if you have a key. Anyone can see later
whether the folder is as it was drawn.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.runs.seal import verify
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(8, work / "training", seed=1, shape=(24, 28, 24))
run = synthbench.train("pca-gaussian", real=work / "training", out=work / "run")
files = synthbench.sample(run, 3, work / "synth")
print("untouched:", verify(work / "synth").untouched)

# %%
# Change one byte of one file.
content = bytearray(files[1].read_bytes())
content[100] ^= 1
files[1].write_bytes(content)
found = verify(work / "synth")
print("untouched:", found.untouched, "- changed:", found.changed)
