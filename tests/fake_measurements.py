"""In place of what the experiments with `measured_runs` measure of a run's checkpoints."""

import fake_training

MODULES = {
  "googlenet": ["conv1", "conv2", "inception_3a", "logits"],
  "inception_v3": ["conv_1a_3x3", "mixed_5b", "logits"],
}
STEPS = [0, *fake_training.STEPS]
SAVED = list(fake_training.STEPS)


def aux_heads(config, run):
  """The heads make all gradients of the trunk three times as large at first, and twice later."""
  modules = MODULES[config.model.name]
  main = [[0.1 * (step + number + 1) for number in range(len(modules))] for step in STEPS]
  factors = [3 if step == 0 else 2 for step in STEPS]
  if not config.model.aux_heads:
    factors = [1] * len(STEPS)
  whole = [[norm * factor for norm in norms] for factor, norms in zip(factors, main, strict=True)]
  return {"step": STEPS, "modules": modules, "main": main, "whole": whole}


def averaged_weights(config, run):
  """Algorithm 2 is right at once, and the others come up to it."""
  lag = {"moving": 0.3, "averaged": 0.4, "population": 0.0, "raw": 0.2}
  return {
    "step": SAVED,
    **{way: [0.9 - less * 10 / step for step in SAVED] for way, less in lag.items()},
  }
