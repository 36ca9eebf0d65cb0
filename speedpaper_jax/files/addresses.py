"""Addresses of buckets, which look like paths and are none."""

import re

from speedpaper_jax.errors import UserError

_SCHEMES = re.compile(r"(gs|s3|az|hdfs)://")


def refuse(value: str) -> None:
  """Refuses what names no file of this machine; as a path it would be a directory called "gs:".

  Args:
    value: of a flag, or an argument.

  Raises:
    UserError: it is an address.
  """
  if _SCHEMES.match(value):
    raise UserError(
      f"'{value}' is in a bucket, where nothing is read or written in place; copy it to a disk of "
      "this machine, or mount the bucket, as gcsfuse does, and name the directory here."
    )
