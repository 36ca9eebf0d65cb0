"""The complete config of the training loop; experiments change a few lines of it."""

import ml_collections


def train_config() -> ml_collections.ConfigDict:
  """Every field of the "train" experiment, with its default.

  Durations are text: a number and a unit out of steps, epochs and examples, as in "1.5 epochs".
  Rates and lengths that follow from fields are computed when training starts, so that a field may
  be changed on the command line, as in `--config.batch_size=64`.
  """
  config = ml_collections.ConfigDict()
  config.experiment = "train"
  config.init_from = ""  # directory of a trained network to take the first weights from
  config.seed = 0  # of weights, data order, augmentation and dropout

  config.model = ml_collections.ConfigDict()
  config.model.name = "bn_inception"
  config.model.dialect = "paper"  # whose implementation to match; empty for the model's default
  config.model.activation = "relu"  # relu, sigmoid, tanh
  config.model.local_response_norm = False  # of bn_inception; a dialect says it of others
  config.model.dropout_rate = 0.0
  config.model.initial_scale = 1.0  # of the kernels' first values, times the network's own
  config.model.aux_heads = False  # of all but bn_inception; their loss counts with `aux_weight`
  config.model.residual_scales = ()  # of the Inception-ResNets' A, B and C; empty: the dialect's
  config.model.dtype = "float32"  # of activations: float32, bfloat16; parameters stay in float32

  config.batch_norm = ml_collections.ConfigDict()
  config.batch_norm.enabled = True
  config.batch_norm.epsilon = 1e-3
  config.batch_norm.decay = 0.99  # of the moving averages; PyTorch's momentum is 1 - decay
  config.batch_norm.unbiased_running_variance = True
  # What is normalised together: "global" the whole batch, "replica" each device's rows, "group"
  # each `virtual_batch_size` rows, or the whole batch where that is smaller.
  config.batch_norm.statistics = "global"
  config.batch_norm.virtual_batch_size = 32
  # What evaluation uses: "moving_average", or "population": Algorithm 2 over so many batches.
  config.batch_norm.inference = "moving_average"
  config.batch_norm.population_batches = 32

  config.data = ml_collections.ConfigDict()
  config.data.name = "digits"  # or any image-classification data set of TFDS, prepared
  config.data.dir = ""  # where prepared data lies; empty for TFDS's own default
  config.data.train_split = "train"
  config.data.eval_split = "test"
  config.data.image_size = 32  # pixels, height and width
  config.data.eval_central_fraction = 1.0  # how much of an image evaluation looks at
  config.data.eval_resize = "squash"  # squash: as in TF-slim; short_side: as in torchvision, timm
  config.data.eval_interpolation = "bilinear"  # bilinear, bicubic

  config.data.augmentation = ml_collections.ConfigDict()
  config.data.augmentation.crop = "none"  # none, shift, area
  config.data.augmentation.shift = 0  # pixels after resizing, for crop="shift"
  config.data.augmentation.area_range = (0.08, 1.0)  # of the image, for crop="area"
  config.data.augmentation.flip = False
  config.data.augmentation.photometric = 0.0  # strength, 1 the original's

  config.batch_size = 32  # over all devices
  config.eval_batch_size = 128
  config.accumulation_steps = 1  # micro-batches to a step
  config.duration = "15 epochs"

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "sgd"  # sgd, adam, adagrad, rmsprop (TensorFlow's)
  config.optimizer.learning_rate = 0.01  # at a batch of base_batch_size; grows with the batch
  config.optimizer.base_batch_size = 32
  config.optimizer.momentum = 0.9  # of sgd and rmsprop
  config.optimizer.rmsprop_decay = 0.9
  config.optimizer.rmsprop_epsilon = 1.0
  config.optimizer.l2 = 0.0  # ½·l2·‖w‖² in the loss, kernels only
  config.optimizer.clip_norm = 0.0  # of the whole gradient; 0 for none

  config.optimizer.schedule = ml_collections.ConfigDict()
  config.optimizer.schedule.name = "constant"  # constant, exponential, step, cosine
  config.optimizer.schedule.factor = 0.96  # of exponential and step
  config.optimizer.schedule.interval = "1 epochs"  # of exponential
  config.optimizer.schedule.staircase = False  # of exponential
  config.optimizer.schedule.boundaries = ("10 epochs",)  # of step
  config.optimizer.schedule.warmup = "0 steps"

  config.label_smoothing = 0.0
  config.aux_weight = 0.0  # of each auxiliary head's loss
  config.average_decay = 0.0  # of the average of parameters and batch_stats; 0 for none

  config.parallel = "jit"  # jit: one global program; pmap: each device its own, meeting at the end

  config.log_every = "20 steps"
  config.eval_every = "1 epochs"
  config.evaluate_training_images = False  # after the last step, too, without augmentation
  config.checkpoint_every = "5 epochs"
  config.checkpoints_to_keep = 2  # the newest
  config.keep_best = True  # the best evaluation's, too, which is saved even where none is due
  return config
