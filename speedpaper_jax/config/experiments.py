"""The experiments by name, of which `config.experiment` chooses one."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Where an experiment is; its report is the module of its name in `reports`.

  Attributes:
    module: of this package, with a function `run(config, directory)` that returns the summary.
    on_several_hosts: whether it trains by `training.train` alone. The others train networks so
      small that one device does.
  """

  module: str
  on_several_hosts: bool = False


EXPERIMENTS = {
  "train": Experiment("training.train", on_several_hosts=True),
  "bn_fc": Experiment("experiments.bn_fc"),
  "bn_init": Experiment("experiments.bn_init"),
  "mnist_bn": Experiment("experiments.mnist_bn"),
  "bn_variants": Experiment("experiments.bn_variants", on_several_hosts=True),
  "bn_benefits": Experiment("experiments.bn_benefits", on_several_hosts=True),
  "transfer": Experiment("experiments.transfer", on_several_hosts=True),
  "residual_speedup": Experiment("experiments.residual_speedup", on_several_hosts=True),
  "residual_scaling": Experiment("experiments.residual_scaling"),
  "small_inception": Experiment("experiments.small_inception", on_several_hosts=True),
  "aux_heads": Experiment("experiments.aux_heads", on_several_hosts=True),
  "averaged_weights": Experiment("experiments.averaged_weights", on_several_hosts=True),
  "ensemble": Experiment("experiments.ensemble", on_several_hosts=True),
  "covariate_shift": Experiment("experiments.covariate_shift"),
}
