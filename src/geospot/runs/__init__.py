"""The run folder: what a training run writes, how it resumes exactly, and how others read it meanwhile."""
