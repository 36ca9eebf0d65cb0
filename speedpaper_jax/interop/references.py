"""The networks of other packages, built to be compared with: extras that nothing else imports."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from speedpaper_jax.command_line import extras
from speedpaper_jax.errors import UserError

if TYPE_CHECKING:
  from speedpaper_jax.interop.names import Names

# Their own names of the networks.
_PRETRAINEDMODELS = {
  "bn_inception": "bninception",
  "inception_v4": "inceptionv4",
  "inception_resnet_v2": "inceptionresnetv2",
}
_PYTORCHCV = {
  "bn_inception": "bninception",
  "inception_v3": "inceptionv3",
  "inception_v4": "inceptionv4",
  "inception_resnet_v1": "inceptionresnetv1",
  "inception_resnet_v2": "inceptionresnetv2",
}
_INSTALL = "pip install torch==2.13.0 && pip install --no-deps -r requirements-references.txt"
# Of files of weights, which need no network of anybody's → the extra that brings it.
_FORMATS = {"torch": "torch", "safetensors": "torch", "h5py": "keras"}


def build(model: str, names: "Names", num_classes: int, with_aux: bool) -> Any:
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


def preprocess(model: str, names: "Names", images: np.ndarray) -> Any:
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
  if names.source == "pytorch-fid":
    return 2 * (pixels / 255) - 1
  if names.source == "pretrainedmodels":
    file = importlib.import_module(f"pretrainedmodels.models.{_PRETRAINEDMODELS[model]}")
    settings = file.pretrained_settings[_PRETRAINEDMODELS[model]]["imagenet"]
    if settings["input_space"] == "BGR":
      pixels = pixels.flip(1)
    scale, mean, std = settings["input_range"][1] / 255, settings["mean"], settings["std"]
  elif names.source == "timm":
    config = import_package("timm").models.get_pretrained_cfg(model)
    scale, mean, std = 1 / 255, config.mean, config.std
  elif names.source == "pytorchcv":  # its evaluation scripts have them, not the package
    scale, mean, std = 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  else:
    weights = import_package("torchvision").models.get_model_weights(model).IMAGENET1K_V1
    transforms = weights.transforms()
    scale, mean, std = 1 / 255, transforms.mean, transforms.std

  def per_channel(values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]

  return (pixels * scale - per_channel(mean)) / per_channel(std)


def split_logits(names: "Names", outputs: Any) -> tuple[Any, dict[str, Any]]:
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
  top = package.partition(".")[0]
  extra = _FORMATS.get(top)
  try:
    if extra is None and top != "keras":
      _import_torchvision()  # as all networks of PyTorch's do
    return importlib.import_module(package)
  except (ImportError, RuntimeError) as error:
    install = _INSTALL if extra is None else extras.install(extra)
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


def _pytorchcv(model: str, num_classes: int, with_aux: bool) -> Any:
  provider = import_package("pytorchcv.model_provider")
  module = provider.get_model(_PYTORCHCV[model], num_classes=num_classes, pretrained=False)
  # Its last pool fits one image size; at that size this is the same.
  module.features.final_pool = import_package("torch").nn.AdaptiveAvgPool2d(1)
  return module


def _pytorch_fid(model: str, num_classes: int, with_aux: bool) -> Any:
  inception: Any = import_package("pytorch_fid.inception")
  download = inception.load_state_dict_from_url
  inception.load_state_dict_from_url = lambda *_, **__: _torchvision_without_aux(1008).state_dict()
  try:
    module = inception.fid_inception_v3()
  finally:
    inception.load_state_dict_from_url = download
  module.fc = import_package("torch").nn.Linear(module.fc.in_features, num_classes)
  return module


def _torchvision_without_aux(num_classes: int) -> Any:
  return import_package("torchvision").models.inception_v3(
    num_classes=num_classes, aux_logits=False, init_weights=False
  )


_BUILDERS = {
  "timm": _timm,
  "torchvision": _torchvision,
  "pretrainedmodels": _pretrainedmodels,
  "facenet": _facenet,
  "pytorchcv": _pytorchcv,
  "pytorch-fid": _pytorch_fid,
}
