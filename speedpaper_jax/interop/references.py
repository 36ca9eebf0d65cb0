"""The networks of other packages, built to be compared with: extras that nothing else imports."""

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

from speedpaper_jax.command_line import extras
from speedpaper_jax.errors import UserError
from speedpaper_jax.interop.names import Names

# Their own names of the networks.
_PRETRAINEDMODELS = {
  "bn_inception": "bninception",
  "inception_v4": "inceptionv4",
  "inception_resnet_v2": "inceptionresnetv2",
}
_INSTALL = "pip install torch==2.13.0 && pip install --no-deps -r requirements-references.txt"
_FORMATS = ("torch", "safetensors")  # of files of weights, which need no network of anybody's


def build(model: str, names: Names, num_classes: int, with_aux: bool) -> Any:
  """The network of another package, with random weights and without dropout.

  Args:
    model: our name of it.
    names: whose.
    num_classes: width of its softmax layer.
    with_aux: whether to build its auxiliary heads, where it has some.

  Returns:
    A `torch.nn.Module`, called as `module(images)` with what `preprocess` returns.

  Raises:
    UserError: the package is not installed.
  """
  nn = import_package("torch").nn
  module = _BUILDERS[names.source](model, num_classes, with_aux)
  for part in module.modules():
    if isinstance(part, nn.Dropout):
      part.p = 0.0
  return module


def preprocess(model: str, names: Names, images: np.ndarray) -> Any:
  """Images as the package itself prepares them, in float64.

  Args:
    model: our name of the network.
    names: whose.
    images: RGB, uint8 [N, H, W, 3].

  Returns:
    Tensor, float64 [N, 3, H, W].
  """
  torch = import_package("torch")
  pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double()
  if names.source == "facenet":
    return import_package("facenet_pytorch").fixed_image_standardization(pixels)
  if names.source == "pretrainedmodels":
    file = importlib.import_module(f"pretrainedmodels.models.{_PRETRAINEDMODELS[model]}")
    settings = file.pretrained_settings[_PRETRAINEDMODELS[model]]["imagenet"]
    if settings["input_space"] == "BGR":
      pixels = pixels.flip(1)
    scale, mean, std = settings["input_range"][1] / 255, settings["mean"], settings["std"]
  elif names.source == "timm":
    config = import_package("timm").models.get_pretrained_cfg(model)
    scale, mean, std = 1 / 255, config.mean, config.std
  else:
    weights = import_package("torchvision").models.get_model_weights(model).IMAGENET1K_V1
    transforms = weights.transforms()
    scale, mean, std = 1 / 255, transforms.mean, transforms.std

  def per_channel(values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]

  return (pixels * scale - per_channel(mean)) / per_channel(std)


def split_logits(names: Names, outputs: Any) -> tuple[Any, dict[str, Any]]:
  """Splits what a module returns into its logits and those of auxiliary heads, by our names."""
  if not isinstance(outputs, tuple):
    return outputs, {}
  logits, *others = outputs
  if len(names.aux) > 1:  # torchvision's GoogLeNet returns the last head first
    others.reverse()
  return logits, dict(zip(names.aux, others, strict=True))


def import_package(package: str) -> ModuleType:
  """Imports PyTorch, safetensors or a package of networks.

  Raises:
    UserError: it is not installed, or does not work with what is.
  """
  is_format = package.partition(".")[0] in _FORMATS
  try:
    if not is_format:
      _import_torchvision()  # as all networks do
    return importlib.import_module(package)
  except (ImportError, RuntimeError) as error:
    install = extras.install("torch") if is_format else _INSTALL
    raise UserError(f"{package} cannot be imported ({error}); install it: `{install}`.") from error


def _import_torchvision() -> None:
  """Imports torchvision, whose wheel lacks two operators beside the CPU build of PyTorch.

  Its networks need neither, but its import does.
  """
  try:
    importlib.import_module("torchvision")
  except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
      raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
      del sys.modules[name]
    library = importlib.import_module("torch").library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
      library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)  # what it declares goes when it does
    importlib.import_module("torchvision")


_DECLARED: list[Any] = []


def _timm(model: str, num_classes: int, with_aux: bool) -> Any:
  options = {"aux_logits": with_aux} if model == "inception_v3" else {}
  return import_package("timm").create_model(model, num_classes=num_classes, **options)


def _torchvision(model: str, num_classes: int, with_aux: bool) -> Any:
  return import_package("torchvision").models.get_model(
    model, num_classes=num_classes, aux_logits=with_aux, transform_input=True, init_weights=False
  )


def _pretrainedmodels(model: str, num_classes: int, with_aux: bool) -> Any:
  torch = import_package("torch")
  name = _PRETRAINEDMODELS[model]
  module = getattr(import_package("pretrainedmodels"), name)(
    num_classes=num_classes, pretrained=None
  )
  # Their last pools fit one image size; at that size these are the same.
  for pool in ("global_pool", "avg_pool", "avgpool_1a"):
    if hasattr(module, pool):
      setattr(module, pool, torch.nn.AdaptiveAvgPool2d(1))
  if model == "inception_resnet_v2":

    class WithoutDropout(type(module)):  # type: ignore[misc]
      """Its own has dropout written into this method."""

      def logits(self, features: Any) -> Any:
        return self.last_linear(self.avgpool_1a(features).flatten(1))

    module.__class__ = WithoutDropout
  return module


def _facenet(model: str, num_classes: int, with_aux: bool) -> Any:
  return import_package("facenet_pytorch").InceptionResnetV1(classify=True, num_classes=num_classes)


_BUILDERS = {
  "timm": _timm,
  "torchvision": _torchvision,
  "pretrainedmodels": _pretrainedmodels,
  "facenet": _facenet,
}
