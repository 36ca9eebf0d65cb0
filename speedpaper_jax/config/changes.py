"""What a change of a training config does to a run that goes on; docs/resuming.md shows them."""

from typing import Final

from speedpaper_jax.config.field import Change

_WARNS: Final = "goes on, with a warning"

SAME_TRAINING = Change("goes on", "what is trained is the same")
LENGTH = Change(_WARNS, "the run ends earlier or later, and a cosine is another one from here on")
SCHEDULE = Change(
  _WARNS, "the learning rate is that of the new schedule, at the place where the run is"
)
BATCH = Change(
  _WARNS,
  "the run goes on where it is in the data: lengths in epochs and examples count examples, "
  "lengths in steps count steps",
)
FROM_HERE_ON = Change(_WARNS, "the new value holds from here on")
MOMENTUM = Change(
  _WARNS, "the optimiser keeps its velocity; from 0 on it begins at zero, and at 0 it is dropped"
)
OPTIMIZER_OPTION = Change(_WARNS, "the optimiser keeps its state")
AVERAGE = Change(
  _WARNS,
  "from 0 on the average begins with the parameters as they are; 0 is refused, since what was "
  "evaluated is the average",
)
SEED = Change(
  _WARNS,
  "order of the images, augmentation and dropout are others, so that some images of this epoch "
  "come twice",
)
TRAINING_LOSS = Change(_WARNS, "training losses before and after are not to be compared")
STATISTICS = Change(_WARNS, "batch normalization takes or keeps its statistics in another way")
ROUNDING = Change(
  _WARNS,
  "parameters and statistics stay in float32, and activations are rounded in another way",
)
GRADIENT_SUMS = Change(
  _WARNS,
  "gradients are rounded in another way when they are summed over devices",
)
IMAGE_SIZE = Change(
  _WARNS,
  "a network whose weights do not depend on it sees images of another size; another is refused",
)
EVALUATION = Change(_WARNS, "evaluations before and after are not to be compared")
EXPERIMENT = Change("refused", "a run is of one experiment")
FIRST_WEIGHTS = Change("refused", "the run has begun, with other weights")
NETWORK = Change("refused", "the weights are those of another network")
INPUT = Change("refused", "the weights have learned on another input")
IMAGES = Change("refused", "the run's place is one in other images")
OPTIMIZER = Change("refused", "the optimiser's state is that of another one")
