"""Published weights of the networks: for each file what it is of, and what it expects.

Addresses, checksums and preprocessing are those of each package's own loader; accuracies are what
its authors print, of ImageNet's validation images unless the row says otherwise.
"""

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

from speedpaper_jax.data.crop import EvaluationCrop
from speedpaper_jax.data.normalization import DEFAULT, IMAGENET, Normalization
from speedpaper_jax.data.preprocessing import Preprocessing
from speedpaper_jax.errors import UserError, did_you_mean

IMAGENET_CLASSES = "ImageNet's 1000"


class Checksum(NamedTuple):
  """What is known of a file's bytes.

  Attributes:
    algorithm: "sha256", "sha1" or "md5".
    digest: hexadecimal, or as many of its first digits as are published.
  """

  algorithm: str
  digest: str


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
  """A row of the table.

  Attributes:
    name: package and file, as in "timm/inception_v4.tf_in1k".
    model: our name of the network.
    dialect: that matches the package's implementation.
    url: of the file.
    checksum: None where the package has none; a hub that names one in its answer is believed.
    licence: of the weights, or of the code where nothing is said of them.
    num_classes: of the file's softmax layer.
    classes: in words; `IMAGENET_CLASSES` have names.
    preprocessing: that the weights were trained with, and their accuracy measured.
    top1: accuracy in percent, as it is printed; "–" where it is not.
    top5: the same.
    note: what else to know, or "".
  """

  name: str
  model: str
  dialect: str
  url: str
  checksum: Checksum | None
  licence: str
  preprocessing: Preprocessing
  top1: str
  top5: str
  num_classes: int = 1000
  classes: str = IMAGENET_CLASSES
  note: str = ""

  @property
  def package(self) -> str:
    """Who has published them."""
    return self.name.partition("/")[0]

  @property
  def file_name(self) -> str:
    """Of the file where it is fetched by hand; those of hubs all have one name."""
    last = self.url.rpartition("/")[2]
    return f"{self.name.partition('/')[2]}.safetensors" if last == "model.safetensors" else last

  def to_json(self) -> dict[str, Any]:
    """All fields; the preprocessing as model.json has it."""
    fields = dataclasses.asdict(self)
    return {
      **fields,
      "preprocessing": self.preprocessing.to_json(),
      "checksum": ":".join(self.checksum or ()),
    }


def _short_side(
  image_size: int,
  central_fraction: float,
  interpolation: str,
  normalization: Normalization = DEFAULT,
) -> Preprocessing:
  crop = EvaluationCrop(image_size, central_fraction, "short_side", interpolation)
  return Preprocessing(crop, normalization)


def _whole(image_size: int, interpolation: str, normalization: Normalization) -> Preprocessing:
  return Preprocessing(EvaluationCrop(image_size, 1.0, "squash", interpolation), normalization)


_HUB = "https://huggingface.co"
_PYTORCH = "https://download.pytorch.org/models"
_TIMM_RELEASES = (
  "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
)
_CADENE = "http://data.lip6.fr/cadene/pretrainedmodels"
_PYTORCHCV = "https://github.com/osmr/imgclsmob/releases/download"
_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"
_FACES = Normalization("RGB", (127.5, 127.5, 127.5), (128.0, 128.0, 128.0))
_CAFFE = Normalization("BGR", (104.0, 117.0, 128.0), (1.0, 1.0, 1.0))
_OF_342_PIXELS = 0.874
_WITH_BACKGROUND = f"{IMAGENET_CLASSES}, and background"

# Of several files of one network the package's default comes first.
ROWS = (
  PublishedWeights(
    name="timm/inception_v3.tv_in1k",
    model="inception_v3",
    dialect="timm",
    url=f"{_PYTORCH}/inception_v3_google-1a9a5a14.pth",
    checksum=Checksum("sha256", "1a9a5a14"),
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.875, "bicubic"),
    top1="77.47",
    top5="–",
    note="with an auxiliary head",
  ),
  PublishedWeights(
    name="timm/inception_v3.tf_in1k",
    model="inception_v3",
    dialect="timm",
    url=f"{_HUB}/timm/inception_v3.tf_in1k/resolve/main/model.safetensors",
    checksum=None,
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.875, "bicubic"),
    top1="77.87",
    top5="–",
  ),
  PublishedWeights(
    name="timm/inception_v3.tf_adv_in1k",
    model="inception_v3",
    dialect="timm",
    url=f"{_TIMM_RELEASES}/adv_inception_v3-9e27bd63.pth",
    checksum=Checksum("sha256", "9e27bd63"),
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.875, "bicubic"),
    top1="77.60",
    top5="–",
    note="adversarially trained",
    num_classes=1001,
    classes=_WITH_BACKGROUND,
  ),
  PublishedWeights(
    name="timm/inception_v3.gluon_in1k",
    model="inception_v3",
    dialect="timm",
    url=f"{_HUB}/timm/inception_v3.gluon_in1k/resolve/main/model.safetensors",
    checksum=None,
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.875, "bicubic", IMAGENET),
    top1="78.81",
    top5="94.37",
  ),
  PublishedWeights(
    name="timm/inception_v4.tf_in1k",
    model="inception_v4",
    dialect="timm",
    url=f"{_HUB}/timm/inception_v4.tf_in1k/resolve/main/model.safetensors",
    checksum=None,
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.875, "bicubic"),
    top1="80.144",
    top5="94.982",
  ),
  PublishedWeights(
    name="timm/inception_resnet_v2.tf_in1k",
    model="inception_resnet_v2",
    dialect="timm",
    url=f"{_HUB}/timm/inception_resnet_v2.tf_in1k/resolve/main/model.safetensors",
    checksum=None,
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.8975, "bicubic"),
    top1="80.434",
    top5="95.312",
  ),
  PublishedWeights(
    name="timm/inception_resnet_v2.tf_ens_adv_in1k",
    model="inception_resnet_v2",
    dialect="timm",
    url=f"{_TIMM_RELEASES}/ens_adv_inception_resnet_v2-2592a550.pth",
    checksum=Checksum("sha256", "2592a550"),
    licence="Apache-2.0",
    preprocessing=_short_side(299, 0.8975, "bicubic"),
    top1="79.998",
    top5="–",
    note="adversarially trained",
    num_classes=1001,
    classes=_WITH_BACKGROUND,
  ),
  PublishedWeights(
    name="torchvision/googlenet",
    model="googlenet",
    dialect="torchvision",
    url=f"{_PYTORCH}/googlenet-1378be20.pth",
    checksum=Checksum("sha256", "1378be20"),
    licence="BSD-3",
    preprocessing=_short_side(224, 0.875, "bilinear"),
    top1="69.778",
    top5="89.530",
    note="its auxiliary heads are untrained",
  ),
  PublishedWeights(
    name="torchvision/inception_v3",
    model="inception_v3",
    dialect="torchvision",
    url=f"{_PYTORCH}/inception_v3_google-0cc3c7bd.pth",
    checksum=Checksum("sha256", "0cc3c7bd"),
    licence="BSD-3",
    preprocessing=_short_side(299, _OF_342_PIXELS, "bilinear"),
    top1="77.294",
    top5="93.450",
    note="with an auxiliary head",
  ),
  PublishedWeights(
    name="pretrainedmodels/bninception",
    model="bn_inception",
    dialect="pretrainedmodels",
    url=f"{_CADENE}/bn_inception-52deb4733.pth",
    checksum=Checksum("sha256", "52deb4733"),
    licence="BSD-3",
    preprocessing=_short_side(224, 0.875, "bilinear", _CAFFE),
    top1="73.524",
    top5="91.562",
  ),
  PublishedWeights(
    name="pretrainedmodels/inceptionv4",
    model="inception_v4",
    dialect="timm",
    url=f"{_CADENE}/inceptionv4-8e4777a0.pth",
    checksum=Checksum("sha256", "8e4777a0"),
    licence="BSD-3",
    preprocessing=_short_side(299, 0.875, "bilinear"),
    top1="80.062",
    top5="94.926",
    num_classes=1001,
    classes=_WITH_BACKGROUND,
  ),
  PublishedWeights(
    name="pretrainedmodels/inceptionresnetv2",
    model="inception_resnet_v2",
    dialect="timm",
    url=f"{_CADENE}/inceptionresnetv2-520b38e4.pth",
    checksum=Checksum("sha256", "520b38e4"),
    licence="BSD-3",
    preprocessing=_short_side(299, 0.875, "bilinear"),
    top1="80.170",
    top5="95.234",
    num_classes=1001,
    classes=_WITH_BACKGROUND,
  ),
  PublishedWeights(
    name="pytorchcv/bninception",
    model="bn_inception",
    dialect="pretrainedmodels",
    url=f"{_PYTORCHCV}/v0.0.405/bninception-0774-d79ba5f5.pth.zip",
    checksum=Checksum("sha1", "d79ba5f573ba2da5fea5e4c9a7f67ddd526e234b"),
    licence="MIT",
    preprocessing=_short_side(224, 0.875, "bilinear", IMAGENET),
    top1="74.63",
    top5="92.26",
  ),
  PublishedWeights(
    name="pytorchcv/inceptionv3",
    model="inception_v3",
    dialect="timm",
    url=f"{_PYTORCHCV}/v0.0.552/inceptionv3-0533-025fb71c.pth.zip",
    checksum=Checksum("sha1", "025fb71c673f8e325f4c24f25cbd4185540cca72"),
    licence="MIT",
    preprocessing=_short_side(299, _OF_342_PIXELS, "bilinear", IMAGENET),
    top1="79.56",
    top5="94.67",
  ),
  PublishedWeights(
    name="pytorchcv/inceptionv4",
    model="inception_v4",
    dialect="timm",
    url=f"{_PYTORCHCV}/v0.0.543/inceptionv4-0488-4ae4f331.pth.zip",
    checksum=Checksum("sha1", "4ae4f331a5ff649e39626fc49cd5c24b8159cd8c"),
    licence="MIT",
    preprocessing=_short_side(299, _OF_342_PIXELS, "bilinear", IMAGENET),
    top1="80.17",
    top5="95.12",
  ),
  PublishedWeights(
    name="pytorchcv/inceptionresnetv1",
    model="inception_resnet_v1",
    dialect="facenet",
    url=f"{_PYTORCHCV}/v0.0.552/inceptionresnetv1-0480-f8b3e9e3.pth.zip",
    checksum=Checksum("sha1", "f8b3e9e369ff38e28b4ae4def273ef78741e2e28"),
    licence="MIT",
    preprocessing=_short_side(299, _OF_342_PIXELS, "bilinear", IMAGENET),
    top1="80.37",
    top5="95.20",
  ),
  PublishedWeights(
    name="pytorchcv/inceptionresnetv2",
    model="inception_resnet_v2",
    dialect="timm",
    url=f"{_PYTORCHCV}/v0.0.547/inceptionresnetv2-0474-19f51781.pth.zip",
    checksum=Checksum("sha1", "19f51781f8a454803207e319289f404d50e252cb"),
    licence="MIT",
    preprocessing=_short_side(299, _OF_342_PIXELS, "bilinear", IMAGENET),
    top1="80.60",
    top5="95.26",
  ),
  PublishedWeights(
    name="facenet-pytorch/vggface2",
    model="inception_resnet_v1",
    dialect="facenet",
    url=f"{_FACENET}/20180402-114759-vggface2.pt",
    checksum=None,
    licence="MIT",
    preprocessing=_whole(160, "bilinear", _FACES),
    top1="–",
    top5="–",
    num_classes=8631,
    classes="people of VGGFace2",
    note="of faces that are cropped already; 99.65 % of LFW's pairs",
  ),
  PublishedWeights(
    name="facenet-pytorch/casia-webface",
    model="inception_resnet_v1",
    dialect="facenet",
    url=f"{_FACENET}/20180408-102900-casia-webface.pt",
    checksum=None,
    licence="MIT",
    preprocessing=_whole(160, "bilinear", _FACES),
    top1="–",
    top5="–",
    num_classes=10575,
    classes="people of CASIA-WebFace",
    note="of faces that are cropped already; 99.05 % of LFW's pairs",
  ),
  PublishedWeights(
    name="keras/inception_v3",
    model="inception_v3",
    dialect="slim",
    url=f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    checksum=Checksum("md5", "9a0d58056eeedaa3f26cb7ebd46da564"),
    licence="Apache-2.0",
    preprocessing=_whole(299, "bilinear", DEFAULT),
    top1="77.9",
    top5="93.7",
  ),
  PublishedWeights(
    name="keras/inception_v3_notop",
    model="inception_v3",
    dialect="slim",
    url=f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    checksum=Checksum("md5", "bcbd6486424b2319ff4ef7d526e38f63"),
    licence="Apache-2.0",
    preprocessing=_whole(299, "bilinear", DEFAULT),
    top1="–",
    top5="–",
    num_classes=0,
    classes="none: features",
  ),
  PublishedWeights(
    name="keras/inception_resnet_v2",
    model="inception_resnet_v2",
    dialect="slim",
    url=(f"{_KERAS}/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5"),
    checksum=Checksum("md5", "e693bd0210a403b3192acc6073ad2e96"),
    licence="Apache-2.0",
    preprocessing=_whole(299, "bilinear", DEFAULT),
    top1="80.3",
    top5="95.3",
  ),
  PublishedWeights(
    name="keras/inception_resnet_v2_notop",
    model="inception_resnet_v2",
    dialect="slim",
    url=(
      f"{_KERAS}/inception_resnet_v2/"
      "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    checksum=Checksum("md5", "d19885ff4a710c122648d3b5c3b684e4"),
    licence="Apache-2.0",
    preprocessing=_whole(299, "bilinear", DEFAULT),
    top1="–",
    top5="–",
    num_classes=0,
    classes="none: features",
  ),
  PublishedWeights(
    name="pytorch-fid/inception_v3",
    model="inception_v3",
    dialect="fid",
    url=f"{_FID}/pt_inception-2015-12-05-6726825d.pth",
    checksum=Checksum("sha256", "6726825d"),
    licence="Apache-2.0",
    preprocessing=_whole(299, "bilinear_pytorch", DEFAULT),
    top1="–",
    top5="–",
    num_classes=1008,
    classes="1008 in an order of their own",
    note="for the Fréchet inception distance",
  ),
)


def find(name: str) -> PublishedWeights:
  """A row by its name; what stands behind a dot may be left out for the package's default.

  Raises:
    UserError: there is none.
  """
  for row in ROWS:
    if name in (row.name, row.name.partition(".")[0]):
      return row
  raise UserError(
    f"There are no published weights '{name}'.{did_you_mean(name, [row.name for row in ROWS])} "
    "`python -m speedpaper_jax.weights` lists them."
  )


def find_unless_path(name: str | pathlib.Path) -> PublishedWeights | None:
  """The row of a name; None of a path, which is all that does not begin with a package's name.

  Raises:
    UserError: it begins so, but there is no such row, and nothing at that path either.
  """
  path = pathlib.Path(name)
  packages = {row.package for row in ROWS}
  if path.parts[:1] and path.parts[0] in packages and not path.exists():
    return find(str(name))
  return None


def address(row: PublishedWeights) -> str:
  """Where to fetch the file: its URL, or the hub's mirror that HF_ENDPOINT names."""
  mirror = os.environ.get("HF_ENDPOINT")
  if mirror and row.url.startswith(_HUB):
    return mirror.rstrip("/") + row.url.removeprefix(_HUB)
  return row.url
